/* Any function of one int8 with Helium: sixteen values are gathered at once. */
#include "tsk_mve.h"

#if TSK_KERNELS == TSK_KERNELS_MVE

void tsk_lut_s8_mve(const tsk_lut_s8_t *p, const int8_t *x, int8_t *y, int32_t rows) {
    for (int32_t left = rows * p->columns; left > 0; left -= 16, x += 16, y += 16) {
        const mve_pred16_t lanes = tsk_mve_lanes_s8(left);
        const uint8x16_t index = vreinterpretq_u8_s8(vldrbq_z_s8(x, lanes));
        vstrbq_p_s8(y, vldrbq_gather_offset_z_s8(p->lut, index, lanes), lanes);
    }
}

#endif
