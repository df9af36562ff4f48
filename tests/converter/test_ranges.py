"""Range estimators: inside the data, better than nothing, and calm about data that has no spread."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasuki.converter import ranges
from tasuki.converter.quantise import INT8, grid_of, on_grid

FLOATS = st.floats(-1e4, 1e4, width=32)
SAMPLES = hnp.arrays(np.float32, st.integers(1, 300), elements=FLOATS)
AWKWARD = {
    "zeros": np.zeros(50, np.float32),
    "one constant": np.full(50, 3.5, np.float32),
    "a tiny constant": np.full(50, 1e-6, np.float32),
    "a negative constant": np.full(50, -2, np.float32),
    "neighbours": np.array([1, np.nextafter(np.float32(1), np.float32(2))] * 20, np.float32),
    "denormal": np.array([0, 1e-45] * 20, np.float32),
    "positive": np.linspace(5, 6, 100, dtype=np.float32),
    "negative": np.linspace(-6, -5, 100, dtype=np.float32),
    "one value": np.array([0.25], np.float32),
    "an outlier": np.r_[np.zeros(99), 1e30].astype(np.float32),
    "huge": np.array([-3e38, 3e38] * 5, np.float32),
}


def found(samples: np.ndarray) -> dict[str, tuple[float, float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {name: (low, high) for name, low, high in ranges.candidates(samples, 256)}


@settings(max_examples=40, deadline=None)
@given(SAMPLES)
def test_every_interval_is_inside_the_range_of_the_data(samples: np.ndarray) -> None:
    intervals = found(samples)
    assert set(intervals) == {"minmax", "percentile 99.9", "percentile 99.99", "percentile 99.999", "mse", "entropy"}
    low, high = float(samples.min()), float(samples.max())
    slack = 1e-6 * (high - low)
    for name, (a, b) in intervals.items():
        assert a <= b, name
        # Zero is always on a grid, so an interval may reach there.
        assert min(low, 0) - slack <= a, name
        assert b <= max(high, 0) + slack, name
    assert intervals["minmax"] == (low, high)


@pytest.mark.parametrize("name", AWKWARD)
def test_data_without_spread(name: str) -> None:
    samples = AWKWARD[name]
    for low, high in found(samples).values():
        assert np.isfinite([low, high]).all()
        grid = grid_of(low, high, INT8)
        assert np.isfinite(grid.scale).all()
        assert grid.scale[0] > 0
        assert -128 <= grid.zero <= 127


@pytest.mark.parametrize("value", [3.5, 1e-6, -2.0, 100.0])
def test_a_constant_is_kept_by_every_estimator(value: float) -> None:
    samples = np.full(64, value, np.float32)
    for name, (low, high) in found(samples).items():
        np.testing.assert_allclose(on_grid(samples, grid_of(low, high, INT8)), value, rtol=0.005, err_msg=name)


def test_mse_beats_minmax_where_there_are_outliers() -> None:
    samples = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    samples[:2] = 40, -40

    def error(low: float, high: float) -> float:
        return float(np.mean((on_grid(samples, grid_of(low, high, INT8)) - samples) ** 2))

    intervals = found(samples)
    assert error(*intervals["mse"]) <= error(*intervals["minmax"])
    assert intervals["entropy"][1] < 40
    assert intervals["percentile 99.9"][1] < 5


@settings(max_examples=30, deadline=None)
@given(SAMPLES)
def test_zero_has_a_step_and_no_value_is_further_off_than_half_a_step(samples: np.ndarray) -> None:
    grid = grid_of(float(samples.min()), float(samples.max()), INT8)
    assert on_grid(np.zeros(1, np.float32), grid)[0] == 0
    # The zero point is rounded too, so the ends may lie half a step outside.
    assert np.abs(on_grid(samples, grid) - samples).max() <= 1.01 * grid.scale[0]


def test_thinning_is_bounded_and_covers_everything() -> None:
    many = np.arange(5_000_000, dtype=np.float32)
    thin = ranges.thin(many.reshape(1000, -1))
    assert thin.size <= 1 << 21
    assert thin[-1] > 4_990_000
    assert ranges.thin(many[:10]).size == 10


def test_thinning_sees_every_channel() -> None:
    """A step that divides the width would look at some channels only, and miss the loud one."""
    table = np.zeros((20_000, 384), np.float32)
    table[:, 5] = 7
    assert ranges.thin(table).max() == 7
    assert found(table)["minmax"] == (0, 7)
