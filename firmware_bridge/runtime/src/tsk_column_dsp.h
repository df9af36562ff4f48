/** @file
 * Private to the DSP forms: columns of weights against a panel of rows, in assembler. */
#ifndef TSK_COLUMN_DSP_H
#define TSK_COLUMN_DSP_H

#include "tsk_kernels.h"

/** Groups of four weights that the assembler's loop has in a turn. */
#define TSK_DSP_UNROLLED 8

/** What the columns need besides weights and panel. The assembler knows the places of the fields, and moves `y`,
 * `channel`, `columns` and `bias` on. */
typedef struct {
    int32_t y_row, out_zero;
    const int32_t *multiplier;
    const int8_t *shift;
    int8_t *y;             /**< of this column, for the first row */
    int32_t channel;       /**< of `multiplier` and `shift` */
    int32_t columns;       /**< that are left, this one within */
    const int32_t *bias;   /**< where the next column's sums begin; NULL: `first` */
    int32_t y_column;
    int32_t channels;      /**< 1: a channel for each column, 0: one for all */
    const int32_t *first;  /**< [TSK_ROWS], where every column's sums begin */
    int32_t skip;          /**< bytes from the end of a column to the next */
    int32_t jump;          /**< groups that the loop's first turn leaves out */
    const int32_t *end;    /**< of the panel */
    int32_t sum[TSK_ROWS]; /**< of a column that is not stored */
} tsk_dsp_columns_t;

/** All columns for `rows` rows, which are 6, 2 or 1: sums are requantised, saturated to int8 and stored at
 * y[r * y_row]. It stops before a column is stored whose multiplier is below 2^30, or whose shift is not to the right,
 * and leaves its sums in `sum`; otherwise `columns` becomes 0. `weights` are at any address, and a group may go on
 * behind a column's end; `panel` is what tsk_dsp_pack makes.
 * @return the weights of the next column. It takes 56 bytes of stack, which -fstack-usage does not see. */
const int8_t *tsk_dsp_columns(const int8_t *weights, const int32_t *panel, tsk_dsp_columns_t *t, int32_t rows);

#endif
