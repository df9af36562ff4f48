"""Numbers as TensorFlow Lite requantises them: a Q0.31 multiplier and a shift, and two ways to round.

The operations are those of gemmlowp's fixed point on int32 (Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", 2018), here on int64 arrays that hold int32 values.
"""

import math
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Rounding = Literal["tflm", "single"]
Integers = NDArray[np.int64]

INT32_MIN: Final = -(1 << 31)
INT32_MAX: Final = (1 << 31) - 1


def quantize_multiplier(real: float) -> tuple[int, int]:
    """`real` >= 0 as ``multiplier / 2**31 * 2**shift``, multiplier in [2**30, 2**31) or 0; what is below 2**-32 is 0.

    Raises ValueError for a negative or infinite number.
    """
    if not math.isfinite(real) or real < 0:
        raise ValueError(f"a multiplier must be finite and not negative, not {real}")
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def wrap(x: Integers) -> Integers:
    """The low 32 bits as a signed number, which is what an int32 keeps."""
    kept: Integers = x.astype(np.int32).astype(np.int64)
    return kept


def high_multiply(a: Integers, b: Integers | int) -> Integers:
    """``a * b / 2**31`` to the nearest, ties upwards; only -2**31 times itself does not fit and gives 2**31 - 1."""
    high: Integers = np.minimum((a * b + (1 << 30)) >> 31, INT32_MAX)
    return high


def shift_right(x: Integers, exponent: NDArray[Any] | int) -> Integers:
    """``x / 2**exponent`` to the nearest, ties away from zero; `exponent` 0 to 31."""
    exponent = np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    shifted: Integers = (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))
    return shifted


def shift_left(x: Integers, exponent: int) -> Integers:
    """``x * 2**exponent``, held to int32."""
    shifted: Integers = np.clip(x << exponent, INT32_MIN, INT32_MAX)
    return shifted


def multiply(x: Integers, multiplier: NDArray[Any] | int, shift: NDArray[Any] | int) -> Integers:
    """``x * multiplier / 2**31 * 2**shift`` for int32 `x`, rounded twice: after the multiplication and the shift."""
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    return shift_right(high_multiply(wrap(x << left), np.asarray(multiplier, np.int64)), right)


def multiply_wide(x: Integers, multiplier: NDArray[Any] | int, shift: NDArray[Any] | int) -> Integers:
    """The same for `x` of up to 48 bits: the multiplier keeps 16 bits, and there is one rounding, ties upwards."""
    multiplier, shift = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    reduced = np.where(multiplier < 0x7FFF0000, (multiplier + (1 << 15)) >> 16, 0x7FFF)
    total = 15 - shift
    return wrap((x * reduced + (np.int64(1) << (total - 1))) >> total)


def scale(x: Integers, real: NDArray[np.float64] | float) -> Integers:
    """``x * real`` in float64, to the nearest, ties away from zero: the single rounding of LiteRT's reference."""
    return round_away(x.astype(np.float64) * real).astype(np.int64)


def round_away(x: NDArray[Any]) -> NDArray[Any]:
    """To the nearest whole number, ties away from zero, in the type of `x`."""
    whole: NDArray[Any] = np.trunc(x)
    whole += np.copysign((np.abs(x - whole) >= 0.5).astype(x.dtype), x)
    return whole
