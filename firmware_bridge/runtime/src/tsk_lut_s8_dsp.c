/* Any function of one int8 with the DSP extension: four values a load. */
#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

void tsk_lut_s8_dsp(const tsk_lut_s8_t *p, const int8_t *x, int8_t *y, int32_t rows) {
    const int8_t *const lut = p->lut;
    const int8_t *const end = x + rows * p->columns;
    for (; end - x >= 4; x += 4, y += 4) {
        const uint32_t word = tsk_dsp_load(x);
        y[0] = lut[word & 0xff];
        y[1] = lut[word >> 8 & 0xff];
        y[2] = lut[word >> 16 & 0xff];
        y[3] = lut[word >> 24];
    }
    for (; x < end; x++) {
        *y++ = lut[(uint8_t)*x];
    }
}

#endif
