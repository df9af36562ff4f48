"""`tasuki key` and `tasuki sign`: who made an artifact."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tasuki.converter import pack
from tasuki.sdk import artifact as artifacts
from tasuki.sdk import keys
from tasuki.sdk.console import emit, json_option
from tasuki.sdk.errors import InputError

PUBLIC_SUFFIX = ".pub"
_password = click.option(
    "--key-password-file", type=click.Path(path_type=Path), metavar="FILE",
    help=f"Its first line is the password of the key.  [default: ${keys.PASSWORD_VARIABLE}, if it is set]",
)  # fmt: skip


@click.command()
@click.argument("private", metavar="KEY.pem", type=click.Path(path_type=Path))
@_password
@json_option
def key(private: Path, key_password_file: Path | None, as_json: bool) -> None:
    """Make a maker's root key, which signs artifacts and fleet records: KEY.pem, for its owner only, and KEY.pub.

    With a password KEY.pem is encrypted. Keep it off the gateway.

    Example: tasuki key root.pem --key-password-file password.txt
    """
    password = keys.password_of(key_password_file)()
    public = private.with_suffix(PUBLIC_SUFFIX)
    if private == public:
        raise InputError(f"{private} is the name of the public key: give the private one, such as signing.pem")
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise InputError(f"{path} is already there; a key is never overwritten")
    made = Ed25519PrivateKey.generate()
    _written(lambda path, content: keys.save(path, content, password), private, made)
    _written(pack.write, public, made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    emit({"private": str(private), "public": str(public), "public_key": _hex(made)}, as_json)


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--key", "private", required=True, type=click.Path(path_type=Path), help="From `tasuki key`.")
@_password
@json_option
def sign(artifact: Path, private: Path, key_password_file: Path | None, as_json: bool) -> None:
    """Sign an ARTIFACT in place, instead of the signature that it may have.

    Its hash changes, so sign before devices are enrolled.

    Example: tasuki sign lamp.tflite --key signing.pem
    """
    signing = keys.load_artifact_key(private, keys.password_of(key_password_file))
    data = pack.sign(artifacts.read(artifact), signing, str(artifact))
    _written(pack.write, artifact, data)
    sha256 = artifacts.parse(data).hash.hex()
    emit({"artifact": str(artifact), "sha256": sha256, "bytes": len(data), "signed_by": _hex(signing)}, as_json)


def _written(write: Callable[[Path, Any], None], path: Path, content: Any) -> None:
    try:
        write(path, content)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from None


def _hex(signing: Ed25519PrivateKey) -> str:
    return signing.public_key().public_bytes_raw().hex()
