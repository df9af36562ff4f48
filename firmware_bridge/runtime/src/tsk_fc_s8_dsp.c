/* FULLY_CONNECTED on int8 with the DSP extension. */
#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

void tsk_fc_s8_dsp(const tsk_fc_s8_t *p, const int8_t *x, int8_t *y, int32_t rows, void *scratch) {
    /* Makes the assembler leave every column to C. */
    static const int32_t no_multiplier = 0;
    int32_t *const panel = scratch;
    tsk_dsp_product_t product;
    product.weights = p->weights;
    product.bias = p->bias;
    product.scale = p->scale;
    product.lut = p->lut;
    product.weights_row = p->in;
    product.k = p->in;
    product.min = p->min;
    product.max = p->max;
    product.count = p->out;
    product.channels = p->channels;
    product.columns.y_row = p->out;
    product.columns.out_zero = p->out_zero;
    product.columns.multiplier = p->scale ? &no_multiplier : p->multiplier;
    product.columns.shift = p->shift;
    product.columns.y_column = 1;
    product.columns.channels = p->scale ? 0 : p->channels;
    while (rows > 0) {
        const int32_t count = tsk_dsp_panel_rows(rows);
        tsk_dsp_pack(x, p->in, 1, 0, count, p->in, panel);
        tsk_dsp_product(&product, panel, count, y);
        x += count * p->in;
        y += count * p->out;
        rows -= count;
    }
}

#endif
