"""Public sealing keys as raw bytes: 32 of X25519 (RFC 7748), or 1,184 of ML-KEM-768 (FIPS 203) and 32 of X25519."""

from typing import Final

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from tasuki.sdk.envelope import HYBRID, X25519, SealingPublicKey
from tasuki.sdk.errors import KeyInvalid

_MLKEM_PUBLIC_BYTES: Final = 1184


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
