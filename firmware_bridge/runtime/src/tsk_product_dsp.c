/* The matrix product with the DSP extension. */
#include "tsk_column_dsp.h"
#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

#include <stdbool.h>

#include "tsk_math.h"

#define NOINLINE __attribute__((noinline))

void tsk_dsp_pack(const int8_t *a, int32_t a_row, int32_t a_column, int32_t zero, int32_t rows, int32_t k,
                  int32_t *panel) {
    const uint32_t half = (uint16_t)-zero;
    const int32_t pair = (int32_t)(half << 16 | half);
    for (int32_t r = 0; r < rows; r++) {
        int32_t *to = panel + 2 * r;
        const int8_t *x = a + r * a_row;
        int32_t l = 0;
        if (a_column == 1) {
            for (; l + 4 <= k; l += 4, to += 2 * rows) {
                const uint32_t word = tsk_dsp_load(x + l);
                to[0] = tsk_dsp_widen_even(pair, word);
                to[1] = tsk_dsp_widen_odd(pair, word);
            }
        }
        for (; l < k; l += 4, to += 2 * rows) {
            uint32_t word = (uint8_t)zero * 0x01010101u;
            for (int32_t i = 0; i < 4 && l + i < k; i++) {
                word = (word & ~(0xffu << 8 * i)) | (uint32_t)(uint8_t)x[(l + i) * a_column] << 8 * i;
            }
            to[0] = tsk_dsp_widen_even(pair, word);
            to[1] = tsk_dsp_widen_odd(pair, word);
        }
    }
}

/** Adds the last k % 4 weights of a column to the sums of `rows` rows. */
NOINLINE static void add_rest(const int8_t *weights, int32_t rest, const int32_t *panel, int32_t rows, int32_t *sum) {
    uint32_t word = 0;
    for (int32_t i = 0; i < rest; i++) {
        word |= (uint32_t)(uint8_t)weights[i] << 8 * i;
    }
    const int32_t even = tsk_dsp_widen_even(0, word), odd = tsk_dsp_widen_odd(0, word);
    for (int32_t r = 0; r < rows; r++) {
        sum[r] = tsk_dsp_multiply_add(even, *panel++, sum[r]);
        sum[r] = tsk_dsp_multiply_add(odd, *panel++, sum[r]);
    }
}

/** Stores a column whose sums the assembler has left as they are. */
NOINLINE static void requantize_column(const tsk_dsp_product_t *p, int32_t o, int32_t rows, const tsk_dsp_column_t *t) {
    const int32_t channel = p->channels ? o : 0;
    int8_t *y = t->y;
    for (int32_t r = 0; r < rows; r++, y += p->y_row) {
#if TSK_ROUNDING == TSK_ROUNDING_SINGLE
        const int32_t scaled = p->scale ? tsk_scale_single(t->sum[r], p->scale[channel])
                                        : tsk_scale(t->sum[r], p->multiplier[channel], p->shift[channel]);
#else
        const int32_t scaled = tsk_scale(t->sum[r], p->multiplier[channel], p->shift[channel]);
#endif
        *y = (int8_t)tsk_finish(scaled, p->out_zero, INT8_MIN, INT8_MAX);
    }
}

/** Brings a panel's outputs into [min, max], and through the table. */
NOINLINE static void narrow(const tsk_dsp_product_t *p, int32_t rows, int8_t *y) {
    const int32_t columns = p->columns, y_column = p->y_column, min = p->min, max = p->max;
    const int8_t *const lut = p->lut;
    for (int32_t r = 0; r < rows; r++, y += p->y_row) {
        int8_t *to = y;
        for (int32_t o = 0; o < columns; o++, to += y_column) {
            const int32_t value = tsk_clamp(*to, min, max);
            *to = lut ? lut[(uint8_t)value] : (int8_t)value;
        }
    }
}

void tsk_dsp_product(const tsk_dsp_product_t *p, const int32_t *panel, int32_t rows, const int32_t *first, int8_t *y) {
    const int32_t columns = p->columns, channels = p->channels ? 1 : 0, rest = p->k & 3;
#if TSK_ROUNDING == TSK_ROUNDING_SINGLE
    const bool twice = p->scale == NULL;
#else
    const bool twice = true;
#endif
    const int32_t *bias = p->bias, *multiplier = p->multiplier;
    const int8_t *weights = p->weights, *shift = p->shift;
    tsk_dsp_column_t t;
    t.groups = p->k >> 2;
    t.y = y;
    t.y_row = p->y_row;
    for (int32_t o = 0; o < columns; o++) {
        if (bias != NULL) {
            const int32_t begin = *bias++;
            t.sum[0] = begin, t.sum[1] = begin, t.sum[2] = begin;
            t.sum[3] = begin, t.sum[4] = begin, t.sum[5] = begin;
        } else {
            memcpy(t.sum, first, sizeof t.sum);
        }
        if (rest != 0) {
            add_rest(weights + 4 * t.groups, rest, panel + 2 * rows * t.groups, rows, t.sum);
        }
        t.multiplier = 0;
        if (twice) {
            const int32_t right = -*shift;
            if (right >= 1 && right <= 20) {
                t.multiplier = *multiplier;
                t.shift = right;
                t.addend = (2 * p->out_zero + 1) * (1 << (right - 1));
            }
            shift += channels;
            multiplier += channels;
        }
        if (rows == TSK_ROWS) {
            tsk_dsp_column_by_six(weights, panel, &t);
        } else if (rows == 2) {
            tsk_dsp_column_by_two(weights, panel, &t);
        } else {
            tsk_dsp_column_by_one(weights, panel, &t);
        }
        if (t.multiplier == 0) {
            requantize_column(p, o, rows, &t);
        }
        weights += p->weights_row;
        t.y += p->y_column;
    }
    if (p->lut != NULL || p->min > INT8_MIN || p->max < INT8_MAX) {
        narrow(p, rows, y);
    }
}

#endif
