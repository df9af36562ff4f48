"""Packed features: the model's own codes come back exactly, wider ones to half a step of their own grid."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tasuki.sdk.errors import ArtifactCorrupt
from tasuki.sdk.features import Grid
from tasuki.sdk.runtime import Output


def output(width: int, kind: type, scale: float = 0.0, zero: int = 0) -> Output:
    return Output({"name": "x", "index": 0, "shape": (1, width), "dtype": kind, "quantization": (scale, zero)})


SCALES = st.floats(2**-20, 2**10, width=32)
ZEROS = st.integers(-128, 127)


@given(st.data(), st.lists(st.tuples(st.integers(1, 5), SCALES, ZEROS), min_size=1, max_size=3), st.integers(0, 4))
def test_int8_comes_back_exactly(data: st.DataObject, depths: list[tuple[int, float, int]], count: int) -> None:
    grid = Grid([output(width, np.int8, scale, zero) for width, scale, zero in depths])
    raws = [tuple(data.draw(arrays.arrays(np.int8, width)) for width, _, _ in depths) for _ in range(count)]
    packed = [grid.pack(raw) for raw in raws]
    assert all(len(codes) == grid.width and scale == 1.0 for codes, scale in packed)
    found = grid.unpack([codes for codes, _ in packed], [scale for _, scale in packed])
    assert found.dtype == np.float32
    assert found.shape == (count, sum(width for width, _, _ in depths))
    for row, raw in zip(found, raws, strict=True):
        np.testing.assert_array_equal(row, grid.real(raw))
        wanted = [np.float32(s) * (part.astype(np.float32) - z) for part, (_, s, z) in zip(raw, depths, strict=True)]
        np.testing.assert_array_equal(row, np.concatenate(wanted))


@given(arrays.arrays(np.int16, 6), SCALES)
def test_int16_is_off_by_half_a_step(raw: Any, scale: float) -> None:
    grid = Grid([output(6, np.int16, scale)])
    codes, step = grid.pack((raw,))
    (found,) = grid.unpack([codes], [step])
    values = grid.real((raw,))
    assert np.abs(found - values).max() <= np.abs(values).max() / 127 * 0.501


@given(arrays.arrays(np.float32, 6, elements=st.floats(-1e6, 1e6, width=32)))
def test_floats_are_off_by_half_a_step(raw: Any) -> None:
    grid = Grid([output(2, np.float32), output(4, np.float32)])
    codes, step = grid.pack((raw[:2], raw[2:]))
    (found,) = grid.unpack([codes], [step])
    assert np.abs(found - raw).max() <= max(np.abs(raw).max() / 127 * 0.501, 1e-36)


def test_nothing_is_packed_as_nothing() -> None:
    grid = Grid([output(3, np.float32)])
    assert grid.pack((np.zeros(3, np.float32),)) == (bytes(3), 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ArtifactCorrupt):
        Grid([output(2, np.float32)]).pack((np.array([0, value], np.float32),))


@pytest.mark.parametrize("codes", [[b"123", b"12"], [b""], [b"1234"]])
def test_examples_of_another_width_are_refused(codes: list[bytes]) -> None:
    for kind in (np.int8, np.float32):
        with pytest.raises(ValueError, match="has not 3 values"):
            Grid([output(3, kind, 1.0)]).unpack(codes, [1.0] * len(codes))


@pytest.mark.parametrize("scales", [[1.0], [1.0, np.nan], [1.0, np.inf], [1.0, 1.0, 1.0]])
def test_scales_that_make_no_sense_are_refused(scales: list[float]) -> None:
    with pytest.raises(ValueError, match="scales"):
        Grid([output(3, np.float32)]).unpack([b"123", b"456"], scales)
