"""A table as int8 rows with one float32 scale each, and a float32 bias: how the fleet's adapter travels.

Every row is exact to half a step on every machine, so gateway and devices answer alike.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.fleet_table import FleetTable

MAX_ROWS: Final = 4096
MAX_COLUMNS: Final = 4096
# Keys of the map (SPEC.md, "Int8 rows").
_KIND, _SHAPE, _SCALES, _ROWS, _BIAS = 2, 3, 4, 5, 6
KEYS: Final = frozenset((_KIND, _SHAPE, _SCALES, _ROWS, _BIAS))


def pack(head: Head, kind: int) -> dict[int, Any]:
    """The fields of the table `head` for a CBOR map. Rounds each weight to the nearest of 255 levels of its row."""
    peaks = np.abs(head.weight).max(1, initial=0.0)
    scales = (peaks / 127.0).astype("<f4")
    steps = np.where(scales > 0, scales, 1.0)[:, None]
    rows = np.clip(np.rint(head.weight / steps), -127, 127).astype(np.int8)
    return {
        _KIND: kind,
        _SHAPE: list(head.weight.shape),
        _SCALES: scales.tobytes(),
        _ROWS: rows.tobytes(),
        _BIAS: head.bias.astype("<f4").tobytes(),
    }


def unpack(fields: Mapping[Any, Any], table: FleetTable) -> Head:
    """The table in `fields`. Raises Refused (MALFORMED, WRONG_KIND, WRONG_SHAPE or NOT_FINITE)."""
    match fields:
        case {2: int(kind), 3: [int(rows), int(columns)], 4: bytes(scales), 5: bytes(codes), 6: bytes(bias)}:
            pass
        case _:
            raise Refused(Refusal.MALFORMED, "int8 rows")
    table.check_kind(kind)
    table.check_shape(rows, columns)
    if (len(scales), len(codes), len(bias)) != (4 * rows, rows * columns, 4 * rows):
        raise Refused(Refusal.MALFORMED, "int8 rows")
    steps, offsets = np.frombuffer(scales, "<f4"), np.frombuffer(bias, "<f4")
    if not (np.isfinite(steps).all() and np.isfinite(offsets).all()):
        raise Refused(Refusal.NOT_FINITE)
    with np.errstate(over="ignore"):
        weight: Floats = np.frombuffer(codes, np.int8).reshape(rows, columns) * steps[:, None]
    if not np.isfinite(weight).all():
        raise Refused(Refusal.NOT_FINITE)
    return Head(table.labels, weight.astype(np.float32), offsets.astype(np.float32))
