"""RSQRT on int8 and int16: Newton's iteration in fixed point, a table of LiteRT's on int16."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Tensor
from tasuki.firmware_bridge.semantics import grids, interpolated
from tasuki.firmware_bridge.semantics.fixed_point import (
    INT32_MAX,
    Integers,
    Rounding,
    high_multiply,
    multiply,
    quantize_multiplier,
    shift_left,
    shift_right,
)

_HALF_ROOT_2: Final = 1518500250  # sqrt(2) / 2 in Q0.31


# Bits of a root below its point, or else it would be 0 or 1.
_BITS: Final = 20


@dataclass(frozen=True)
class RsqrtParams:
    """The fields of `tsk_rsqrt_s16_t` that have to do with grids."""

    multiplier: int
    shift: int


def rsqrt_params(x: Tensor, y: Tensor, rounding: Rounding) -> RsqrtParams:
    """From a root to the output. LiteRT takes the scales together in float32, TensorFlow Lite Micro in float64."""
    real = np.float32 if rounding == "single" else np.float64
    product = np.sqrt(real(grids.scale(x))) * real(grids.scale(y))
    multiplier, shift = quantize_multiplier(1.0 / float(product))
    return RsqrtParams(multiplier, shift - _BITS)


def wide_table(x: Tensor, y: Tensor) -> NDArray[np.int16]:
    """int16 [513]: what LiteRT interpolates between on int16."""
    return interpolated.table(_Inverse(y), np.float32(grids.scale(x)), 0, np.float32(grids.scale(y)))


def rsqrt(x: Tensor, y: Tensor, inputs: Integers, rounding: Rounding) -> NDArray[Any]:
    """The largest output where the input is at its zero point, and below it, where the interpreters refuse to go."""
    if x.type == np.int16 and rounding == "single":
        return interpolated.look_up(inputs, wide_table(x, y)).astype(np.int16)
    value = inputs - grids.zero(x)
    multiplier, shift = _inverse_roots(np.maximum(value, 1))
    p = rsqrt_params(x, y, rounding)
    root = multiply(np.ones_like(value), multiplier, shift + _BITS)
    found = multiply(root, p.multiplier, p.shift) + grids.zero(y)
    return grids.saturate(np.where(value > 0, found, grids.limits(y.type)[1]), y.type)


class _Inverse:
    """1 / sqrt in float32, the grid's end for what is not positive."""

    def __init__(self, y: Tensor) -> None:
        self.most = np.float32(32767) * np.float32(grids.scale(y))

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        root = np.sqrt(np.where(x > 0, x, np.float32(1)))
        return np.asarray(np.where(x > 0, np.float32(1) / root, self.most))


def _inverse_roots(value: Integers) -> tuple[Integers, Integers]:
    """1 / sqrt(value) for 1 to 65535 as multipliers and shifts: five of Newton's iterations in Q3.28, from 1."""
    pairs = (31 - np.frexp(value.astype(np.float64))[1].astype(np.int64)) // 2 - 1
    half = shift_right((value << 2 * pairs) >> 1, 1)
    y = np.full_like(value, 1 << 28)
    for _ in range(5):
        cube = shift_left(high_multiply(high_multiply(y, y), y), 6)
        y = shift_left(high_multiply(y, 3 << 27) - high_multiply(half, cube), 3)
    y = high_multiply(y, _HALF_ROOT_2)
    shift = pairs - 11
    one = value == 1
    return np.where(one, INT32_MAX, y << np.maximum(shift, 0)), np.where(one, 0, np.minimum(shift, 0))
