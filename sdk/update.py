"""The update: what a device has learned, as the difference to the fleet's head (SPEC.md, "Update")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasuki.sdk import cbor, codec
from tasuki.sdk.adapter import Head
from tasuki.sdk.errors import Refusal, Refused

FORMAT: Final = 1
_FORMAT, _SAMPLES = 1, 7
_MAX_SAMPLES: Final = 1 << 32


@dataclass(frozen=True)
class Update:
    """A difference and how many examples the device says it learned from: a claim, never a weight."""

    delta: Head
    samples: int


def encode(update: Update) -> bytes:
    """Deterministic CBOR."""
    return cbor.encode({_FORMAT: FORMAT, _SAMPLES: update.samples, **codec.pack(update.delta)})


def decode(data: bytes, labels: Sequence[str], width: int) -> Update:
    """Total: an update over `labels` and `width` features, or Refused."""
    match cbor.decode(data):
        case {1: 1, 7: int(samples), **rest} if set(rest) == codec.KEYS and 0 < samples < _MAX_SAMPLES:
            return Update(codec.unpack(rest, labels, width), samples)
    raise Refused(Refusal.MALFORMED, "update")
