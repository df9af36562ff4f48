/* FULLY_CONNECTED on int8 with Helium. */
#include "tsk_mve.h"

#if TSK_KERNELS == TSK_KERNELS_MVE

void tsk_fc_s8_mve(const tsk_fc_s8_t *p, const int8_t *x, int8_t *y, int32_t rows, void *scratch) {
    static const int32_t none[TSK_MVE_ROWS] = {0};
    const tsk_mve_product_t product = {
        .weights = p->weights,
        .bias = p->bias,
        .multiplier = p->multiplier,
        .shift = p->shift,
        .scale = p->scale,
        .lut = p->lut,
        .weights_row = p->in,
        .a_row = p->in,
        .k = p->in,
        .columns = p->out,
        .channels = p->channels,
        .out_zero = p->out_zero,
        .min = p->min,
        .max = p->max,
        .y_row = p->out,
        .y_column = 1,
    };
    (void)scratch;
    while (rows > 0) {
        const int32_t count = rows < TSK_MVE_ROWS ? rows : TSK_MVE_ROWS;
        tsk_mve_product(&product, x, count, none, y);
        x += count * p->in;
        y += count * p->out;
        rows -= count;
    }
}

#endif
