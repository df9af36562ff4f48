"""Functions of one value on every value of their type: the reference has the interpreters' bits."""

from typing import Any

import numpy as np
import pytest
from firmware.graph_kit import ROUNDINGS, Builder
from firmware.oracles import agree, scale, whole, zero

from tasuki.firmware_bridge.semantics import unary
from tasuki.firmware_bridge.semantics.fixed_point import Rounding

# Grids of the outputs that are not free.
_FIXED = {"TANH": (1 / 128, 0), "LOGISTIC": (1 / 256, -128)}
_GRAPHS = 12


def _one(kind: str, grid: tuple[float, int], out: tuple[float, int], type_: str = "int8", **options: Any) -> Builder:
    g = Builder()
    count = 1 << np.iinfo(type_).bits
    x = g.input((count,), type_, *grid)
    g.output(g.op(kind, [x], (count,), type_, *out, **options))
    return g


@pytest.mark.parametrize("kind", ["TANH", "LOGISTIC"])
@pytest.mark.parametrize("seed", range(_GRAPHS))
def test_sigmoids_on_every_int8(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = _one(kind, (scale(rng, 1e-3, 1.0), zero(rng)), _FIXED[kind])
    assert agree(g, [whole()]) == 512


@pytest.mark.parametrize("kind", ["TANH", "LOGISTIC"])
@pytest.mark.parametrize("seed", range(_GRAPHS))
def test_sigmoids_on_every_int16(kind: str, seed: int) -> None:
    # Powers of two have a path of their own.
    real = 2.0 ** -(seed + 10) if seed < 4 else scale(np.random.default_rng(seed), 1e-5, 1e-2)
    assert agree(_one(kind, (real, 0), (1 / 32768, 0), "int16"), [whole("int16")]) == 2 * 65536


@pytest.mark.parametrize("seed", range(_GRAPHS))
def test_rsqrt_from_the_zero_point_on(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = int(rng.choice([-128, int(rng.integers(-128, 100))]))
    g = Builder()
    x = g.input((127 - z + 1,), "int8", scale(rng, 1e-6, 1.0), z)
    g.output(g.op("RSQRT", [x], (127 - z + 1,), "int8", scale(rng, 1e-3, 0.2), zero(rng)))
    agree(g, [whole()[z + 128 :]])


@pytest.mark.parametrize("seed", range(_GRAPHS))
def test_rsqrt_on_every_int16_that_is_not_negative(seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = Builder()
    x = g.input((32768,), "int16", scale(rng, 1e-6, 1.0), 0)
    g.output(g.op("RSQRT", [x], (32768,), "int16", scale(rng, 1e-5, 0.2), 0))
    agree(g, [np.arange(32768).astype(np.int16)])


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("seed", range(_GRAPHS))
def test_gelu_on_every_int8(approximate: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = _one("GELU", (scale(rng, 1e-3, 0.2), zero(rng)), (scale(rng, 1e-3, 0.2), zero(rng)), approximate=approximate)
    agree(g, [whole()], ["single"])


@pytest.mark.parametrize("type_", ["int8", "int16"])
@pytest.mark.parametrize("seed", range(_GRAPHS))
def test_relu_to_another_grid(type_: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    zeros = (zero(rng), zero(rng)) if type_ == "int8" else (0, 0)
    agree(_one("RELU", (scale(rng, 1e-3), zeros[0]), (scale(rng, 1e-3), zeros[1]), type_), [whole(type_)])


@pytest.mark.parametrize("seed", range(_GRAPHS))
def test_relu6_on_one_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = scale(rng, 6 / 250, 0.2), int(rng.integers(-128, -90))
    agree(_one("RELU6", grid, grid), [whole()])


@pytest.mark.parametrize("kind", ["RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize("seed", range(_GRAPHS))
def test_relus_that_micro_lacks_or_does_not_requantise(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = _one(kind, (scale(rng, 1e-3, 0.2), zero(rng)), (scale(rng, 1e-3, 0.2), zero(rng)))
    agree(g, [whole()], ["single"])


@pytest.mark.parametrize("seed", range(_GRAPHS))
def test_quantize_between_integers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for before, after in (("int8", "int8"), ("int8", "int16"), ("int16", "int8"), ("int16", "int16")):
        g = Builder()
        values = whole(before)
        a, b = (zero(rng) if t == "int8" else 0 for t in (before, after))
        real = scale(rng)
        x = g.input(values.shape, before, real, a)
        # Once in four the scale stays, which is a path of its own in the interpreters.
        g.output(g.op("QUANTIZE", [x], values.shape, after, real if seed % 4 == 0 else scale(rng), b))
        agree(g, [values])


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("type_", ["int8", "int16"])
@pytest.mark.parametrize("seed", range(4))
def test_quantize_from_float(type_: str, rounding: Rounding, seed: int) -> None:
    rng = np.random.default_rng(seed)
    step = scale(rng)
    values = rng.normal(0, step * 2.0 ** rng.integers(3, 17), 4000).astype(np.float32)
    # Ties, where the direction shows.
    values[:1000] = np.float32(step) * (np.arange(-500, 500) + np.float32(0.5))
    g = Builder()
    x = g.input(values.shape, "float32")
    g.output(g.op("QUANTIZE", [x], values.shape, type_, step, zero(rng) if type_ == "int8" else 0))
    agree(g, [values], [rounding])


@pytest.mark.parametrize("type_", ["int8", "int16"])
def test_dequantize_negate_quantize(type_: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        g = Builder()
        values = whole(type_)
        z = zero(rng) if type_ == "int8" else 0
        step = scale(rng)
        real = g.op("DEQUANTIZE", [g.input(values.shape, type_, step, z)], values.shape, "float32")
        minus = g.op("NEG", [real], values.shape, "float32")
        g.output(real, minus, g.op("QUANTIZE", [minus], values.shape, type_, step, zero(rng) if z else 0))
        agree(g, [values])


def test_the_sigmoid_table_is_the_one_of_the_interpreters() -> None:
    """Their table in a few places, its sum, and its ends."""
    table = unary.sigmoid_table()
    assert table[[0, 1, 2, 100, 200, 254, 255]].tolist() == [32768, 33451, 34133, 64536, 65520, 65534, 65535]
    assert np.all(np.diff(table.astype(int)) >= 0)
