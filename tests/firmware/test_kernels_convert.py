"""CAST, QUANTIZE, DEQUANTIZE and the RELU family on int16 in C, as the interpreters."""

from typing import Any

import numpy as np
import pytest
from firmware.graph_kit import ROUNDINGS, Builder
from firmware.kernel_kit import call
from firmware.kernel_ops import expect, integers, read, same
from firmware.oracles import scale, zero
from numpy.typing import NDArray

from tasuki.firmware_bridge.semantics import convert, fixed_point, grids

# The values of tsk_type_t.
TYPES = {"bool": 0, "int8": 1, "int16": 2, "int32": 3, "float32": 4}


def _values(kind: str) -> NDArray[Any]:
    rng = np.random.default_rng(3)
    if kind == "bool":
        return rng.integers(0, 2, 300).astype(np.bool_)
    if kind == "float32":
        odd = [0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 127.9, -128.9, 1e-9, 70000.0, 3e9, -3e9, 1e30, np.inf, -np.inf, np.nan]
        return np.concatenate([rng.normal(0, 50, 300 - len(odd)), odd]).astype(np.float32)
    return integers(rng, (300,), kind)


@pytest.mark.parametrize("to", TYPES)
@pytest.mark.parametrize("from_", TYPES)
def test_cast(from_: str, to: str) -> None:
    x = _values(from_)
    y = np.zeros(300, to)
    call("cast", {"columns": 100, "from": TYPES[from_], "to": TYPES[to]}, [x], [y], 3)
    g = Builder()
    g.output(g.op("CAST", [g.input((300,), from_)], (300,), to, in_data_type=from_, out_data_type=to))
    # TensorFlow Lite Micro casts to no bool.
    same(y, expect(g, "single" if to == "bool" else "tflm", [x]))


@pytest.mark.parametrize("from_", ["int8", "int16", "int32"])
@pytest.mark.parametrize("to", ["int8", "int16", "int32"])
@pytest.mark.parametrize("seed", range(3))
def test_requantize(from_: str, to: str, seed: int) -> None:
    rng = np.random.default_rng([seed, TYPES[from_], TYPES[to]])
    x = integers(rng, (500,), from_)
    if from_ == "int32":
        x[10:] >>= 12
    x_zero, y_zero = (zero(rng) if kind == "int8" else 0 for kind in (from_, to))
    g = Builder()
    # What is wide has a finer grid, as in a model.
    steps = {"int8": 1.0, "int16": 256.0, "int32": 2.0**12}
    y_scale = scale(rng, 0.5, 1) / steps[to]
    x_in = g.input(x.shape, from_, scale(rng, 0.5, 1) / steps[from_], x_zero)
    g.output(g.op("QUANTIZE", [x_in], x.shape, to, y_scale, y_zero))
    graph, op = read(g)
    low, high = grids.limits(np.dtype(to))
    params = {"columns": 500, "from": TYPES[from_], "to": TYPES[to], "min": low, "max": high}
    y = np.zeros(500, to)
    call("requantize", {**params, **vars(convert.requantize_params(op, graph))}, [x], [y], 1)
    if (from_, to) == ("int32", "int32"):
        # No interpreter does this one.
        p = convert.requantize_params(op, graph)
        same(y, grids.saturate(fixed_point.multiply(x.astype(np.int64), p.multiplier, p.shift), np.dtype(to)))
        return
    for rounding in ("tflm",) if "int32" in (from_, to) else ROUNDINGS:
        same(y, expect(g, rounding, [x]))


@pytest.mark.parametrize("seed", range(4))
def test_relu_on_int16_is_a_requantisation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = integers(rng, (900,), "int16")
    x_scale = scale(rng, 1e-4, 1e-3)
    g = Builder()
    g.output(g.op("RELU", [g.input(x.shape, "int16", x_scale)], x.shape, "int16", x_scale * scale(rng, 0.4, 2)))
    graph, op = read(g)
    params = {"columns": 900, "from": 2, "to": 2, "min": 0, "max": 32767}
    y = np.zeros(900, np.int16)
    # Micro takes the quotient of the scales in float32 here.
    (a,), (b,) = grids.tensors(op, graph)
    multiplier, shift = fixed_point.quantize_multiplier(float(np.float32(grids.scale(a)) / np.float32(grids.scale(b))))
    call("requantize", {**params, "in_zero": 0, "out_zero": 0, "multiplier": multiplier, "shift": shift}, [x], [y], 1)
    same(y, expect(g, "tflm", [x]))


@pytest.mark.parametrize("to", ["int8", "int16"])
@pytest.mark.parametrize("seed", range(4))
def test_quantize(to: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y_scale = float(rng.choice([0.5, scale(rng, 1e-3, 1.0)]))
    y_zero = zero(rng) if to == "int8" else 0
    steps = np.concatenate(
        [rng.uniform(-40000, 40000, 900), np.arange(-50.0, 50.0, 0.5), [1e8, -1e8, 0.49999997, 8388609.5]]
    )
    x = (steps * y_scale).astype(np.float32)
    g = Builder()
    g.output(g.op("QUANTIZE", [g.input(x.shape, "float32")], x.shape, to, y_scale, y_zero))
    y = np.zeros(x.size, to)
    call("quantize", {"columns": x.size, "to": TYPES[to], "zero": y_zero, "scale": y_scale}, [x], [y], 1)
    for rounding in ROUNDINGS:
        same(y, expect(g, rounding, [x]))


def test_quantize_saturates_beyond_int32() -> None:
    x = np.array([1e30, -1e30, np.inf, -np.inf, np.nan, 3e9], np.float32)
    y = np.zeros(6, np.int8)
    call("quantize", {"columns": 6, "to": 1, "zero": -5, "scale": 1.0}, [x], [y], 1)
    assert y.tolist() == [127, -128, 127, -128, -5, 127]


@pytest.mark.parametrize("from_", ["int8", "int16"])
def test_dequantize_every_value(from_: str) -> None:
    limits = np.iinfo(from_)
    x = np.arange(limits.min, limits.max + 1).astype(from_)
    rng = np.random.default_rng(6)
    for _ in range(4):
        x_scale, x_zero = scale(rng, 1e-4, 2.0), zero(rng) if from_ == "int8" else 0
        g = Builder()
        g.output(g.op("DEQUANTIZE", [g.input(x.shape, from_, x_scale, x_zero)], x.shape, "float32"))
        y = np.zeros(x.size, np.float32)
        call("dequantize", {"columns": x.size, "from": TYPES[from_], "zero": x_zero, "scale": x_scale}, [x], [y], 1)
        for rounding in ROUNDINGS:
            same(y, expect(g, rounding, [x]))
