"""`tasuki gateway enrol`, `revoke`, `rotate` and `record`: who is trusted, and by which keys."""

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, TextIO

import click

from tasuki.aggregator import fleet, qr, rotation
from tasuki.sdk import fleet_record, keys
from tasuki.sdk.console import emit, json_option
from tasuki.sdk.envelope import HYBRID, SUITE_NAMES
from tasuki.sdk.errors import InputError, KeyInvalid, StateUnwritable
from tasuki.sdk.fleet_record import Record

REQUEST: Final = "record.request"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_MAX_FILE: Final = 64 << 10

folder_argument = click.argument("folder", type=click.Path(path_type=Path))
password_option = click.option(
    "--key-password-file", type=click.Path(path_type=Path), metavar="FILE",
    help=f"Its first line is the password of the keys.  [default: ${keys.PASSWORD_VARIABLE}, if it is set]",
)  # fmt: skip
root_option = click.option(
    "--root-key", metavar="KEY",
    help="The maker's root key, the one that signs artifacts (from `tasuki key`): a file, or SCHEME:... of a plug-in.",
)  # fmt: skip
root_password_option = click.option(
    "--root-password-file", type=click.Path(path_type=Path), metavar="FILE",
    help="Its first line is the password of the root key.  [default: that of --key-password-file, or"
    f" ${keys.PASSWORD_VARIABLE}]",
)  # fmt: skip
signing_option = click.option(
    "--signing-key", metavar="KEY",
    help="Where the gateway's signing key is, if it is in a secure element: SCHEME:... of a plug-in, or a file."
    "  [default: a new file in the folder]",
)  # fmt: skip
valid_option = click.option(
    "--valid-days", type=click.IntRange(0, 36_500), default=0, show_default=True,
    help="How long devices take this fleet record for new; 0 is for ever.",
)  # fmt: skip


@click.command()
@folder_argument
@click.argument("device")
@click.option("--key", metavar="HEX", help="Its public key, as `tasuki device status` shows it.")
@click.option("--csr", type=click.Path(path_type=Path), metavar="FILE",
              help="Its request from `tasuki device request`: it gets a TLS certificate for its own key.")  # fmt: skip
@click.option("--one-time", is_flag=True, help="It is not known yet: it gets a token with which it joins once.")
@click.option("--valid", default="24h", show_default=True, metavar="TIME",
              help="How long the one-time token is good: a number and s, m, h or d.")  # fmt: skip
@click.option("--suite", type=click.Choice(list(SUITE_NAMES.values())), default=SUITE_NAMES[HYBRID], show_default=True,
              help="How the device seals its updates.")  # fmt: skip
@click.option("--token-file", type=click.File("r"), metavar="FILE",
              help="Its one line is the device's password at the broker, instead of a client certificate; - reads it"
              " from standard input.")  # fmt: skip
@click.option("--qr", "picture", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw the enrolment as a QR code too: FILE.png or FILE.svg.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: DEVICE.enrol.json.")
@password_option
@json_option
def enrol(
    folder: Path, device: str, key: str | None, csr: Path | None, one_time: bool, valid: str, suite: str,
    token_file: TextIO | None, picture: Path | None, output: Path | None, key_password_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Add DEVICE to the fleet and write the file that it is given.

    Give one of --key, --csr and --one-time.

    Example: tasuki gateway enrol gateway kitchen --key 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    if [key is not None, csr is not None, one_time].count(True) != 1:
        raise InputError("give one of --key, --csr and --one-time")
    (number,) = [number for number, name in SUITE_NAMES.items() if name == suite]
    path = output or Path(f"{device}.enrol.json")
    token = None if token_file is None else token_file.readline(2048).rstrip("\n")
    made = fleet.enrol(
        folder, device, None if key is None else keys.public_key(key), number, token,
        request=None if csr is None else _read(csr), valid_seconds=_seconds(valid) if one_time else None,
        password=keys.password_of(key_password_file),
    )  # fmt: skip
    fleet.write_enrolment(path, made)
    figures: dict[str, Any] = {"device": device, "file": str(path), "suite": suite}
    if one_time:
        figures["join_within"] = valid
    if picture is not None:
        figures |= {"qr": str(picture), "qr_characters": qr.write(picture, made)}
    emit(figures, as_json)


@click.command()
@folder_argument
@click.argument("device")
@password_option
@json_option
def revoke(folder: Path, device: str, key_password_file: Path | None, as_json: bool) -> None:
    """Believe DEVICE no more: its key and its name are refused from now on, and its TLS certificates are revoked.

    The gateway may be running. Give tls/revoked.crl to the broker and let it read its settings again (SIGHUP).

    Example: tasuki gateway revoke gateway kitchen
    """
    count = fleet.revoke(folder, device, keys.password_of(key_password_file))
    emit({"revoked": device, "certificates_in_list": count, "list": str(folder / "tls" / "revoked.crl")}, as_json)


@click.command()
@folder_argument
@click.option("--finish", is_flag=True, help="Second step: the announced keys become the present ones.")
@click.option("--renew", is_flag=True, help="No other keys: only a new record with a new date.")
@root_option
@click.option("--record", "signed", type=click.Path(path_type=Path), metavar="FILE",
              help="Put in place what `tasuki gateway record` signed on another machine.")  # fmt: skip
@signing_option
@valid_option
@password_option
@root_password_option
@json_option
def rotate(
    folder: Path, finish: bool, renew: bool, root_key: str | None, signed: Path | None, signing_key: str | None,
    valid_days: int, key_password_file: Path | None, root_password_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Change the gateway's keys, in two steps: announce the next ones; when devices have heard of them, --finish.

    The gateway may be running. Former keys still open what was sealed to them, until the next announcement. Without
    --root-key, FOLDER/record.request is written, to be signed where the root key is.

    Example: tasuki gateway rotate gateway --root-key root.pem
    """
    if finish and renew:
        raise InputError("give --finish or --renew, not both")
    password = keys.password_of(key_password_file)
    if signed is not None:
        emit(record_figures(rotation.install(folder, _read(signed), password)), as_json)
        return
    step = rotation.FINISH if finish else rotation.RENEW if renew else rotation.ANNOUNCE
    made = rotation.draft(folder, step, valid_days=valid_days, signer=signing_key, password=password)
    if root_key is not None:
        root = keys.open_signer(root_key, keys.password_of(root_password_file or key_password_file))
        message = fleet_record.issue(made, root)
        emit(record_figures(rotation.install(folder, message, password)), as_json)
        return
    _write(folder / REQUEST, fleet_record.encode(made))
    emit({**record_figures(made), "to_sign": str(folder / REQUEST)}, as_json)


@click.command()
@click.option("--sign", "request", required=True, type=click.Path(path_type=Path), metavar="REQUEST",
              help="What `tasuki gateway rotate` wrote.")  # fmt: skip
@root_option
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("record.signed"), show_default=True,
              help="For `tasuki gateway rotate --record`.")  # fmt: skip
@root_password_option
@json_option
def record(request: Path, root_key: str | None, output: Path, root_password_file: Path | None, as_json: bool) -> None:
    """Sign a fleet record where the root key is; look at what is printed before you carry it back.

    Example: tasuki gateway record --sign record.request --root-key root.pem -o record.signed
    """
    if root_key is None:
        raise InputError("--root-key is wanted: the maker's root key")
    made = fleet_record.decode(_read(request))
    _write(output, fleet_record.issue(made, keys.open_signer(root_key, keys.password_of(root_password_file))))
    emit({**record_figures(made), "signed": str(output)}, as_json)


def record_figures(made: Record) -> dict[str, Any]:
    """What is told of a fleet record."""
    return {
        "fleet": made.fleet,
        "record": made.version,
        "issued": _date(made.issued),
        "expires": _date(made.expires) if made.expires else "never",
        "artifacts": [artifact.hex() for artifact in made.artifacts],
        "signing_key": made.signing.hex(),
        "next_signing_key": None if made.next_signing is None else made.next_signing.hex(),
        "adapter": made.adapter,
        "max_norm": made.max_norm,
    }


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _seconds(words: str) -> float:
    found = _DURATION.fullmatch(words)
    if found is None:
        raise InputError(f"--valid {words!r} is not a number and s, m, h or d, such as 24h")
    return float(int(found[1]) * _SECONDS[found[2]])


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_FILE + 1)
    except OSError as error:
        raise KeyInvalid(f"{path} can't be read: {error.strerror}") from None
    if len(content) > _MAX_FILE:
        raise KeyInvalid(f"{path} has more than {_MAX_FILE} bytes: not the file that is wanted")
    return content


def _write(path: Path, content: bytes) -> None:
    try:
        keys.write_private(path, content)
    except OSError as error:
        raise StateUnwritable(f"{path} can't be written: {error.strerror}") from None
