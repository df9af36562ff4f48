"""The fixed-point helpers against gemmlowp's definitions, word by word, and against exact fractions."""

import ctypes
import functools
from fractions import Fraction
from typing import Final

import numpy as np
import pytest
from firmware.kernel_kit import build
from hypothesis import example, given, settings
from hypothesis import strategies as st

_MIN, _MAX = -(1 << 31), (1 << 31) - 1
_CODE = """
#include "tsk_math.h"
#include "tsk_softmax.h"
int32_t high_mul(int32_t a, int32_t b);
int32_t divide_pot(int32_t x, int32_t exponent);
int32_t scale(int32_t x, int32_t multiplier, int32_t shift);
int32_t scale_wide(int64_t x, int32_t multiplier, int32_t shift);
int32_t scale_single(double x, double real);
int32_t reciprocal(int32_t a);
int32_t high_mul(int32_t a, int32_t b) { return tsk_high_mul(a, b); }
int32_t divide_pot(int32_t x, int32_t exponent) { return tsk_divide_pot(x, exponent); }
int32_t scale(int32_t x, int32_t multiplier, int32_t shift) { return tsk_scale(x, multiplier, shift); }
int32_t scale_wide(int64_t x, int32_t multiplier, int32_t shift) { return tsk_scale_wide(x, multiplier, shift); }
int32_t scale_single(double x, double real) { return tsk_scale_single(x, real); }
int32_t reciprocal(int32_t a) { return tsk_reciprocal(a); }
"""
_CORNERS: Final = sorted(
    {_MIN, _MAX, 0, *(sign * (1 << bit) + d for bit in range(31) for sign in (1, -1) for d in (-1, 0, 1))}
)

# The first example waits for the compiler.
_patient = settings(deadline=None)
_int32 = st.one_of(st.sampled_from(_CORNERS), st.integers(_MIN, _MAX))
_multiplier = st.one_of(st.sampled_from([1 << 30, _MAX, 0x7FFF0000, 0]), st.integers(0, _MAX))


@functools.cache
def _c() -> ctypes.CDLL:
    # With UBSan: a signed overflow or a bad shift in a helper stops the test.
    flags = ("-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    library = ctypes.CDLL(str(build(".math.so", "cc", flags, [], _CODE)))
    library.scale_wide.argtypes = [ctypes.c_int64, ctypes.c_int32, ctypes.c_int32]
    library.scale_single.argtypes = [ctypes.c_double, ctypes.c_double]
    return library


def _truncate(a: int, b: int) -> int:
    return a // b if (a < 0) == (b < 0) else -(-a // b)


def _high_multiply(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul."""
    if a == b == _MIN:
        return _MAX
    nudge = 1 << 30 if a * b >= 0 else 1 - (1 << 30)
    return _truncate(a * b + nudge, 1 << 31)


def _divide(x: int, exponent: int) -> int:
    """RoundingDivideByPOT: to the nearest, halves away from zero."""
    size = Fraction(abs(x), 1 << exponent) + Fraction(1, 2)
    return (1 if x >= 0 else -1) * (size.numerator // size.denominator)


def _int(x: int) -> int:
    return (x + (1 << 31)) % (1 << 32) - (1 << 31)


@_patient
@given(_int32, _int32)
@example(_MIN, _MAX)
@example(_MIN, _MIN + 1)
def test_high_mul_is_gemmlowps(a: int, b: int) -> None:
    if not a == b == _MIN:
        assert _c().high_mul(a, b) == _high_multiply(a, b)


def test_high_mul_at_all_corners() -> None:
    wrong = [
        (a, b) for a in _CORNERS for b in _CORNERS if not a == b == _MIN and _c().high_mul(a, b) != _high_multiply(a, b)
    ]
    assert wrong == []


@_patient
@given(_int32, st.integers(0, 31))
@example(_MIN, 31)
@example(_MAX, 31)
@example(-1, 1)
def test_divide_pot_is_gemmlowps(x: int, exponent: int) -> None:
    assert _c().divide_pot(x, exponent) == _divide(x, exponent)


def test_divide_pot_at_all_corners() -> None:
    wrong = [(x, e) for x in _CORNERS for e in range(32) if _c().divide_pot(x, e) != _divide(x, e)]
    assert wrong == []


@_patient
@given(_int32, _multiplier, st.integers(-31, 31))
@example(_MIN, _MAX, 31)
@example(_MIN, _MAX, -31)
def test_scale_is_multiply_by_quantized_multiplier(x: int, multiplier: int, shift: int) -> None:
    left, right = max(shift, 0), max(-shift, 0)
    wanted = _divide(_high_multiply(_int(x << left), multiplier), right)
    assert _c().scale(x, multiplier, shift) == wanted


@_patient
@given(st.integers(-(1 << 47), (1 << 47) - 1), _multiplier, st.integers(-31, 7))
def test_scale_wide_is_the_same_on_int64(x: int, multiplier: int, shift: int) -> None:
    reduced = (multiplier + (1 << 15)) >> 16 if multiplier < 0x7FFF0000 else 0x7FFF
    total = 15 - shift
    assert _c().scale_wide(x, multiplier, shift) == _int((x * reduced + (1 << (total - 1))) >> total)


@_patient
@given(_int32, st.one_of(st.floats(2.0**-40, 64.0), st.sampled_from([0.5, 0.25, 1.0, 1.5, 2.0**-31])))
@example(_MIN, 2.0**-32)
@example(_MAX, 1.0)
@example(3, 0.5)
@example(-3, 0.5)
def test_scale_single_rounds_the_product_half_away(x: int, real: float) -> None:
    product = Fraction(float(x) * real)
    size = abs(product) + Fraction(1, 2)
    whole = (1 if product >= 0 else -1) * (size.numerator // size.denominator)
    assert _c().scale_single(float(x), real) == max(_MIN, min(_MAX, whole))


@_patient
@given(st.integers(0, _MAX))
@example(0)
@example(_MAX)
def test_reciprocal_is_one_over_one_plus(a: int) -> None:
    # gemmlowp's Newton steps end a few units beside the true value; the exact bits are SOFTMAX's own tests.
    wanted = Fraction(1 << 62, (1 << 31) + a)
    assert abs(_c().reciprocal(a) - wanted) <= 32


def test_reciprocal_takes_gemmlowps_steps() -> None:
    """Its definition again, with the saturating shifts, over a grid of the whole range."""
    wrong = [a for a in map(int, np.linspace(0, _MAX, 4001)) if _c().reciprocal(a) != _newton(a)]
    assert wrong == []


def _newton(a: int) -> int:
    half = _truncate(a + _MAX + 1, 2)
    x = 1515870810 + _high_multiply(half, -1010580540)
    for _ in range(3):
        x += _shift(_high_multiply(x, (1 << 29) - _high_multiply(half, x)), 2)
    return _shift(x, 1)


def _shift(x: int, exponent: int) -> int:
    """SaturatingRoundingMultiplyByPOT to the left."""
    limit = (1 << (31 - exponent)) - 1
    return _MAX if x > limit else _MIN if x < -limit else x << exponent


_ZEROS = """
#include "tsk_math.h"
int32_t zeros(uint32_t x);
int32_t zeros(uint32_t x) { return tsk_leading_zeros(x); }
"""


@pytest.mark.parametrize("flags", [(), ("-U__GNUC__", "-Wno-builtin-macro-redefined")], ids=["builtin", "loop"])
def test_leading_zeros(flags: tuple[str, ...]) -> None:
    library = ctypes.CDLL(str(build(".zeros.so", "cc", ("-shared", "-fPIC", *flags), [], _ZEROS)))
    for zeros in range(32):
        for x in (1 << (31 - zeros), (1 << (32 - zeros)) - 1):
            assert library.zeros(ctypes.c_uint32(x)) == zeros
