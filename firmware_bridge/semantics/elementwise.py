"""ADD, SUB, MUL, SQUARED_DIFFERENCE, MINIMUM, MAXIMUM, and SELECT_V2: two operands that broadcast."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator, Tensor
from tasuki.firmware_bridge.semantics import grids
from tasuki.firmware_bridge.semantics.fixed_point import Integers, Rounding, multiply, quantize_multiplier, wrap

Values = Mapping[int, NDArray[Any]]
_FLOAT_LIMITS: Final = {
    "NONE": (-np.inf, np.inf), "RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0),
}  # fmt: skip


@dataclass(frozen=True)
class AddParams:
    """The fields of `tsk_add_s8_t`, and of its relatives, that have to do with grids."""

    a_offset: int
    b_offset: int
    out_offset: int
    left_shift: int
    a_multiplier: int
    a_shift: int
    b_multiplier: int
    b_shift: int
    out_multiplier: int
    out_shift: int
    min: int
    max: int
    subtract: int


@dataclass(frozen=True)
class MulParams:
    """The fields of `tsk_mul_s8_t` that have to do with grids."""

    a_offset: int
    b_offset: int
    out_offset: int
    multiplier: int
    shift: int
    min: int
    max: int


def add_params(op: Operator, graph: Graph) -> AddParams:
    """Of ADD, SUB and SQUARED_DIFFERENCE: both operands go to one grid, twice as coarse as the coarser of theirs."""
    (a, b), (y,) = grids.tensors(op, graph)
    common = 2 * max(grids.scale(a), grids.scale(b))
    wide = y.type == np.int16
    if op.kind == "SQUARED_DIFFERENCE":
        left_shift = 0 if wide else 7
        out = common * common / ((1 << 2 * left_shift) * grids.scale(y))
    else:
        left_shift = 15 if wide else 20
        out = common / ((1 << left_shift) * grids.scale(y))
    return AddParams(
        -grids.zero(a), -grids.zero(b), grids.zero(y), left_shift,
        *quantize_multiplier(grids.scale(a) / common),
        *quantize_multiplier(grids.scale(b) / common),
        *quantize_multiplier(out),
        *grids.activation_limits(op.options.get("activation", "NONE"), y),
        int(op.kind == "SUB"),
    )  # fmt: skip


def mul_params(op: Operator, graph: Graph, rounding: Rounding) -> MulParams:
    """Of MUL. LiteRT multiplies and divides the scales in float32, TensorFlow Lite Micro in float64."""
    (a, b), (y,) = grids.tensors(op, graph)
    if rounding == "single":
        real = float(np.float32(grids.scale(a)) * np.float32(grids.scale(b)) / np.float32(grids.scale(y)))
    else:
        real = grids.scale(a) * grids.scale(b) / grids.scale(y)
    return MulParams(
        -grids.zero(a), -grids.zero(b), grids.zero(y), *quantize_multiplier(real),
        *grids.activation_limits(op.options.get("activation", "NONE"), y),
    )  # fmt: skip


def binary(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """ADD, SUB, MUL, SQUARED_DIFFERENCE on int8 and int16 with grids; else on int32 and float32 as they are."""
    (x, y), (out,) = grids.tensors(op, graph)
    a, b = values[x.number], values[y.number]
    if out.type in (np.int8, np.int16) and out.quantization is not None:
        if op.kind == "MUL":
            return _mul(mul_params(op, graph, rounding), a, b, out)
        return _add(op, add_params(op, graph), a, b, out)
    return _bare(op, a, b)


def extremum(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """MINIMUM and MAXIMUM, on one grid."""
    a, b = (values[t.number] for t in grids.tensors(op, graph)[0])
    return np.maximum(a, b) if op.kind == "MAXIMUM" else np.minimum(a, b)


def select(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """SELECT_V2: condition, then, else; the values share a grid."""
    return np.where(*(values[t.number] for t in grids.tensors(op, graph)[0]))


def _add(op: Operator, p: AddParams, a: NDArray[Any], b: NDArray[Any], out: Tensor) -> NDArray[Any]:
    def common(x: NDArray[Any], offset: int, multiplier: int, shift: int) -> Integers:
        return multiply((x.astype(np.int64) + offset) << p.left_shift, multiplier, shift)

    left = common(a, p.a_offset, p.a_multiplier, p.a_shift)
    right = common(b, p.b_offset, p.b_multiplier, p.b_shift)
    raw = left + right if op.kind == "ADD" else left - right
    if op.kind == "SQUARED_DIFFERENCE":
        raw = wrap(raw * raw)
    return grids.saturate(multiply(raw, p.out_multiplier, p.out_shift) + p.out_offset, out.type, (p.min, p.max))


def _mul(p: MulParams, a: NDArray[Any], b: NDArray[Any], out: Tensor) -> NDArray[Any]:
    product = (a.astype(np.int64) + p.a_offset) * (b.astype(np.int64) + p.b_offset)
    return grids.saturate(multiply(product, p.multiplier, p.shift) + p.out_offset, out.type, (p.min, p.max))


_BARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "ADD": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "MUL": lambda a, b: a * b,
    "SQUARED_DIFFERENCE": lambda a, b: (a - b) * (a - b),
}


def _bare(op: Operator, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    y: NDArray[Any] = np.asarray(_BARE[op.kind](a, b))
    low, high = _FLOAT_LIMITS[op.options.get("activation", "NONE")]
    if np.isfinite(low) or np.isfinite(high):
        y = np.clip(y, low, high).astype(y.dtype)
    return y
