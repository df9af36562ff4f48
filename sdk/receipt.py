"""Receipts: the gateway's signed word on one update. A device forgets an update only on its receipt."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tasuki.sdk import cose
from tasuki.sdk.downlink import GATEWAY
from tasuki.sdk.envelope import Context
from tasuki.sdk.errors import Refusal, Refused


@dataclass(frozen=True)
class Receipt:
    """What became of update `sequence`; `version` is the fleet's adapter at that moment."""

    sequence: int
    status: Refusal
    version: int


def issue(receipt: Receipt, fleet: str, device: str, artifact: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signed message. All of it stands in the header; the payload is empty."""
    context = Context(fleet, device, "receipt", artifact, receipt.version, receipt.sequence, receipt.status)
    return cose.sign(context.header(GATEWAY), b"", context.encode(), key)


def accept(message: bytes, *, fleet: str, device: str, artifact: bytes, gateway: Ed25519PublicKey) -> Receipt:
    """The receipt, if the gateway signed it for this device. Raises Refused."""
    signed = cose.parse(message)
    header = signed.header
    context = Context(fleet, device, "receipt", artifact, header.version, header.sequence, header.code)
    if cose.verify(signed, context.encode(), gateway):
        raise Refused(Refusal.MALFORMED, "receipt")
    try:
        return Receipt(header.sequence, Refusal(header.code), header.version)
    except ValueError:
        raise Refused(Refusal.MALFORMED, f"receipt with the unknown status {header.code}") from None
