/* MEAN, SUM and REDUCE_MAX on int8 with the DSP extension. */
#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

#include "tsk_math.h"

static int8_t finish(const tsk_reduce_s8_t *p, int32_t sum) {
    const int32_t scaled = tsk_scale(sum - p->in_zero * p->count, p->multiplier, p->shift);
    return (int8_t)tsk_finish(scaled, p->out_zero, p->min, p->max);
}

/** The sum of a line of neighbours. */
static int32_t sum_line(const int8_t *x, int32_t count) {
    const int8_t *const end = x + count;
    int32_t sum = 0;
    for (; end - x >= 4; x += 4) {
        const uint32_t word = tsk_dsp_load(x);
        const int32_t pairs = tsk_dsp_widen_odd(tsk_dsp_widen_even(0, word), word);
        sum = tsk_dsp_multiply_add(pairs, 0x00010001, sum);
    }
    for (; x < end; x++) {
        sum += *x;
    }
    return sum;
}

/** The sums of four lines next to each other, whose values are `inner` apart. */
static void sum_four(const int8_t *x, int32_t count, int32_t inner, int32_t *sum) {
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (; count > 0; count--, x += inner) {
        const uint32_t word = tsk_dsp_load(x);
        s0 = tsk_dsp_add_byte(s0, word, 0);
        s1 = tsk_dsp_add_byte(s1, word, 1);
        s2 = tsk_dsp_add_byte(s2, word, 2);
        s3 = tsk_dsp_add_byte(s3, word, 3);
    }
    sum[0] = s0, sum[1] = s1, sum[2] = s2, sum[3] = s3;
}

/** The sum of a line whose values are `inner` apart. */
static int32_t sum_apart(const int8_t *x, int32_t count, int32_t inner) {
    int32_t sum = 0;
    for (; count > 0; count--, x += inner) {
        sum += *x;
    }
    return sum;
}

void tsk_reduce_s8_dsp(const tsk_reduce_s8_t *p, const int8_t *x, int8_t *y, int32_t rows) {
    const int32_t count = p->count, inner = p->inner;
    if (p->kind == 2) {
        tsk_reduce_s8_plain(p, x, y, rows);
        return;
    }
    for (int32_t r = 0; r < rows; r++, x += count * inner) {
        int32_t i = 0;
        for (; i + 4 <= inner; i += 4) {
            int32_t sum[4];
            sum_four(x + i, count, inner, sum);
            for (int32_t j = 0; j < 4; j++) {
                *y++ = finish(p, sum[j]);
            }
        }
        for (; i < inner; i++) {
            *y++ = finish(p, inner == 1 ? sum_line(x, count) : sum_apart(x + i, count, inner));
        }
    }
}

#endif
