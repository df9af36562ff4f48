"""`tasuki device request`, and what `tasuki device enrol` reads: how device and gateway come to know each other."""

import sys
from pathlib import Path
from typing import Final

import click

from tasuki.sdk.console import emit, json_option
from tasuki.sdk.errors import InputError, KeyInvalid, StateUnwritable
from tasuki.sdk.membership import KEY_FILE

# The numbers of COSE (RFC 9053, section 2).
_ALGORITHMS: Final = {"eddsa": -8, "es256": -7}


@click.command()
@click.argument("device")
@click.option("--state", type=click.Path(path_type=Path), default=Path("state"), show_default=True,
              help="The state directory, with the device's key; made if it is not there.")  # fmt: skip
@click.option("--key", metavar="KEY", help="The device's signing key: a file, or SCHEME:... of a plug-in."
              "  [default: device.key in the state directory]")  # fmt: skip
@click.option("--algorithm", type=click.Choice(list(_ALGORITHMS)),
              help="Of a key that is made now: EdDSA over Ed25519, or ES256 over P-256.  [default: eddsa]")  # fmt: skip
@click.option(
    "--key-password-file", type=click.Path(path_type=Path), metavar="FILE",
    help="Its first line is the password of the key.  [default: $TASUKI_KEY_PASSWORD, if it is set]",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: DEVICE.csr.")
@json_option
def request(
    device: str, state: Path, key: str | None, algorithm: str | None, key_password_file: Path | None,
    output: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Ask for a TLS certificate for this device's own key, under the name DEVICE; the key does not leave the device.

    The file is for `tasuki gateway enrol FOLDER DEVICE --csr FILE`.

    Example: tasuki device request kitchen --state state -o kitchen.csr
    """
    # Here and not above: a device that only answers loads no cryptography.
    from tasuki.sdk import certificate_request, keys
    from tasuki.sdk.signing import Signer

    path = output or Path(f"{device}.csr")
    password = keys.password_of(key_password_file)
    try:
        if key is None:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            signer: Signer = keys.signing_key(state / KEY_FILE, password, _ALGORITHMS[algorithm or "eddsa"])
        else:
            signer = keys.open_signer(key, password)
        if algorithm is not None and signer.algorithm != _ALGORITHMS[algorithm]:
            raise InputError(f"the key is there already, and it is of another algorithm than {algorithm}")
        path.write_bytes(certificate_request.make(device, signer))
    except OSError as error:
        raise StateUnwritable(f"{error.filename} can't be written: {error.strerror}") from None
    emit({"device": device, "file": str(path), "public_key": signer.public.hex()}, as_json)


def read(file: Path) -> bytes:
    """An enrolment file, or the text of its QR code; ``-`` is standard input. Raises KeyInvalid."""
    from tasuki.sdk import enrolment

    if str(file) == "-":
        return sys.stdin.buffer.read(enrolment.MAX_BYTES + 1)
    try:
        with file.open("rb") as stream:
            return stream.read(enrolment.MAX_BYTES + 1)
    except OSError as error:
        raise KeyInvalid(f"the enrolment {file} can't be read: {error.strerror}") from None
