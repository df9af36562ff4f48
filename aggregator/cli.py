"""`tasuki gateway`: what an operator does."""

import json
import random
import signal
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from tasuki.aggregator import fleet, gateway_keys
from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.aggregator.gateway import Gateway
from tasuki.aggregator.ledger import Ledger
from tasuki.aggregator.rules import Rules
from tasuki.aggregator.trust_cli import (
    enrol,
    folder_argument,
    password_option,
    record,
    record_figures,
    revoke,
    root_option,
    root_password_option,
    rotate,
    signing_option,
    valid_option,
)
from tasuki.sdk import keys
from tasuki.sdk.console import emit, json_option
from tasuki.sdk.errors import InputError
from tasuki.sdk.fleet_record import KINDS

_folder = folder_argument


@click.group()
def gateway() -> None:
    """Admit, merge, judge and publish beside any MQTT 5 broker.

    Example: tasuki gateway run gateway --embedded-broker
    """


for _command in (enrol, revoke, rotate, record):
    gateway.add_command(_command)


@gateway.command()
@_folder
@click.option("--fleet", "name", required=True, help="Name of the fleet: 1 to 32 of a-z, 0-9, _ and -.")
@click.option("--artifact", required=True, type=click.Path(path_type=Path), help="The artifact that the fleet runs.")
@click.option("--held-out", required=True, type=click.Path(path_type=Path),
              help='Texts to judge on: lines of {"text": ..., "label": ...}.')  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="The broker, as devices reach it.")
@click.option("--port", default=1883, show_default=True, help="The broker's port.")
@click.option("--tls", is_flag=True, help="Devices use TLS with client certificates of the fleet's authority.")
@click.option("--adapter", type=click.Choice(list(KINDS)), default="head", show_default=True,
              help="Kind of the updates that devices send.")  # fmt: skip
@root_option
@signing_option
@valid_option
@password_option
@root_password_option
@json_option
def init(
    folder: Path, name: str, artifact: Path, held_out: Path, host: str, port: int, tls: bool, adapter: str,
    root_key: str | None, signing_key: str | None, valid_days: int, key_password_file: Path | None,
    root_password_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Make a gateway's FOLDER: keys, fleet record, certificates, Mosquitto's settings and access list, ledger.

    The root key signs the record once and is not kept. With a password the keys are encrypted, but for those that TLS
    reads.

    Example: tasuki gateway init gateway --fleet lamps --artifact lamp.tflite --held-out texts.jsonl --root-key root.pem
    """
    password = keys.password_of(key_password_file)
    root = None
    if root_key is not None:
        root = keys.open_signer(root_key, keys.password_of(root_password_file or key_password_file))
    made = fleet.init(
        folder, name, artifact, held_out, host, port, tls, root=root, signer=signing_key, adapter=adapter,
        valid_days=valid_days, password=password,
    )  # fmt: skip
    if root is None:
        click.echo(
            f"tasuki: warning: no --root-key was given, so one was made in {folder / 'root'}: move it off this"
            " machine; who has it and the gateway's key can take the fleet over",
            err=True,
        )
    emit(
        {
            "folder": str(folder),
            "fleet": name,
            "broker": f"{host}:{port}",
            "mosquitto": str(folder / "mosquitto"),
            "root_key": made.root,
        },
        as_json,
    )


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
@password_option
@json_option
def run(
    folder: Path, broker: str | None, embedded_broker: bool, quorum: float, round_seconds: float,
    key_password_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Serve until interrupted. Prints a line for every update and version.

    Example: tasuki gateway run gateway --broker 127.0.0.1:1883 --quorum 0.8 --round-seconds 600
    """
    if not 0 < quorum <= 1 or round_seconds <= 0:
        raise InputError("--quorum is above 0 and at most 1, --round-seconds above 0")
    rules = Rules(folder, password=keys.password_of(key_password_file))
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
    """Show fleet record, devices, versions with their held-out accuracy, and refusals by reason.

    Example: tasuki gateway status gateway --json
    """
    settings = fleet.load(folder)
    root = bytes.fromhex(settings.root)
    known = gateway_keys.load_record(folder, settings.fleet, root)[1] if root else None
    ledger = Ledger(folder / "ledger.db")
    try:
        versions, presence = ledger.versions(), ledger.presence()
        figures: dict[str, Any] = {
            "fleet": settings.fleet,
            "broker": f"{settings.host}:{settings.port}",
            "version": versions[-1].version if versions else 0,
            "versions": [version.figures() for version in versions],
            "devices": [
                {
                    "device": name,
                    "updates": count,
                    "sequence": highest,
                    "online": presence.get(name, (None, None))[0],
                    "since": presence.get(name, (None, None))[1],
                }
                for name, count, highest in ledger.devices()
            ],
            "refusals": ledger.refusals(),
            "revoked": [name for name, _, _ in ledger.devices() if ledger.revoked(name)],
            "record": None if known is None else record_figures(known),
        }
    finally:
        ledger.close()
    if as_json:
        emit(figures, True)
        return
    emit({name: figures[name] for name in ("fleet", "broker", "version", "record", "revoked", "refusals")}, False)
    for row in figures["versions"]:
        note = f"kept the former: candidate {row['candidate']:.1%}" if row["kept"] else f"{row['devices']} devices"
        click.echo(f"  version {row['version']}: {row['accuracy']:.1%} on held-out texts ({note})")
    for row in figures["devices"]:
        click.echo(f"  {row['device']}: {row['updates']} updates, {_presence(row['online'], row['since'])}")


def _presence(online: bool | None, since: float | None) -> str:
    """What the broker said of a device; it is not authenticated."""
    if online is None or since is None:
        return "never seen"
    at = datetime.fromtimestamp(since, timezone.utc)
    return f"{'online' if online else 'offline'} since {at:%Y-%m-%d %H:%M} UTC"


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
