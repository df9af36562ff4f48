"""int16 functions through tables of 513 entries with a straight line between two of them."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.semantics.fixed_point import Integers, round_away

_STEPS: Final = 512


def table(function: Callable[[Any], Any], scale: Any, zero: int, out_scale: Any) -> NDArray[np.int16]:
    """int16 [513]: `function` on ``scale (-32768 - zero)`` to ``scale (32767 - zero)`` in steps of `out_scale`.

    Each entry is off by half of what interpolation would err by in the middle of its step. All arithmetic is in the
    type of `scale`, float32 or float64.
    """
    kind = type(scale)
    low, high = scale * kind(-32768 - zero), scale * kind(32767 - zero)
    step = (high - low) / kind(_STEPS)
    grow = kind(65536) / (out_scale * kind(32767) - out_scale * kind(-32768))
    steps = np.arange(_STEPS).astype(kind)
    here = function(low + steps * step)
    middle = function(low + steps * step + step / kind(2))
    after = function(low + (steps + kind(1)) * step)
    sample = round_away(here * grow)
    guessed = round_away((after * grow + sample) / kind(2))
    error = round_away((guessed - round_away(middle * grow)) / kind(2))
    last = round_away(function(np.array([high])) * grow)
    made: NDArray[np.int16] = np.clip(np.append(sample - error, last), -32768, 32767).astype(np.int16)
    return made


def look_up(x: Integers, entries: NDArray[np.int16]) -> Integers:
    """The values of int16 `x`: 7 bits lie between two entries; the slope is kept in 16 bits."""
    wide = entries.astype(np.int64)
    place = 256 + (x >> 7)
    slope = (wide[place + 1] - wide[place]).astype(np.int16).astype(np.int64)
    value: Integers = wide[place] + ((slope * (x & 0x7F) + 64) >> 7)
    return value
