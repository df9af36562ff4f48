/** @file
 * Private to the DSP forms: one column of weights against a panel of rows, in assembler. */
#ifndef TSK_COLUMN_DSP_H
#define TSK_COLUMN_DSP_H

#include "tsk_kernels.h"

/** What a column needs besides its weights and the panel. The assembler knows the places of the fields. */
typedef struct {
    int32_t groups;        /**< of four weights */
    int32_t sum[TSK_ROWS]; /**< where the sums begin; where they are left if `multiplier` is 0 */
    int32_t multiplier;    /**< 0, or: requantise, saturate to int8, and store at y[r * y_row] */
    int32_t addend;        /**< out_zero and one half, both shifted to the left by `shift` */
    int32_t shift;         /**< to the right, 1 to 20 */
    int8_t *y;
    int32_t y_row;
} tsk_dsp_column_t;

/* For six rows, two, or one. `weights` are 4 * groups bytes at any address, `panel` is what tsk_dsp_pack makes. Each
 * takes 48 bytes of stack, which -fstack-usage does not see. */
void tsk_dsp_column_by_six(const int8_t *weights, const int32_t *panel, tsk_dsp_column_t *t);
void tsk_dsp_column_by_two(const int8_t *weights, const int32_t *panel, tsk_dsp_column_t *t);
void tsk_dsp_column_by_one(const int8_t *weights, const int32_t *panel, tsk_dsp_column_t *t);

#endif
