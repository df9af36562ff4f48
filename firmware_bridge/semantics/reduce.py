"""MEAN, SUM, REDUCE_MAX, ARG_MAX and ARG_MIN."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator
from tasuki.firmware_bridge.semantics import grids
from tasuki.firmware_bridge.semantics.elementwise import Values
from tasuki.firmware_bridge.semantics.fixed_point import Rounding, multiply, quantize_multiplier, wrap

_UINT8: Final = np.dtype(np.uint8)


@dataclass(frozen=True)
class ReduceParams:
    """The fields of `tsk_reduce_s8_t` that have to do with grids, of MEAN and SUM."""

    in_zero: int
    out_zero: int
    multiplier: int
    shift: int
    min: int
    max: int


def axes(op: Operator, values: Values, rank: int) -> tuple[int, ...]:
    """The axes of the second input, each once, not negative, ascending."""
    number = next(number for number in op.inputs[1:] if number is not None)
    return tuple(sorted({int(axis) % rank for axis in values[number].reshape(-1)})) if rank else ()


def is_unsigned(op: Operator, graph: Graph, rounding: Rounding) -> bool:
    """Whether LiteRT's reference takes the bytes for uint8: those of an int8 SUM, in and out; zero points stay."""
    (x, _), _ = grids.tensors(op, graph)
    return op.kind == "SUM" and rounding == "single" and x.type == np.int8


def reduce_params(op: Operator, graph: Graph, count: int, rounding: Rounding) -> ReduceParams:
    """Of MEAN and SUM over `count` values; the mean's multiplier is divided by it, towards zero."""
    (x, _), (y,) = grids.tensors(op, graph)
    multiplier, shift = quantize_multiplier(grids.scale(x) / grids.scale(y))
    if op.kind == "MEAN":
        bits = min(count.bit_length() - 1, 32, 31 + shift)
        multiplier, shift = (multiplier << bits) // count, shift - bits
    bounds = grids.limits(_UINT8 if is_unsigned(op, graph, rounding) else y.type)
    return ReduceParams(grids.zero(x), grids.zero(y), multiplier, shift, *bounds)


def reduce(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """MEAN and SUM of int8 and int16 with grids, REDUCE_MAX of any type on one grid."""
    (x, _), (y,) = grids.tensors(op, graph)
    data = values[x.number]
    axis, keep = axes(op, values, data.ndim), bool(op.options.get("keep_dims"))
    if op.kind == "REDUCE_MAX":
        return np.asarray(data.max(axis, keepdims=keep))
    count = int(np.prod([data.shape[a] for a in axis], dtype=np.int64))
    p = reduce_params(op, graph, count, rounding)
    kind = _UINT8 if is_unsigned(op, graph, rounding) else y.type
    total = wrap(np.asarray(data.view(kind).sum(axis, keepdims=keep, dtype=np.int64)) - p.in_zero * count)
    return grids.saturate(multiply(total, p.multiplier, p.shift) + p.out_zero, kind).view(y.type)


def arg(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """ARG_MAX and ARG_MIN along the axis that the second input names; of equals the first."""
    (x, _), (y,) = grids.tensors(op, graph)
    data = values[x.number]
    axis = axes(op, values, data.ndim)[0]
    return np.asarray((data.argmax if op.kind == "ARG_MAX" else data.argmin)(axis)).astype(y.type)
