/* One column of weights against a panel of rows, in assembler for the DSP extension: a weight is loaded and widened
 * once for all rows. */
#include "tsk_column_dsp.h"

#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

#define UNUSED __attribute__((unused))

/* `groups` and the sums are one LDM, `y` and `y_row` follow the shift. */
TSK_DSP_PLACE(tsk_dsp_column_t, groups, 0);
TSK_DSP_PLACE(tsk_dsp_column_t, sum, 4);
TSK_DSP_PLACE(tsk_dsp_column_t, multiplier, 28);
TSK_DSP_PLACE(tsk_dsp_column_t, addend, 32);
TSK_DSP_PLACE(tsk_dsp_column_t, shift, 36);
TSK_DSP_PLACE(tsk_dsp_column_t, y, 40);
TSK_DSP_PLACE(tsk_dsp_column_t, y_row, 44);

/* The loop over groups is unrolled by eight. r0 is the column, r1 the panel, r2 and r3 are four weights, r4 to r9 sums.
 * All other registers hold what the panel has for two rows, so that the ends of the loops must be on the stack. */
#define WEIGHTS \
    "ldr r2, [r0], #4\n" \
    "sxtb16 r3, r2, ror #8\n" \
    "sxtb16 r2, r2\n"
#define TWO_ROWS(a, b) \
    "ldmia r1!, {r10, r11, r12, lr}\n" \
    "smlad " a ", r10, r2, " a "\n" \
    "smlad " b ", r12, r2, " b "\n" \
    "smlad " a ", r11, r3, " a "\n" \
    "smlad " b ", lr, r3, " b "\n"
#define ONE_ROW(a) \
    "ldmia r1!, {r10, r11}\n" \
    "smlad " a ", r10, r2, " a "\n" \
    "smlad " a ", r11, r3, " a "\n"

/* The requantisation of one sum, rounded twice. Doubling it saturates only where the result saturates to int8 as well,
 * because the multiplier is at least 2^30 and the shift at most 20. */
#define STORE(sum, place) \
    "qadd " sum ", " sum ", " sum "\n" \
    "smmulr " sum ", " sum ", r3\n" \
    "add " sum ", " sum ", " sum ", asr #31\n" \
    "add " sum ", " sum ", r10\n" \
    "asr " sum ", " sum ", r11\n" \
    "ssat " sum ", #8, " sum "\n" \
    "strb " sum ", [r0" place "]\n"
#define NEXT_ROW "add r0, r0, r1\n"

/* A naked function, because it needs every register. */
#define DEFINE_COLUMN(name, group, stores) \
    TSK_DSP_NAKED void name(UNUSED const int8_t *weights, UNUSED const int32_t *panel, UNUSED tsk_dsp_column_t *t) { \
        __asm__ volatile("push {r2, r4, r5, r6, r7, r8, r9, r10, r11, lr}\n" \
                         "ldmia r2, {r3, r4, r5, r6, r7, r8, r9}\n" \
                         "bic r10, r3, #7\n" \
                         "add r10, r0, r10, lsl #2\n" \
                         "add r11, r0, r3, lsl #2\n" \
                         "push {r10, r11}\n" \
                         "cmp r0, r10\n" \
                         "beq 2f\n" \
                         "1:\n" \
                         ".rept 8\n" group ".endr\n" \
                         "ldr r2, [sp]\n" \
                         "cmp r0, r2\n" \
                         "bne 1b\n" \
                         "2:\n" \
                         "ldr r2, [sp, #4]\n" \
                         "cmp r0, r2\n" \
                         "beq 3f\n" group "b 2b\n" \
                         "3:\n" \
                         "ldr r2, [sp, #8]\n" \
                         "ldrd r3, r10, [r2, #28]\n" \
                         "cmp r3, #0\n" \
                         "beq 4f\n" \
                         "ldrd r11, r0, [r2, #36]\n" \
                         "ldr r1, [r2, #44]\n" stores "b 5f\n" \
                         "4:\n" \
                         "adds r2, #4\n" \
                         "stmia r2, {r4, r5, r6, r7, r8, r9}\n" \
                         "5:\n" \
                         "add sp, #12\n" \
                         "pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}\n"); \
    }

/* 18 instructions for 24 multiply-accumulates, 8 for 8, and 6 for 4. */
DEFINE_COLUMN(tsk_dsp_column_by_six, WEIGHTS TWO_ROWS("r4", "r5") TWO_ROWS("r6", "r7") TWO_ROWS("r8", "r9"),
              STORE("r4", "") STORE("r5", ", r1") STORE("r6", ", r1, lsl #1") STORE("r8", ", r1, lsl #2") NEXT_ROW
                  STORE("r7", ", r1, lsl #1") STORE("r9", ", r1, lsl #2"))
DEFINE_COLUMN(tsk_dsp_column_by_two, WEIGHTS TWO_ROWS("r4", "r5"), STORE("r4", "") STORE("r5", ", r1"))
DEFINE_COLUMN(tsk_dsp_column_by_one, WEIGHTS ONE_ROW("r4"), STORE("r4", ""))

#endif
