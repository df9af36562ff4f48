/* CAST, QUANTIZE and DEQUANTIZE: from one element type to another. */
#include "tsk_kernels.h"
#include "tsk_math.h"

/** Element `n` of an integer or boolean array. */
static int32_t load(const void *x, int32_t n, int32_t type) {
    switch (type) {
    case TSK_BOOL: return ((const uint8_t *)x)[n] != 0;
    case TSK_S8: return ((const int8_t *)x)[n];
    case TSK_S16: return ((const int16_t *)x)[n];
    default: return ((const int32_t *)x)[n];
    }
}

/** The low bits of `value`, as element `n`. */
static void store(void *y, int32_t n, int32_t type, int32_t value) {
    switch (type) {
    case TSK_BOOL: ((uint8_t *)y)[n] = value != 0; break;
    case TSK_S8: ((int8_t *)y)[n] = (int8_t)(uint8_t)value; break;
    case TSK_S16: ((int16_t *)y)[n] = (int16_t)(uint16_t)value; break;
    default: ((int32_t *)y)[n] = value; break;
    }
}

/** Towards 0, at most INT32_MAX; NaN is 0. */
static int32_t truncate(float x) {
    if (x >= 2147483648.0F) {
        return INT32_MAX;
    }
    if (x <= -2147483648.0F) {
        return INT32_MIN;
    }
    return x == x ? (int32_t)x : 0;
}

/** The largest value of an integer type. */
static int32_t largest(int32_t type) {
    return type == TSK_S8 ? INT8_MAX : type == TSK_S16 ? INT16_MAX : INT32_MAX;
}

void tsk_cast_plain(const tsk_cast_t *p, const void *x, void *y, int32_t rows) {
    const int32_t max = largest(p->to);
    for (int32_t n = 0; n < rows * p->columns; n++) {
        if (p->from == TSK_F32) {
            const float real = ((const float *)x)[n];
            if (p->to == TSK_F32) {
                ((float *)y)[n] = real;
            } else {
                store(y, n, p->to, p->to == TSK_BOOL ? real != 0.0F : tsk_clamp(truncate(real), -max - 1, max));
            }
        } else {
            const int32_t whole = load(x, n, p->from);
            if (p->to == TSK_F32) {
                ((float *)y)[n] = (float)whole;
            } else {
                store(y, n, p->to, whole);
            }
        }
    }
}

void tsk_requantize_plain(const tsk_requantize_t *p, const void *x, void *y, int32_t rows) {
    for (int32_t n = 0; n < rows * p->columns; n++) {
        const int32_t centred = tsk_add_wrap(load(x, n, p->from), -p->in_zero);
        const int32_t scaled = tsk_scale(centred, p->multiplier, p->shift);
        store(y, n, p->to, tsk_finish(scaled, p->out_zero, p->min, p->max));
    }
}

void tsk_quantize_plain(const tsk_quantize_t *p, const float *x, void *y, int32_t rows) {
    const int32_t max = largest(p->to);
    for (int32_t n = 0; n < rows * p->columns; n++) {
        const float real = x[n] / p->scale;
        const int32_t whole = truncate(real);
        /* Where a float has a fraction at all, it is below 2^24: `whole` is exact, and so is the rest. */
        const float rest = real - (float)whole;
        const int32_t rounded = tsk_clamp(whole, -(1 << 24), 1 << 24) + (rest >= 0.5F) - (rest <= -0.5F);
        store(y, n, p->to, tsk_finish(rounded, p->zero, -max - 1, max));
    }
}

void tsk_dequantize_plain(const tsk_dequantize_t *p, const void *x, float *y, int32_t rows) {
    for (int32_t n = 0; n < rows * p->columns; n++) {
        /* Both factors are exact in float32, so one rounding is all there is. */
        y[n] = p->scale * (float)(load(x, n, p->from) - p->zero);
    }
}
