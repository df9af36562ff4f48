/* ADD, SUB, SQUARED_DIFFERENCE and MUL on int8 with the DSP extension. TensorFlow Lite scales the operand with the
 * larger scale by one half, so that its rescaled value is exact. What no model has is left to the plain form: two
 * operands along a row and neither exact, or a requantisation that does not shift to the right. */
#include <stdbool.h>

#include "tsk_dsp.h"
#include "tsk_elementwise.h"
#include "tsk_line_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

/** An operand. MUL has no more of it than `offset`. */
typedef struct {
    const int8_t *x;
    int32_t row, column, offset, left_shift, multiplier, shift;
} operand_t;

/** What is done to all rows. */
typedef struct {
    tsk_dsp_line_t k;
    tsk_dsp_line_f *line; /* a pointer, so that an image has only the lines that it calls */
    operand_t operands[2];
    const operand_t *a, *b; /* in either order */
    bool product;           /* MUL */
    int32_t sign, begin;    /* of b; what `constant` is without a repeated b */
} work_t;

/** What shifts by `right`, 1 to 31, in TSK_DSP_SCALE. */
static int32_t power(int32_t right) {
    return (int32_t)(0u - (1u << (32 - right)));
}

static bool is_exact(const operand_t *o) {
    return o->multiplier == 1 << 30 && o->shift == 0 && o->left_shift > 0;
}

/** @return whether the fast form has this output. */
static bool make_output(tsk_dsp_output_t *y, int32_t zero, int32_t multiplier, int32_t shift, int32_t min,
                        int32_t max) {
    if (multiplier < 1 << 30 || shift > -1 || shift < -31) {
        return false;
    }
    y->multiplier = (int32_t)((uint32_t)multiplier << 1);
    y->power = power(-shift);
    y->zero = zero;
    y->min = (uint8_t)min * 0x01010101u;
    y->max = (uint8_t)max * 0x01010101u;
    return true;
}

/** Makes b the operand that is repeated along a row, or else the exact one.
 * @return whether they are swapped. */
static bool order(work_t *w) {
    const operand_t *const a = &w->operands[0], *const b = &w->operands[1];
    const bool swapped = b->column != 0 && (a->column == 0 || !is_exact(b));
    w->a = swapped ? b : a;
    w->b = swapped ? a : b;
    return swapped;
}

/** Chooses the line for a + sign * b, negated if `negate`: `affine` where a is exact and b repeated, or else `line`,
 * which negates by itself.
 * @return whether the fast form has these operands. */
static bool make_sum(work_t *w, int32_t sign, bool negate, tsk_dsp_line_f *affine, tsk_dsp_line_f *line) {
    const operand_t *const a = w->a, *const b = w->b;
    const int32_t half = (1 << a->left_shift) / 2;
    const bool repeated = b->column == 0, exact = is_exact(a);
    w->product = false;
    if (repeated && exact) {
        w->line = affine;
        w->k.factor = negate ? -half : half;
        w->begin = w->k.factor * a->offset;
        w->sign = negate ? -sign : sign;
        return true;
    }
    /* One half without a shift is one with a shift of 1. */
    const int32_t left = a->left_shift + (exact ? 2 : 1), right = exact ? 1 : -a->shift;
    if (right < 1 || left > 22 || !(repeated || is_exact(b))) {
        return false;
    }
    w->line = line;
    w->k.a = (tsk_dsp_operand_t){a->offset, left, a->multiplier, power(right)};
    w->k.factor = repeated ? 0 : sign * half;
    w->k.constant = w->k.factor * b->offset;
    w->begin = 0;
    w->sign = sign;
    return true;
}

/** The constants for a row in which b is `value`. */
static void repeat(work_t *w, int32_t value) {
    const operand_t *const b = w->b;
    if (w->product) {
        w->k.factor = value + b->offset;
        w->k.constant = w->k.factor * w->a->offset;
    } else {
        const int32_t scaled = tsk_rescale_operand(value, b->offset, b->left_shift, b->multiplier, b->shift);
        w->k.constant = w->begin + w->sign * scaled;
    }
}

/** `count` values (at most 4), `column` apart, as bytes of a word. */
static uint32_t gather(const int8_t *x, int32_t column, int32_t count) {
    uint32_t word = 0;
    for (int32_t i = 0; i < count; i++, x += column) {
        word |= (uint32_t)(uint8_t)*x << 8 * i;
    }
    return word;
}

/** One row: what is dense at once, the rest in fours that are gathered first. */
static void do_row(work_t *w, const int8_t *a, const int8_t *b, int8_t *y, int32_t columns) {
    const int32_t a_column = w->a->column, b_column = w->b->column;
    int32_t done = 0;
    if (b_column == 0) {
        repeat(w, *b);
    }
    if (columns >= 4 && a_column == 1 && (b_column | 1) == 1) {
        done = columns / 4 * 4;
        w->k.end = y + done;
        w->line(a, b_column ? b : a, y, &w->k);
    }
    for (; done < columns; done += 4) {
        const int32_t count = columns - done < 4 ? columns - done : 4;
        const uint32_t a4 = gather(a + done * a_column, a_column, count);
        const uint32_t b4 = gather(b + done * b_column, b_column, count);
        memcpy(w->k.rest, &a4, sizeof a4);
        w->k.end = w->k.rest + sizeof a4;
        w->line(w->k.rest, (const int8_t *)&b4, w->k.rest, &w->k);
        for (int32_t i = 0; i < count; i++) {
            y[done + i] = w->k.rest[i];
        }
    }
}

/** All rows, as one where both operands go on without a gap. */
static void do_rows(work_t *w, int8_t *y, int32_t columns, int32_t rows) {
    if (rows > 0 && w->a->row == columns * w->a->column && w->b->row == columns * w->b->column) {
        columns *= rows;
        rows = 1;
    }
    for (int32_t r = 0; r < rows; r++, y += columns) {
        do_row(w, w->a->x + r * w->a->row, w->b->x + r * w->b->row, y, columns);
    }
}

/** The work of ADD, SUB and SQUARED_DIFFERENCE without its line.
 * @return whether the fast form has the output. */
static bool begin(work_t *w, const tsk_add_s8_t *p, const int8_t *a, const int8_t *b) {
    w->operands[0] = (operand_t){a, p->a_row, p->a_column, p->a_offset, p->left_shift, p->a_multiplier, p->a_shift};
    w->operands[1] = (operand_t){b, p->b_row, p->b_column, p->b_offset, p->left_shift, p->b_multiplier, p->b_shift};
    return make_output(&w->k.y, p->out_offset, p->out_multiplier, p->out_shift, p->min, p->max);
}

void tsk_add_s8_dsp(const tsk_add_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows) {
    work_t w;
    const bool usual = begin(&w, p, a, b), negate = order(&w) && p->subtract;
    if (usual && make_sum(&w, p->subtract ? -1 : 1, negate, tsk_dsp_affine_line,
                          negate ? tsk_dsp_subtract_line : tsk_dsp_add_line)) {
        do_rows(&w, y, p->columns, rows);
    } else {
        tsk_add_s8_plain(p, a, b, y, rows);
    }
}

void tsk_squared_difference_s8_dsp(const tsk_squared_difference_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y,
                                   int32_t rows) {
    work_t w;
    const bool usual = begin(&w, p, a, b);
    order(&w);
    if (usual && make_sum(&w, -1, false, tsk_dsp_square_line, tsk_dsp_squared_difference_line)) {
        do_rows(&w, y, p->columns, rows);
    } else {
        tsk_squared_difference_s8_plain(p, a, b, y, rows);
    }
}

void tsk_mul_s8_dsp(const tsk_mul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows) {
    work_t w;
    w.operands[0] = (operand_t){a, p->a_row, p->a_column, p->a_offset, 0, 0, 0};
    w.operands[1] = (operand_t){b, p->b_row, p->b_column, p->b_offset, 0, 0, 0};
    w.product = true;
    order(&w);
    w.k.constant = w.a->offset;
    w.k.factor = w.b->offset;
    w.line = w.b->column == 0 ? tsk_dsp_affine_line : tsk_dsp_mul_line;
    if (make_output(&w.k.y, p->out_offset, p->multiplier, p->shift, p->min, p->max)) {
        do_rows(&w, y, p->columns, rows);
    } else {
        tsk_mul_s8_plain(p, a, b, y, rows);
    }
}

#endif
