"""The fleet's adapter on its way to the devices: versioned, bound to fleet and artifact, signed by the gateway."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tasuki.sdk import cbor, codec, cose
from tasuki.sdk.adapter import Head
from tasuki.sdk.envelope import Context
from tasuki.sdk.errors import Refusal, Refused

FORMAT: Final = 1
GATEWAY: Final = "gateway"
EVERY_DEVICE: Final = "*"
_FORMAT, _EXPIRES = 1, 8
_MAX_TIME: Final = 1 << 40


@dataclass(frozen=True)
class Adapter:
    """One version of the fleet's head; `expires` is in seconds since the epoch, 0 for never."""

    version: int
    head: Head
    expires: int = 0


def _context(fleet: str, artifact: bytes, version: int) -> Context:
    return Context(fleet, EVERY_DEVICE, "adapter", artifact, version, version, 0)


def publish(adapter: Adapter, fleet: str, artifact: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signed message."""
    context = _context(fleet, artifact, adapter.version)
    payload = cbor.encode({_FORMAT: FORMAT, _EXPIRES: adapter.expires, **codec.pack(adapter.head)})
    return cose.sign(context.header(GATEWAY), payload, context.encode(), key)


def accept(
    message: bytes,
    *,
    fleet: str,
    artifact: bytes,
    labels: Sequence[str],
    width: int,
    gateway: Ed25519PublicKey,
    current: int = 0,
    now: float = 0.0,
) -> Adapter:
    """The adapter, if the gateway of this fleet signed it for this artifact and it is not older than `current`.

    Raises Refused: OVERSIZE, MALFORMED, WRONG_ARTIFACT, BAD_SIGNATURE (another fleet's or a forged one), ROLLBACK,
    EXPIRED, WRONG_SHAPE, NOT_FINITE.
    """
    signed = cose.parse(message)
    header = signed.header
    if header.artifact != artifact[:8]:
        raise Refused(Refusal.WRONG_ARTIFACT)
    payload = cose.verify(signed, _context(fleet, artifact, header.version).encode(), gateway)
    if header.version < current:
        raise Refused(Refusal.ROLLBACK, f"version {header.version}, this device has {current}")
    match cbor.decode(payload):
        case {1: 1, 8: int(expires), **rest} if set(rest) == codec.KEYS and 0 <= expires < _MAX_TIME:
            if expires and now > expires:
                raise Refused(Refusal.EXPIRED)
            return Adapter(header.version, codec.unpack(rest, labels, width), expires)
    raise Refused(Refusal.MALFORMED, "adapter")
