/* RSQRT on int16, as TensorFlow Lite Micro does it: Newton's iteration, in fixed point. */
#include "tsk_kernels.h"
#include "tsk_math.h"

/** 1 / sqrt(x) in Q11.20, for x from 1 to 32767. */
static int32_t inverse_root(int32_t x) {
    if (x == 1) {
        return 1 << 20;
    }
    /* In Q3.28: z = x 4^pairs / 2 is 1/4 to 1, `half` is z / 2, and y = 3/2 y - half y^3 goes to 1 / sqrt(z). */
    const int32_t pairs = (tsk_leading_zeros((uint32_t)x) - 1) / 2 - 1;
    const int32_t half = x << (2 * pairs - 2);
    int32_t y = 1 << 28;
    for (int32_t step = 0; step < 5; step++) {
        const int32_t cube = tsk_high_mul(tsk_high_mul(y, y), y) * 64;
        y = (tsk_high_mul(y, 3 << 27) - tsk_high_mul(half, cube)) * 8;
    }
    y = tsk_high_mul(y, 1518500250); /* sqrt(1/2) */
    return pairs > 11 ? tsk_high_mul(1 << 20, y << (pairs - 11)) : tsk_high_mul(1 << (9 + pairs), y);
}

void tsk_rsqrt_s16_plain(const tsk_rsqrt_s16_t *p, const int16_t *x, int16_t *y, int32_t rows) {
    for (int32_t n = 0; n < rows * p->columns; n++) {
        int32_t root = 32767;
        if (x[n] > 0) {
            root = tsk_clamp(tsk_scale(inverse_root(x[n]), p->multiplier, p->shift), 0, 32767);
        }
        y[n] = (int16_t)root;
    }
}
