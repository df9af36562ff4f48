/** @file
 * What every form of FULLY_CONNECTED does with an accumulator. */
#ifndef TSK_FC_H
#define TSK_FC_H

#include "tsk_kernels.h"
#include "tsk_math.h"

/** The value of output `o` from its accumulator, bias included. */
static inline int8_t tsk_fc_s8_finish(const tsk_fc_s8_t *p, int32_t o, int32_t accumulator) {
    const int32_t channel = p->channels ? o : 0;
#if TSK_ROUNDING == TSK_ROUNDING_SINGLE
    const int32_t scaled = tsk_scale_single(accumulator, p->scale[channel]);
#else
    const int32_t scaled = tsk_scale(accumulator, p->multiplier[channel], p->shift[channel]);
#endif
    const int8_t y = (int8_t)tsk_finish(scaled, p->out_zero, p->min, p->max);
    return p->lut ? p->lut[(uint8_t)y] : y;
}

#endif
