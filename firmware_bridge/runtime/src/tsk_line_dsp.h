/** @file
 * Private to the DSP forms: operators on two operands for a line of values, in assembler. */
#ifndef TSK_LINE_DSP_H
#define TSK_LINE_DSP_H

#include "tsk_kernels.h"

/** How a is rescaled: (a + offset) * 2^(left - 1), requantised by `multiplier` and `power` (TSK_DSP_SCALE), a shift of
 * 1 or more to the right. */
typedef struct {
    int32_t offset, left, multiplier, power;
} tsk_dsp_operand_t;

/** The output's requantisation: the operands of TSK_DSP_SCALE, and the range. */
typedef struct {
    int32_t multiplier, power, zero;
    uint32_t min, max; /**< four times in a word */
} tsk_dsp_output_t;

/** Constants of a line. The assembler knows the places of the fields. */
typedef struct {
    tsk_dsp_operand_t a;
    int32_t constant, factor; /**< MUL: the offsets of a and b */
    tsk_dsp_output_t y;
    const int8_t *end; /**< of y */
    int8_t rest[4];    /**< the caller's place for the last values of a row */
} tsk_dsp_line_t;

/* y from a and b, four values a turn; their number is a multiple of four and not 0. In place. What is requantised:
 *     affine                constant + factor * a
 *     square                (constant + factor * a)^2
 *     add                   rescaled a + constant + factor * b
 *     subtract              -(rescaled a + constant + factor * b)
 *     squared_difference    (rescaled a + constant + factor * b)^2
 *     mul                   (a + offset) * (b + offset)
 * The first two do not read b. Each takes 44 bytes of stack, which -fstack-usage does not see. */
typedef void tsk_dsp_line_f(const int8_t *a, const int8_t *b, int8_t *y, const tsk_dsp_line_t *k);
tsk_dsp_line_f tsk_dsp_affine_line, tsk_dsp_square_line;
tsk_dsp_line_f tsk_dsp_add_line, tsk_dsp_subtract_line, tsk_dsp_squared_difference_line, tsk_dsp_mul_line;

#endif
