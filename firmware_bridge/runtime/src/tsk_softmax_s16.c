/* SOFTMAX on int16. */
#include "tsk_interpolate.h"
#include "tsk_kernels.h"
#include "tsk_math.h"

void tsk_softmax_s16_plain(const tsk_softmax_s16_t *p, const int16_t *x, int16_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, x += p->columns, y += p->columns) {
        int32_t max = x[0];
        for (int32_t c = 1; c < p->columns; c++) {
            max = x[c] > max ? x[c] : max;
        }
        int32_t sum = 0; /* Q16.15 */
        for (int32_t c = 0; c < p->columns; c++) {
            const int32_t scaled = tsk_scale(x[c] - max, p->multiplier, p->shift);
            y[c] = (int16_t)tsk_interpolate(p->exp_lut, tsk_finish(scaled, 32767, -32768, 32767));
            sum += y[c];
        }
        /* sum = 2^(16 - zeros) (1 + f); the table has 1 / (1 + f), f in 65536 steps about 0 */
        const int32_t zeros = tsk_leading_zeros((uint32_t)sum);
        const int32_t fraction = (int32_t)((((int64_t)sum << (zeros - 1)) + (1 << 13)) >> 14) - (1 << 16) - (1 << 15);
        const int32_t scale = tsk_interpolate(p->reciprocal_lut, tsk_clamp(fraction, -32768, 32767));
        const int32_t shift = 31 - zeros;
        for (int32_t c = 0; c < p->columns; c++) {
            y[c] = (int16_t)tsk_clamp((y[c] * scale + (1 << (shift - 1))) >> shift, 0, 32767);
        }
    }
}
