"""FULLY_CONNECTED and BATCH_MATMUL."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator
from tasuki.firmware_bridge.semantics import fixed_point, grids
from tasuki.firmware_bridge.semantics.elementwise import Values
from tasuki.firmware_bridge.semantics.fixed_point import Integers, Rounding, quantize_multiplier


@dataclass(frozen=True, eq=False)
class FullyConnectedParams:
    """The fields of `tsk_fc_s8_t` and `tsk_fc_s16_t` that have to do with grids.

    `multiplier` int32 and `shift` int8, or `scale` float64 (rounding ``single``), [out] where `channels`, else [1].
    """

    multiplier: NDArray[np.int32] | None
    shift: NDArray[np.int8] | None
    scale: NDArray[np.float64] | None
    channels: int
    in_zero: int
    out_zero: int
    min: int
    max: int


@dataclass(frozen=True)
class MatmulParams:
    """The fields of `tsk_matmul_s8_t` that have to do with grids."""

    a_zero: int
    b_zero: int
    out_zero: int
    multiplier: int
    shift: int
    min: int
    max: int


def fully_connected_params(op: Operator, graph: Graph, rounding: Rounding) -> FullyConnectedParams:
    """The scales are multiplied in float64, for one channel or for all."""
    ins, (y,) = grids.tensors(op, graph)
    x, w = ins[:2]
    if w.quantization is None:
        raise ValueError(f"tensor {w.number} ({w.name}) is not quantised")
    weights = w.quantization.scale
    each = len(weights) > 1
    exact = grids.scale(x) * weights.astype(np.float64) / grids.scale(y)
    multiplier = shift = None
    if rounding == "tflm":
        pairs = [quantize_multiplier(float(real)) for real in exact]
        multiplier = np.array([m for m, _ in pairs], np.int32)
        shift = np.array([s for _, s in pairs], np.int8)
    return FullyConnectedParams(
        multiplier, shift, exact if rounding == "single" else None, int(each), grids.zero(x), grids.zero(y),
        *grids.activation_limits(op.options.get("activation", "NONE"), y),
    )  # fmt: skip


def folded_bias(weights: NDArray[np.int8], bias: NDArray[Any] | None, in_zero: int) -> NDArray[np.int32]:
    """The bias of `tsk_fc_s8_t`: the model's, int32 [out], minus ``in_zero * sum_i weights[o][i]``."""
    folded = -in_zero * weights.reshape(-1, weights.shape[-1]).sum(-1, dtype=np.int64)
    return fixed_point.wrap(folded if bias is None else folded + bias).astype(np.int32)


def matmul_params(op: Operator, graph: Graph, rounding: Rounding) -> MatmulParams:
    """Of BATCH_MATMUL. LiteRT multiplies the scales in float32, TensorFlow Lite Micro in float64."""
    (a, b), (y,) = grids.tensors(op, graph)
    product = grids.scale(a) * grids.scale(b)
    if rounding == "single":
        product = float(np.float32(grids.scale(a)) * np.float32(grids.scale(b)))
    return MatmulParams(
        grids.zero(a), grids.zero(b), grids.zero(y), *quantize_multiplier(product / grids.scale(y)),
        *grids.limits(y.type),
    )  # fmt: skip


def fully_connected(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """int8 with an int32 bias, or int16 with an int64 or an int32 one, whose type is that of the accumulator."""
    ins, (y,) = grids.tensors(op, graph)
    x, w = ins[:2]
    p = fully_connected_params(op, graph, rounding)
    weights = values[w.number].reshape(-1, w.shape[-1])
    total = _dot(values[x.number].astype(np.int64).reshape(-1, w.shape[-1]) - p.in_zero, weights.T)
    bias = values[ins[2].number] if len(ins) > 2 else None
    if bias is not None:
        total = total + bias
    scaled = _requantised(p, total, x.type == np.int16 and _wide_accumulator(op, bias))
    return grids.saturate(scaled + p.out_zero, y.type, (p.min, p.max)).reshape(y.shape)


def batch_matmul(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """int8, or int16 with an accumulator of 64 bits; `adj_x` and `adj_y` transpose the last two dimensions."""
    (a, b), (y,) = grids.tensors(op, graph)
    p = matmul_params(op, graph, rounding)
    left, right = (values[t.number].astype(np.int64) - grids.zero(t) for t in (a, b))
    left = left.swapaxes(-1, -2) if op.options.get("adj_x") else left
    right = right.swapaxes(-1, -2) if op.options.get("adj_y") else right
    requantise = fixed_point.multiply_wide if a.type == np.int16 else fixed_point.multiply
    return grids.saturate(requantise(_dot(left, right), p.multiplier, p.shift) + p.out_zero, y.type)


def _requantised(p: FullyConnectedParams, total: Integers, wide: bool) -> Integers:
    if p.scale is not None:
        return fixed_point.scale(total, p.scale)
    if p.multiplier is None or p.shift is None:
        raise ValueError("neither a scale nor multipliers")
    return (fixed_point.multiply_wide if wide else fixed_point.multiply)(total, p.multiplier, p.shift)


def _wide_accumulator(op: Operator, bias: NDArray[Any] | None) -> bool:
    if bias is None:
        return op.options.get("quantized_bias_type") != "INT32"
    return bool(bias.dtype == np.int64)


def _dot(a: NDArray[Any], b: NDArray[Any]) -> Integers:
    # float64 holds every sum of products here exactly (2**15 * 2**15 * length < 2**53) and is what BLAS is fast in.
    product: Integers = np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64)
    return product
