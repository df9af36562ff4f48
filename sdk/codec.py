"""A head as bytes: int8 rows with one float32 scale each, and a float32 bias."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.errors import Refusal, Refused

KIND_HEAD: Final = 1
MAX_ROWS: Final = 4096
MAX_COLUMNS: Final = 4096
# Keys of the map (SPEC.md, "Head").
_KIND, _SHAPE, _SCALES, _ROWS, _BIAS = 2, 3, 4, 5, 6
KEYS: Final = frozenset((_KIND, _SHAPE, _SCALES, _ROWS, _BIAS))


def pack(head: Head) -> dict[int, Any]:
    """The fields of `head` for a CBOR map. Rounds each weight to the nearest of 255 levels of its row."""
    peaks = np.abs(head.weight).max(1, initial=0.0)
    scales = (peaks / 127.0).astype("<f4")
    steps = np.where(scales > 0, scales, 1.0)[:, None]
    rows = np.clip(np.rint(head.weight / steps), -127, 127).astype(np.int8)
    return {
        _KIND: KIND_HEAD,
        _SHAPE: list(head.weight.shape),
        _SCALES: scales.tobytes(),
        _ROWS: rows.tobytes(),
        _BIAS: head.bias.astype("<f4").tobytes(),
    }


def unpack(fields: Mapping[Any, Any], labels: Sequence[str], width: int) -> Head:
    """The head in `fields`. Raises Refused (MALFORMED, WRONG_SHAPE or NOT_FINITE)."""
    match fields:
        case {2: 1, 3: [int(rows), int(columns)], 4: bytes(scales), 5: bytes(table), 6: bytes(bias)}:
            pass
        case _:
            raise Refused(Refusal.MALFORMED, "head")
    if (rows, columns) != (len(labels), width):
        raise Refused(Refusal.WRONG_SHAPE, f"{rows}x{columns}, expected {len(labels)}x{width}")
    if (len(scales), len(table), len(bias)) != (4 * rows, rows * columns, 4 * rows):
        raise Refused(Refusal.MALFORMED, "head")
    steps, offsets = np.frombuffer(scales, "<f4"), np.frombuffer(bias, "<f4")
    if not (np.isfinite(steps).all() and np.isfinite(offsets).all()):
        raise Refused(Refusal.NOT_FINITE)
    with np.errstate(over="ignore"):
        weight: Floats = np.frombuffer(table, np.int8).reshape(rows, columns) * steps[:, None]
    if not np.isfinite(weight).all():
        raise Refused(Refusal.NOT_FINITE)
    return Head(tuple(labels), weight.astype(np.float32), offsets.astype(np.float32))
