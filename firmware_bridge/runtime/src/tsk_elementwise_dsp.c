/* ADD, SUB, SQUARED_DIFFERENCE and MUL on int8 with the DSP extension. What no transformer has (a requantisation that
 * shifts to the left, or not at all) is left to the plain form. */
#include <stdbool.h>

#include "tsk_dsp.h"
#include "tsk_line_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

/** @return whether the fast form has this operand. One half without a shift is one with a shift of 1. */
static bool make_operand(tsk_dsp_operand_t *o, int32_t offset, int32_t left_shift, int32_t multiplier, int32_t shift) {
    const int32_t more = shift == 0 && multiplier == 1 << 30 ? 1 : 0;
    o->offset = offset;
    o->left = left_shift + 1 + more;
    o->multiplier = multiplier;
    o->shift = more - shift;
    o->half = o->shift > 0 ? 1 << (o->shift - 1) : 0;
    return o->shift > 0 && o->left <= 22;
}

/** @return whether the fast form has this output. */
static bool make_output(tsk_dsp_output_t *o, int32_t offset, int32_t multiplier, int32_t shift, int32_t min,
                        int32_t max) {
    const bool usual = shift <= -1 && shift >= -20;
    o->multiplier = multiplier;
    o->shift = -shift;
    o->addend = usual ? (2 * offset + 1) * (1 << (o->shift - 1)) : 0;
    o->min = (uint8_t)min * 0x01010101u;
    o->max = (uint8_t)max * 0x01010101u;
    return usual;
}

/** @return whether the fast form has these constants of ADD, SUB or SQUARED_DIFFERENCE. */
static bool make_line(tsk_dsp_line_t *k, const tsk_add_s8_t *p) {
    return make_operand(&k->a, p->a_offset, p->left_shift, p->a_multiplier, p->a_shift) &&
           make_operand(&k->b, p->b_offset, p->left_shift, p->b_multiplier, p->b_shift) &&
           make_output(&k->y, p->out_offset, p->out_multiplier, p->out_shift, p->min, p->max);
}

/** `count` values (at most 4), `column` apart, as bytes of a word. */
static uint32_t gather(const int8_t *x, int32_t column, int32_t count) {
    uint32_t word = 0;
    for (int32_t i = 0; i < count; i++, x += column) {
        word |= (uint32_t)(uint8_t)*x << 8 * i;
    }
    return word;
}

/** Where the operands are: the fields of tsk_add_s8_t and tsk_mul_s8_t. */
typedef struct {
    int32_t columns, a_row, a_column, b_row, b_column;
} shape_t;

/** One of the functions of tsk_line_dsp.h; through a pointer, so that an image has only those that it calls. */
typedef void line_f(const int8_t *a, const int8_t *b, int8_t *y, const tsk_dsp_line_t *k);

/** One row: what is dense or repeated at once, the rest in fours that are gathered first. */
static inline void do_row(line_f *f, tsk_dsp_line_t *k, const shape_t *s, const int8_t *a, const int8_t *b, int8_t *y) {
    int32_t done = 0;
    if (s->columns >= 4 && (s->a_column | 1) == 1 && (s->b_column | 1) == 1) {
        const uint32_t a4 = (uint8_t)*a * 0x01010101u, b4 = (uint8_t)*b * 0x01010101u;
        done = s->columns / 4 * 4;
        k->a_step = 4 * s->a_column;
        k->b_step = 4 * s->b_column;
        k->end = y + done;
        f(s->a_column ? a : (const int8_t *)&a4, s->b_column ? b : (const int8_t *)&b4, y, k);
    }
    for (; done < s->columns; done += 4) {
        const int32_t count = s->columns - done < 4 ? s->columns - done : 4;
        const uint32_t a4 = gather(a + done * s->a_column, s->a_column, count);
        const uint32_t b4 = gather(b + done * s->b_column, s->b_column, count);
        memcpy(k->rest, &a4, sizeof a4);
        k->end = k->rest + sizeof a4;
        f(k->rest, (const int8_t *)&b4, k->rest, k);
        for (int32_t i = 0; i < count; i++) {
            y[done + i] = k->rest[i];
        }
    }
}

/** All rows, as one where both operands go on without a gap. */
static void do_rows(line_f *f, tsk_dsp_line_t *k, shape_t s, const int8_t *a, const int8_t *b, int8_t *y,
                    int32_t rows) {
    if (rows > 0 && s.a_row == s.columns * s.a_column && s.b_row == s.columns * s.b_column) {
        s.columns *= rows;
        rows = 1;
    }
    for (int32_t r = 0; r < rows; r++, a += s.a_row, b += s.b_row, y += s.columns) {
        do_row(f, k, &s, a, b, y);
    }
}

void tsk_add_s8_dsp(const tsk_add_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows) {
    const shape_t shape = {p->columns, p->a_row, p->a_column, p->b_row, p->b_column};
    tsk_dsp_line_t k;
    if (!make_line(&k, p)) {
        tsk_add_s8_plain(p, a, b, y, rows);
    } else if (p->subtract) {
        do_rows(tsk_dsp_subtract_line, &k, shape, a, b, y, rows);
    } else {
        do_rows(tsk_dsp_add_line, &k, shape, a, b, y, rows);
    }
}

void tsk_squared_difference_s8_dsp(const tsk_squared_difference_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y,
                                   int32_t rows) {
    const shape_t shape = {p->columns, p->a_row, p->a_column, p->b_row, p->b_column};
    tsk_dsp_line_t k;
    if (make_line(&k, p)) {
        do_rows(tsk_dsp_squared_difference_line, &k, shape, a, b, y, rows);
    } else {
        tsk_squared_difference_s8_plain(p, a, b, y, rows);
    }
}

void tsk_mul_s8_dsp(const tsk_mul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows) {
    const shape_t shape = {p->columns, p->a_row, p->a_column, p->b_row, p->b_column};
    tsk_dsp_line_t k;
    k.a.offset = p->a_offset;
    k.b.offset = p->b_offset;
    if (make_output(&k.y, p->out_offset, p->multiplier, p->shift, p->min, p->max)) {
        do_rows(tsk_dsp_mul_line, &k, shape, a, b, y, rows);
    } else {
        tsk_mul_s8_plain(p, a, b, y, rows);
    }
}

#endif
