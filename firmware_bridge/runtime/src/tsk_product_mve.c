/* The matrix product with Helium. */
#include "tsk_mve.h"

#if TSK_KERNELS == TSK_KERNELS_MVE

#include <stdbool.h>

#include "tsk_math.h"

/** Columns that are requantised at once, two pairs. */
#define COLUMNS 4

/** Two columns of weights against three rows. The assembler knows the places of the fields. */
typedef struct {
    int32_t k;
    const int8_t *column[2], *row[TSK_MVE_ROWS];
    int32_t sum[2][TSK_MVE_ROWS];
} pair_t;
#define PAIR_WORDS ((uint32_t)(sizeof(pair_t) / sizeof(int32_t)))

/* The assembler loads all up to the sums with one LDM, and stores these with one STM. */
typedef char pair_sum_place[offsetof(pair_t, sum) == 6 * sizeof(int32_t) ? 1 : -1];

/** pair->sum[o][r] = sum_l column[o][l] * row[r][l], 16 products an instruction; the loop ends with the k'th lane.
 * VMLADAVA takes even registers, which compilers fail to allot, so all are named. r7 may be the frame pointer. */
static inline void two_by_three(pair_t *pair) {
    register pair_t *t __asm__("r12") = pair;
    __asm__ volatile("ldmia %[t]!, {r0, r1, r3, r5, r9, r11}\n"
                     "dlstp.8 lr, r0\n"
                     "mov r0, #0\n"
                     "mov r2, #0\n"
                     "mov r4, #0\n"
                     "mov r6, #0\n"
                     "mov r8, #0\n"
                     "mov r10, #0\n"
                     "1:\n"
                     "vldrb.8 q0, [r1], #16\n"
                     "vldrb.8 q1, [r5], #16\n"
                     "vmladava.s8 r0, q0, q1\n"
                     "vldrb.8 q2, [r9], #16\n"
                     "vmladava.s8 r2, q0, q2\n"
                     "vldrb.8 q3, [r11], #16\n"
                     "vmladava.s8 r4, q0, q3\n"
                     "vldrb.8 q0, [r3], #16\n"
                     "vmladava.s8 r6, q0, q1\n"
                     "vmladava.s8 r8, q0, q2\n"
                     "vmladava.s8 r10, q0, q3\n"
                     "letp lr, 1b\n"
                     "stmia %[t], {r0, r2, r4, r6, r8, r10}\n"
                     : [t] "+r"(t)
                     :
                     : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "lr", "q0", "q1", "q2", "q3",
                       "cc", "memory");
}

/** What the vectors do not do, a shift to the left and TSK_ROUNDING_SINGLE, for columns `o` to `o` + 3 as far as they
 * exist. */
__attribute__((noinline)) static int32x4_t requantize(const tsk_mve_product_t *p, int32_t o, int32x4_t sum) {
    int32_t value[COLUMNS];
    vstrwq_s32(value, sum);
    for (int32_t c = 0; c < COLUMNS && o + c < p->columns; c++) {
        const int32_t channel = p->channels ? o + c : 0;
#if TSK_ROUNDING == TSK_ROUNDING_SINGLE
        value[c] = p->scale ? tsk_scale_single(value[c], p->scale[channel])
                            : tsk_scale(value[c], p->multiplier[channel], p->shift[channel]);
#else
        value[c] = tsk_scale(value[c], p->multiplier[channel], p->shift[channel]);
#endif
    }
    return vldrwq_s32(value);
}

/** Brings neighbours into [min, max], and through the table, sixteen at a time. */
static void narrow_line(const tsk_mve_product_t *p, int32_t count, int8_t *y) {
    const int8x16_t min = vdupq_n_s8((int8_t)p->min), max = vdupq_n_s8((int8_t)p->max);
    for (; count > 0; count -= 16, y += 16) {
        const mve_pred16_t lanes = tsk_mve_lanes_s8(count);
        int8x16_t value = vminq_s8(vmaxq_s8(vldrbq_z_s8(y, lanes), min), max);
        if (p->lut != NULL) {
            value = vldrbq_gather_offset_z_s8(p->lut, vreinterpretq_u8_s8(value), lanes);
        }
        vstrbq_p_s8(y, value, lanes);
    }
}

/** The same for all outputs, wherever they are. */
__attribute__((noinline)) static void narrow(const tsk_mve_product_t *p, int32_t rows, int8_t *y) {
    const bool dense = p->y_column == 1;
    for (int32_t r = 0; r < rows; r++, y += p->y_row) {
        for (int32_t o = 0; o < p->columns; o += dense ? p->columns : 1) {
            narrow_line(p, dense ? p->columns : 1, y + o * p->y_column);
        }
    }
}

/** Requantises four columns and stores them, saturated to int8. `sums` are those of the first row and column. */
static inline void finish(const tsk_mve_product_t *p, int32_t o, int32_t rows, const int32_t *first,
                          const int32_t *sums, int8_t *y) {
    const int32_t y_row = p->y_row, zero = p->out_zero;
    const mve_pred16_t lanes = tsk_mve_lanes_s32(p->columns - o);
    const uint32x4_t sum_place = {0, TSK_MVE_ROWS, PAIR_WORDS, PAIR_WORDS + TSK_MVE_ROWS};
    const uint32x4_t y_place = tsk_mve_places(p->y_column);
    const int32x4_t bias = vldrwq_z_s32(p->bias + o, lanes);
    int32x4_t multiplier = vdupq_n_s32(0), shift = vdupq_n_s32(1);
    if (p->scale == NULL && p->channels) {
        multiplier = vldrwq_z_s32(p->multiplier + o, lanes);
        shift = vldrbq_z_s32(p->shift + o, lanes);
    } else if (p->scale == NULL) {
        multiplier = vdupq_n_s32(*p->multiplier);
        shift = vdupq_n_s32(*p->shift);
    }
    const bool quick = vcmpgtq_n_s32(shift, 0) == 0;
    for (int32_t r = 0; r < rows; r++, y += y_row) {
        int32x4_t value = vldrwq_gather_shifted_offset_z_s32(sums + r, sum_place, lanes);
        value = vaddq_n_s32(vaddq_s32(value, bias), first[r]);
        if (quick) {
            value = tsk_mve_divide_pot(vqrdmulhq_s32(value, multiplier), shift);
        } else {
            value = requantize(p, o, value);
        }
        value = vaddq_n_s32(value, zero);
        /* Saturating twice leaves an int8 in the lowest byte of each lane, which is what is stored. */
        const int16x8_t half = vqmovnbq_s32(vreinterpretq_s16_s32(value), value);
        const int8x16_t byte = vqmovnbq_s16(vreinterpretq_s8_s16(half), half);
        vstrbq_scatter_offset_p_s32(y, y_place, vreinterpretq_s32_s8(byte), lanes);
    }
}

void tsk_mve_product(const tsk_mve_product_t *p, const int8_t *a, int32_t rows, const int32_t *first, int8_t *y) {
    const int32_t columns = p->columns, weights_row = p->weights_row, y_step = COLUMNS * p->y_column;
    pair_t pairs[2];
    for (int32_t i = 0; i < 2; i++) {
        pairs[i].k = p->k;
        for (int32_t r = 0; r < TSK_MVE_ROWS; r++) {
            pairs[i].row[r] = a + (r < rows ? r : 0) * p->a_row;
        }
    }
    const int8_t *weights = p->weights;
    int8_t *to = y;
    for (int32_t o = 0; o < columns; o += COLUMNS, weights += COLUMNS * weights_row, to += y_step) {
        /* The first column stands in for those that are missing. */
        const int32_t left = columns - o;
        pairs[0].column[0] = weights;
        pairs[0].column[1] = left > 1 ? weights + weights_row : weights;
        two_by_three(&pairs[0]);
        if (left > 2) {
            pairs[1].column[0] = weights + 2 * weights_row;
            pairs[1].column[1] = left > 3 ? weights + 3 * weights_row : weights;
            two_by_three(&pairs[1]);
        }
        finish(p, o, rows, first, pairs[0].sum[0], to);
    }
    if (p->lut != NULL || p->min > INT8_MIN || p->max < INT8_MAX) {
        narrow(p, rows, y);
    }
}

#endif
