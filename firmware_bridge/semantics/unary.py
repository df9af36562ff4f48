"""Functions of one value: TANH, LOGISTIC, GELU, RSQRT, NEG and the RELU family."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator, Tensor
from tasuki.firmware_bridge.semantics import float_tables, gemmlowp, grids
from tasuki.firmware_bridge.semantics.convert import RequantizeParams, requantize
from tasuki.firmware_bridge.semantics.elementwise import Values
from tasuki.firmware_bridge.semantics.fixed_point import (
    Integers,
    Rounding,
    multiply,
    quantize_multiplier,
    round_away,
    shift_right,
    wrap,
)
from tasuki.firmware_bridge.semantics.rsqrt import rsqrt

# TANH and LOGISTIC on int8 take Q4.27.
_BITS: Final = 4


@dataclass(frozen=True)
class SigmoidParams:
    """The fields of `tsk_sigmoid_s16_t` that have to do with grids."""

    multiplier: int
    left_shift: int
    logistic: int


def unary(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """int8 and int16 by the operator's kernel, float32 (NEG and the RELU family) as it is."""
    (x,), (y,) = grids.tensors(op, graph)
    data = values[x.number]
    if op.kind == "NEG":
        return -data
    if data.dtype == np.float32:
        return np.clip(data, *_RANGES[op.kind])
    if op.kind in _RANGES:
        return requantize(relu_params(op, graph, rounding), data, y.type)
    if op.kind == "RSQRT":
        return rsqrt(x, y, data.astype(np.int64), rounding)
    if data.dtype == np.int16:
        return sigmoid_wide(sigmoid_params(op, graph), data)
    table = _table(op, x, y, rounding)
    return table[data.astype(np.int16) + 128]


def _table(op: Operator, x: Tensor, y: Tensor, rounding: Rounding) -> NDArray[np.int8]:
    """int8 [256] for the inputs from -128 on."""
    inputs = np.arange(-128, 128)
    if op.kind == "GELU" or rounding == "single":
        return float_tables.table(op, x, y, inputs)
    return _through_fixed_point(op.kind == "LOGISTIC", x, inputs)


def _through_fixed_point(logistic: bool, x: Tensor, inputs: Integers) -> NDArray[np.int8]:
    value = inputs - grids.zero(x)
    multiplier, shift = quantize_multiplier(grids.scale(x) * (1 << (31 - _BITS)))
    radius = math.floor(((1 << _BITS) - 1) * (1 << (31 - _BITS)) / 2.0**shift)
    inside = np.where(np.abs(value) < radius, value, 0)
    scaled = multiply(inside, multiplier, shift)
    y = shift_right(gemmlowp.logistic(scaled), 23) - 128 if logistic else shift_right(gemmlowp.tanh(scaled), 24)
    y = np.where(value <= -radius, -128, np.where(value >= radius, 127, y))
    return np.clip(y, -128, 127).astype(np.int8)


_RANGES: Final = {"RELU": (0.0, math.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


def relu_params(op: Operator, graph: Graph, rounding: Rounding) -> RequantizeParams:
    """RELU goes to the output's grid; so do the others with LiteRT, but Micro's RELU6 clamps on the input's.

    LiteRT divides the scales in float32, TensorFlow Lite Micro in float64.
    """
    (x,), (y,) = grids.tensors(op, graph)
    low, high = _RANGES[op.kind]
    least, most = grids.limits(y.type)
    if op.kind == "RELU6" and rounding == "tflm":
        same, z = quantize_multiplier(1.0), grids.zero(x)
        return RequantizeParams(z, z, *same, z, min(most, grids.place(x, high)))
    a, b = grids.scale(x), grids.scale(y)
    real = a / b if rounding == "tflm" else float(np.float32(a) / np.float32(b))
    return RequantizeParams(
        grids.zero(x), grids.zero(y), *quantize_multiplier(real), max(least, grids.place(y, low)),
        most if high == math.inf else min(most, grids.place(y, high)),
    )  # fmt: skip


def sigmoid_params(op: Operator, graph: Graph) -> SigmoidParams:
    """Of int16 TANH and LOGISTIC; the scale goes to 1 / (3 * 4096), by which the table's range is 10.7, not 8."""
    (x,), _ = grids.tensors(op, graph)
    logistic = op.kind == "LOGISTIC"
    power = _power_of_two(grids.scale(x))
    shift = None if power is None else 12 + power
    if shift is not None and (shift == 0 or (shift == 1 and not logistic)):
        return SigmoidParams(3 << shift, 0, int(logistic))
    real, shift = grids.scale(x) * 4096.0 * 3.0, 0
    while real <= 32767.0 / 2.0 and shift <= 30:
        real, shift = real * 2.0, shift + 1
    return SigmoidParams(int(real), shift, int(logistic))


def _power_of_two(scale: float) -> int | None:
    """The exponent if float32 arithmetic takes `scale` for a power of two."""
    log = np.log(np.float32(scale)) * (np.float32(1) / np.log(np.float32(2)))
    whole = round_away(np.asarray(log))
    return int(whole) if abs(float(log - whole)) < 1e-3 else None


def sigmoid_table() -> NDArray[np.uint16]:
    """uint16 [256]: 65536 / (1 + exp(-i/24)), off by half of what interpolation errs by in the middle of a step."""

    def curve(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return 65536 / (1 + np.exp(-x / 24))

    i = np.arange(256.0)
    bent = curve(i) + 0.5 * (curve(i + 0.5) - (curve(i) + curve(i + 1)) / 2)
    table = np.minimum(np.round(bent), 65535)
    table[-1] = 65535
    return table.astype(np.uint16)


def sigmoid_wide(p: SigmoidParams, data: NDArray[np.int16]) -> NDArray[np.int16]:
    """int16 TANH and LOGISTIC in 1/32768: interpolation in `sigmoid_table`, since tanh(x) = 2 logistic(2x) - 1."""
    table = sigmoid_table().astype(np.int64)
    rounded = (1 << p.left_shift) >> 1
    x = wrap(data.astype(np.int64) * p.multiplier + rounded) >> p.left_shift
    bits = 9 if p.logistic else 8
    size = np.abs(x)
    place = np.minimum(size >> bits, 254)
    y = (table[place] << bits) + (size & ((1 << bits) - 1)) * (table[place + 1] - table[place])
    beyond = size >> bits >= 255
    if p.logistic:
        y = np.where(beyond, 0x7FFF << 10, y)
        y = np.where(x >= 0, y + (1 << 9), (1 << 25) - y + (1 << 9) - 1) >> 10
    else:
        y = np.where(beyond, 0xFFFF << 8, y)
        y = np.where(x >= 0, y - (1 << 23) + (1 << 7), -y + (1 << 23) + (1 << 7) - 1) >> 8
    return y.astype(np.int16)
