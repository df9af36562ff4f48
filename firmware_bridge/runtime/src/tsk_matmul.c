/* BATCH_MATMUL. */
#include "tsk_kernels.h"
#include "tsk_math.h"

void tsk_matmul_s8_plain(const tsk_matmul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, void *scratch) {
    (void)scratch;
    for (int32_t batch = 0; batch < p->batch[0] * p->batch[1]; batch++) {
        const int32_t u = batch / p->batch[1], v = batch % p->batch[1];
        const int8_t *a_row = a + u * p->a_batch[0] + v * p->a_batch[1];
        const int8_t *b_first = b + u * p->b_batch[0] + v * p->b_batch[1];
        int8_t *y_row = y + u * p->y_batch[0] + v * p->y_batch[1];
        for (int32_t i = 0; i < p->m; i++, a_row += p->a_row, y_row += p->y_row) {
            const int8_t *b_column = b_first;
            int8_t *out = y_row;
            for (int32_t j = 0; j < p->n; j++, b_column += p->b_column, out += p->y_column) {
                const int8_t *left = a_row, *right = b_column;
                int32_t sum = 0;
                for (int32_t l = 0; l < p->k; l++, left += p->a_column, right += p->b_row) {
                    sum += (*left - p->a_zero) * (*right - p->b_zero);
                }
                const int32_t scaled = tsk_scale(sum, p->multiplier, p->shift);
                const int8_t value = (int8_t)tsk_finish(scaled, p->out_zero, p->min, p->max);
                *out = p->lut ? p->lut[(uint8_t)value] : value;
            }
        }
    }
}

void tsk_matmul_s16_plain(const tsk_matmul_s16_t *p, const int16_t *a, const int16_t *b, int16_t *y) {
    for (int32_t batch = 0; batch < p->batch[0] * p->batch[1]; batch++) {
        const int32_t u = batch / p->batch[1], v = batch % p->batch[1];
        const int16_t *a_row = a + u * p->a_batch[0] + v * p->a_batch[1];
        const int16_t *b_first = b + u * p->b_batch[0] + v * p->b_batch[1];
        int16_t *y_row = y + u * p->y_batch[0] + v * p->y_batch[1];
        for (int32_t i = 0; i < p->m; i++, a_row += p->a_row, y_row += p->y_row) {
            const int16_t *b_column = b_first;
            int16_t *out = y_row;
            for (int32_t j = 0; j < p->n; j++, b_column += p->b_column, out += p->y_column) {
                const int16_t *left = a_row, *right = b_column;
                int64_t sum = 0;
                for (int32_t l = 0; l < p->k; l++, left += p->a_column, right += p->b_row) {
                    sum += *left * *right;
                }
                *out = (int16_t)tsk_clamp(tsk_scale_wide(sum, p->multiplier, p->shift), p->min, p->max);
            }
        }
    }
}
