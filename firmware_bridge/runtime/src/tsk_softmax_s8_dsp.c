/* SOFTMAX on int8 with the DSP extension. */
#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

#include "tsk_softmax.h"

/** The largest of `columns` values. */
static int32_t find_max(const int8_t *x, int32_t columns) {
    int32_t max = *x;
    for (const int8_t *const end = x + columns; x < end; x++) {
        max = *x > max ? *x : max;
    }
    return max;
}

/** The exponential of a value, where that of the value 0 would be at the address `zero`: a number, because no pointer may
 * point outside the table. */
static inline uint32_t look_up(uintptr_t zero, int32_t value) {
    return *(const uint32_t *)(zero - sizeof(uint32_t) * (uint32_t)value); /* NOLINT(performance-no-int-to-ptr) */
}

void tsk_softmax_s8_dsp(const tsk_softmax_s8_t *p, const int8_t *x, int8_t *y, int32_t rows) {
    const int32_t columns = p->columns;
    for (int32_t r = 0; r < rows; r++) {
        const int8_t *const end = x + columns;
        /* No difference from the maximum is computed. */
        const uintptr_t zero = (uintptr_t)p->exponents + sizeof(uint32_t) * (uint32_t)find_max(x, columns);
        uint32_t sum = 0;
        for (const int8_t *v = x; v < end; v++) {
            sum += (look_up(zero, *v) + (1u << (TSK_SOFTMAX_SUM_BITS - 1))) >> TSK_SOFTMAX_SUM_BITS;
        }
        int32_t shift;
        const uint32_t twice = 2 * (uint32_t)tsk_softmax_scale((int32_t)sum, &shift);
        /* Nothing here is negative: both roundings are half up. */
        const uint32_t half = 1u << (shift - 1);
        for (; x < end; x++) {
            const uint32_t product = (uint32_t)(((uint64_t)twice * look_up(zero, *x) + (1u << 31)) >> 32);
            *y++ = (int8_t)tsk_dsp_saturate((int32_t)((product + half) >> shift) - 128);
        }
    }
}

#endif
