/* Operators on two int8 operands, element by element. */
#include "tsk_elementwise.h"

void tsk_add_s8_plain(const tsk_add_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, a += p->a_row, b += p->b_row) {
        const int8_t *left = a, *right = b;
        for (int32_t c = 0; c < p->columns; c++, left += p->a_column, right += p->b_column) {
            *y++ = (int8_t)tsk_add_values(p, *left, *right);
        }
    }
}

void tsk_mul_s8_plain(const tsk_mul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, a += p->a_row, b += p->b_row) {
        const int8_t *left = a, *right = b;
        for (int32_t c = 0; c < p->columns; c++, left += p->a_column, right += p->b_column) {
            *y++ = (int8_t)tsk_mul_values(p, *left, *right);
        }
    }
}

void tsk_squared_difference_s8_plain(const tsk_squared_difference_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y,
                                     int32_t rows) {
    for (int32_t r = 0; r < rows; r++, a += p->a_row, b += p->b_row) {
        const int8_t *left = a, *right = b;
        for (int32_t c = 0; c < p->columns; c++, left += p->a_column, right += p->b_column) {
            *y++ = (int8_t)tsk_squared_difference_values(p, *left, *right);
        }
    }
}

void tsk_extremum_s8_plain(const tsk_extremum_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, a += p->a_row, b += p->b_row) {
        const int8_t *left = a, *right = b;
        for (int32_t c = 0; c < p->columns; c++, left += p->a_column, right += p->b_column) {
            *y++ = (*left > *right) == (p->maximum != 0) ? *left : *right;
        }
    }
}
