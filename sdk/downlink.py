"""The fleet's adapter on its way to the devices: a signed announcement first, then the content in parts.

A device believes nothing but the announcement: it says which version it is, until when it is good, and to what bytes
the content comes; what is larger, older or other than that is never kept (the attacks that the Uptane standard lists).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasuki.sdk import cbor, codec, cose, transfer
from tasuki.sdk.adapter import Head
from tasuki.sdk.envelope import Context, check_tags
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.fleet_table import FleetTable
from tasuki.sdk.signing import Signer
from tasuki.sdk.transfer import Offer

FORMAT: Final = 2
CONTENT_FORMAT: Final = 1
EVERY_DEVICE: Final = "*"
_FORMAT, _EXPIRES, _ISSUED = 1, 8, 9
_MAX_TIME: Final = 1 << 40


@dataclass(frozen=True)
class Announcement:
    """Version `version` of the fleet's adapter; `issued` and `expires` in seconds since 1970, 0 for never expiring."""

    version: int
    issued: int
    expires: int
    offer: Offer


def content(head: Head, table: FleetTable) -> bytes:
    """The adapter's bytes, the same on every machine."""
    return cbor.encode({_FORMAT: CONTENT_FORMAT, **codec.pack(head, table.number)})


def read_content(data: bytes, table: FleetTable) -> Head:
    """The table in `data`. Raises Refused: MALFORMED, WRONG_KIND, WRONG_SHAPE, NOT_FINITE."""
    match cbor.decode(data):
        case {1: 1, **rest} if set(rest) == codec.KEYS:
            return codec.unpack(rest, table)
    raise Refused(Refusal.MALFORMED, "adapter")


def former_content(message: bytes) -> bytes:
    """The content out of an adapter message of number 1, as earlier versions kept it; other bytes as they are.

    Only for what is on this machine's own disk: the signature was checked when it came in. Raises Refused(MALFORMED).
    """
    if message[:1] != cose.TAG_SIGN1:
        return message
    match cbor.decode(cose.parse(message).payload):
        case {1: 1, 8: int(), **rest} if set(rest) == codec.KEYS:
            return cbor.encode({_FORMAT: CONTENT_FORMAT, **rest})
    raise Refused(Refusal.MALFORMED, "adapter")


def publish(announcement: Announcement, fleet: str, artifact: bytes, signer: Signer) -> bytes:
    """The signed message."""
    context = _context(fleet, artifact, announcement.version)
    times = {_FORMAT: FORMAT, _EXPIRES: announcement.expires, _ISSUED: announcement.issued}
    return cose.sign(context.header(), cbor.encode({**times, **announcement.offer.fields()}), context.encode(), signer)


def accept(
    message: bytes,
    *,
    fleet: str,
    artifact: bytes,
    gateways: Sequence[bytes],
    most: int,
    current: int = 0,
    now: float = 0.0,
) -> Announcement:
    """The announcement, if one of the keys `gateways` of this fleet signed it for this artifact.

    `current` is the version that is in use, `most` how many bytes of content there is room for. `now` is seconds since
    1970 by the device's clock; one that is behind the announcement itself is taken as that.
    Raises Refused: OVERSIZE, MALFORMED, WRONG_FLEET, WRONG_ARTIFACT, BAD_SIGNATURE, ROLLBACK, EXPIRED.
    """
    signed = cose.parse(message)
    header = signed.header
    check_tags(header, artifact, fleet)
    payload = cose.verify_any(signed, _context(fleet, artifact, header.version).encode(), gateways)
    if header.version < current:
        raise Refused(Refusal.ROLLBACK, f"version {header.version}, this device has {current}")
    match cbor.decode(payload):
        case {1: 2, 8: int(expires), 9: int(issued), **rest} if rest.keys() == transfer.KEYS:
            pass
        case _:
            raise Refused(Refusal.MALFORMED, "announcement")
    if not (0 <= expires < _MAX_TIME and 0 <= issued < _MAX_TIME):
        raise Refused(Refusal.MALFORMED, "announcement")
    if expires and max(now, issued) > expires:
        raise Refused(Refusal.EXPIRED, f"version {header.version}; is this device's clock right?")
    return Announcement(header.version, issued, expires, transfer.read(rest, most))


def _context(fleet: str, artifact: bytes, version: int) -> Context:
    return Context(fleet, EVERY_DEVICE, "adapter", artifact, version, version, 0)
