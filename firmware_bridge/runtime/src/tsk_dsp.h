/** @file
 * Private to the DSP forms (Cortex-M4, M7, M33): instructions that C cannot name, and the matrix product that
 * FULLY_CONNECTED and BATCH_MATMUL share.
 *
 * Bytes are widened to pairs of int16 four at a time: SXTB16 takes bytes 0 and 2 of a word, with a rotation 1 and 3.
 * So a "group" is four neighbours along k in the order 0, 2, 1, 3, which a sum does not mind. */
#ifndef TSK_DSP_H
#define TSK_DSP_H

#include "tsk_column_dsp.h"
#include "tsk_kernels.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

#include <string.h>

/** A function whose body is assembler. The compiler does not see which registers it changes, so it must conclude nothing
 * from the body. */
#if defined(__clang__)
#define TSK_DSP_NAKED __attribute__((naked, noinline))
#else
#define TSK_DSP_NAKED __attribute__((naked, noipa))
#endif

/** Does not compile unless `field` of `type` is where the assembler takes it to be. */
#define TSK_DSP_PLACE(type, field, bytes) \
    typedef char type##_##field##_place[offsetof(type, field) == (bytes) ? 1 : -1] __attribute__((unused))

/** Four bytes at any address. */
static inline uint32_t tsk_dsp_load(const int8_t *x) {
    uint32_t word;
    memcpy(&word, x, sizeof word);
    return word;
}

/** Bytes 0 and 2 of `x`, each plus its half of `pair`. */
static inline int32_t tsk_dsp_widen_even(int32_t pair, uint32_t x) {
    int32_t y;
    __asm__("sxtab16 %0, %1, %2" : "=r"(y) : "r"(pair), "r"(x));
    return y;
}

/** Bytes 1 and 3 of `x`, each plus its half of `pair`. */
static inline int32_t tsk_dsp_widen_odd(int32_t pair, uint32_t x) {
    int32_t y;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(y) : "r"(pair), "r"(x));
    return y;
}

/** Byte `i` (0 to 3) of `x`, plus `addend`. */
static inline int32_t tsk_dsp_add_byte(int32_t addend, uint32_t x, int32_t i) {
    int32_t y;
    switch (i) {
    case 0:
        __asm__("sxtab %0, %1, %2" : "=r"(y) : "r"(addend), "r"(x));
        break;
    case 1:
        __asm__("sxtab %0, %1, %2, ror #8" : "=r"(y) : "r"(addend), "r"(x));
        break;
    case 2:
        __asm__("sxtab %0, %1, %2, ror #16" : "=r"(y) : "r"(addend), "r"(x));
        break;
    default:
        __asm__("sxtab %0, %1, %2, ror #24" : "=r"(y) : "r"(addend), "r"(x));
        break;
    }
    return y;
}

/** `sum` plus the products of both halves. */
static inline int32_t tsk_dsp_multiply_add(int32_t a, int32_t b, int32_t sum) {
    int32_t y;
    __asm__("smlad %0, %1, %2, %3" : "=r"(y) : "r"(a), "r"(b), "r"(sum));
    return y;
}

/** x, saturated to int8. */
static inline int32_t tsk_dsp_saturate(int32_t x) {
    int32_t y;
    __asm__("ssat %0, #8, %1" : "=r"(y) : "r"(x));
    return y;
}

/* A requantisation in assembler, rounded twice, with the zero point, saturated to int8. `multiplier` holds what
 * 2 * multiplier is in 32 bits, that is less 2^32, because it is at least 2^30; so `value` times 2^32 is added to the
 * product, and nothing overflows. `power` holds -2^(32 - shift), for a shift of 1 to 31 to the right, halves away
 * from 0. */
#define TSK_DSP_SCALE(value, multiplier, power, zero) \
    "smmlar " value ", " value ", " multiplier ", " value "\n" \
    "add " value ", " value ", " value ", asr #31\n" \
    "smmlsr " value ", " value ", " power ", " zero "\n" \
    "ssat " value ", #8, " value "\n"

/** y(r, o) = lut[clamp(requantise(first + sum_l weights[o * weights_row + l] * a(r, l)) + out_zero)], where `first`
 * is bias[o], or, if that is NULL, first[r]. */
typedef struct {
    const int8_t *weights;
    const int32_t *bias, *first;
    const double *scale; /**< as in tsk_fc_s8_t; NULL: columns.multiplier */
    const int8_t *lut;
    int32_t weights_row, k, min, max;
    int32_t count;             /**< of columns */
    int32_t channels;          /**< 1: `scale` or columns.multiplier has a number for each column, 0: one for all */
    tsk_dsp_columns_t columns; /**< the caller sets y_row, out_zero, multiplier, shift, y_column and channels */
} tsk_dsp_product_t;

/** How many rows the next panel has when `rows` are left: 6, 2 or 1. */
static inline int32_t tsk_dsp_panel_rows(int32_t rows) {
    return rows >= TSK_ROWS ? TSK_ROWS : rows >= 2 ? 2 : 1;
}

/** Widen a(r, l) - zero, for r < rows and l < k, to panel[group][row][4], the last group padded with 0. The panel has
 * 2 * rows bytes for each l, up to a multiple of 4, and is aligned to 4. */
void tsk_dsp_pack(const int8_t *a, int32_t a_row, int32_t a_column, int32_t zero, int32_t rows, int32_t k,
                  int32_t *panel);

/** The product for the rows of one panel (6, 2 or 1). */
void tsk_dsp_product(tsk_dsp_product_t *p, const int32_t *panel, int32_t rows, int8_t *y);

#endif
#endif
