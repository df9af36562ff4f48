/* FULLY_CONNECTED on int8 with the DSP extension. */
#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

void tsk_fc_s8_dsp(const tsk_fc_s8_t *p, const int8_t *x, int8_t *y, int32_t rows, void *scratch) {
    int32_t *const panel = scratch;
    const tsk_dsp_product_t product = {
        .weights = p->weights,
        .bias = p->bias,
        .multiplier = p->multiplier,
        .shift = p->shift,
        .scale = p->scale,
        .lut = p->lut,
        .weights_row = p->in,
        .k = p->in,
        .columns = p->out,
        .channels = p->channels,
        .out_zero = p->out_zero,
        .min = p->min,
        .max = p->max,
        .y_row = p->out,
        .y_column = 1,
    };
    while (rows > 0) {
        const int32_t count = tsk_dsp_panel_rows(rows);
        tsk_dsp_pack(x, p->in, 1, 0, count, p->in, panel);
        tsk_dsp_product(&product, panel, count, NULL, y);
        x += count * p->in;
        y += count * p->out;
        rows -= count;
    }
}

#endif
