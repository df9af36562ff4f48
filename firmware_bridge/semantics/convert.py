"""QUANTIZE, DEQUANTIZE and CAST."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator
from tasuki.firmware_bridge.semantics import grids
from tasuki.firmware_bridge.semantics.elementwise import Values
from tasuki.firmware_bridge.semantics.fixed_point import Rounding, multiply, quantize_multiplier, round_away


@dataclass(frozen=True)
class RequantizeParams:
    """The fields of `tsk_requantize_t` that have to do with grids: ``clamp(requantise(x - in_zero) + out_zero)``."""

    in_zero: int
    out_zero: int
    multiplier: int
    shift: int
    min: int
    max: int


def requantize_params(op: Operator, graph: Graph) -> RequantizeParams:
    """Of QUANTIZE from integers to integers."""
    (x,), (y,) = grids.tensors(op, graph)
    pair = quantize_multiplier(grids.scale(x) / grids.scale(y))
    return RequantizeParams(grids.zero(x), grids.zero(y), *pair, *grids.limits(y.type))


def requantize(p: RequantizeParams, data: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """Integers on one grid as integers of type `kind` on another."""
    scaled = multiply(data.astype(np.int64) - p.in_zero, p.multiplier, p.shift)
    return grids.saturate(scaled + p.out_zero, kind, (p.min, p.max))


def quantize(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """From float32: divided in float32, ties away from zero. From integers: requantised."""
    (x,), (y,) = grids.tensors(op, graph)
    data = values[x.number]
    if data.dtype == np.float32:
        low, high = grids.limits(np.dtype(np.int32))
        placed = round_away(data / np.float32(grids.scale(y))).astype(np.float64)
        return grids.saturate(np.clip(placed, low, high).astype(np.int64) + grids.zero(y), y.type)
    return requantize(requantize_params(op, graph), data, y.type)


def dequantize(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[np.float32]:
    """float32: the product in float64, rounded once."""
    (x,), _ = grids.tensors(op, graph)
    return (grids.scale(x) * grids.centred(x, values[x.number])).astype(np.float32)


def cast(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """From float32 towards zero, held to the type; from an integer to a narrower one its low bits; to bool: not 0."""
    (x,), (y,) = grids.tensors(op, graph)
    data = values[x.number]
    if data.dtype == np.float32 and y.type.kind == "i":
        data = np.clip(np.trunc(data.astype(np.float64)), *grids.limits(y.type))
    return np.asarray(data.astype(y.type))
