"""Reductions, conversions and operators that move values: the reference has the interpreters' bits."""

from typing import Any

import numpy as np
import pytest
from firmware.graph_kit import ROUNDINGS, Builder
from firmware.oracles import agree, scale, whole, zero

_GRID = (0.1, 3)


@pytest.mark.parametrize("kind", ["MEAN", "SUM"])
@pytest.mark.parametrize("type_", ["int8", "int16"])
@pytest.mark.parametrize("seed", range(12))
def test_means_and_sums(kind: str, type_: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wide = type_ == "int16"
    shape = tuple(int(v) for v in rng.integers(1, 14, 4))
    axes = ((3,), (-1,), (1, 2), (1,), (0,), (0, 1, 2, 3), (2, 1), (1, 3), (0, 2), (2,), (-2,), (3, 2))[seed]
    keep = bool(seed % 2)
    kept = tuple(1 if n in {a % 4 for a in axes} else size for n, size in enumerate(shape))
    out = kept if keep else tuple(size for n, size in enumerate(shape) if n not in {a % 4 for a in axes})
    count = int(np.prod(shape)) // int(np.prod(kept))
    real = scale(rng, 1e-4, 1e-2) if wide else scale(rng, 1e-3, 1.0)
    g = Builder()
    x = g.input(shape, type_, real, 0 if wide else zero(rng))
    grown = real * scale(rng, 0.2, 3) * (np.sqrt(count) if kind == "SUM" else 1)
    g.output(g.op(kind, [x, g.ints(*axes)], out, type_, grown, 0 if wide else zero(rng), keep_dims=keep))
    low, high = np.iinfo(type_).min, np.iinfo(type_).max + 1
    # LiteRT has no SUM on int16.
    agree(g, [rng.integers(low, high, shape).astype(type_)], ["tflm"] if kind == "SUM" and wide else ROUNDINGS)


@pytest.mark.parametrize("zeros", [(-128, -128), (127, -128), (-128, 127), (3, 3), (0, -7)])
@pytest.mark.parametrize("ratio", [0.05, 1.0, 3.0])
def test_sum_of_every_int8(zeros: tuple[int, int], ratio: float) -> None:
    """Alone, and three of them, on one grid and on two; LiteRT reads the bytes as uint8."""
    x = np.stack([whole(), np.roll(whole(), 100), np.full(256, -1, np.int8)], 1)
    for values in (x[:, :1].copy(), x):
        g = Builder()
        ends = [g.input(values.shape, "int8", 0.1, zeros[0]), g.ints(1)]
        g.output(g.op("SUM", ends, (256,), "int8", 0.1 * ratio, zeros[1]))
        agree(g, [values])


@pytest.mark.parametrize("type_", ["int8", "float32"])
@pytest.mark.parametrize("keep", [False, True])
def test_reduce_max(type_: str, keep: bool) -> None:
    rng = np.random.default_rng(2)
    g = Builder()
    grid = _GRID if type_ == "int8" else (None, 0)
    x = g.input((3, 5, 7), type_, *grid)
    g.output(g.op("REDUCE_MAX", [x, g.ints(-1)], (3, 5, 1) if keep else (3, 5), type_, *grid, keep_dims=keep))
    agree(g, [rng.integers(-128, 128, (3, 5, 7)).astype(type_)])


@pytest.mark.parametrize("kind", ["ARG_MAX", "ARG_MIN"])
@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_arg(kind: str, axis: int) -> None:
    rng = np.random.default_rng(5)
    g = Builder()
    shape = (4, 6, 9)
    x = g.input(shape, "int8", *_GRID)
    out = tuple(size for n, size in enumerate(shape) if n != axis % 3)
    g.output(g.op(kind, [x, g.constant(np.array(axis, np.int32))], out, "int32", output_type="int32"))
    # Many equal values: the first counts.
    agree(g, [rng.integers(-2, 3, shape).astype(np.int8)])


@pytest.mark.parametrize("before", ["int8", "int16", "int32", "float32", "bool"])
@pytest.mark.parametrize("after", ["int8", "int16", "int32", "float32"])
def test_cast(before: str, after: str) -> None:
    rng = np.random.default_rng(6)
    values: Any = rng.uniform(-128, 128, 500)
    # Beyond the narrower type.
    if before == "float32" and after == "int32":
        values = values * 2e7
    elif before in ("int16", "int32") or (before == "float32" and after != "float32"):
        values = values * 200
    values = (values > 0) if before == "bool" else values.astype(before)
    g = Builder()
    grid = (0.1, 0)
    x = g.input((500,), before, *(grid if before in ("int8", "int16") else (None, 0)))
    g.output(g.op("CAST", [x], (500,), after, *(grid if after in ("int8", "int16") else (None, 0)),
                  in_data_type=before, out_data_type=after))  # fmt: skip
    agree(g, [values])


@pytest.mark.parametrize("type_", ["int8", "int16", "float32"])
def test_moves(type_: str) -> None:
    """Every operator that only moves values, in one graph."""
    rng = np.random.default_rng(7)
    grid: Any = {"int8": _GRID, "int16": (0.1, 0), "float32": (None, 0)}[type_]
    g = Builder()
    x = g.input((2, 4, 6), type_, *grid)
    y = g.input((2, 4, 2), type_, *grid)
    made = [
        g.op("RESHAPE", [x, g.ints(8, 6)], (8, 6), type_, *grid, new_shape=[8, 6]),
        g.op("TRANSPOSE", [x, g.ints(2, 0, 1)], (6, 2, 4), type_, *grid),
        g.op("CONCATENATION", [x, y, x], (2, 4, 14), type_, *grid, axis=2),
        g.op("SLICE", [x, g.ints(0, 1, 2), g.ints(-1, 2, -1)], (2, 2, 4), type_, *grid),
        g.op("STRIDED_SLICE", [x, g.ints(0, -3, 5), g.ints(2, 9, 0), g.ints(1, 2, -2)], (2, 2, 3), type_, *grid),
        g.op("STRIDED_SLICE", [x, g.ints(-1, 1, 1), g.ints(0, 2, 4), g.ints(1, 1, 1)], (2, 5), type_, *grid,
             begin_mask=2, end_mask=4, shrink_axis_mask=1),
        g.op("PAD", [x, g.constant(np.array([[0, 1], [2, 0], [1, 1]], np.int32))], (3, 6, 8), type_, *grid),
    ]  # fmt: skip
    parts = [g.tensor((2, 4, 3), type_, *grid) for _ in range(2)]
    g.add("SPLIT", [g.constant(np.array(2, np.int32)), x], parts, num_splits=2)
    g.output(*made, *parts)
    data = [rng.integers(-128, 128, shape).astype(type_) for shape in ((2, 4, 6), (2, 4, 2))]
    agree(g, data)


@pytest.mark.parametrize("start", [(0, 1, 0), (0, 9, -3), (0, -2, 4)])
def test_dynamic_update_slice_is_held_inside(start: tuple[int, ...]) -> None:
    g = Builder()
    x = g.input((1, 6, 5), "int8", *_GRID)
    new = g.input((1, 2, 3), "int8", *_GRID)
    at = g.input((3,), "int32")
    g.output(g.op("DYNAMIC_UPDATE_SLICE", [x, new, at], (1, 6, 5), "int8", *_GRID))
    rng = np.random.default_rng(1)
    values = [rng.integers(-128, 128, shape).astype(np.int8) for shape in ((1, 6, 5), (1, 2, 3))]
    agree(g, [*values, np.array(start, np.int32)])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("type_", ["int8", "int16"])
def test_gather(axis: int, type_: str) -> None:
    g = Builder()
    rng = np.random.default_rng(4)
    values = rng.integers(-128, 128, (4, 5, 6)).astype(type_)
    grid = _GRID if type_ == "int8" else (0.1, 0)
    shape = (*values.shape[:axis], 2, 7, *values.shape[axis + 1 :])
    ids = g.input((2, 7), "int32")
    g.output(g.op("GATHER", [g.constant(values, *grid), ids], shape, type_, *grid, axis=axis))
    # Micro has no int16 GATHER.
    agree(
        g, [rng.integers(0, values.shape[axis], (2, 7)).astype(np.int32)], ROUNDINGS if type_ == "int8" else ["single"]
    )


def test_embedding_lookup() -> None:
    g = Builder()
    ids = g.input((9,), "int32")
    table = g.constant(whole().reshape(16, 16), *_GRID)
    g.output(g.op("EMBEDDING_LOOKUP", [ids, table], (9, 16), "int8", *_GRID))
    agree(g, [np.array([0, 15, 3, 3, 7, 1, 2, 14, 9], np.int32)], ["tflm"])


def test_padv2_with_a_value() -> None:
    g = Builder()
    x = g.input((3, 4), "int8", *_GRID)
    fill = g.constant(np.array(-7, np.int8), *_GRID)
    g.output(g.op("PADV2", [x, g.constant(np.array([[1, 0], [0, 2]], np.int32)), fill], (4, 6), "int8", *_GRID))
    agree(g, [whole()[:12].reshape(3, 4)])
