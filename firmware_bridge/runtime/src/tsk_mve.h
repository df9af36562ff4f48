/** @file
 * Private to the Helium forms (Cortex-M55): requantisation in vectors of four int32, and the matrix product that
 * FULLY_CONNECTED and BATCH_MATMUL share. Lanes that a predicate leaves out are neither read nor written. */
#ifndef TSK_MVE_H
#define TSK_MVE_H

#include "tsk_kernels.h"

#if TSK_KERNELS == TSK_KERNELS_MVE

#include <arm_mve.h>

/* Clang 14 makes a tail-predicated loop where it sees VCTP, and reloads vectors that it had spilled inside of it: after
 * the last turn their lanes are 0. It must not see where the predicate comes from. */
#if defined(__clang__)
#define TSK_MVE_HIDE(lanes) __asm__("" : "+r"(lanes))
#else
#define TSK_MVE_HIDE(lanes) (void)(lanes)
#endif

/** The first `left` of four lanes. */
static inline mve_pred16_t tsk_mve_lanes_s32(int32_t left) {
    mve_pred16_t lanes = vctp32q((uint32_t)left);
    TSK_MVE_HIDE(lanes);
    return lanes;
}

/** The first `left` of sixteen lanes. */
static inline mve_pred16_t tsk_mve_lanes_s8(int32_t left) {
    mve_pred16_t lanes = vctp8q((uint32_t)left);
    TSK_MVE_HIDE(lanes);
    return lanes;
}

/** Round(x / 2^-shift), halves away from 0, for shifts of at most 0: VRSHL rounds halves up, so negatives that are
 * shifted at all first lose 1. The same as tsk_divide_pot. */
static inline int32x4_t tsk_mve_divide_pot(int32x4_t x, int32x4_t shift) {
    const int32x4_t less = vshrq_n_s32(vandq_s32(x, shift), 31);
    return vrshlq_s32(vqaddq_s32(x, less), shift);
}

/** tsk_scale in each lane. */
static inline int32x4_t tsk_mve_scale(int32x4_t x, int32x4_t multiplier, int32x4_t shift) {
    const int32x4_t zero = vdupq_n_s32(0);
    const int32x4_t shifted = vshlq_s32(x, vmaxq_s32(shift, zero));
    return tsk_mve_divide_pot(vqrdmulhq_s32(shifted, multiplier), vminq_s32(shift, zero));
}

/** tsk_finish in each lane. */
static inline int32x4_t tsk_mve_finish(int32x4_t x, int32_t zero, int32_t min, int32_t max) {
    return vminq_s32(vmaxq_s32(vaddq_n_s32(x, zero), vdupq_n_s32(min)), vdupq_n_s32(max));
}

/** Offsets of four neighbours that are `step` apart. */
static inline uint32x4_t tsk_mve_places(int32_t step) {
    return vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)step);
}

/** The sum of `count` neighbours. */
static inline int32_t tsk_mve_sum(const int8_t *x, int32_t count) {
    int32_t sum = 0;
    for (; count > 0; count -= 16, x += 16) {
        sum = vaddvaq_s8(sum, vldrbq_z_s8(x, tsk_mve_lanes_s8(count)));
    }
    return sum;
}

/** y(r, o) = lut[clamp(requantise(bias[o] + first[r] + sum_l weights[o * weights_row + l] * a[r * a_row + l])
 * + out_zero)]. */
typedef struct {
    const int8_t *weights;
    const int32_t *bias;
    const int32_t *multiplier; /**< this and the next as in tsk_fc_s8_t */
    const int8_t *shift;
    const double *scale; /**< NULL: `multiplier` with either rounding */
    const int8_t *lut;
    int32_t weights_row, a_row, k, columns, channels;
    int32_t out_zero, min, max, y_row, y_column;
} tsk_mve_product_t;

/** Rows that the product meets at once. */
#define TSK_MVE_ROWS 3

/** The product for 1 to TSK_MVE_ROWS rows. */
void tsk_mve_product(const tsk_mve_product_t *p, const int8_t *a, int32_t rows, const int32_t *first, int8_t *y);

#endif
#endif
