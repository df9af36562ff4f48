/* BATCH_MATMUL on int8 with Helium: columns of b take the place of weights. With zero points p and q,
 * sum (a - p)(b - q) = sum a b - p sum b - q sum a + k p q: the first is the product, the second is known for each
 * column, the rest for each row. */
#include "tsk_mve.h"

#if TSK_KERNELS == TSK_KERNELS_MVE

/** lines[i][l] = x[i * x_row + l * x_column], for `rows` lines of k. */
static void make_dense(const int8_t *x, int32_t x_row, int32_t x_column, int32_t rows, int32_t k, int8_t *lines) {
    for (int32_t i = 0; i < rows; i++, x += x_row) {
        const int8_t *from = x;
        for (int32_t l = 0; l < k; l++, from += x_column) {
            *lines++ = *from;
        }
    }
}

/** One pair of matrices. Scratch: int32 bias[n], columns of b if it must be transposed, rows of a likewise. */
static void multiply(const tsk_matmul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, void *scratch) {
    int32_t *const bias = scratch;
    int8_t *free = (int8_t *)(bias + p->n);
    const int8_t shift = (int8_t)p->shift;
    tsk_mve_product_t product = {
        .weights = b,
        .bias = bias,
        .multiplier = &p->multiplier,
        .shift = &shift,
        .scale = NULL,
        .lut = p->lut,
        .weights_row = p->b_column,
        .a_row = p->a_row,
        .k = p->k,
        .columns = p->n,
        .channels = 0,
        .out_zero = p->out_zero,
        .min = p->min,
        .max = p->max,
        .y_row = p->y_row,
        .y_column = p->y_column,
    };
    if (p->b_row != 1) {
        make_dense(b, p->b_column, p->b_row, p->n, p->k, free);
        product.weights = free;
        product.weights_row = p->k;
        free += p->n * p->k;
    }
    for (int32_t j = 0; j < p->n; j++) {
        bias[j] = -p->a_zero * tsk_mve_sum(product.weights + j * product.weights_row, p->k);
    }
    for (int32_t rows = p->m; rows > 0;) {
        const int32_t count = rows < TSK_MVE_ROWS ? rows : TSK_MVE_ROWS;
        const int8_t *line = a;
        if (p->a_column != 1) {
            make_dense(a, p->a_row, p->a_column, count, p->k, free);
            product.a_row = p->k;
            line = free;
        }
        int32_t first[TSK_MVE_ROWS];
        for (int32_t r = 0; r < count; r++) {
            first[r] = p->b_zero * (p->k * p->a_zero - tsk_mve_sum(line + r * product.a_row, p->k));
        }
        tsk_mve_product(&product, line, count, first, y);
        a += count * p->a_row;
        y += count * p->y_row;
        rows -= count;
    }
}

void tsk_matmul_s8_mve(const tsk_matmul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, void *scratch) {
    for (int32_t u = 0; u < p->batch[0]; u++) {
        for (int32_t v = 0; v < p->batch[1]; v++) {
            multiply(p, a + u * p->a_batch[0] + v * p->a_batch[1], b + u * p->b_batch[0] + v * p->b_batch[1],
                     y + u * p->y_batch[0] + v * p->y_batch[1], scratch);
        }
    }
}

#endif
