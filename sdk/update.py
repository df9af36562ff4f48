"""The update: what a device has learned, as the difference to the fleet's table (SPEC.md, "Update")."""

from dataclasses import dataclass, field
from typing import Any, Final

from tasuki.sdk import cbor, codec, compression
from tasuki.sdk.adapter import Head
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.fleet_table import FleetTable
from tasuki.sdk.session import ROOT_BYTES

FORMAT: Final = 2
# Key 5 is of format 1 (int8 rows), which is still read.
_FORMAT, _KIND, _SHAPE, _TABLE, _SAMPLES, _ROOT = 1, 2, 3, 4, 7, 9
MAX_SAMPLES: Final = (1 << 32) - 1


@dataclass(frozen=True)
class Update:
    """A difference, and how many examples the device says it learned from: a claim, never a weight.

    `norm` is its length in the metric of the table. `root` (32 bytes) founds the chain that later updates are sealed
    under (`tasuki.sdk.session`).
    """

    delta: Head
    samples: int
    norm: float = 0.0
    root: bytes | None = field(default=None, repr=False)


def encode(table: FleetTable, compressed: bytes, samples: int, root: bytes | None = None) -> bytes:
    """Deterministic CBOR; `compressed` is ``[W | b]`` as `tasuki.sdk.compression` gave it."""
    fields: dict[int, Any] = {
        _FORMAT: FORMAT,
        _KIND: table.number,
        _SHAPE: list(table.shape),
        _TABLE: compressed,
        _SAMPLES: samples,
    }
    if root is not None:
        fields[_ROOT] = root
    return cbor.encode(fields)


def decode(data: bytes, table: FleetTable) -> Update:
    """Total: an update of `table`, or Refused (MALFORMED, WRONG_KIND, WRONG_SHAPE, NOT_FINITE)."""
    match cbor.decode(data):
        case {1: 2, 2: int(kind), 3: [int(rows), int(columns)], 4: bytes(compressed), 7: int(samples), **rest}:
            root = rest.pop(_ROOT, None)
            if rest or not 0 < samples <= MAX_SAMPLES:
                raise Refused(Refusal.MALFORMED, "update")
            if root is not None and not (isinstance(root, bytes) and len(root) == ROOT_BYTES):
                raise Refused(Refusal.MALFORMED, "update")
            table.check_kind(kind)
            table.check_shape(rows, columns)
            joined, norm = compression.measured(compressed, *table.joined_shape, table.metric)
            return Update(Head(table.labels, joined[:, :-1], joined[:, -1]), samples, norm, root)
        case {1: 1, 7: int(samples), **rest} if set(rest) == codec.KEYS and 0 < samples <= MAX_SAMPLES:
            delta = codec.unpack(rest, table)
            return Update(delta, samples, compression.norm(delta.joined, table.metric))
    raise Refused(Refusal.MALFORMED, "update")
