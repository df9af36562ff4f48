/* SOFTMAX on int8. The exponential of a difference is a table, so what is left is a sum and one reciprocal a row. */
#include "tsk_softmax.h"

#include "tsk_kernels.h"

void tsk_softmax_s8_plain(const tsk_softmax_s8_t *p, const int8_t *x, int8_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, x += p->columns, y += p->columns) {
        int32_t max = x[0];
        for (int32_t c = 1; c < p->columns; c++) {
            max = x[c] > max ? x[c] : max;
        }
        int32_t sum = 0;
        for (int32_t c = 0; c < p->columns; c++) {
            sum += tsk_divide_pot(p->exponents[max - x[c]], TSK_SOFTMAX_SUM_BITS);
        }
        int32_t shift;
        const int32_t scale = tsk_softmax_scale(sum, &shift);
        for (int32_t c = 0; c < p->columns; c++) {
            const int32_t share = tsk_divide_pot(tsk_high_mul(scale, p->exponents[max - x[c]]), shift);
            y[c] = (int8_t)tsk_clamp(share - 128, -128, 127);
        }
    }
}
