/** @file
 * Private to the DSP forms: operators on two operands for a line of values, in assembler. */
#ifndef TSK_LINE_DSP_H
#define TSK_LINE_DSP_H

#include "tsk_kernels.h"

/** An operand's (x + offset) * 2^(left - 1), requantised by `multiplier` and a shift of 1 or more to the right. */
typedef struct {
    int32_t offset, left, multiplier, half, shift;
} tsk_dsp_operand_t;

/** The output's requantisation by `multiplier` and a shift of 1 to 20 to the right; `addend` is the zero point and half
 * of the last place, shifted to the left. */
typedef struct {
    int32_t multiplier, addend, shift;
    uint32_t min, max; /**< four times in a word */
} tsk_dsp_output_t;

/** Constants of one call. The assembler knows the places of the fields. */
typedef struct {
    tsk_dsp_operand_t a, b; /**< MUL has only their offsets */
    tsk_dsp_output_t y;
    int32_t a_step, b_step; /**< bytes from four values to the next four: 4 or 0 */
    const int8_t *end;      /**< of y */
    int8_t rest[4];         /**< the caller's place for the last values of a row */
} tsk_dsp_line_t;

/* y from a and b, four values a turn; their number is a multiple of four and not 0. In place. Each takes 40 bytes of
 * stack, which -fstack-usage does not see. */
void tsk_dsp_add_line(const int8_t *a, const int8_t *b, int8_t *y, const tsk_dsp_line_t *k);
void tsk_dsp_subtract_line(const int8_t *a, const int8_t *b, int8_t *y, const tsk_dsp_line_t *k);
void tsk_dsp_squared_difference_line(const int8_t *a, const int8_t *b, int8_t *y, const tsk_dsp_line_t *k);
void tsk_dsp_mul_line(const int8_t *a, const int8_t *b, int8_t *y, const tsk_dsp_line_t *k);

#endif
