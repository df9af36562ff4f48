"""The envelope of an update: sealed with HPKE (RFC 9180, base mode) to the gateway, signed by the device.

HPKE's base mode says nothing about the sender and this library's HPKE takes no associated data, so the context goes
in as HPKE `info` and as COSE `external_aad`: a message opened in any other context fails.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tasuki.sdk import cbor, cose
from tasuki.sdk.errors import Refusal, Refused

X25519: Final = 1
HYBRID: Final = 2
SUITES: Final = {
    X25519: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
    HYBRID: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
}
SUITE_NAMES: Final = {X25519: "x25519", HYBRID: "mlkem768-x25519"}
SealingPrivateKey = X25519PrivateKey | hpke.MLKEM768X25519PrivateKey
SealingPublicKey = X25519PublicKey | hpke.MLKEM768X25519PublicKey


@dataclass(frozen=True)
class Context:
    """What a message is bound to. `direction` is ``up``, ``receipt`` or ``adapter``; `artifact` is a SHA-256."""

    fleet: str
    device: str
    direction: str
    artifact: bytes
    version: int
    sequence: int
    code: int  # the suite of an update, the status of a receipt, else 0

    def encode(self) -> bytes:
        """Deterministic CBOR (SPEC.md, "Context")."""
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

    def header(self, signer: str) -> cose.Header:
        """The protected header that lets the receiver rebuild this context."""
        return cose.Header(signer, self.version, self.sequence, self.code, self.artifact[:8])


def seal(update: bytes, context: Context, signer: Ed25519PrivateKey, recipient: SealingPublicKey) -> bytes:
    """Encrypt, then sign. `context.code` names the suite; `recipient` is the gateway's key of that suite."""
    bound = context.encode()
    sealed = SUITES[context.code].encrypt(update, recipient, info=bound)
    return cose.sign(context.header(context.device), sealed, bound, signer)


def authenticate(signed: cose.Signed, context: Context, sender: Ed25519PublicKey) -> bytes:
    """The sealed payload, if `sender` signed it. Raises Refused(BAD_SIGNATURE)."""
    return cose.verify(signed, context.encode(), sender)


def decrypt(sealed: bytes, context: Context, recipient: SealingPrivateKey) -> bytes:
    """The update's bytes. Only for payloads that `authenticate` returned. Raises Refused(BAD_SEAL)."""
    try:
        return SUITES[context.code].decrypt(sealed, recipient, info=context.encode())
    except (InvalidTag, ValueError):
        raise Refused(Refusal.BAD_SEAL) from None
