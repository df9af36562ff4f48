/* ADD, SUB, SQUARED_DIFFERENCE and MUL on int8 with Helium, four values a turn. */
#include "tsk_mve.h"

#if TSK_KERNELS == TSK_KERNELS_MVE

/** Four values of an operand, `column` apart. */
static inline int32x4_t load(const int8_t *x, uint32x4_t place, mve_pred16_t lanes) {
    return vldrbq_gather_offset_z_s32(x, place, lanes);
}

/** (x + offset) * 2^left_shift, requantised by a shift that is at most 0. */
static inline int32x4_t rescale(int32x4_t x, int32_t offset, int32_t left_shift, int32_t multiplier, int32_t shift) {
    const int32x4_t shifted = vshlq_r_s32(vaddq_n_s32(x, offset), left_shift);
    return tsk_mve_divide_pot(vqrdmulhq_n_s32(shifted, multiplier), vdupq_n_s32(shift));
}

/** What an operator does with four values of each operand. */
typedef int32x4_t four_f(const void *p, int32x4_t a, int32x4_t b);

static inline int32x4_t add_four(const void *constants, int32x4_t a, int32x4_t b) {
    const tsk_add_s8_t *const p = constants;
    const int32x4_t left = rescale(a, p->a_offset, p->left_shift, p->a_multiplier, p->a_shift);
    const int32x4_t right = rescale(b, p->b_offset, p->left_shift, p->b_multiplier, p->b_shift);
    const int32x4_t sum = vmlaq_n_s32(left, right, p->subtract ? -1 : 1);
    const int32x4_t scaled = tsk_mve_divide_pot(vqrdmulhq_n_s32(sum, p->out_multiplier), vdupq_n_s32(p->out_shift));
    return tsk_mve_finish(scaled, p->out_offset, p->min, p->max);
}

static inline int32x4_t squared_difference_four(const void *constants, int32x4_t a, int32x4_t b) {
    const tsk_squared_difference_s8_t *const p = constants;
    const int32x4_t left = rescale(a, p->a_offset, p->left_shift, p->a_multiplier, p->a_shift);
    const int32x4_t right = rescale(b, p->b_offset, p->left_shift, p->b_multiplier, p->b_shift);
    const int32x4_t difference = vsubq_s32(left, right);
    const int32x4_t square = vmulq_s32(difference, difference);
    const int32x4_t scaled = tsk_mve_scale(square, vdupq_n_s32(p->out_multiplier), vdupq_n_s32(p->out_shift));
    return tsk_mve_finish(scaled, p->out_offset, p->min, p->max);
}

static inline int32x4_t mul_four(const void *constants, int32x4_t a, int32x4_t b) {
    const tsk_mul_s8_t *const p = constants;
    const int32x4_t product = vmulq_s32(vaddq_n_s32(a, p->a_offset), vaddq_n_s32(b, p->b_offset));
    const int32x4_t scaled = tsk_mve_scale(product, vdupq_n_s32(p->multiplier), vdupq_n_s32(p->shift));
    return tsk_mve_finish(scaled, p->out_offset, p->min, p->max);
}

/** Where the operands are: the fields of tsk_add_s8_t and tsk_mul_s8_t. */
typedef struct {
    int32_t columns, a_row, a_column, b_row, b_column;
} shape_t;

/** An operator for all rows, made from its form for four values. */
__attribute__((always_inline)) static inline void for_each(four_f *f, const void *constants, const shape_t *s,
                                                           const int8_t *a, const int8_t *b, int8_t *y, int32_t rows) {
    const uint32x4_t a_place = tsk_mve_places(s->a_column), b_place = tsk_mve_places(s->b_column);
    for (int32_t r = 0; r < rows; r++, a += s->a_row, b += s->b_row, y += s->columns) {
        const int8_t *left = a, *right = b;
        for (int32_t c = 0; c < s->columns; c += 4) {
            const mve_pred16_t lanes = tsk_mve_lanes_s32(s->columns - c);
            vstrbq_p_s32(y + c, f(constants, load(left, a_place, lanes), load(right, b_place, lanes)), lanes);
            left += 4 * s->a_column;
            right += 4 * s->b_column;
        }
    }
}

void tsk_add_s8_mve(const tsk_add_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows) {
    const tsk_add_s8_t constants = *p;
    const shape_t shape = {p->columns, p->a_row, p->a_column, p->b_row, p->b_column};
    for_each(add_four, &constants, &shape, a, b, y, rows);
}

void tsk_squared_difference_s8_mve(const tsk_squared_difference_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y,
                                   int32_t rows) {
    const tsk_squared_difference_s8_t constants = *p;
    const shape_t shape = {p->columns, p->a_row, p->a_column, p->b_row, p->b_column};
    for_each(squared_difference_four, &constants, &shape, a, b, y, rows);
}

void tsk_mul_s8_mve(const tsk_mul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows) {
    const tsk_mul_s8_t constants = *p;
    const shape_t shape = {p->columns, p->a_row, p->a_column, p->b_row, p->b_column};
    for_each(mul_four, &constants, &shape, a, b, y, rows);
}

#endif
