"""Signatures: Ed25519 and ECDSA over P-256 with SHA-256 (RFC 9053, 2.2 and 2.1). `cryptography` does the work.

A `Signer` is whatever holds a private key: a file (`tasuki.sdk.keys`), or a secure element that never gives it away.
A public key is its raw bytes, and their number says which algorithm it is of: 32 for Ed25519 (RFC 8032), 33 for a
compressed point of P-256 (SEC 1, 2.3.3).
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tasuki.sdk.errors import KeyInvalid

EDDSA: Final = -8
ES256: Final = -7
SIGNATURE_BYTES: Final = 64
_ED25519_BYTES: Final = 32
_P256_BYTES: Final = 33
_HALF: Final = 32
# n of P-256 (SP 800-186, 3.2.1.3).
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ECDSA: Final = ECDSA(SHA256())
SoftwareKey = Ed25519PrivateKey | EllipticCurvePrivateKey


class Signer(Protocol):
    """Holds a private key. `algorithm` is `EDDSA` or `ES256`, `public` the raw public key."""

    @property
    def algorithm(self) -> int:
        """The COSE number of the algorithm."""

    @property
    def public(self) -> bytes:
        """The raw public key."""

    def sign(self, data: bytes) -> bytes:
        """64 bytes: for ES256 r and s, each 32 bytes, big-endian (RFC 9053, 2.1)."""


@dataclass(frozen=True)
class Software:
    """A private key in this process's memory. Raises KeyInvalid where the curve is not P-256."""

    key: SoftwareKey = field(repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.key, EllipticCurvePrivateKey) and not isinstance(self.key.curve, SECP256R1):
            raise KeyInvalid(f"a key on the curve {self.key.curve.name}; use Ed25519 or P-256")

    @property
    def algorithm(self) -> int:
        return EDDSA if isinstance(self.key, Ed25519PrivateKey) else ES256

    @property
    def public(self) -> bytes:
        return raw(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(data)
        r, s = decode_dss_signature(self.key.sign(data, _ECDSA))
        return low_s(ES256, r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big"))


def raw(key: Ed25519PublicKey | EllipticCurvePublicKey) -> bytes:
    """The raw bytes of a public key."""
    if isinstance(key, Ed25519PublicKey):
        return key.public_bytes_raw()
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def algorithm_of(public: bytes) -> int:
    """The COSE number of the algorithm that the raw key `public` is of. Raises KeyInvalid."""
    if len(public) == _ED25519_BYTES:
        return EDDSA
    if len(public) == _P256_BYTES:
        return ES256
    raise KeyInvalid(f"a public key of {len(public)} bytes: 32 (Ed25519) or 33 (P-256, compressed) are wanted")


def check_public(public: bytes) -> bytes:
    """`public`, if it is a key of one of the algorithms. Raises KeyInvalid."""
    _public(public)
    return public


def low_s(algorithm: int, signature: bytes) -> bytes:
    """The one form of a signature: of ES256's two, (r, s) and (r, n - s), the one with the lower s.

    Else anybody could make another message with the same content that verifies as well.
    """
    if algorithm != ES256 or len(signature) != SIGNATURE_BYTES:
        return signature
    s = int.from_bytes(signature[_HALF:], "big")
    return signature[:_HALF] + min(s, _P256_ORDER - s).to_bytes(_HALF, "big") if 0 < s < _P256_ORDER else signature


def verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the key `public` signed `data`, and the signature has its one form. Raises KeyInvalid if it is no key."""
    key = _public(public)
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, data)
        else:
            r, s = int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big")
            if 2 * s > _P256_ORDER:
                return False
            key.verify(encode_dss_signature(r, s), data, _ECDSA)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=1024)
def _public(public: bytes) -> Ed25519PublicKey | EllipticCurvePublicKey:
    try:
        if algorithm_of(public) == EDDSA:
            return Ed25519PublicKey.from_public_bytes(public)
        return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), public)
    except ValueError as error:
        raise KeyInvalid(f"not a public key: {error}") from None
