/* Operators on two operands for a line of values, in assembler for the DSP extension. */
#include "tsk_line_dsp.h"

#include "tsk_dsp.h"

#if TSK_KERNELS == TSK_KERNELS_DSP

#define UNUSED __attribute__((unused))

/* What a line needs is a sequence of LDM. */
TSK_DSP_PLACE(tsk_dsp_line_t, a, 0);
TSK_DSP_PLACE(tsk_dsp_line_t, constant, 16);
TSK_DSP_PLACE(tsk_dsp_line_t, factor, 20);
TSK_DSP_PLACE(tsk_dsp_line_t, y, 24);
TSK_DSP_PLACE(tsk_dsp_line_t, end, 44);

/* r0, r1 and r2 are a, b and y, r3 is where the next constants are, r4 to r7 four values, r8 to r12 constants, lr four
 * bytes. */
#define FOUR(do) do("r4", "") do("r5", ", ror #8") do("r6", ", ror #16") do("r7", ", ror #24")

#define RESCALE(value, turn) \
    "sxtab " value ", r8, lr" turn "\n" \
    "lsl " value ", " value ", r9\n" \
    "smmulr " value ", " value ", r10\n" \
    "add " value ", " value ", " value ", asr #31\n" \
    "smmlsr " value ", " value ", r11, r12\n"
#define ADD(value, turn) \
    "sxtb r9, lr" turn "\n" \
    "mla " value ", r9, r8, " value "\n"
#define RESCALED_A_AND_B \
    "ldmia r3!, {r8, r9, r10, r11, r12}\n" \
    "ldr lr, [r0], #4\n" FOUR(RESCALE) \
    "ldr r8, [r3], #4\n" \
    "ldr lr, [r1], #4\n" FOUR(ADD)

#define SCALE(value, turn) \
    "sxtb " value ", lr" turn "\n" \
    "mla " value ", " value ", r9, r8\n"
#define SCALED_A \
    "ldmia r3!, {r8, r9}\n" \
    "ldr lr, [r0], #4\n" FOUR(SCALE)

#define MULTIPLY(value, turn) \
    "sxtab " value ", r8, lr" turn "\n" \
    "sxtab r11, r9, r10" turn "\n" \
    "mul " value ", " value ", r11\n"
#define PRODUCT \
    "ldmia r3!, {r8, r9}\n" \
    "ldr lr, [r0], #4\n" \
    "ldr r10, [r1], #4\n" FOUR(MULTIPLY)

#define NEGATE(value, turn) "rsb " value ", " value ", #0\n"
#define SQUARE(value, turn) "mul " value ", " value ", " value "\n"
#define REQUANTIZE(value, turn) TSK_DSP_SCALE(value, "r8", "r9", "r10")

/* A naked function, because it needs every register. Four values are packed, clamped and stored a turn. Where the
 * constants begin, and the end of y, are on the stack. */
#define DEFINE_LINE(name, begin, values) \
    TSK_DSP_NAKED void name(UNUSED const int8_t *a, UNUSED const int8_t *b, UNUSED int8_t *y, \
                            UNUSED const tsk_dsp_line_t *k) { \
        __asm__ volatile("push {r4, r5, r6, r7, r8, r9, r10, r11, lr}\n" \
                         "ldr r4, [r3, #44]\n" \
                         "adds r3, #" begin "\n" \
                         "push {r3, r4}\n" \
                         "1:\n" values \
                         "ldmia r3, {r8, r9, r10, r11, r12}\n" FOUR(REQUANTIZE) \
                         "bfi r4, r5, #8, #8\n" \
                         "bfi r4, r6, #16, #8\n" \
                         "bfi r4, r7, #24, #8\n" \
                         "ssub8 r5, r4, r11\n" \
                         "sel r4, r4, r11\n" \
                         "ssub8 r5, r12, r4\n" \
                         "sel r4, r4, r12\n" \
                         "str r4, [r2], #4\n" \
                         "ldrd r3, r4, [sp]\n" \
                         "cmp r2, r4\n" \
                         "bne 1b\n" \
                         "add sp, #8\n" \
                         "pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}\n"); \
    }

DEFINE_LINE(tsk_dsp_affine_line, "16", SCALED_A)
DEFINE_LINE(tsk_dsp_square_line, "16", SCALED_A FOUR(SQUARE))
DEFINE_LINE(tsk_dsp_add_line, "0", RESCALED_A_AND_B)
DEFINE_LINE(tsk_dsp_subtract_line, "0", RESCALED_A_AND_B FOUR(NEGATE))
DEFINE_LINE(tsk_dsp_squared_difference_line, "0", RESCALED_A_AND_B FOUR(SQUARE))
DEFINE_LINE(tsk_dsp_mul_line, "16", PRODUCT)

#endif
