"""The signed offer of an update that must go in parts: what it will be, before any of it is sent (SPEC.md, "Parts")."""

from collections.abc import Mapping

from tasuki.sdk import cbor, cose, transfer
from tasuki.sdk.envelope import Context
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.signing import Signer
from tasuki.sdk.transfer import Offer

FORMAT = 1
# The code in the header, where an update has its suite.
CODE = 0


def sign(
    message: bytes, part: int, fleet: str, device: str, artifact: bytes, version: int, sequence: int, signer: Signer
) -> bytes:
    """The offer of the sealed update `message` in parts of `part` bytes. Raises InputError if these are too many."""
    context = Context(fleet, device, "offer", artifact, version, sequence, CODE)
    payload = cbor.encode({1: FORMAT, **transfer.offer(message, part).fields()})
    return cose.sign(context.header(), payload, context.encode(), signer)


def read(payload: bytes) -> Offer:
    """The offer in the payload of an authentic message. Raises Refused: MALFORMED, OVERSIZE."""
    match cbor.decode(payload):
        case {1: 1, **rest} if rest.keys() == transfer.KEYS:
            fields: Mapping[object, object] = rest
            return transfer.read(fields, cose.MAX_MESSAGE_BYTES)
    raise Refused(Refusal.MALFORMED, "offer")
