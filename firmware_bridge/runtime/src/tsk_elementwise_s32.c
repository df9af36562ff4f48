/* Operators on two int32 operands, element by element: ids and positions. */
#include "tsk_kernels.h"
#include "tsk_math.h"

void tsk_add_s32_plain(const tsk_add_s32_t *p, const int32_t *a, const int32_t *b, int32_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, a += p->a_row, b += p->b_row) {
        const int32_t *left = a, *right = b;
        for (int32_t c = 0; c < p->columns; c++, left += p->a_column, right += p->b_column) {
            *y++ = tsk_add_wrap(*left, *right);
        }
    }
}

void tsk_extremum_s32_plain(const tsk_extremum_s32_t *p, const int32_t *a, const int32_t *b, int32_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, a += p->a_row, b += p->b_row) {
        const int32_t *left = a, *right = b;
        for (int32_t c = 0; c < p->columns; c++, left += p->a_column, right += p->b_column) {
            *y++ = (*left > *right) == (p->maximum != 0) ? *left : *right;
        }
    }
}
