"""SOFTMAX over the last axis: int8 through 256 exponentials, int16 through two interpolated tables."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator
from tasuki.firmware_bridge.semantics import gemmlowp, grids, interpolated
from tasuki.firmware_bridge.semantics.elementwise import Values
from tasuki.firmware_bridge.semantics.fixed_point import (
    INT32_MAX,
    Integers,
    Rounding,
    high_multiply,
    multiply,
    quantize_multiplier,
    shift_right,
    wrap,
)

# Differences are in Q5.26, sums of exponentials in Q12.19.
_DIFFERENCE_BITS: Final = 5
_SUM_BITS: Final = 12


@dataclass(frozen=True, eq=False)
class WideSoftmaxParams:
    """The fields of `tsk_softmax_s16_t` that have to do with grids."""

    multiplier: int
    shift: int
    exp_lut: NDArray[np.int16]
    reciprocal_lut: NDArray[np.int16]


def softmax_exponents(scale: float, beta: float) -> NDArray[np.int32]:
    """int32 [256]: exp(-beta scale d) in Q0.31 for the differences d from the maximum; 0 from where it is cut."""
    real = min(beta * scale * (1 << (31 - _DIFFERENCE_BITS)), float(INT32_MAX))
    multiplier, shift = quantize_multiplier(real)
    radius = ((1 << _DIFFERENCE_BITS) - 1) * (1 << (31 - _DIFFERENCE_BITS)) // (1 << shift)
    difference = -np.arange(256)
    kept = difference >= -radius
    scaled = high_multiply(wrap(np.where(kept, difference, 0) << shift), multiplier)
    return np.where(kept, gemmlowp.exp(scaled, _DIFFERENCE_BITS), 0).astype(np.int32)


def wide_softmax_params(op: Operator, graph: Graph, rounding: Rounding) -> WideSoftmaxParams:
    """Differences of 65,535 stand for -10; the tables are made in float32 (Micro) or float64 (LiteRT)."""
    (x,), _ = grids.tensors(op, graph)
    kind: Any = np.float64 if rounding == "single" else np.float32
    beta = float(op.options["beta"])
    product = float(np.float32(grids.scale(x)) * np.float32(beta)) if rounding == "single" else grids.scale(x) * beta
    return WideSoftmaxParams(
        *quantize_multiplier(product / (10.0 / 65535.0)),
        interpolated.table(_exp, kind(10) / kind(65535), 32767, kind(2) / kind(65535)),
        interpolated.table(lambda v: kind(1) / (kind(1) + v), kind(1) / kind(65535), -32768, kind(2) / kind(65535)),
    )


def softmax(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """int8 to the grid of 1/256 and -128, or int16 to that of 1/32768 and 0."""
    (x,), _ = grids.tensors(op, graph)
    data = values[x.number].astype(np.int64)
    if x.type == np.int16:
        return _wide(wide_softmax_params(op, graph, rounding), data)
    exponents = softmax_exponents(grids.scale(x), float(op.options["beta"])).astype(np.int64)
    terms = exponents[data.max(-1, keepdims=True) - data]
    total = shift_right(terms, _SUM_BITS).sum(-1, keepdims=True)
    headroom = _leading_zeros(total)
    scale = gemmlowp.inverse_of_one_plus((total << headroom) - (1 << 31))
    probability = shift_right(high_multiply(scale, terms), _SUM_BITS - headroom + 31 - 8)
    return grids.saturate(probability - 128, x.type)


def _wide(p: WideSoftmaxParams, data: Integers) -> NDArray[np.int16]:
    difference = multiply(data - data.max(-1, keepdims=True), p.multiplier, p.shift)
    terms = interpolated.look_up(np.clip(difference + 32767, -32768, 32767), p.exp_lut)
    total = wrap(terms.sum(-1, keepdims=True))
    headroom = _leading_zeros(total)
    shifted = ((total << (headroom - 1)) + (1 << 13)) >> 14
    scale = interpolated.look_up(np.clip(shifted - (1 << 15) - (1 << 16), -32768, 32767), p.reciprocal_lut)
    right = 31 - headroom
    y = wrap((terms * scale + (np.int64(1) << (right - 1))) >> right)
    return np.clip(y, 0, 32767).astype(np.int16)


def _exp(x: NDArray[Any]) -> NDArray[Any]:
    # float64 rounded once, so that every machine makes the same table.
    return np.asarray(np.exp(x.astype(np.float64)).astype(x.dtype))


def _leading_zeros(x: Integers) -> Integers:
    """Of positive numbers in 32 bits."""
    return 32 - np.frexp(x.astype(np.float64))[1].astype(np.int64)
