"""Operators of two operands in C: every pair of int8, and int16, in all ways of broadcasting, as the interpreters."""

from typing import Any

import numpy as np
import pytest
from firmware.graph_kit import ROUNDINGS, Builder
from firmware.kernel_kit import call
from firmware.kernel_ops import expect, integers, read, same
from firmware.oracles import scale, whole, zero
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator
from tasuki.firmware_bridge.semantics import elementwise
from tasuki.firmware_bridge.semantics.fixed_point import Rounding

_ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
_STRIDES = ("a_row", "a_column", "b_row", "b_column")
_KERNELS = {"ADD": "add", "SUB": "add", "MUL": "mul", "SQUARED_DIFFERENCE": "squared_difference"}


def _graph(kind: str, rng: np.random.Generator, a: tuple[int, ...], b: tuple[int, ...], type_: str = "int8") -> Builder:
    """The operator on random grids, such that every multiplier is below 1, as the interpreters demand."""
    low, high = (1e-3, 1.0) if type_ == "int8" else (1e-5, 1e-2)
    a_scale, b_scale = scale(rng, low, high), scale(rng, low, high)
    steps = 40 if type_ == "int8" else 9000
    coarse = {"MUL": a_scale * b_scale * steps, "SQUARED_DIFFERENCE": max(a_scale, b_scale) ** 2 * steps}
    out_scale = coarse.get(kind, max(a_scale, b_scale)) * scale(rng, 0.3, 4)
    g = Builder()
    zeros = [zero(rng) if type_ == "int8" else 0 for _ in range(3)]
    operands = [g.input(a, type_, a_scale, zeros[0]), g.input(b, type_, b_scale, zeros[1])]
    options = {} if kind == "SQUARED_DIFFERENCE" else {"activation": str(rng.choice(_ACTIVATIONS))}
    g.output(g.op(kind, operands, np.broadcast_shapes(a, b), type_, out_scale, zeros[2], **options))
    return g


def _params(op: Operator, graph: Graph, rounding: Rounding, columns: int, strides: tuple[int, ...]) -> dict[str, Any]:
    found = elementwise.mul_params(op, graph, rounding) if op.kind == "MUL" else elementwise.add_params(op, graph)
    return {"columns": columns, **dict(zip(_STRIDES, strides, strict=True)), **vars(found)}


def _strides(shape: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
    return (0 if shape[0] == 1 else shape[1]) if rows > 1 else 0, 0 if shape[1] == 1 else 1


@pytest.mark.parametrize("kind", _KERNELS)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("seed", range(6))
def test_every_pair_of_int8(kind: str, rounding: Rounding, seed: int) -> None:
    g = _graph(kind, np.random.default_rng(seed), (256, 1), (1, 256))
    graph, op = read(g)
    a, b = whole()[:, None], whole()[None]
    y = np.zeros((256, 256), np.int8)
    params = _params(op, graph, rounding, 256, (1, 0, 0, 1))
    call(
        f"{_KERNELS[kind]}_s8", params, [np.ascontiguousarray(a), np.ascontiguousarray(b)], [y], 256, rounding=rounding
    )
    same(y, expect(g, rounding, [a, b]))


@pytest.mark.parametrize("kind", _KERNELS)
@pytest.mark.parametrize("seed", range(16))
def test_ways_of_broadcasting(kind: str, seed: int) -> None:
    rng = np.random.default_rng([100, seed])
    rows, columns = int(rng.integers(1, 9)), int(rng.integers(1, 40))
    kinds = ((rows, columns), (1, columns), (rows, 1), (1, 1))
    a_shape, b_shape = kinds[seed % 4], kinds[seed // 4]
    g = _graph(kind, rng, a_shape, b_shape)
    graph, op = read(g)
    a, b = integers(rng, a_shape), integers(rng, b_shape)
    rows, columns = np.broadcast_shapes(a_shape, b_shape)
    y = np.zeros((rows, columns), np.int8)
    strides = (*_strides(a_shape, rows, columns), *_strides(b_shape, rows, columns))
    wanted = expect(g, "tflm", [a, b])
    params = _params(op, graph, "tflm", columns, strides)
    call(f"{_KERNELS[kind]}_s8", params, [a, b], [y], rows)
    same(y, wanted)
    for place, operand in enumerate((a, b)):
        if operand.shape == y.shape:
            # In place of this operand.
            pair = [a.copy(), b.copy()]
            call(f"{_KERNELS[kind]}_s8", params, pair, [pair[place]], rows)
            same(pair[place], wanted)


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("seed", range(4))
def test_pairs_of_int16(kind: str, rounding: Rounding, seed: int) -> None:
    rng = np.random.default_rng([200, seed])
    g = _graph(kind, rng, (60, 301), (301,) if seed % 2 else (60, 301), "int16")
    graph, op = read(g)
    a, b = integers(rng, (60, 301), "int16"), integers(rng, (301,) if seed % 2 else (60, 301), "int16")
    y = np.zeros((60, 301), np.int16)
    params = _params(op, graph, rounding, 301, (301, 1, 0 if seed % 2 else 301, 1))
    call(f"{_KERNELS[kind]}_s16", params, [a, b], [y], 60, rounding=rounding)
    same(y, expect(g, rounding, [a, b]))


@pytest.mark.parametrize("kind", ["MINIMUM", "MAXIMUM"])
@pytest.mark.parametrize("type_", ["int8", "int16", "int32"])
def test_extremes(kind: str, type_: str) -> None:
    a, b = _pairs(type_)
    g = Builder()
    grid = None if type_ == "int32" else 0.1
    left, right = (g.input(x.shape, type_, grid) for x in (a, b))
    g.output(g.op(kind, [left, right], (256, 256), type_, grid))
    y = np.zeros((256, 256), a.dtype)
    params = {"columns": 256, "a_row": 1, "a_column": 0, "b_row": 0, "b_column": 1, "maximum": int(kind == "MAXIMUM")}
    call(f"extremum_s{a.itemsize * 8}", params, [a, b], [y], 256)
    for rounding in ROUNDINGS:
        same(y, expect(g, rounding, [a, b]))


@pytest.mark.parametrize("ways", range(4))
def test_sums_of_int32(ways: int) -> None:
    a, b = _pairs("int32")
    a, b = (np.ascontiguousarray(np.broadcast_to(x, (256, 256))) if ways >> n & 1 else x for n, x in enumerate((a, b)))
    # What leaves int32 wraps around, in the interpreters as well, though C leaves it open there.
    g = Builder()
    left, right = (g.input(x.shape, "int32") for x in (a, b))
    g.output(g.op("ADD", [left, right], (256, 256), "int32", pot_scale_int16=False))
    y = np.zeros((256, 256), np.int32)
    strides = (*_strides(a.shape, 256, 256), *_strides(b.shape, 256, 256))
    call("add_s32", {"columns": 256, **dict(zip(_STRIDES, strides, strict=True))}, [a, b], [y], 256)
    same(y, a + b)
    for rounding in ROUNDINGS:
        same(y, expect(g, rounding, [a, b]))


def _pairs(type_: str) -> tuple[NDArray[Any], NDArray[Any]]:
    values = whole() if type_ == "int8" else whole("int16")[::257]
    if type_ == "int32":
        values = np.concatenate([values.astype(np.int32)[64:-64] * 65537, np.arange(-64, 64, dtype=np.int32)])
        values[[0, -1]] = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    return np.ascontiguousarray(values[:256, None]), np.ascontiguousarray(values[None, :256])
