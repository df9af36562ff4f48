/* MEAN, SUM, REDUCE_MAX, ARG_MAX and ARG_MIN over the middle of [rows][count][inner]. */
#include "tsk_kernels.h"
#include "tsk_math.h"

/** The output from the sum or the largest value of one line. */
static int32_t finish(const tsk_reduce_s8_t *p, int32_t value) {
    if (p->kind == 2) {
        return value;
    }
    const int32_t scaled = tsk_scale(value - p->in_zero * p->count, p->multiplier, p->shift);
    return tsk_finish(scaled, p->out_zero, p->min, p->max);
}

void tsk_reduce_s8_plain(const tsk_reduce_s8_t *p, const int8_t *x, int8_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, x += p->count * p->inner) {
        for (int32_t i = 0; i < p->inner; i++) {
            const int8_t *value = x + i;
            int32_t sum = 0, max = *value;
            for (int32_t n = 0; n < p->count; n++, value += p->inner) {
                sum += *value;
                max = *value > max ? *value : max;
            }
            *y++ = (int8_t)finish(p, p->kind == 2 ? max : sum);
        }
    }
}

void tsk_reduce_s16_plain(const tsk_reduce_s16_t *p, const int16_t *x, int16_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, x += p->count * p->inner) {
        for (int32_t i = 0; i < p->inner; i++) {
            const int16_t *value = x + i;
            int32_t sum = 0, max = *value;
            for (int32_t n = 0; n < p->count; n++, value += p->inner) {
                sum += *value;
                max = *value > max ? *value : max;
            }
            *y++ = (int16_t)finish(p, p->kind == 2 ? max : sum);
        }
    }
}

void tsk_reduce_u8_plain(const tsk_reduce_u8_t *p, const uint8_t *x, uint8_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, x += p->count * p->inner) {
        for (int32_t i = 0; i < p->inner; i++) {
            const uint8_t *value = x + i;
            int32_t sum = 0;
            for (int32_t n = 0; n < p->count; n++, value += p->inner) {
                sum += *value;
            }
            *y++ = (uint8_t)finish(p, sum);
        }
    }
}

void tsk_arg_s8_plain(const tsk_arg_s8_t *p, const int8_t *x, int32_t *y, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, x += p->count * p->inner) {
        for (int32_t i = 0; i < p->inner; i++) {
            const int8_t *value = x + i;
            int32_t best = 0, extreme = *value;
            for (int32_t n = 0; n < p->count; n++, value += p->inner) {
                if (p->minimum ? *value < extreme : *value > extreme) {
                    best = n;
                    extreme = *value;
                }
            }
            *y++ = best;
        }
    }
}
