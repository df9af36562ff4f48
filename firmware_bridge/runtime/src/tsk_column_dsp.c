/* Columns of weights against a panel of rows, in assembler for the DSP extension: a weight is loaded and widened once
 * for all rows. */
#include "tsk_column_dsp.h"

#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

#define UNUSED __attribute__((unused))

/* Three LDM: from the start, from `y`, and the sums. */
TSK_DSP_PLACE(tsk_dsp_columns_t, y_row, 0);
TSK_DSP_PLACE(tsk_dsp_columns_t, y, 16);
TSK_DSP_PLACE(tsk_dsp_columns_t, bias, 28);
TSK_DSP_PLACE(tsk_dsp_columns_t, channels, 36);
TSK_DSP_PLACE(tsk_dsp_columns_t, first, 40);
TSK_DSP_PLACE(tsk_dsp_columns_t, skip, 44);
TSK_DSP_PLACE(tsk_dsp_columns_t, jump, 48);
TSK_DSP_PLACE(tsk_dsp_columns_t, end, 52);
TSK_DSP_PLACE(tsk_dsp_columns_t, sum, 56);

/* r0 is the weights, r1 the panel, r2 and r3 are four weights, r4 to r9 sums. All other registers hold what the panel
 * has for two rows. */
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

/* Eight groups a turn. The first turn begins with the group that makes all others full. */
#define LOOP(label, group) \
    label ":\n" \
          ".rept 8\n" group ".endr\n" \
          "ldr r2, [sp]\n" \
          "cmp r1, r2\n" \
          "bne " label "b\n"

/* Where a loop is, where its stores begin, and the bytes of a group. */
#define CHOOSE(loop, stores, bytes) \
    "adr.w r4, " loop "\n" \
    "adr.w r6, " stores "\n" \
    "mov r7, #" bytes "\n"

/* To `left` with a column that is left to the caller. r2 is t, r1 is y_row, r3 is out_zero, r10 and r11 are multiplier
 * and power, r12 and lr are y for the first and the second row. */
#define LOAD_REQUANTIZATION(left) \
    "ldr r2, [sp, #16]\n" \
    "ldr r1, [r2, #44]\n" \
    "add r0, r0, r1\n" \
    "ldmia r2, {r1, r3, r10, r11, r12, lr}\n" \
    "ldr r10, [r10, lr, lsl #2]\n" \
    "lsls r10, r10, #1\n" \
    "bpl " left "\n" \
    "ldrsb r11, [r11, lr]\n" \
    "mov lr, #-1\n" \
    "add r11, r11, #32\n" \
    "lsls r11, lr, r11\n" \
    "beq " left "\n" \
    "add lr, r12, r1\n"
#define STORE(sum, place) TSK_DSP_SCALE(sum, "r10", "r11", "r3") "strb " sum ", [" place "]\n"

/* To `end` after the last column. */
#define NEXT_COLUMN(end) \
    "adds r2, #16\n" \
    "ldmia r2, {r4, r5, r6, r7, r8, r9}\n" \
    "add r4, r4, r8\n" \
    "add r5, r5, r9\n" \
    "subs r6, #1\n" \
    "beq " end "\n"
#define ENTER_LOOP \
    "ldr r1, [sp, #12]\n" \
    "ldr pc, [sp, #4]\n"
#define BEGIN_WITH_BIAS \
    "ldr r10, [r7], #4\n" \
    "stmia r2, {r4, r5, r6, r7}\n" \
    "mov r4, r10\n" \
    "mov r5, r10\n" \
    "mov r6, r10\n" \
    "mov r7, r10\n" \
    "mov r8, r10\n" \
    "mov r9, r10\n" ENTER_LOOP
#define BEGIN_WITH_FIRST \
    "stmia r2, {r4, r5, r6}\n" \
    "ldr r10, [r2, #24]\n" \
    "ldmia r10, {r4, r5, r6, r7, r8, r9}\n" ENTER_LOOP

/* A naked function, because it needs every register; aligned for ADR. On the stack are the panel's end, where the loop
 * is entered, where stores begin, the panel, and t. 1, 2 and 6: the loop for as many rows, of 6, 8 and 18 instructions
 * of four bytes for 4, 8 and 24 multiply-accumulates. 11, 12 and 16: their stores. */
TSK_DSP_NAKED __attribute__((aligned(4))) const int8_t *tsk_dsp_columns(UNUSED const int8_t *weights,
                                                                        UNUSED const int32_t *panel,
                                                                        UNUSED tsk_dsp_columns_t *t,
                                                                        UNUSED int32_t rows) {
    __asm__ volatile("push {r1, r2, r4, r5, r6, r7, r8, r9, r10, r11, lr}\n"
                     CHOOSE("6f", "16f", "72")
                     "cmp r3, #2\n"
                     "bgt 3f\n"
                     CHOOSE("2f", "12f", "32")
                     "beq 3f\n"
                     CHOOSE("1f", "11f", "24")
                     "3:\n"
                     "ldrd r5, r3, [r2, #48]\n"
                     "mla r4, r5, r7, r4\n"
                     "adds r4, #1\n" /* Thumb */
                     "adds r6, #1\n"
                     "push {r3, r4, r6}\n"
                     "adds r2, #16\n"
                     "ldmia r2, {r4, r5, r6, r7}\n"
                     "b 7f\n"
                     LOOP("1", WEIGHTS ONE_ROW("r4"))
                     "b 4f\n"
                     LOOP("2", WEIGHTS TWO_ROWS("r4", "r5"))
                     "b 4f\n"
                     LOOP("6", WEIGHTS TWO_ROWS("r4", "r5") TWO_ROWS("r6", "r7") TWO_ROWS("r8", "r9"))
                     "4:\n"
                     LOAD_REQUANTIZATION("5f")
                     "ldr pc, [sp, #8]\n"
                     "16:\n"
                     STORE("r9", "lr, r1, lsl #2")
                     STORE("r8", "r12, r1, lsl #2")
                     STORE("r7", "lr, r1, lsl #1")
                     STORE("r6", "r12, r1, lsl #1")
                     "12:\n"
                     STORE("r5", "lr")
                     "11:\n"
                     STORE("r4", "r12")
                     NEXT_COLUMN("9f")
                     "7:\n"
                     "cbz r7, 8f\n"
                     BEGIN_WITH_BIAS
                     "8:\n"
                     BEGIN_WITH_FIRST
                     "5:\n"
                     "adds r2, #56\n"
                     "stmia r2, {r4, r5, r6, r7, r8, r9}\n"
                     "b 10f\n"
                     "9:\n"
                     "str r6, [r2, #8]\n"
                     "10:\n"
                     "add sp, #20\n"
                     "pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}\n");
}

#endif
