"""The fixed point against gemmlowp's definitions, written here in Python's own integers, and against real numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasuki.firmware_bridge.semantics import fixed_point, gemmlowp

LOW, HIGH = -(1 << 31), (1 << 31) - 1
INT32 = st.one_of(st.integers(LOW, HIGH), st.sampled_from([LOW, LOW + 1, -1, 0, 1, HIGH, 1 << 30, -(1 << 30)]))


def _divide(a: int, b: int) -> int:
    """C's division: towards zero."""
    return abs(a) // b * (1 if a >= 0 else -1)


def _high_multiply(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul."""
    if a == b == LOW:
        return HIGH
    product = a * b
    return _divide(product + (1 << 30 if product >= 0 else 1 - (1 << 30)), 1 << 31)


def _rounding_shift(x: int, exponent: int) -> int:
    """RoundingDivideByPOT."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def _one(x: int) -> fixed_point.Integers:
    return np.array([x], np.int64)


@given(INT32, INT32)
def test_high_multiply(a: int, b: int) -> None:
    assert fixed_point.high_multiply(_one(a), _one(b))[0] == _high_multiply(a, b)


@given(INT32, st.integers(0, 31))
def test_shift_right(x: int, exponent: int) -> None:
    assert fixed_point.shift_right(_one(x), exponent)[0] == _rounding_shift(x, exponent)


@given(INT32, st.integers(1 << 30, HIGH), st.integers(-31, 30))
def test_multiply_wraps_what_it_shifts_out_and_rounds_twice(x: int, multiplier: int, shift: int) -> None:
    left = (x << max(shift, 0)) & 0xFFFFFFFF
    left = left - (1 << 32) if left > HIGH else left
    wanted = _rounding_shift(_high_multiply(left, multiplier), max(-shift, 0))
    assert fixed_point.multiply(_one(x), multiplier, shift)[0] == wanted


@given(st.integers(-(1 << 40), 1 << 40), st.floats(2.0**-30, 2.0**-10))
def test_multiply_wide_keeps_sixteen_bits_of_the_multiplier(x: int, real: float) -> None:
    found = int(fixed_point.multiply_wide(_one(x), *fixed_point.quantize_multiplier(real))[0])
    assert abs(found - x * real) <= abs(x * real) * 2.0**-15 + 0.51


@given(st.floats(2.0**-31, 2.0**30))
def test_quantize_multiplier_is_within_half_a_step(real: float) -> None:
    multiplier, shift = fixed_point.quantize_multiplier(real)
    assert 1 << 30 <= multiplier <= HIGH
    assert abs(multiplier * 2.0 ** (shift - 31) / real - 1) <= 2.0**-31


def test_quantize_multiplier_at_its_ends() -> None:
    assert fixed_point.quantize_multiplier(0.0) == (0, 0)
    assert fixed_point.quantize_multiplier(2.0**-33) == (0, 0)
    assert fixed_point.quantize_multiplier(1.0) == (1 << 30, 1)
    # Rounds up to the next power of two.
    assert fixed_point.quantize_multiplier(1 - 2.0**-40) == (1 << 30, 1)


@pytest.mark.parametrize("real", [-1.0, math.inf, math.nan])
def test_a_multiplier_that_is_no_scale_is_refused(real: float) -> None:
    with pytest.raises(ValueError, match="multiplier"):
        fixed_point.quantize_multiplier(real)


@given(st.floats(-1e6, 1e6, width=32))
def test_round_away_is_the_c_library_s_round(x: float) -> None:
    wanted = math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)
    assert fixed_point.round_away(np.array([x]))[0] == wanted
    assert fixed_point.round_away(np.array([x], np.float32)).dtype == np.float32


@given(st.floats(-15.99, 0))
def test_exponential(x: float) -> None:
    raw = _one(round(x * (1 << 26)))
    assert abs(gemmlowp.exp(raw, 5)[0] / (1 << 31) - math.exp(x)) < 1e-6


@given(st.floats(-15.9, 15.9))
def test_tanh_and_logistic(x: float) -> None:
    raw = _one(round(x * (1 << 27)))
    assert abs(gemmlowp.tanh(raw)[0] / (1 << 31) - math.tanh(x)) < 1e-6
    assert abs(gemmlowp.logistic(raw)[0] / (1 << 31) - 1 / (1 + math.exp(-x))) < 1e-6
