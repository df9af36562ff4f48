"""Operators of two operands on every pair of int8: the reference has the interpreters' bits."""

import numpy as np
import pytest
from firmware.graph_kit import Builder
from firmware.oracles import agree, scale, whole, zero

_ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
_SEEDS = range(12)


def _grids(kind: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """Scales of the operands and of the result, such that every multiplier is below 1, as the interpreters demand."""
    a, b = scale(rng, 1e-3, 1.0), scale(rng, 1e-3, 1.0)
    typical = {"MUL": a * b * 40, "SQUARED_DIFFERENCE": max(a, b) ** 2 * 40}.get(kind, max(a, b))
    return a, b, typical * scale(rng, 0.3, 4)


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL", "SQUARED_DIFFERENCE"])
@pytest.mark.parametrize("seed", _SEEDS)
def test_every_pair_of_int8(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a_scale, b_scale, out_scale = _grids(kind, rng)
    g = Builder()
    # An operand that broadcasts and one that does not go different ways in the interpreters.
    shape = (256, 256)
    a = g.input(shape, "int8", a_scale, zero(rng))
    b = g.input((256,) if seed % 2 else shape, "int8", b_scale, zero(rng))
    options = {} if kind == "SQUARED_DIFFERENCE" else {"activation": _ACTIVATIONS[seed % 4]}
    g.output(g.op(kind, [a, b], shape, "int8", out_scale, zero(rng), **options))
    rows = np.ascontiguousarray(np.broadcast_to(whole()[:, None], shape))
    columns = whole() if seed % 2 else np.ascontiguousarray(np.broadcast_to(whole(), shape))
    assert agree(g, [rows, columns]) == 2 * 65536


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("seed", _SEEDS)
def test_pairs_of_int16(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a_scale, b_scale = scale(rng, 1e-5, 1e-2), scale(rng, 1e-5, 1e-2)
    out_scale = (a_scale * b_scale * 9000 if kind == "MUL" else max(a_scale, b_scale)) * scale(rng, 0.3, 4)
    g = Builder()
    a, b = g.input((60, 500), "int16", a_scale), g.input((500,), "int16", b_scale)
    options = {} if kind == "MUL" else {"pot_scale_int16": False}
    out = g.op(kind, [a, b], (60, 500), "int16", out_scale, activation=_ACTIVATIONS[seed % 4], **options)
    g.output(out)
    left, right = (rng.integers(-32768, 32768, shape).astype(np.int16) for shape in ((60, 500), (500,)))
    left[0], right[:3] = -32768, [-32768, 32767, 0]
    agree(g, [left, right])


@pytest.mark.parametrize("kind", ["ADD", "MINIMUM", "MAXIMUM"])
def test_ids_of_int32(kind: str) -> None:
    rng = np.random.default_rng(1)
    ends = np.iinfo(np.int32)
    left = rng.integers(ends.min, ends.max, (40, 50), np.int32, endpoint=True)
    right = rng.integers(ends.min, ends.max, 50, np.int32, endpoint=True)
    g = Builder()
    operands = [g.input(x.shape, "int32") for x in (left, right)]
    g.output(g.op(kind, operands, left.shape, "int32", **({"pot_scale_int16": False} if kind == "ADD" else {})))
    assert agree(g, [left, right]) == 2 * 2000


@pytest.mark.parametrize("seed", _SEEDS)
def test_squared_differences_of_int16(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a_scale, b_scale = scale(rng, 1e-4, 1e-2), scale(rng, 1e-4, 1e-2)
    g = Builder()
    a, b = g.input((60, 500), "int16", a_scale), g.input((500,), "int16", b_scale)
    g.output(g.op("SQUARED_DIFFERENCE", [a, b], (60, 500), "int16", max(a_scale, b_scale) ** 2 * 9000))
    # LiteRT has none of int16.
    agree(g, [rng.integers(-32768, 32768, shape).astype(np.int16) for shape in ((60, 500), (500,))], ["tflm"])


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("type_", ["int32", "float32"])
def test_pairs_without_grids(kind: str, type_: str) -> None:
    rng = np.random.default_rng(8)
    g = Builder()
    a, b = g.input((4, 30), type_), g.input((4, 1), type_)
    g.output(g.op(kind, [a, b], (4, 30), type_))
    agree(g, [rng.normal(0, 100, shape).astype(type_) for shape in ((4, 30), (4, 1))])


@pytest.mark.parametrize("kind", ["MINIMUM", "MAXIMUM"])
@pytest.mark.parametrize("type_", ["int8", "int16", "int32", "float32"])
def test_extremes(kind: str, type_: str) -> None:
    rng = np.random.default_rng(9)
    g = Builder()
    grid = (0.1, 3 if type_ == "int8" else 0) if type_ in ("int8", "int16") else (None, 0)
    a, b = g.input((40, 30), type_, *grid), g.input((30,), type_, *grid)
    g.output(g.op(kind, [a, b], (40, 30), type_, *grid))
    agree(g, [rng.integers(-128, 128, shape).astype(type_) for shape in ((40, 30), (30,))])


@pytest.mark.parametrize("type_", ["int8", "int16", "float32"])
def test_select(type_: str) -> None:
    rng = np.random.default_rng(10)
    g = Builder()
    grid = (None, 0) if type_ == "float32" else (0.1, 0)
    condition = g.input((1, 30), "bool")
    a, b = g.input((20, 30), type_, *grid), g.input((20, 1), type_, *grid)
    g.output(g.op("SELECT_V2", [condition, a, b], (20, 30), type_, *grid))
    agree(g, [
        rng.integers(0, 2, (1, 30)).astype(bool), rng.integers(-128, 128, (20, 30)).astype(type_),
        rng.integers(-128, 128, (20, 1)).astype(type_),
    ])  # fmt: skip
