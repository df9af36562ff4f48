/* FULLY_CONNECTED. */
#include "tsk_kernels.h"
#include "tsk_math.h"

/** The value of output `o` from its accumulator, bias included. */
static int8_t finish_s8(const tsk_fc_s8_t *p, int32_t o, int32_t accumulator) {
    const int32_t channel = p->channels ? o : 0;
#if TSK_ROUNDING == TSK_ROUNDING_SINGLE
    const int32_t scaled = tsk_scale_single(accumulator, p->scale[channel]);
#else
    const int32_t scaled = tsk_scale(accumulator, p->multiplier[channel], p->shift[channel]);
#endif
    const int8_t y = (int8_t)tsk_finish(scaled, p->out_zero, p->min, p->max);
    return p->lut ? p->lut[(uint8_t)y] : y;
}

void tsk_fc_s8_plain(const tsk_fc_s8_t *p, const int8_t *x, int8_t *y, int32_t rows, void *scratch) {
    (void)scratch;
    for (int32_t r = 0; r < rows; r++, x += p->in) {
        const int8_t *w = p->weights;
        for (int32_t o = 0; o < p->out; o++) {
            int32_t sum = p->bias[o];
            for (int32_t i = 0; i < p->in; i++) {
                sum += *w++ * x[i];
            }
            *y++ = finish_s8(p, o, sum);
        }
    }
}

/** The value of output `o` from its accumulator, bias included. */
static int16_t finish_s16(const tsk_fc_s16_t *p, int32_t o, int64_t accumulator) {
    const int32_t channel = p->channels ? o : 0;
#if TSK_ROUNDING == TSK_ROUNDING_SINGLE
    const int32_t scaled = tsk_scale_single((double)accumulator, p->scale[channel]);
#else
    const int32_t scaled = p->narrow
                               ? tsk_scale((int32_t)accumulator, p->multiplier[channel], p->shift[channel])
                               : tsk_scale_wide(accumulator, p->multiplier[channel], p->shift[channel]);
#endif
    return (int16_t)tsk_clamp(scaled, p->min, p->max);
}

void tsk_fc_s16_plain(const tsk_fc_s16_t *p, const int16_t *x, int16_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, x += p->in) {
        const int8_t *w = p->weights;
        for (int32_t o = 0; o < p->out; o++) {
            int64_t sum = p->bias ? p->bias[o] : 0;
            for (int32_t i = 0; i < p->in; i++) {
                sum += *w++ * x[i];
            }
            *y++ = finish_s16(p, o, sum);
        }
    }
}
