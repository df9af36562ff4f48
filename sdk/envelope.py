"""The envelope of an update: sealed with HPKE (RFC 9180, base mode) to the gateway, signed by the device.

HPKE's base mode says nothing about the sender and this library's HPKE takes no associated data, so the context goes
in as HPKE `info` and as COSE `external_aad`: a message opened in any other context fails.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tasuki.sdk import cbor, cose
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.signing import Signer

X25519: Final = 1
HYBRID: Final = 2
# Under a key that an earlier update of another suite brought (`tasuki.sdk.session`).
RESUMED: Final = 3
SUITES: Final = {
    X25519: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
    HYBRID: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
}
SUITE_NAMES: Final = {X25519: "x25519", HYBRID: "mlkem768-x25519"}
DIRECTIONS: Final = ("up", "offer", "join", "receipt", "adapter", "record")
SealingPrivateKey = X25519PrivateKey | hpke.MLKEM768X25519PrivateKey
SealingPublicKey = X25519PublicKey | hpke.MLKEM768X25519PublicKey
_HALF_TAG: Final = 4


@dataclass(frozen=True)
class Context:
    """What a message is bound to. `direction` is one of `DIRECTIONS`; `artifact` is a SHA-256."""

    fleet: str
    device: str
    direction: str
    artifact: bytes
    version: int
    sequence: int
    code: int  # the suite of an update, the status of a receipt, else 0

    def encode(self) -> bytes:
        """Deterministic CBOR (SPEC.md, "Context")."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        fields = [
            self.fleet,
            self.device,
            self.direction,
            self.artifact,
            self.version,
            self.sequence,
            self.code,
        ]
        return cbor.encode(["tasuki", 1, *fields])

    def header(self) -> cose.Header:
        """The protected header that lets the receiver rebuild this context."""
        return cose.Header(self.version, self.sequence, self.code, tags(self.artifact, self.fleet))


@lru_cache(maxsize=64)
def tags(artifact: bytes, fleet: str) -> bytes:
    """4 bytes of the artifact's hash and 4 of the SHA-256 of the fleet's name: to name a reason, not to trust."""
    return artifact[:_HALF_TAG] + hashlib.sha256(fleet.encode()).digest()[:_HALF_TAG]


def check_tags(header: cose.Header, artifact: bytes, fleet: str) -> None:
    """Raises Refused(WRONG_FLEET or WRONG_ARTIFACT) where a header says that it is for another one."""
    if header.signer is not None:
        if header.tags != artifact[: cose.TAG_BYTES]:
            raise Refused(Refusal.WRONG_ARTIFACT)
        return
    expected = tags(artifact, fleet)
    if header.tags[_HALF_TAG:] != expected[_HALF_TAG:]:
        raise Refused(Refusal.WRONG_FLEET)
    if header.tags[:_HALF_TAG] != expected[:_HALF_TAG]:
        raise Refused(Refusal.WRONG_ARTIFACT)


def seal(update: bytes, context: Context, signer: Signer, recipient: SealingPublicKey) -> bytes:
    """Encrypt, then sign. `context.code` names the suite; `recipient` is the gateway's key of that suite."""
    bound = context.encode()
    return cose.sign(context.header(), SUITES[context.code].encrypt(update, recipient, info=bound), bound, signer)


def authenticate(signed: cose.Signed, context: Context, public: bytes) -> bytes:
    """The sealed payload, if the raw key `public` signed it. Raises Refused(BAD_SIGNATURE)."""
    return cose.verify(signed, context.encode(), public)


def decrypt(sealed: bytes, context: Context, recipient: SealingPrivateKey) -> bytes:
    """The update's bytes. Only for payloads that `authenticate` returned. Raises Refused(BAD_SEAL)."""
    try:
        return SUITES[context.code].decrypt(sealed, recipient, info=context.encode())
    except (InvalidTag, ValueError):
        raise Refused(Refusal.BAD_SEAL) from None
