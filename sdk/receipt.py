"""Receipts: the gateway's signed word on one message. A device forgets an update only on its receipt.

A receipt names the message by its SHA-256, so it can't be taken for the answer to another one, and even what nobody is
known to have signed can be answered: whoever did send it learns why it was refused, and nobody else believes it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasuki.sdk import cbor, cose, transfer
from tasuki.sdk.envelope import Context, check_tags
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.signing import Signer

DIGEST_BYTES: Final = 16
_DIGEST, _TIME, _WANTED = 1, 2, 3
_MAX_TIME: Final = 1 << 40


@dataclass(frozen=True)
class Receipt:
    """What became of a message: `sequence` is the update's, 0 where it could not be read.

    `digest` is 16 bytes (`digest_of`), `version` the fleet's adapter at that moment, `time` the gateway's in seconds
    since 1970; `wanted` are the parts to send, where the status is PARTS_WANTED.
    """

    sequence: int
    status: Refusal
    version: int
    digest: bytes
    time: int
    wanted: tuple[int, ...] = ()


def digest_of(message: bytes) -> bytes:
    """The first 16 bytes of its SHA-256."""
    return hashlib.sha256(message).digest()[:DIGEST_BYTES]


def issue(receipt: Receipt, fleet: str, device: str, artifact: bytes, signer: Signer) -> bytes:
    """The signed message."""
    context = Context(fleet, device, "receipt", artifact, receipt.version, receipt.sequence, receipt.status)
    fields: dict[int, object] = {_DIGEST: receipt.digest, _TIME: receipt.time}
    if receipt.wanted:
        fields[_WANTED] = transfer.bitmap(receipt.wanted)
    return cose.sign(context.header(), cbor.encode(fields), context.encode(), signer)


def accept(message: bytes, *, fleet: str, device: str, artifact: bytes, gateways: Sequence[bytes]) -> Receipt:
    """The receipt, if one of the gateway's keys signed it for this device.

    Raises Refused: OVERSIZE, MALFORMED, WRONG_FLEET, WRONG_ARTIFACT, BAD_SIGNATURE.
    """
    signed = cose.parse(message)
    header = signed.header
    check_tags(header, artifact, fleet)
    context = Context(fleet, device, "receipt", artifact, header.version, header.sequence, header.code)
    match cbor.decode(cose.verify_any(signed, context.encode(), gateways)):
        case {1: bytes(digest), 2: int(time), **rest} if len(digest) == DIGEST_BYTES and 0 <= time < _MAX_TIME:
            pass
        case _:
            raise Refused(Refusal.MALFORMED, "receipt")
    wanted = rest.pop(_WANTED, None)
    if rest or wanted == b"" or not isinstance(wanted, (bytes, type(None))):
        raise Refused(Refusal.MALFORMED, "receipt")
    try:
        status = Refusal(header.code)
    except ValueError:
        raise Refused(Refusal.MALFORMED, f"receipt with the unknown status {header.code}") from None
    return Receipt(header.sequence, status, header.version, digest, time, tuple(transfer.indexes(wanted or b"")))
