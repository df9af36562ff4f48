/** @file
 * The reciprocal that SOFTMAX needs; every form of it is the same. */
#ifndef TSK_SOFTMAX_H
#define TSK_SOFTMAX_H

#include "tsk_math.h"

/** Bits that the sum of exponentials has before its point: Q12.19. */
#define TSK_SOFTMAX_SUM_BITS 12

/** 1 / (1 + a) for a in [0, 1), all in Q0.31: gemmlowp's three Newton steps from 48/17 - 32/17 d, d = (1 + a) / 2.
 * x and its corrections are in Q2.29. */
static inline int32_t tsk_reciprocal(int32_t a) {
    const int32_t half = (int32_t)(((uint32_t)a + UINT32_C(0x80000000)) >> 1);
    int32_t x = 1515870810 + tsk_high_mul(half, -1010580540);
    for (int32_t step = 0; step < 3; step++) {
        const int32_t error = (1 << 29) - tsk_high_mul(half, x);
        x += tsk_high_mul(x, error) * 4;
    }
    return x >= 1 << 30 ? INT32_MAX : x * 2;
}

/** What a row's exponentials are multiplied by, from their sum in Q12.19, which is not 0; then `*shift` to the right
 * makes them multiples of 1/256. */
static inline int32_t tsk_softmax_scale(int32_t sum, int32_t *shift) {
    const int32_t zeros = tsk_leading_zeros((uint32_t)sum);
    *shift = TSK_SOFTMAX_SUM_BITS - zeros + 31 - 8;
    if (*shift > 31) {
        *shift = 31;
        return 0; /* no share reaches half of 1/256; TensorFlow Lite stops here */
    }
    return tsk_reciprocal((int32_t)(((uint32_t)sum << zeros) - UINT32_C(0x80000000)));
}

#endif
