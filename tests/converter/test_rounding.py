"""Rounding of weights: by effect it is never worse than to the nearest step, row by row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.converter import rounding
from tasuki.converter.rounding import Rounded


def problem(seed: int, rows: int, wide: int, out: int, noise: float) -> tuple[np.ndarray, ...]:
    """Weight, bias, the quantised network's inputs and the float network's outputs."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((wide, wide)) * rng.exponential(1, wide)
    exact = (rng.standard_normal((rows, wide)) @ mix + rng.standard_normal(wide)).astype(np.float32)
    inputs = (exact + noise * np.abs(exact).mean() * rng.standard_normal(exact.shape)).astype(np.float32)
    weight = (rng.standard_normal((out, wide)) * rng.exponential(1, (out, 1))).astype(np.float32)
    bias = rng.standard_normal(out).astype(np.float32)
    return weight, bias, inputs, exact @ weight.T


def loss(made: Rounded, inputs: np.ndarray, wanted: np.ndarray, free: bool) -> np.ndarray:
    """Mean squared error of each output; `free` leaves out a constant, which a bias would take care of."""
    y = inputs.astype(np.float64) @ (made.weight * made.scale[:, None].astype(np.float64)).T
    error = y + (0 if made.bias is None else made.bias) - wanted
    return np.asarray(((error - error.mean(0) * free) ** 2).mean(0))


SIZES = {
    "seed": st.integers(0, 2**32 - 1), "rows": st.integers(1, 200), "wide": st.integers(1, 24),
    "out": st.integers(1, 6), "noise": st.sampled_from([0.0, 0.01, 0.2]),
}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(**SIZES)
def test_with_a_bias_it_is_never_worse_than_nearest(seed: int, rows: int, wide: int, out: int, noise: float) -> None:
    weight, bias, inputs, product = problem(seed, rows, wide, out, noise)
    wanted = product + bias
    best = loss(rounding.adaptive(weight, bias, inputs, wanted), inputs, wanted, free=False)
    plain = loss(rounding.nearest(weight, bias), inputs, wanted, free=False)
    assert (best <= plain * (1 + 1e-4) + 1e-6 * (wanted**2).mean()).all()


@settings(max_examples=40, deadline=None)
@given(**SIZES)
def test_without_a_bias_neither(seed: int, rows: int, wide: int, out: int, noise: float) -> None:
    weight, _, inputs, wanted = problem(seed, rows, wide, out, noise)
    made = rounding.adaptive(weight, None, inputs, wanted)
    assert made.bias is None
    plain = loss(rounding.nearest(weight, None), inputs, wanted, free=False)
    assert (loss(made, inputs, wanted, free=False) <= plain * (1 + 1e-4) + 1e-6 * (wanted**2).mean()).all()


def test_correlated_inputs_are_where_it_pays() -> None:
    weight, bias, inputs, product = problem(0, 400, 24, 6, 0.0)
    best = loss(rounding.adaptive(weight, bias, inputs, product + bias), inputs, product + bias, free=False)
    plain = loss(rounding.nearest(weight, bias), inputs, product + bias, free=False)
    assert best.sum() < 0.7 * plain.sum()


def test_what_the_inputs_lost_is_made_good() -> None:
    """Half of what is in `inputs` is gone: weights that move get some of the outputs back."""
    weight, bias, inputs, product = problem(1, 400, 24, 6, 0.0)
    less = inputs * np.where(np.arange(24) % 2, 1.0, 0.5).astype(np.float32)
    made = rounding.adaptive(weight, bias, less, product + bias)
    assert (
        loss(made, less, product + bias, False).sum()
        < 0.1 * loss(rounding.nearest(weight, bias), less, product + bias, False).sum()
    )


@pytest.mark.parametrize("inputs", [np.zeros((50, 4)), np.ones((50, 4)), np.ones((1, 4))])
def test_inputs_that_say_nothing(inputs: np.ndarray) -> None:
    inputs = inputs.astype(np.float32)
    weight = np.array([[1, -2, 3, 0.5], [0, 0, 0, 0]], np.float32)
    bias = np.array([1, -7], np.float32)
    wanted = inputs @ weight.T + bias
    for given_bias in (bias, None):
        made = rounding.adaptive(weight, given_bias, inputs, wanted - (0 if given_bias is not None else bias))
        assert np.isfinite(made.scale).all()
        assert (made.scale > 0).all()
    made = rounding.adaptive(weight, bias, inputs, wanted)
    np.testing.assert_allclose(inputs @ (made.weight * made.scale[:, None]).T + made.bias, wanted, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), step=st.floats(1e-7, 10.0), big=st.floats(1e-3, 1e5))
def test_a_bias_fits_in_int32(seed: int, step: float, big: float) -> None:
    weight, bias, inputs, _ = problem(seed, 60, 5, 3, 0.05)
    weight[0] = 0
    wanted = inputs @ weight.T + big * bias
    for made in (
        rounding.nearest(weight, big * bias, step),
        rounding.adaptive(weight, (big * bias).astype(np.float32), inputs, wanted, step),
    ):
        assert made.bias is not None
        assert (np.abs(made.bias / (made.scale * np.float64(step))) < 2**31 - 1).all()


def test_it_repeats() -> None:
    weight, bias, inputs, product = problem(3, 200, 20, 5, 0.1)
    first, second = (rounding.adaptive(weight, bias, inputs, product) for _ in range(2))
    np.testing.assert_array_equal(first.weight, second.weight)
    np.testing.assert_array_equal(first.scale, second.scale)
    np.testing.assert_array_equal(first.bias, second.bias)
    assert first.weight.dtype == np.int8
    assert np.abs(first.weight.astype(int)).max() <= 127
