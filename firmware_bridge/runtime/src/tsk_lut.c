/* Functions of one value by a table: any of one int8, smooth ones of one int16. */
#include "tsk_interpolate.h"
#include "tsk_kernels.h"

void tsk_lut_s8_plain(const tsk_lut_s8_t *p, const int8_t *x, int8_t *y, int32_t rows) {
    for (const int8_t *end = x + rows * p->columns; x < end; x++) {
        *y++ = p->lut[(uint8_t)*x];
    }
}

void tsk_lut_s16_plain(const tsk_lut_s16_t *p, const int16_t *x, int16_t *y, int32_t rows) {
    for (const int16_t *end = x + rows * p->columns; x < end; x++) {
        *y++ = (int16_t)tsk_interpolate(p->lut, *x);
    }
}
