"""Private keys as files with mode 0600 (PKCS #8 PEM, encrypted if there is a password), or in a device that signs.

`open_signer` is the one place where another home of keys plugs in (PKCS #11, a TPM, a secure element).
`cryptography` makes and uses the keys of files.
"""

import os
import re
import secrets
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tasuki.sdk import signing
from tasuki.sdk.envelope import HYBRID, X25519, SealingPrivateKey
from tasuki.sdk.errors import InputError, KeyInvalid
from tasuki.sdk.signing import EDDSA, ES256, Signer, Software, SoftwareKey

PASSWORD_VARIABLE: Final = "TASUKI_KEY_PASSWORD"  # noqa: S105  its name, not a password
SIGNERS: Final = "tasuki.signers"
MAX_PASSWORD: Final = 1024
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+):")
_PROBE: Final = b"tasuki: does this key sign?"
_SEALING: Final = ("sealing-x25519.pem", "sealing-hybrid-mlkem768.pem", "sealing-hybrid-x25519.pem")
PrivateKey = SoftwareKey | X25519PrivateKey | MLKEM768PrivateKey
# Asked only where a key is encrypted; None if there is no password.
Password = Callable[[], bytes | None]


def from_environment() -> bytes | None:
    """The password in TASUKI_KEY_PASSWORD."""
    return os.environb.get(PASSWORD_VARIABLE.encode()) or None


def password_of(file: Path | None) -> Password:
    """The first line of `file`; without a file, what the environment has. Raises KeyInvalid when it is asked."""
    if file is None:
        return from_environment
    return lambda: _line(file)


def _line(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            word = stream.readline(MAX_PASSWORD + 2).rstrip(b"\r\n")
    except OSError as error:
        raise KeyInvalid(f"the password file {file} can't be read: {error.strerror}") from None
    if not 0 < len(word) <= MAX_PASSWORD:
        raise KeyInvalid(f"the first line of {file} is no password: 1 to {MAX_PASSWORD} bytes")
    return word


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


def save(path: Path, key: PrivateKey, password: bytes | None = None) -> None:
    """Write `key` as PEM, encrypted if there is a password."""
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))


def make_signing(algorithm: int = EDDSA) -> Software:
    """A new key. Raises InputError on an unknown algorithm."""
    if algorithm == EDDSA:
        return Software(Ed25519PrivateKey.generate())
    if algorithm == ES256:
        return Software(generate_private_key(SECP256R1()))
    raise InputError(f"signature algorithm {algorithm}: use {EDDSA} (EdDSA) or {ES256} (ES256)")


def load_signing(path: Path, password: Password = from_environment) -> Software:
    """The Ed25519 or P-256 key in `path`. Raises KeyInvalid."""
    key = _load(path, password)
    if not isinstance(key, (Ed25519PrivateKey, EllipticCurvePrivateKey)):
        raise KeyInvalid(f"{path} is not an Ed25519 or P-256 private key")
    return Software(key)


def load_artifact_key(path: Path, password: Password = from_environment) -> Ed25519PrivateKey:
    """The key in `path` that signs artifacts, which is Ed25519 always. Raises KeyInvalid."""
    key = load_signing(path, password).key
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyInvalid(f"{path} is a P-256 key: artifacts are signed with Ed25519; make a key with `tasuki key`")
    return key


def signing_key(path: Path, password: Password = from_environment, algorithm: int = EDDSA) -> Software:
    """The key in `path`; made there at the first call, encrypted if there is a password."""
    if not path.exists():
        save(path, make_signing(algorithm).key, password())
    return load_signing(path, password)


def open_signer(reference: str, password: Password = from_environment) -> Signer:
    """The signer that `reference` names. Raises KeyInvalid.

    A reference is the path of a key file, or ``SCHEME:...`` with a scheme that an installed package offers in the
    entry point group ``tasuki.signers``: a function that takes the whole reference and gives a `Signer`. What a
    plug-in gives has to sign once before it is used.
    """
    scheme = _SCHEME.match(reference)
    found = list(entry_points(group=SIGNERS, name=scheme[1])) if scheme else []
    if not found:
        if scheme and not Path(reference).exists():
            raise KeyInvalid(f"nothing here opens keys of {scheme[1]}: install a package that offers it in {SIGNERS}")
        return load_signing(Path(reference), password)
    if len(found) > 1:
        raise KeyInvalid(f"more than one package offers {scheme[1] if scheme else ''} in {SIGNERS}: uninstall one")
    try:
        made: Signer = found[0].load()(reference)
        right = signing.algorithm_of(made.public) == made.algorithm
        signature = signing.low_s(made.algorithm, made.sign(_PROBE))
        right = right and signing.verify(made.public, signature, _PROBE)
    except KeyInvalid:
        raise
    except Exception as error:  # whatever a plug-in raises is about this key
        raise KeyInvalid(f"the key {reference} can't be opened: {error}") from error
    if not right:
        raise KeyInvalid(f"the key {reference} makes signatures that its public key does not verify")
    return made


def plain_pem(signer: Signer) -> str:
    """The private key as unencrypted PEM, for TLS. Raises KeyInvalid if it does not leave its place."""
    if not isinstance(signer, Software):
        raise KeyInvalid("the device's key does not leave its place, so TLS can't use it: enrol without a request")
    return signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_key(text: str) -> bytes:
    """The raw public key that `text` gives: a PEM text, or hex. Raises KeyInvalid."""
    if "-----BEGIN" not in text:
        try:
            return signing.check_public(bytes.fromhex(text.strip()))
        except ValueError:
            raise KeyInvalid("a public key is hex (64 digits for Ed25519, 66 for P-256) or PEM") from None
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyInvalid(f"not a public key in PEM: {error}") from None
    if isinstance(key, Ed25519PublicKey):
        return signing.raw(key)
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return signing.raw(key)
    raise KeyInvalid("the public key is neither Ed25519 nor P-256")


def make_sealing(folder: Path, password: bytes | None = None) -> None:
    """New sealing keys of every suite in `folder`."""
    made: tuple[PrivateKey, ...] = (X25519PrivateKey.generate(), MLKEM768PrivateKey.generate())
    for name, key in zip(_SEALING, (*made, X25519PrivateKey.generate()), strict=True):
        save(folder / name, key, password)


def load_sealing(folder: Path, password: Password = from_environment) -> dict[int, SealingPrivateKey]:
    """Sealing keys by suite. Raises KeyInvalid."""
    plain, lattice, curve = _halves(folder, password)
    return {X25519: plain, HYBRID: hpke.MLKEM768X25519PrivateKey(lattice, curve)}


def sealing_public_bytes(folder: Path, password: Password = from_environment) -> dict[int, bytes]:
    """Raw public sealing keys by suite: X25519 (32 bytes); ML-KEM-768 then X25519 (1,184 + 32 bytes)."""
    plain, lattice, curve = (key.public_key().public_bytes_raw() for key in _halves(folder, password))
    return {X25519: plain, HYBRID: lattice + curve}


def _halves(folder: Path, password: Password) -> tuple[X25519PrivateKey, MLKEM768PrivateKey, X25519PrivateKey]:
    plain, lattice, curve = (_load(folder / name, password) for name in _SEALING)
    if not (
        isinstance(plain, X25519PrivateKey)
        and isinstance(lattice, MLKEM768PrivateKey)
        and isinstance(curve, X25519PrivateKey)
    ):
        raise KeyInvalid(f"{folder} holds a sealing key of the wrong kind")
    return plain, lattice, curve


def _load(path: Path, password: Password) -> PrivateKey:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KeyInvalid(f"the key {path} can't be read: {error.strerror}") from None
    word = None
    if b"ENCRYPTED" in content:
        word = password()
        if word is None:
            raise KeyInvalid(f"{path} is encrypted: give its password by --key-password-file or {PASSWORD_VARIABLE}")
    try:
        key = load_pem_private_key(content, word)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = "can't be opened with this password" if word else f"is not a private key in PEM: {error}"
        raise KeyInvalid(f"{path} {what}") from None
    if not isinstance(key, (Ed25519PrivateKey, EllipticCurvePrivateKey, X25519PrivateKey, MLKEM768PrivateKey)):
        raise KeyInvalid(f"{path} holds a {type(key).__name__}, which Tasuki does not use")
    return key
