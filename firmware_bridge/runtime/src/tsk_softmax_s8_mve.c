/* SOFTMAX on int8 with Helium: exponentials are gathered four at a time. */
#include "tsk_mve.h"

#if TSK_KERNELS == TSK_KERNELS_MVE

#include "tsk_softmax.h"

/** The largest of `columns` values. */
static int32_t find_max(const int8_t *x, int32_t columns) {
    int8_t max = INT8_MIN;
    for (int32_t left = columns; left > 0; left -= 16, x += 16) {
        const mve_pred16_t lanes = tsk_mve_lanes_s8(left);
        max = vmaxvq_p_s8(max, vldrbq_z_s8(x, lanes), lanes);
    }
    return max;
}

/** Exponentials of four values, 0 outside `lanes`. */
static inline int32x4_t look_up(const int32_t *exponents, int32_t max, const int8_t *x, mve_pred16_t lanes) {
    const int32x4_t difference = vsubq_s32(vdupq_n_s32(max), vldrbq_z_s32(x, lanes));
    return vldrwq_gather_shifted_offset_z_s32(exponents, vreinterpretq_u32_s32(difference), lanes);
}

void tsk_softmax_s8_mve(const tsk_softmax_s8_t *p, const int8_t *x, int8_t *y, int32_t rows) {
    const int32_t columns = p->columns;
    const int32_t *const exponents = p->exponents;
    for (int32_t r = 0; r < rows; r++, x += columns, y += columns) {
        const int32_t max = find_max(x, columns);
        int32_t sum = 0;
        for (int32_t c = 0; c < columns; c += 4) {
            const int32x4_t power = look_up(exponents, max, x + c, tsk_mve_lanes_s32(columns - c));
            sum = vaddvaq_s32(sum, vrshrq_n_s32(power, TSK_SOFTMAX_SUM_BITS));
        }
        int32_t shift;
        const int32_t scale = tsk_softmax_scale(sum, &shift);
        for (int32_t c = 0; c < columns; c += 4) {
            const mve_pred16_t lanes = tsk_mve_lanes_s32(columns - c);
            /* Nothing here is negative, so VRSHL rounds as TensorFlow Lite does. */
            const int32x4_t product = vqrdmulhq_n_s32(look_up(exponents, max, x + c, lanes), scale);
            const int32x4_t share = vaddq_n_s32(vrshlq_n_s32(product, -shift), -128);
            vstrbq_p_s32(y + c, vminq_s32(share, vdupq_n_s32(127)), lanes);
        }
    }
}

#endif
