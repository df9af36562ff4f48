"""`tasuki device`: what an embedded developer does on a board."""

from pathlib import Path

import click

from tasuki.sdk.console import emit, json_option
from tasuki.sdk.device import Device

_artifact = click.argument("artifact", type=click.Path(path_type=Path))
_state = click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=Path("state"),
    show_default=True,
    help="The state directory.",
)


@click.group()
def device() -> None:
    """Predict, learn and sync on a board.

    Example: tasuki device predict lamp.tflite 'turn on the kitchen light'
    """


@device.command()
@_artifact
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@_state
@json_option
def predict(artifact: Path, texts: tuple[str, ...], state: Path, as_json: bool) -> None:
    """Answer each TEXT with its label.

    Example: tasuki device predict lamp.tflite 'turn on the kitchen light'
    """
    with Device.open(artifact, state) as opened:
        for text in texts:
            answer = opened.predict(text)
            figures = {"text": text, "label": answer.label, "probability": round(answer.probability, 4),
                       "margin": round(answer.margin, 4), "latency_ms": round(answer.latency_ms, 3)}  # fmt: skip
            if as_json:
                emit(figures, True)
            else:
                click.echo(f"{answer.label}  {answer.probability:.1%}  ({answer.latency_ms:.2f} ms)")


@device.command()
@_artifact
@click.argument("text")
@click.argument("label")
@click.option("--new-label", is_flag=True, help="Add LABEL on this device; it never leaves it.")
@_state
@json_option
def learn(artifact: Path, text: str, label: str, new_label: bool, state: Path, as_json: bool) -> None:
    """Learn that TEXT means LABEL.

    Example: tasuki device learn lamp.tflite 'make it cosy' movie_night --new-label
    """
    with Device.open(artifact, state) as opened:
        opened.learn(text, label, new_label=new_label)
        answer = opened.predict(text)
        emit(
            {
                "label": answer.label,
                "probability": answer.probability,
                "examples": opened.status()["examples"],
            },
            as_json,
        )


@device.command()
@_artifact
@click.confirmation_option(prompt="Forget everything that this device has learned by itself?")
@_state
@json_option
def forget(artifact: Path, state: Path, as_json: bool) -> None:
    """Forget every example and what was learned from them.

    Example: tasuki device forget lamp.tflite --yes
    """
    with Device.open(artifact, state) as opened:
        emit({"forgotten_examples": opened.forget()}, as_json)


@device.command()
@_artifact
@click.argument("file", type=click.Path(path_type=Path))
@_state
@json_option
def enrol(artifact: Path, file: Path, state: Path, as_json: bool) -> None:
    """Join a fleet with the FILE that `tasuki gateway enrol` made.

    Example: tasuki device enrol lamp.tflite kitchen.enrol.json
    """
    with Device.open(artifact, state) as opened:
        opened.enrol(file)
        emit({name: opened.status()[name] for name in ("fleet", "device", "broker")}, as_json)


@device.command()
@_artifact
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for the gateway.")
@click.option("--wait-version", type=int, help="Stay until this version of the adapter is here.")
@_state
@json_option
def sync(artifact: Path, timeout: float, wait_version: int | None, state: Path, as_json: bool) -> None:
    """Send what was learned, and take in the fleet's adapter.

    Example: tasuki device sync lamp.tflite --timeout 60
    """
    with Device.open(artifact, state) as opened:
        done = opened.sync(timeout, wait_version)
        emit({"version_before": done.version_before, "version_after": done.version_after, "sent": done.sent,
              "admitted": done.admitted, "refused": [reason.word for reason in done.refused],
              "bytes_up": done.bytes_up, "bytes_down": done.bytes_down}, as_json)  # fmt: skip


@device.command()
@_artifact
@_state
@json_option
def status(artifact: Path, state: Path, as_json: bool) -> None:
    """Show the device's key, fleet, adapter version, examples and spool.

    Example: tasuki device status lamp.tflite --json
    """
    with Device.open(artifact, state) as opened:
        emit(opened.status(), as_json)
