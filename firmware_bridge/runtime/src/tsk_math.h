/** @file
 * Fixed-point arithmetic, to the bit as TensorFlow Lite does it (gemmlowp's definitions, in closed form). */
#ifndef TSK_MATH_H
#define TSK_MATH_H

#include <stdint.h>

#include "tsk_config.h"

#if (-1 >> 1) != -1
#error "the kernels need a compiler that shifts negative numbers arithmetically; gcc and clang do"
#endif

/** a + b modulo 2^32: where the accumulator's range is proven it is the sum, and it is never undefined. */
static inline int32_t tsk_add_wrap(int32_t a, int32_t b) {
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

static inline int32_t tsk_clamp(int32_t x, int32_t min, int32_t max) {
    x = x < min ? min : x;
    return x > max ? max : x;
}

/** round(a * b / 2^31), halves up: gemmlowp's SaturatingRoundingDoublingHighMul. Not both may be INT32_MIN. */
static inline int32_t tsk_high_mul(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b + (INT64_C(1) << 30)) >> 31);
}

/** round(x / 2^exponent), halves away from 0: gemmlowp's RoundingDivideByPOT. `exponent` is 0 to 31. */
static inline int32_t tsk_divide_pot(int32_t x, int32_t exponent) {
    const int32_t mask = (int32_t)((UINT32_C(1) << exponent) - 1);
    const int32_t threshold = (mask >> 1) + (x < 0);
    return (x >> exponent) + ((x & mask) > threshold);
}

/** x * multiplier / 2^31 * 2^shift, rounded twice: TensorFlow Lite's MultiplyByQuantizedMultiplier.
 * `multiplier` is not negative, `shift` is -31 to 31; bits that a shift to the left pushes out are lost. */
static inline int32_t tsk_scale(int32_t x, int32_t multiplier, int32_t shift) {
    const int32_t left = shift > 0 ? shift : 0;
    return tsk_divide_pot(tsk_high_mul((int32_t)((uint32_t)x << left), multiplier), left - shift);
}

/** The same for an int64 below 2^47: one rounding, but only 15 bits of the multiplier. `shift` is -31 to 7. */
static inline int32_t tsk_scale_wide(int64_t x, int32_t multiplier, int32_t shift) {
    const int32_t reduced = multiplier < 0x7FFF0000 ? (multiplier + (1 << 15)) >> 16 : 0x7FFF;
    const int32_t total = 15 - shift;
    return (int32_t)((x * reduced + (INT64_C(1) << (total - 1))) >> total);
}

/** round(x * scale), halves away from 0, at most INT32_MAX: LiteRT's reference FULLY_CONNECTED, without libm. */
static inline int32_t tsk_scale_single(double x, double scale) {
    const double product = x * scale;
    if (product >= 2147483647.0) {
        return INT32_MAX;
    }
    if (product <= -2147483648.0) {
        return INT32_MIN;
    }
    const int32_t whole = (int32_t)product;
    const double rest = product - whole;
    return whole + (rest >= 0.5) - (rest <= -0.5);
}

/** clamp(x + zero, min, max). */
static inline int32_t tsk_finish(int32_t x, int32_t zero, int32_t min, int32_t max) {
    return tsk_clamp(tsk_add_wrap(x, zero), min, max);
}

/** Zero bits before the first one of x, which is not 0. */
static inline int32_t tsk_leading_zeros(uint32_t x) {
#if defined(__GNUC__)
    return __builtin_clz(x);
#else
    int32_t zeros = 0;
    while (!(x & UINT32_C(0x80000000))) {
        x <<= 1;
        zeros++;
    }
    return zeros;
#endif
}

#endif
