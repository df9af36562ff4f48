/* Operators on two operands for a line of values, in assembler for the DSP extension. */
#include "tsk_line_dsp.h"

#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

#define UNUSED __attribute__((unused))

/* Each of the first three is one LDM. */
TSK_DSP_PLACE(tsk_dsp_line_t, a, 0);
TSK_DSP_PLACE(tsk_dsp_line_t, b, 20);
TSK_DSP_PLACE(tsk_dsp_line_t, y, 40);
TSK_DSP_PLACE(tsk_dsp_line_t, a_step, 60);
TSK_DSP_PLACE(tsk_dsp_line_t, b_step, 64);
TSK_DSP_PLACE(tsk_dsp_line_t, end, 68);

/* r0, r1 and r2 are a, b and y, r3 the constants or a temporary, r4 to r7 four values, r8 to r12 constants, lr four
 * bytes. The constants are on the stack, too. */
#define WIDEN(value, turn) "sxtab " value ", r8, lr" turn "\n"
#define RESCALE(value) \
    "lsl " value ", " value ", r9\n" \
    "smmulr " value ", " value ", r10\n" \
    "add " value ", " value ", " value ", asr #31\n" \
    "add " value ", " value ", r11\n" \
    "asr " value ", " value ", r12\n"
/* From twice the value to an int8. */
#define FINISH(value) \
    "smmulr " value ", " value ", r8\n" \
    "add " value ", " value ", " value ", asr #31\n" \
    "add " value ", " value ", r9\n" \
    "asr " value ", " value ", r10\n" \
    "ssat " value ", #8, " value "\n"
/* Packs four values, clamps them, stores them, and goes on. */
#define STORE_FOUR \
    "bfi r4, r5, #8, #8\n" \
    "bfi r4, r6, #16, #8\n" \
    "bfi r4, r7, #24, #8\n" \
    "ssub8 r5, r4, r11\n" \
    "sel r4, r4, r11\n" \
    "ssub8 r5, r12, r4\n" \
    "sel r4, r4, r12\n" \
    "str r4, [r2], #4\n" \
    "ldr r3, [sp]\n" \
    "ldrd r8, r9, [r3, #60]\n" \
    "ldr r10, [r3, #68]\n" \
    "add r0, r0, r8\n" \
    "add r1, r1, r9\n" \
    "cmp r2, r10\n" \
    "bne 1b\n"

/* A naked function, because it needs every register. */
#define DEFINE_LINE(name, body) \
    TSK_DSP_NAKED void name(UNUSED const int8_t *a, UNUSED const int8_t *b, UNUSED int8_t *y, \
                            UNUSED const tsk_dsp_line_t *k) { \
        __asm__ volatile("push {r3, r4, r5, r6, r7, r8, r9, r10, r11, lr}\n" \
                         "1:\n" body STORE_FOUR "add sp, #4\n" \
                         "pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}\n"); \
    }

/* Both operands are rescaled, then `combine` makes twice the value of a's (r4 to r7) and b's (r3). */
#define TWO_OPERANDS(combine) \
    "ldmia r3, {r8, r9, r10, r11, r12}\n" \
    "ldr lr, [r0]\n" WIDEN("r4", "") RESCALE("r4") WIDEN("r5", ", ror #8") RESCALE("r5") WIDEN("r6", ", ror #16") \
        RESCALE("r6") WIDEN("r7", ", ror #24") RESCALE("r7") \
    "ldr r3, [sp]\n" \
    "add r3, #20\n" \
    "ldmia r3, {r8, r9, r10, r11, r12}\n" \
    "ldr lr, [r1]\n" WIDEN("r3", "") RESCALE("r3") combine("r4") WIDEN("r3", ", ror #8") RESCALE("r3") combine("r5") \
        WIDEN("r3", ", ror #16") RESCALE("r3") combine("r6") WIDEN("r3", ", ror #24") RESCALE("r3") combine("r7") \
    "ldr r3, [sp]\n" \
    "add r3, #40\n" \
    "ldmia r3, {r8, r9, r10, r11, r12}\n" FINISH("r4") FINISH("r5") FINISH("r6") FINISH("r7")

#define ADD(value) "add " value ", " value ", r3\n" "lsl " value ", " value ", #1\n"
#define SUBTRACT(value) "sub " value ", " value ", r3\n" "lsl " value ", " value ", #1\n"
#define SQUARE_DIFFERENCE(value) \
    "sub " value ", " value ", r3\n" \
    "mul " value ", " value ", " value "\n" \
    "qadd " value ", " value ", " value "\n"
DEFINE_LINE(tsk_dsp_add_line, TWO_OPERANDS(ADD))
DEFINE_LINE(tsk_dsp_subtract_line, TWO_OPERANDS(SUBTRACT))
DEFINE_LINE(tsk_dsp_squared_difference_line, TWO_OPERANDS(SQUARE_DIFFERENCE))

/* Twice the product of a's value (lr, less the zero point in r8) and b's (r3, in r9). */
#define MULTIPLY(value, turn) \
    "sxtab " value ", r8, lr" turn "\n" \
    "sxtab r12, r9, r3" turn "\n" \
    "mul " value ", " value ", r12\n" \
    "lsl " value ", " value ", #1\n"
DEFINE_LINE(tsk_dsp_mul_line, "ldr r8, [r3]\n"
                      "ldr r9, [r3, #20]\n"
                      "ldr lr, [r0]\n"
                      "ldr r3, [r1]\n" MULTIPLY("r4", "") MULTIPLY("r5", ", ror #8") MULTIPLY("r6", ", ror #16")
                          MULTIPLY("r7", ", ror #24") "ldr r3, [sp]\n"
                      "add r3, #40\n"
                      "ldmia r3, {r8, r9, r10, r11, r12}\n" FINISH("r4") FINISH("r5") FINISH("r6") FINISH("r7"))

#endif
