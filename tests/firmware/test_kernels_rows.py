"""SOFTMAX, TANH and LOGISTIC, tables, reductions in C, as the interpreters."""

from typing import Any

import numpy as np
import pytest
from firmware.graph_kit import ROUNDINGS, Builder
from firmware.kernel_kit import call
from firmware.kernel_ops import expect, integers, read, same
from firmware.oracles import scale, whole, zero

from tasuki.firmware_bridge.semantics import reduce, rsqrt, softmax, unary
from tasuki.firmware_bridge.semantics.fixed_point import Rounding


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("seed", range(10))
def test_softmax_on_int8(rounding: Rounding, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 30)), int(rng.choice([1, 2, 7, 32, 61, 500]))
    x_scale, beta = scale(rng, 1e-3, 0.5), float(rng.choice([1.0, 0.5]))
    x = integers(rng, (rows, columns))
    # Rows of one value, and rows that do not use the whole range.
    x[0], x[-1] = 5, np.clip(x[-1], -10, 10)
    g = Builder()
    g.output(g.op("SOFTMAX", [g.input(x.shape, "int8", x_scale, zero(rng))], x.shape, "int8", 1 / 256, -128, beta=beta))
    wanted = expect(g, rounding, [x])
    y = np.zeros(x.shape, np.int8)
    params = {"columns": columns, "exponents": softmax.softmax_exponents(x_scale, beta)}
    call("softmax_s8", params, [x], [y], rows, rounding=rounding)
    same(y, wanted)
    call("softmax_s8", params, [x], [x], rows, rounding=rounding)
    same(x, wanted)


@pytest.mark.parametrize("x_scale", [0.002, 0.03, 0.4])
def test_softmax_of_every_difference(x_scale: float) -> None:
    x = np.stack([np.full(256, 127), np.arange(-128, 128)], 1).astype(np.int8)
    g = Builder()
    g.output(g.op("SOFTMAX", [g.input(x.shape, "int8", x_scale)], x.shape, "int8", 1 / 256, -128))
    y = np.zeros(x.shape, np.int8)
    call("softmax_s8", {"columns": 2, "exponents": softmax.softmax_exponents(np.float32(x_scale), 1.0)}, [x], [y], 256)
    same(y, expect(g, "tflm", [x]))


@pytest.mark.parametrize(("columns", "share"), [(511, -127), (512, -128), (4095, -128)])
def test_softmax_of_many_equal_columns(columns: int, share: int) -> None:
    # With 512 TensorFlow Lite stops the program; half of 1/256 or less is 0.
    y = np.zeros(columns, np.int8)
    params = {"columns": columns, "exponents": softmax.softmax_exponents(0.1, 1.0)}
    call("softmax_s8", params, [np.full(columns, 3, np.int8)], [y], 1)
    assert set(y.tolist()) == {share}


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("columns", [1, 3, 64, 700])
def test_softmax_on_int16(rounding: Rounding, columns: int) -> None:
    rng = np.random.default_rng(columns)
    x = integers(rng, (20, columns), "int16")
    x[:10] //= 64
    g = Builder()
    g.output(g.op("SOFTMAX", [g.input(x.shape, "int16", scale(rng, 1e-5, 1e-3))], x.shape, "int16", 1 / 32768))
    graph, op = read(g)
    y = np.zeros(x.shape, np.int16)
    params = {"columns": columns, **vars(softmax.wide_softmax_params(op, graph, rounding))}
    wanted = expect(g, rounding, [x])
    call("softmax_s16", params, [x], [y], 20, rounding=rounding)
    same(y, wanted)
    call("softmax_s16", params, [x], [x], 20, rounding=rounding)
    same(x, wanted)


@pytest.mark.parametrize("kind", ["TANH", "LOGISTIC"])
@pytest.mark.parametrize("x_scale", [2.0**-12, 2.0**-11, 1e-5, 3e-4, 1e-2])
def test_sigmoids_of_every_int16(kind: str, x_scale: float) -> None:
    x = whole("int16")
    g = Builder()
    g.output(g.op(kind, [g.input(x.shape, "int16", x_scale)], x.shape, "int16", 1 / 32768))
    graph, op = read(g)
    y = np.zeros(x.shape, np.int16)
    params = {"columns": x.size, **vars(unary.sigmoid_params(op, graph))}
    for rounding in ROUNDINGS:
        call("sigmoid_s16", params, [x], [y], 1, rounding=rounding)
        same(y, expect(g, rounding, [x]))


def _rsqrt(x_scale: float, y_scale: float) -> tuple[Builder, dict[str, dict[str, Any]]]:
    """The operator on every int16 that is not negative, and the constants of its kernels."""
    g = Builder()
    g.output(g.op("RSQRT", [g.input((32768,), "int16", x_scale)], (32768,), "int16", y_scale))
    graph, op = read(g)
    x, y = (graph.tensors[number or 0] for number in (*op.inputs, *op.outputs))
    fixed = {"columns": 256, **vars(rsqrt.rsqrt_params(x, y, "tflm"))}
    return g, {"rsqrt_s16": fixed, "lut_s16": {"columns": 256, "lut": rsqrt.wide_table(x, y)}}


# Scales as conversion gives them, and the ends of what the compiler takes: nothing or all is the largest step.
@pytest.mark.parametrize("seed", range(10))
def test_rsqrt_of_every_int16(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grids = [(1e-5, 1e-3), (3.0, 300.0), (1e-9, 4e-5)]
    x_scale, y_scale = grids[seed] if seed < len(grids) else (scale(rng, 1e-8, 10), scale(rng, 1e-7, 1))
    g, kernels = _rsqrt(x_scale, y_scale)
    x = whole("int16")
    for rounding, (kernel, params) in zip(ROUNDINGS, kernels.items(), strict=True):
        y = np.zeros(x.shape, np.int16)
        call(kernel, params, [x], [y], 256, rounding=rounding)
        same(y[32768:], expect(g, rounding, [x[32768:]]))
        if kernel == "rsqrt_s16":
            assert set(y[:32768].tolist()) == {32767}  # where the interpreters stop
        again = x.copy()
        call(kernel, params, [again], [again], 256, rounding=rounding)
        same(again, y)


def test_lut_of_every_int8() -> None:
    lut = np.random.default_rng(1).permutation(256).astype(np.uint8).view(np.int8)
    x = whole().copy()
    y = np.zeros(256, np.int8)
    call("lut_s8", {"columns": 32, "lut": lut}, [x], [y], 8)
    same(y, lut[x.view(np.uint8)])
    call("lut_s8", {"columns": 256, "lut": lut}, [x], [x], 1)
    same(x, y)


@pytest.mark.parametrize("kind", ["MEAN", "SUM"])
@pytest.mark.parametrize("type_", ["int8", "int16"])
@pytest.mark.parametrize("seed", range(8))
def test_mean_and_sum(kind: str, type_: str, seed: int) -> None:
    rng = np.random.default_rng([seed, len(kind)])
    rows, count, inner = (int(n) for n in rng.integers(1, [6, 90, 20]))
    inner = 1 if seed % 3 == 0 else inner
    x = integers(rng, (rows, count, inner), type_)
    zeros = (zero(rng), zero(rng)) if type_ == "int8" else (0, 0)
    x_scale = scale(rng, 1e-3, 0.1)
    y_scale = x_scale * (1.0 if kind == "MEAN" else count) * scale(rng, 0.2, 1)
    g = Builder()
    # Negative axes and a kept dimension are the compiler's business, but the interpreters shall say so, too.
    ends = [g.input(x.shape, type_, x_scale, zeros[0]), g.ints(-2 if seed % 2 else 1)]
    g.output(g.op(kind, ends, (rows, 1, inner), type_, y_scale, zeros[1], keep_dims=True))
    graph, op = read(g)
    y = np.zeros((rows, inner), x.dtype)
    for rounding in ROUNDINGS:
        unsigned = reduce.is_unsigned(op, graph, rounding)
        if rounding == "single" and kind == "SUM" and not unsigned:
            continue  # LiteRT has no SUM on int16
        grid = vars(reduce.reduce_params(op, graph, count, rounding))
        params = {"count": count, "inner": inner, **grid, "kind": ("MEAN", "SUM").index(kind)}
        call("reduce_u8" if unsigned else f"reduce_s{x.itemsize * 8}", params, [x], [y], rows, rounding=rounding)
        same(y, expect(g, rounding, [x]))


@pytest.mark.parametrize("type_", ["int8", "int16"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 50, 1), (2, 9, 7)])
def test_reduce_max(type_: str, shape: tuple[int, int, int]) -> None:
    x = integers(np.random.default_rng(4), shape, type_)
    x[0, :, 0] = -128
    y = np.zeros((shape[0], shape[2]), x.dtype)
    grid = dict.fromkeys(("in_zero", "out_zero", "multiplier", "shift", "min", "max"), 0)
    call(f"reduce_s{x.itemsize * 8}", {"count": shape[1], "inner": shape[2], **grid, "kind": 2}, [x], [y], shape[0])
    same(y, x.max(1))
    g = Builder()
    g.output(g.op("REDUCE_MAX", [g.input(shape, type_, 0.1), g.ints(1)], y.shape, type_, 0.1))
    same(y, expect(g, "tflm" if type_ == "int8" else "single", [x]))


@pytest.mark.parametrize("kind", ["ARG_MAX", "ARG_MIN"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 40, 1), (3, 9, 7)])
def test_arg_is_the_first_of_equals(kind: str, shape: tuple[int, int, int]) -> None:
    x = np.random.default_rng(5).integers(-3, 4, shape).astype(np.int8)
    y = np.zeros((shape[0], shape[2]), np.int32)
    call("arg_s8", {"count": shape[1], "inner": shape[2], "minimum": int(kind == "ARG_MIN")}, [x], [y], shape[0])
    g = Builder()
    g.output(g.op(kind, [g.input(shape, "int8", 0.1), g.ints(1)], y.shape, "int32", output_type="int32"))
    for rounding in ROUNDINGS:
        same(y, expect(g, rounding, [x]))
