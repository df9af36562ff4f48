"""`tasuki gateway`: what an operator does."""

import json
import random
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

import click

from tasuki.aggregator import fleet
from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.aggregator.gateway import Gateway, Rules
from tasuki.aggregator.ledger import Ledger
from tasuki.sdk.console import emit, json_option
from tasuki.sdk.envelope import HYBRID, SUITE_NAMES
from tasuki.sdk.errors import InputError, KeyInvalid

_folder = click.argument("folder", type=click.Path(path_type=Path))


@click.group()
def gateway() -> None:
    """Admit, merge, judge and publish beside any MQTT 5 broker.

    Example: tasuki gateway run gateway --embedded-broker
    """


@gateway.command()
@_folder
@click.option("--fleet", "name", required=True, help="Name of the fleet: 1 to 32 of a-z, 0-9, _ and -.")
@click.option("--artifact", required=True, type=click.Path(path_type=Path), help="The artifact that the fleet runs.")
@click.option("--held-out", required=True, type=click.Path(path_type=Path),
              help='Texts to judge on: lines of {"text": ..., "label": ...}.')  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="The broker, as devices reach it.")
@click.option("--port", default=1883, show_default=True, help="The broker's port.")
@click.option("--tls", is_flag=True, help="Devices use TLS with client certificates of the fleet's authority.")
@json_option
def init(
    folder: Path, name: str, artifact: Path, held_out: Path, host: str, port: int, tls: bool, as_json: bool
) -> None:
    """Make a gateway's FOLDER: keys, certificates, Mosquitto's settings and access list, ledger.

    Example: tasuki gateway init gateway --fleet lamps --artifact lamp.tflite --held-out held-out.jsonl
    """
    fleet.init(folder, name, artifact, held_out, host, port, tls)
    emit(
        {
            "folder": str(folder),
            "fleet": name,
            "broker": f"{host}:{port}",
            "mosquitto": str(folder / "mosquitto"),
        },
        as_json,
    )


@gateway.command()
@_folder
@click.argument("device")
@click.option(
    "--key",
    required=True,
    help="The device's public key (64 hex digits), as `tasuki device status` shows it.",
)
@click.option("--suite", type=click.Choice(list(SUITE_NAMES.values())), default=SUITE_NAMES[HYBRID], show_default=True,
              help="How the device seals its updates.")  # fmt: skip
@click.option(
    "--token-file",
    type=click.File("r"),
    metavar="FILE",
    help="Its one line is the device's password at the broker, instead of a client certificate; - reads it from"
    " standard input.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: DEVICE.enrol.json.")
@json_option
def enrol(
    folder: Path, device: str, key: str, suite: str, token_file: TextIO | None, output: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Add DEVICE to the fleet and write the file that it is given.

    Example: tasuki gateway enrol gateway kitchen --key 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        raise KeyInvalid("--key is not 64 hex digits; `tasuki device status` shows the device's key") from None
    (number,) = [number for number, name in SUITE_NAMES.items() if name == suite]
    path = output or Path(f"{device}.enrol.json")
    token = None if token_file is None else token_file.readline(2048).rstrip("\n")
    fleet.write_enrolment(path, fleet.enrol(folder, device, raw, number, token))
    emit({"device": device, "file": str(path), "suite": suite}, as_json)


@gateway.command()
@_folder
@click.option("--broker", help="HOST:PORT of the broker; default: as given to init.")
@click.option("--embedded-broker", is_flag=True, help="Start a broker on this machine's loopback, on init's port.")
@click.option("--quorum", default=0.8, show_default=True, help="Share of the devices that closes a round at once.")
@click.option(
    "--round-seconds",
    default=3600.0,
    show_default=True,
    help="A round closes this long after its first update.",
)
@json_option
def run(
    folder: Path,
    broker: str | None,
    embedded_broker: bool,
    quorum: float,
    round_seconds: float,
    as_json: bool,
) -> None:
    """Serve until interrupted. Prints a line for every update and version.

    Example: tasuki gateway run gateway --broker 127.0.0.1:1883 --quorum 0.8 --round-seconds 600
    """
    if not 0 < quorum <= 1 or round_seconds <= 0:
        raise InputError("--quorum is above 0 and at most 1, --round-seconds above 0")
    rules = Rules(folder)
    host, port = _address(broker) if broker else (rules.settings.host, rules.settings.port)
    with EmbeddedBroker(port) if embedded_broker else nullcontext():
        served = Gateway(rules, folder, host, port, lambda event: _tell(event, as_json), random.SystemRandom())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: served.stop())
        _tell({"event": "started", "fleet": rules.settings.fleet, "broker": f"{host}:{port}",
               "version": rules.current.version, "accuracy": rules.current.accuracy}, as_json)  # fmt: skip
        served.run(quorum, round_seconds)


@gateway.command()
@_folder
@json_option
def status(folder: Path, as_json: bool) -> None:
    """Show devices, versions with their held-out accuracy, and refusals by reason.

    Example: tasuki gateway status gateway --json
    """
    settings = fleet.load(folder)
    ledger = Ledger(folder / "ledger.db")
    try:
        versions = ledger.versions()
        figures: dict[str, Any] = {
            "fleet": settings.fleet,
            "broker": f"{settings.host}:{settings.port}",
            "version": versions[-1].version if versions else 0,
            "versions": [version.figures() for version in versions],
            "devices": [
                {"device": name, "updates": count, "sequence": highest} for name, count, highest in ledger.devices()
            ],
            "refusals": ledger.refusals(),
        }
    finally:
        ledger.close()
    if as_json:
        emit(figures, True)
        return
    emit({name: figures[name] for name in ("fleet", "broker", "version", "refusals")}, False)
    for row in figures["versions"]:
        note = f"kept the former: candidate {row['candidate']:.1%}" if row["kept"] else f"{row['devices']} devices"
        click.echo(f"  version {row['version']}: {row['accuracy']:.1%} on held-out texts ({note})")
    for row in figures["devices"]:
        click.echo(f"  {row['device']}: {row['updates']} updates")


def _tell(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event, sort_keys=True))
    else:
        words = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                          for name, value in event.items() if name != "event")  # fmt: skip
        click.echo(f"{event['event']}: {words}")


def _address(words: str) -> tuple[str, int]:
    host, colon, port = words.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(f"--broker {words!r} is not HOST:PORT")
    return host, int(port)
