"""Private keys as files with mode 0600 (PKCS #8 PEM), public keys as raw bytes. `cryptography` makes and uses them."""

import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tasuki.sdk.envelope import HYBRID, X25519, SealingPrivateKey, SealingPublicKey
from tasuki.sdk.errors import KeyInvalid

_MLKEM_PUBLIC_BYTES: Final = 1184
PrivateKey = Ed25519PrivateKey | X25519PrivateKey | MLKEM768PrivateKey


def write_private(path: Path, content: bytes) -> None:
    """Write a secret with mode 0600, whole or not at all."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save(path: Path, key: PrivateKey) -> None:
    """Write `key` as PEM."""
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def load_signing(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in `path`. Raises KeyInvalid."""
    key = _load(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyInvalid(f"{path} is not an Ed25519 private key")
    return key


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The key in `path`; made there at the first call."""
    if not path.exists():
        save(path, Ed25519PrivateKey.generate())
    return load_signing(path)


def make_sealing(folder: Path) -> None:
    """New sealing keys of every suite in `folder`."""
    save(folder / "sealing-x25519.pem", X25519PrivateKey.generate())
    save(folder / "sealing-hybrid-mlkem768.pem", MLKEM768PrivateKey.generate())
    save(folder / "sealing-hybrid-x25519.pem", X25519PrivateKey.generate())


def load_sealing(folder: Path) -> dict[int, SealingPrivateKey]:
    """Sealing keys by suite. Raises KeyInvalid."""
    plain = _load(folder / "sealing-x25519.pem")
    lattice = _load(folder / "sealing-hybrid-mlkem768.pem")
    curve = _load(folder / "sealing-hybrid-x25519.pem")
    if not (
        isinstance(plain, X25519PrivateKey)
        and isinstance(lattice, MLKEM768PrivateKey)
        and isinstance(curve, X25519PrivateKey)
    ):
        raise KeyInvalid(f"{folder} holds a sealing key of the wrong kind")
    return {X25519: plain, HYBRID: hpke.MLKEM768X25519PrivateKey(lattice, curve)}


def sealing_public_bytes(folder: Path) -> dict[int, bytes]:
    """Raw public sealing keys by suite: X25519 (32 bytes); ML-KEM-768 then X25519 (1,184 + 32 bytes)."""
    load_sealing(folder)  # the right kinds, or KeyInvalid

    def public(name: str) -> bytes:
        return _load(folder / name).public_key().public_bytes_raw()

    hybrid = public("sealing-hybrid-mlkem768.pem") + public("sealing-hybrid-x25519.pem")
    return {X25519: public("sealing-x25519.pem"), HYBRID: hybrid}


def sealing_public(suite: int, raw: bytes) -> SealingPublicKey:
    """The public sealing key of `suite`. Raises KeyInvalid."""
    try:
        if suite == X25519:
            return X25519PublicKey.from_public_bytes(raw)
        if suite == HYBRID:
            lattice = MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES])
            curve = X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC_BYTES:])
            return hpke.MLKEM768X25519PublicKey(lattice, curve)
    except ValueError as error:
        raise KeyInvalid(f"not a public sealing key of suite {suite}: {error}") from None
    raise KeyInvalid(f"unknown suite {suite}")


def verifying(raw: bytes) -> Ed25519PublicKey:
    """The Ed25519 public key of 32 raw bytes. Raises KeyInvalid."""
    try:
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise KeyInvalid(f"not an Ed25519 public key: {error}") from None


def _load(path: Path) -> PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeyInvalid(f"the key {path} can't be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyInvalid(f"{path} is not a private key in PEM: {error}") from None
    if not isinstance(key, (Ed25519PrivateKey, X25519PrivateKey, MLKEM768PrivateKey)):
        raise KeyInvalid(f"{path} holds a {type(key).__name__}, which Tasuki does not use")
    return key
