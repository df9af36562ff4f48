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


@click.command()
@click.argument("private", metavar="KEY.pem", type=click.Path(path_type=Path))
@json_option
def key(private: Path, as_json: bool) -> None:
    """Make a key that signs artifacts: KEY.pem, for its owner only, and KEY.pub, for everybody.

    Example: tasuki key signing.pem
    """
    public = private.with_suffix(PUBLIC_SUFFIX)
    if private == public:
        raise InputError(f"{private} is the name of the public key: give the private one, such as signing.pem")
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise InputError(f"{path} is already there; a key is never overwritten")
    made = Ed25519PrivateKey.generate()
    _written(keys.save, private, made)
    _written(pack.write, public, made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    emit({"private": str(private), "public": str(public), "public_key": _hex(made)}, as_json)


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--key", "private", required=True, type=click.Path(path_type=Path), help="From `tasuki key`.")
@json_option
def sign(artifact: Path, private: Path, as_json: bool) -> None:
    """Sign an ARTIFACT in place, instead of the signature that it may have.

    Its hash changes, so sign before devices are enrolled.

    Example: tasuki sign lamp.tflite --key signing.pem
    """
    signing = keys.load_signing(private)
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
