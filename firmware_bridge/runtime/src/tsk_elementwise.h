/** @file
 * What the plain operators on two operands do with one pair of values, int8 or int16. */
#ifndef TSK_ELEMENTWISE_H
#define TSK_ELEMENTWISE_H

#include "tsk_kernels.h"
#include "tsk_math.h"

/** (x + offset) * 2^left_shift, requantised by a shift that is at most 0. */
static inline int32_t tsk_rescale_operand(int32_t x, int32_t offset, int32_t left_shift, int32_t multiplier,
                                          int32_t shift) {
    return tsk_divide_pot(tsk_high_mul((x + offset) * (1 << left_shift), multiplier), -shift);
}

static inline int32_t tsk_add_values(const tsk_add_s8_t *p, int32_t a, int32_t b) {
    const int32_t left = tsk_rescale_operand(a, p->a_offset, p->left_shift, p->a_multiplier, p->a_shift);
    const int32_t right = tsk_rescale_operand(b, p->b_offset, p->left_shift, p->b_multiplier, p->b_shift);
    const int32_t sum = p->subtract ? left - right : left + right;
    const int32_t scaled = tsk_divide_pot(tsk_high_mul(sum, p->out_multiplier), -p->out_shift);
    return tsk_finish(scaled, p->out_offset, p->min, p->max);
}

static inline int32_t tsk_squared_difference_values(const tsk_squared_difference_s8_t *p, int32_t a, int32_t b) {
    const int32_t left = tsk_rescale_operand(a, p->a_offset, p->left_shift, p->a_multiplier, p->a_shift);
    const int32_t right = tsk_rescale_operand(b, p->b_offset, p->left_shift, p->b_multiplier, p->b_shift);
    const int32_t difference = left - right;
    const int32_t scaled = tsk_scale(difference * difference, p->out_multiplier, p->out_shift);
    return tsk_finish(scaled, p->out_offset, p->min, p->max);
}

static inline int32_t tsk_mul_values(const tsk_mul_s8_t *p, int32_t a, int32_t b) {
    const int32_t product = (a + p->a_offset) * (b + p->b_offset);
    return tsk_finish(tsk_scale(product, p->multiplier, p->shift), p->out_offset, p->min, p->max);
}

#endif
