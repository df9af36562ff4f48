"""`tasuki device`: what an embedded developer does on a board."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tasuki.sdk import device_enrol_cli
from tasuki.sdk.console import emit, json_option
from tasuki.sdk.device import Device
from tasuki.sdk.errors import InputError
from tasuki.sdk.kinds import NAMES
from tasuki.sdk.policy import Limits
from tasuki.sdk.prediction import Prediction

_OPENING = (
    click.option("--state", type=click.Path(path_type=Path), default=Path("state"), show_default=True,
                 help="The state directory."),
    click.option("--adapter", type=click.Choice(NAMES), help="Kind of the local adapter."
                 "  [default: head; low_rank for causal models]"),
    click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="For the interpreter."),
    click.option("--delegate", type=click.Path(path_type=Path), help="A delegate's shared library."),
    click.option("--mapped", is_flag=True, help="Map the model from its file instead of reading it into memory."),
    click.option("--verify", type=click.Path(path_type=Path), metavar="KEY",
                 help="Take only an artifact that this public key signed."),
    click.option("--key", metavar="KEY", help="The device's signing key: a file, or SCHEME:... of a plug-in."
                 "  [default: device.key in the state directory]"),
    click.option("--no-texts", is_flag=True, help="Keep no texts beside the features; a new body then starts anew."),
    click.option("--disk", type=int, metavar="BYTES", help="Bound of the state directory.  [default: 8 MiB]"),
    click.option("--ram", type=int, metavar="BYTES", help="Bound of the working memory of a fit."),
    click.option("--bytes-per-day", type=int, metavar="BYTES", help="Bound of what is sent and received in a day."),
    click.option("--update-bytes", type=int, metavar="BYTES", help="Bound of one update's compressed table."),
    click.option("--hours", multiple=True, metavar="FROM-TO",
                 help="Learn and connect only in these local hours, such as 22-6; repeatable."),
)  # fmt: skip


def _opening(command: Callable[..., None]) -> Callable[..., None]:
    """The artifact and how it is opened."""
    for option in reversed(_OPENING):
        command = option(command)
    return click.argument("artifact", type=click.Path(path_type=Path))(command)


def _open(artifact: Path, opening: dict[str, Any], replace: bool = False) -> Device:
    keep_texts = not opening.pop("no_texts")
    state = opening.pop("state")
    wanted = {name: opening.pop(name) for name in ("disk", "ram", "bytes_per_day", "update_bytes")}
    limits = Limits(**wanted, hours=[_hours(pair) for pair in opening.pop("hours")] or None)
    return Device.open(artifact, state, keep_texts=keep_texts, replace=replace, limits=limits, **opening)


def _hours(pair: str) -> tuple[float, float]:
    first, _, last = pair.partition("-")
    try:
        return float(first), float(last)
    except ValueError:
        raise InputError(f"--hours {pair!r} is not FROM-TO, such as 22-6") from None


def _figures(text: str, answer: Prediction) -> dict[str, Any]:
    return {
        "text": text, "label": answer.label, "probability": round(answer.probability, 4),
        "margin": round(answer.margin, 4), "uncertain": answer.uncertain, "answered_by": answer.answered_by,
        "latency_ms": round(answer.latency_ms, 3),
    }  # fmt: skip


@click.group()
def device() -> None:
    """Answer, learn and sync on a board.

    Example: tasuki device predict lamp.tflite 'turn on the kitchen light'
    """


@device.command()
@_opening
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option("--using", type=click.Choice(["local", "global", "base"]), default="local", show_default=True,
              help="Which adapter answers.")  # fmt: skip
@click.option("--level", type=float, help="Error level of `uncertain`.  [default: 0.1]")
@json_option
def predict(
    artifact: Path, texts: tuple[str, ...], using: Any, level: float | None, as_json: bool, **opening: Any
) -> None:
    """Answer each TEXT with its label.

    Example: tasuki device predict lamp.tflite 'turn on the kitchen light'
    """
    with _open(artifact, opening) as opened:
        for text in texts:
            answer = opened.predict(text, using, level=level)
            if as_json:
                emit(_figures(text, answer), True)
            else:
                doubt = "  uncertain" if answer.uncertain else ""
                click.echo(f"{answer.label}  {answer.probability:.1%}  ({answer.latency_ms:.2f} ms){doubt}")


@device.command()
@_opening
@click.argument("text")
@json_option
def explain(artifact: Path, text: str, as_json: bool, **opening: Any) -> None:
    """Say which adapter answered TEXT and why, and what the others would have said.

    Example: tasuki device explain lamp.tflite 'make it cosy'
    """
    with _open(artifact, opening) as opened:
        said = opened.explain(text)
        emit(
            {
                "answered_by": said.answered_by,
                "reason": said.reason,
                "examples": said.verdict.examples,
                "local_loss": said.verdict.local_loss,
                "global_loss": said.verdict.global_loss,
                **{f"{name}_answer": _figures(text, one) if as_json else f"{one.label} ({one.probability:.1%})"
                   for name, one in said.answers.items()},
            },
            as_json,
        )  # fmt: skip


@device.command()
@_opening
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@json_option
def embed(artifact: Path, texts: tuple[str, ...], as_json: bool, **opening: Any) -> None:
    """Print the features of each TEXT.

    Example: tasuki device embed lamp.tflite 'turn on the kitchen light'
    """
    with _open(artifact, opening) as opened:
        for text, row in zip(texts, opened.embed(texts)[0], strict=True):
            emit({"text": text, "features": [round(float(value), 6) for value in row]}, as_json)


@device.command()
@_opening
@click.argument("prompt")
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True, help="At most so many.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 is greedy.")
@click.option("--top-k", type=int, default=0, show_default=True, help="Keep so many tokens; 0 keeps all.")
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Keep the nucleus of this mass.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End where this text appears; repeatable.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same text.")
@json_option
def generate(
    artifact: Path, prompt: str, max_tokens: int, temperature: float, top_k: int, top_p: float, stop: tuple[str, ...],
    seed: int, as_json: bool, **opening: Any,
) -> None:  # fmt: skip
    """Continue PROMPT with a causal model, token by token.

    Example: tasuki device generate talker.tflite 'how was your' --temperature 0.7 --top-p 0.9
    """
    with _open(artifact, opening) as opened:
        made = opened.generate(
            prompt, max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, stop=stop, seed=seed
        )
        for piece in made:
            if not as_json:
                click.echo(piece, nl=False)
        if as_json:
            emit({"text": made.text, "tokens": made.tokens, "reason": made.reason}, True)
        else:
            click.echo()


@device.command()
@_opening
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@json_option
def score(artifact: Path, texts: tuple[str, ...], as_json: bool, **opening: Any) -> None:
    """Say how likely a causal model finds each TEXT.

    Example: tasuki device score talker.tflite 'how are you today'
    """
    with _open(artifact, opening) as opened:
        for text in texts:
            found = opened.score(text)
            figures = {"text": text, "tokens": found.tokens, "nats": found.nats, "perplexity": found.perplexity}
            emit(figures, as_json)


@device.command()
@_opening
@click.argument("text")
@click.argument("label", required=False)
@click.option("--new-label", is_flag=True, help="Add LABEL on this device; it never leaves it.")
@json_option
def learn(artifact: Path, text: str, label: str | None, new_label: bool, as_json: bool, **opening: Any) -> None:
    """Learn that TEXT means LABEL; a causal model learns TEXT itself. `-` reads lines from standard input.

    Lines are texts, or text and label with a tab between.

    Example: tasuki device learn lamp.tflite 'make it cosy' movie_night --new-label
    """
    with _open(artifact, opening) as opened:
        lines = sys.stdin.read().splitlines() if text == "-" else [text]
        for line in filter(str.strip, lines):
            words, _, said = line.partition("\t") if text == "-" else (line, "", "")
            opened.learn(words, said or label, new_label=new_label, durable=False)
        opened.flush()
        status = opened.status()
        emit({"examples": status["examples"], "answers": status["answers"], "why": status["why"]}, as_json)


@device.command()
@_opening
@click.option("--text", help="Forget this example.")
@click.option("--label", help="Forget every example of this label.")
@click.option("--all", "everything", is_flag=True, help="Forget every example.")
@click.confirmation_option(prompt="Forget it, and what was learned from it?")
@json_option
def forget(
    artifact: Path, text: str | None, label: str | None, everything: bool, as_json: bool, **opening: Any
) -> None:
    """Forget an example, a label or everything, and what was learned from it.

    Example: tasuki device forget lamp.tflite --label movie_night --yes
    """
    with _open(artifact, opening) as opened:
        emit({"forgotten_examples": opened.forget(text, label=label, everything=everything)}, as_json)


@device.command()
@_opening
@json_option
def replace(artifact: Path, as_json: bool, **opening: Any) -> None:
    """Move a state directory to another ARTIFACT: its texts are read anew, so that nothing learned is lost.

    The fleet's adapter and the enrolment were for the former one: enrol again.

    Example: tasuki device replace lamp-v2.tflite --state state
    """
    with _open(artifact, opening, replace=True) as opened:
        status = opened.status()
        emit({name: status[name] for name in ("artifact", "examples", "own_labels")}, as_json)


@device.command()
@_opening
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def enrol(artifact: Path, file: Path, as_json: bool, **opening: Any) -> None:
    """Join a fleet with the FILE that `tasuki gateway enrol` made, or the text of its QR code; `-` is standard input.

    Example: tasuki device enrol lamp.tflite kitchen.enrol.json
    """
    with _open(artifact, opening) as opened:
        opened.enrol(device_enrol_cli.read(file))
        emit({name: opened.status()[name] for name in ("fleet", "device", "broker")}, as_json)


@device.command()
@_opening
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for the gateway.")
@click.option("--wait-version", type=int, help="Stay until this version of the adapter is here.")
@json_option
def sync(artifact: Path, timeout: float, wait_version: int | None, as_json: bool, **opening: Any) -> None:
    """Send what was learned, and take in the fleet's adapter.

    Example: tasuki device sync lamp.tflite --timeout 60
    """
    with _open(artifact, opening) as opened:
        done = opened.sync(timeout, wait_version)
        emit({"version_before": done.version_before, "version_after": done.version_after, "sent": done.sent,
              "admitted": done.admitted, "refused": [reason.word for reason in done.refused],
              "ignored": dict(done.ignored_because), "record": done.record, "clock_off": done.clock_off,
              "held": done.held, "held_because": done.held_because,
              "bytes_up": done.bytes_up, "bytes_down": done.bytes_down}, as_json)  # fmt: skip


@device.command()
@_opening
@click.option("--every", type=float, default=3600.0, show_default=True, help="Seconds between two syncs.")
@json_option
def run(artifact: Path, every: float, as_json: bool, **opening: Any) -> None:
    """Answer lines from standard input while syncing in the background, until the input ends.

    A line is a text; a text, a tab and a label teach. A device that is in no fleet answers and learns all the same.

    Example: tasuki device run lamp.tflite --every 600 < commands.txt
    """
    with _open(artifact, opening) as opened, opened.online(every):
        for line in sys.stdin:
            text, _, label = line.rstrip("\n").partition("\t")
            try:
                if label:
                    opened.learn(text, label, new_label=True)
                figures = _figures(text, opened.predict(text))
            except InputError as error:
                figures = {"text": text[:200], "error": str(error)}
            if as_json:
                emit(figures, True)
            else:
                click.echo(figures.get("label") or f"error: {figures['error']}")


@device.command()
@_opening
@json_option
def status(artifact: Path, as_json: bool, **opening: Any) -> None:
    """Show key, fleet, adapter, examples, spool, policy, and why the device would act or not.

    Example: tasuki device status lamp.tflite --json
    """
    with _open(artifact, opening) as opened:
        emit(opened.status(), as_json)


device.add_command(device_enrol_cli.request)
