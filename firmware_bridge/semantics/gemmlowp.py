"""exp, 1 / (1 + x), tanh and the logistic function in gemmlowp's fixed point: polynomials, Newton, no table.

A value in Q(n).(31-n) is `raw / 2**(31-n)`; raw values are int32, held in int64 arrays. The product of Q(n) and Q(m)
is in Q(n+m).
"""

from typing import Final

import numpy as np

from tasuki.firmware_bridge.semantics.fixed_point import INT32_MAX, Integers, high_multiply, shift_left, shift_right

_EXP_OF_MINUS_EIGHTH: Final = 1895147668  # exp(-1/8) in Q0.31
_THIRD: Final = 715827883  # 1/3 in Q0.31
# exp(-2**n) in Q0.31 for n from -2 on.
_EXP_OF_POWERS: Final = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
# 48/17 and -32/17 in Q2.29: the best line to begin Newton's iteration for 1/x on [1/2, 1] with.
_LINE: Final = (1515870810, -1010580540)
_ONE_Q2: Final = 1 << 29


def exp(x: Integers, integer_bits: int) -> Integers:
    """exp(x) in Q0.31 for `x` <= 0 in Q(integer_bits)."""
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    part = (x & (quarter - 1)) - quarter
    y = _exp_of_quarter(shift_left(part, integer_bits))
    rest = part - x
    for power, factor in enumerate(_EXP_OF_POWERS, start=-2):
        if power < integer_bits:
            y = np.where(rest & (1 << (fraction_bits + power)), high_multiply(y, factor), y)
    return np.where(x == 0, INT32_MAX, y)


def _exp_of_quarter(x: Integers) -> Integers:
    """exp(x) for x in [-1/4, 0), Q0.31: Taylor's polynomial of degree 4 about -1/8."""
    x = x + (1 << 28)
    square = high_multiply(x, x)
    cube, fourth = high_multiply(square, x), high_multiply(square, square)
    tail = high_multiply(shift_right(fourth, 2) + cube, _THIRD)
    return _EXP_OF_MINUS_EIGHTH + high_multiply(x + shift_right(tail + square, 1), _EXP_OF_MINUS_EIGHTH)


def _inverse_of_half_sum(x: Integers) -> Integers:
    """2 / (1 + x) in Q2.29 for x in [0, 1], Q0.31: three of Newton's iterations."""
    half = (x + INT32_MAX + 1) >> 1
    y = _LINE[0] + high_multiply(half, _LINE[1])
    for _ in range(3):
        y = y + shift_left(high_multiply(y, _ONE_Q2 - high_multiply(half, y)), 2)
    return y


def inverse_of_one_plus(x: Integers) -> Integers:
    """1 / (1 + x) in Q0.31 for x in [0, 1], Q0.31."""
    return shift_left(_inverse_of_half_sum(x), 1)


def tanh(x: Integers) -> Integers:
    """tanh(x) in Q0.31 for x in Q4.27."""
    # (1 - e) / (1 + e) = 2 / (1 + e) - 1 for e = exp(-2 |x|); twice x in Q4 has the same bits as x in Q5.
    size = shift_left(_inverse_of_half_sum(exp(-np.abs(x), 5)) - _ONE_Q2, 2)
    return np.where(x == 0, 0, np.where(x < 0, -size, size))


def logistic(x: Integers) -> Integers:
    """1 / (1 + exp(-x)) in Q0.31 for x in Q4.27."""
    above = inverse_of_one_plus(exp(-np.abs(x), 4))
    return np.where(x == 0, 1 << 30, np.where(x > 0, above, INT32_MAX - above))
