/* MEAN, SUM and REDUCE_MAX on int8 with Helium. */
#include "tsk_mve.h"

#if TSK_KERNELS == TSK_KERNELS_MVE

/** The outputs from four sums. */
static inline int32x4_t finish(const tsk_reduce_s8_t *p, int32x4_t sum) {
    const int32x4_t value = vsubq_n_s32(sum, p->in_zero * p->count);
    const int32x4_t scaled = tsk_mve_scale(value, vdupq_n_s32(p->multiplier), vdupq_n_s32(p->shift));
    return tsk_mve_finish(scaled, p->out_zero, p->min, p->max);
}

/** The sums of four lines next to each other, whose values are `inner` apart. */
static inline int32x4_t sum_four(const int8_t *x, int32_t count, int32_t inner, mve_pred16_t lanes) {
    int32x4_t sum = vdupq_n_s32(0);
    for (; count > 0; count--, x += inner) {
        sum = vaddq_s32(sum, vldrbq_z_s32(x, lanes));
    }
    return sum;
}

void tsk_reduce_s8_mve(const tsk_reduce_s8_t *p, const int8_t *x, int8_t *y, int32_t rows) {
    const int32_t count = p->count, inner = p->inner;
    if (p->kind == 2) {
        tsk_reduce_s8_plain(p, x, y, rows);
        return;
    }
    if (inner == 1) {
        /* Rows are lines: four of them fill a vector. */
        for (int32_t r = 0; r < rows; r += 4) {
            int32_t sum[4] = {0};
            for (int32_t i = 0; i < 4 && r + i < rows; i++, x += count) {
                sum[i] = tsk_mve_sum(x, count);
            }
            vstrbq_p_s32(y + r, finish(p, vldrwq_s32(sum)), tsk_mve_lanes_s32(rows - r));
        }
        return;
    }
    for (int32_t r = 0; r < rows; r++, x += count * inner, y += inner) {
        for (int32_t i = 0; i < inner; i += 4) {
            const mve_pred16_t lanes = tsk_mve_lanes_s32(inner - i);
            vstrbq_p_s32(y + i, finish(p, sum_four(x + i, count, inner, lanes)), lanes);
        }
    }
}

#endif
