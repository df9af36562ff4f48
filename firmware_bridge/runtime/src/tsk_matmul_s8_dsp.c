/* BATCH_MATMUL on int8 with the DSP extension: columns of b take the place of weights. With a' = a - a_zero,
 * sum a' * (b - b_zero) = sum a' * b - b_zero * sum a'. */
#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

/** b(l, j) to columns[j][l]. */
static void transpose(const tsk_matmul_s8_t *p, const int8_t *b, int8_t *columns) {
    for (int32_t j = 0; j < p->n; j++, b += p->b_column) {
        const int8_t *from = b;
        for (int32_t l = 0; l < p->k; l++, from += p->b_row) {
            *columns++ = *from;
        }
    }
}

/** -b_zero * sum_l a'(r, l) for the rows of a panel. */
static void sum_rows(const int32_t *panel, int32_t rows, int32_t k, int32_t b_zero, int32_t *sum) {
    for (int32_t r = 0; r < rows; r++) {
        int32_t total = 0;
        for (int32_t l = 0; l < k; l += 4) {
            const int32_t *const group = panel + (l / 4 * rows + r) * 2;
            total = tsk_dsp_multiply_add(group[0], 0x00010001, total);
            total = tsk_dsp_multiply_add(group[1], 0x00010001, total);
        }
        sum[r] = -b_zero * total;
    }
}

/** One pair of matrices. */
static void multiply(const tsk_matmul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, void *scratch) {
    int32_t *const panel = scratch;
    int32_t first[TSK_ROWS] = {0, 0, 0, 0, 0, 0};
    const int8_t shift = (int8_t)p->shift;
    tsk_dsp_product_t product;
    product.weights = b;
    product.bias = NULL;
    product.first = first;
    product.scale = NULL;
    product.lut = p->lut;
    product.weights_row = p->b_column;
    product.k = p->k;
    product.min = p->min;
    product.max = p->max;
    product.count = p->n;
    product.channels = 0;
    product.columns.y_row = p->y_row;
    product.columns.out_zero = p->out_zero;
    product.columns.multiplier = &p->multiplier;
    product.columns.shift = &shift;
    product.columns.y_column = p->y_column;
    product.columns.channels = 0;
    if (p->b_row != 1) {
        int8_t *const columns = (int8_t *)scratch + 2 * TSK_ROWS * ((p->k + 3) / 4 * 4);
        transpose(p, b, columns);
        product.weights = columns;
        product.weights_row = p->k;
    }
    for (int32_t rows = p->m; rows > 0;) {
        const int32_t count = tsk_dsp_panel_rows(rows);
        tsk_dsp_pack(a, p->a_row, p->a_column, p->a_zero, count, p->k, panel);
        sum_rows(panel, count, p->k, p->b_zero, first);
        tsk_dsp_product(&product, panel, count, y);
        a += count * p->a_row;
        y += count * p->y_row;
        rows -= count;
    }
}

void tsk_matmul_s8_dsp(const tsk_matmul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, void *scratch) {
    for (int32_t u = 0; u < p->batch[0]; u++) {
        for (int32_t v = 0; v < p->batch[1]; v++) {
            multiply(p, a + u * p->a_batch[0] + v * p->a_batch[1], b + u * p->b_batch[0] + v * p->b_batch[1],
                     y + u * p->y_batch[0] + v * p->y_batch[1], scratch);
        }
    }
}

#endif
