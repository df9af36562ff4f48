/* The matrix product with the DSP extension. */
#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

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

/** Begins the sums of column `o` with its last k % 4 weights, and the panel's last group. */
NOINLINE static void begin_with_rest(tsk_dsp_product_t *p, const int8_t *weights, const int32_t *group, int32_t o,
                                     int32_t rows) {
    uint32_t word = 0;
    for (int32_t i = 0; i < p->k % 4; i++) {
        word |= (uint32_t)(uint8_t)weights[i] << 8 * i;
    }
    const int32_t even = tsk_dsp_widen_even(0, word), odd = tsk_dsp_widen_odd(0, word);
    for (int32_t r = 0; r < rows; r++, group += 2) {
        const int32_t first = p->bias ? p->bias[o] : p->first[r];
        p->columns.sum[r] = tsk_dsp_multiply_add(odd, group[1], tsk_dsp_multiply_add(even, group[0], first));
    }
}

/** Stores column `o`, whose sums the assembler has left as they are. */
NOINLINE static void requantize_column(const tsk_dsp_product_t *p, int32_t o, int32_t rows) {
    const tsk_dsp_columns_t *const t = &p->columns;
    const int32_t channel = p->channels * o;
    int8_t *y = t->y;
    for (int32_t r = 0; r < rows; r++, y += t->y_row) {
#if TSK_ROUNDING == TSK_ROUNDING_SINGLE
        const int32_t scaled = p->scale ? tsk_scale_single(t->sum[r], p->scale[channel])
                                        : tsk_scale(t->sum[r], t->multiplier[channel], t->shift[channel]);
#else
        const int32_t scaled = tsk_scale(t->sum[r], t->multiplier[channel], t->shift[channel]);
#endif
        *y = (int8_t)tsk_finish(scaled, t->out_zero, INT8_MIN, INT8_MAX);
    }
}

/** Brings a panel's outputs into [min, max], and through the table. */
NOINLINE static void narrow(const tsk_dsp_product_t *p, int32_t rows, int8_t *y) {
    const int32_t y_column = p->columns.y_column, length = p->count * y_column, min = p->min, max = p->max;
    const int8_t *const lut = p->lut;
    for (int32_t r = 0; r < rows; r++, y += p->columns.y_row) {
        if (min > INT8_MIN || max < INT8_MAX) {
            for (int8_t *to = y; to != y + length; to += y_column) {
                *to = (int8_t)tsk_clamp(*to, min, max);
            }
        }
        if (lut != NULL) {
            for (int8_t *to = y; to != y + length; to += y_column) {
                *to = lut[(uint8_t)*to];
            }
        }
    }
}

void tsk_dsp_product(tsk_dsp_product_t *p, const int32_t *panel, int32_t rows, int8_t *y) {
    tsk_dsp_columns_t *const t = &p->columns;
    const int8_t *weights = p->weights;
    for (int32_t o = 0; o < p->count;) {
        int32_t groups = p->k / 4, end = p->count;
        t->bias = p->bias ? p->bias + o : NULL;
        t->first = p->first;
        if (p->k % 4 != 0 && o + 1 < end && p->weights_row >= 3) {
            /* What is loaded behind the last weights is of the next column, and meets a 0 of the panel. */
            groups++;
            end--;
        } else if (p->k % 4 != 0) {
            begin_with_rest(p, weights + 4 * groups, panel + 2 * rows * groups, o, rows);
            t->bias = NULL;
            t->first = t->sum;
            end = o + 1;
        }
        t->y = y + o * t->y_column;
        t->channel = o * t->channels;
        t->columns = end - o;
        t->skip = p->weights_row - 4 * groups;
        t->jump = groups > 0 ? -groups & (TSK_DSP_UNROLLED - 1) : TSK_DSP_UNROLLED;
        t->end = panel + 2 * rows * groups;
        do {
            weights = tsk_dsp_columns(weights, panel, t, rows);
            if (t->columns > 0) {
                requantize_column(p, end - t->columns, rows);
                t->y += t->y_column;
                t->channel += t->channels;
                t->columns--;
            }
        } while (t->columns > 0);
        o = end;
    }
    if (p->lut != NULL || p->min > INT8_MIN || p->max < INT8_MAX) {
        narrow(p, rows, y);
    }
}

#endif
