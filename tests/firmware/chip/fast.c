/* Every fast kernel against its plain form on this chip: random sizes, strides, constants and values, extreme ones
 * included. Says "kernel cases mismatches" for each, then "done". */
#include <stdbool.h>
#include <string.h>

#include "tsk_kernels.h"
#include "tsk_port.h"
#include "tsk_softmax.h"

int main(void);

/* Values of operands end where memory ends, if the board says where: what reads past them faults. */
#ifdef MEMORY_END
static int8_t *volatile operands_end = (int8_t *)(uintptr_t)(MEMORY_END);
#else
static int8_t operands[32768];
static int8_t *volatile operands_end = operands + sizeof operands;
#endif
#define PLACE(bytes) (operands_end - (bytes))

#define SIZE 4096
#define ROUNDS 300
static int8_t expected[SIZE], actual[SIZE], second[SIZE], lut[256];
static int32_t bias[64], multiplier[64], exponents[256];
static double scale[64];
static int8_t shift[64];
static union {
    int64_t align[1024];
    int8_t bytes[8192];
} scratch;

static uint32_t state = 2463534242u;

static uint32_t random_bits(void) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

/** From `low` to `high`. */
static int32_t between(int32_t low, int32_t high) {
    return low + (int32_t)(random_bits() % ((uint32_t)high - (uint32_t)low + 1));
}

/** Bytes, one of four of them extreme. */
static void fill(int8_t *x, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        const uint32_t bits = random_bits();
        x[i] = bits >> 30 ? (int8_t)bits : bits & 1 ? INT8_MIN : INT8_MAX;
    }
}

static void repeat(int8_t *x, int8_t value, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        x[i] = value;
    }
}

static int32_t random_multiplier(void) {
    return between(0, 9) == 0 ? 1 << 30 : (int32_t)(0x40000000u | random_bits() >> 2);
}

/** Limits of an output, mostly those of an int8. */
static void limit(int32_t *min, int32_t *max) {
    const bool narrow = between(0, 3) == 0;
    *min = narrow ? between(-128, 0) : -128;
    *max = narrow ? between(1, 127) : 127;
}

static void say(const char *text) {
    tsk_port_write(text, strlen(text));
}

static void say_number(int32_t number) {
    char text[12];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    text[--at] = ' ';
    tsk_port_write(text + at, sizeof text - at);
}

/** Both outputs begin alike, so that what is written outside of them shows. */
static void clear(void) {
    fill(expected, SIZE);
    memcpy(actual, expected, SIZE);
}

static void report(const char *kernel, int32_t mismatches) {
    say(kernel);
    say_number(ROUNDS);
    say_number(mismatches);
    say("\n");
}

static void test_fc(void) {
    int32_t mismatches = 0;
    for (int32_t round = 0; round < ROUNDS; round++) {
        const int32_t rows = between(0, 13), in = between(1, between(1, 200)), out = between(1, 40);
        int8_t *const weights = PLACE(out * in), *const x = weights - rows * in;
        fill(x, (rows + out) * in);
        /* Accumulators are as usual, or so large that doubling them overflows, or so small that a shift to the left
         * does not saturate. */
        const int32_t kind = between(0, 7), most = kind == 0 ? 2000000000 : kind == 1 ? 100 : 100000;
        if (kind == 1) {
            repeat(weights, 0, out * in);
        }
        for (int32_t o = 0; o < out; o++) {
            bias[o] = between(-most, most);
            multiplier[o] = random_multiplier();
            shift[o] = (int8_t)(kind == 1 ? between(-4, 2) : between(0, 7) ? between(-14, -1) : between(-31, 7));
            scale[o] = multiplier[o] / 2147483648.0 / (1 << between(1, 14));
        }
        tsk_fc_s8_t p = {.weights = weights, .bias = bias, .in = in, .out = out, .channels = between(0, 1)};
        p.out_zero = between(-128, 127);
        limit(&p.min, &p.max);
        p.lut = between(0, 3) ? NULL : lut;
#if TSK_ROUNDING == TSK_ROUNDING_SINGLE
        p.scale = scale;
#else
        p.multiplier = multiplier;
        p.shift = shift;
#endif
        clear();
        tsk_fc_s8_plain(&p, x, expected, rows, scratch.bytes);
        tsk_fc_s8(&p, x, actual, rows, scratch.bytes);
        mismatches += memcmp(expected, actual, SIZE) != 0;
    }
    report("fc_s8", mismatches);
}

static void test_matmul(void) {
    int32_t mismatches = 0;
    for (int32_t round = 0; round < ROUNDS; round++) {
        tsk_matmul_s8_t p = {.m = between(1, 13), .n = between(1, 12), .k = between(1, 45)};
        p.batch[0] = between(1, 2);
        p.batch[1] = between(1, 3);
        const bool a_across = between(0, 1), b_across = between(0, 1), y_across = between(0, 1);
        p.a_row = a_across ? 1 : p.k;
        p.a_column = a_across ? p.m : 1;
        p.b_row = b_across ? 1 : p.n;
        p.b_column = b_across ? p.k : 1;
        p.y_row = y_across ? 1 : p.n;
        p.y_column = y_across ? p.m : 1;
        p.a_batch[1] = p.m * p.k;
        p.b_batch[1] = p.n * p.k;
        p.y_batch[1] = p.m * p.n;
        p.a_batch[0] = p.batch[1] * p.a_batch[1];
        p.b_batch[0] = between(0, 1) ? p.batch[1] * p.b_batch[1] : 0;
        p.y_batch[0] = p.batch[1] * p.y_batch[1];
        p.a_zero = between(-128, 127);
        p.b_zero = between(-128, 127);
        p.out_zero = between(-128, 127);
        p.multiplier = random_multiplier();
        p.shift = between(0, 7) ? between(-14, -1) : between(-31, 3);
        limit(&p.min, &p.max);
        p.lut = between(0, 3) ? NULL : lut;
        const int32_t a_size = p.batch[0] * p.a_batch[0], b_size = p.batch[0] * p.batch[1] * p.b_batch[1];
        int8_t *const a = PLACE(a_size), *const b = a - b_size;
        fill(b, a_size + b_size);
        clear();
        tsk_matmul_s8_plain(&p, a, b, expected, scratch.bytes);
        tsk_matmul_s8(&p, a, b, actual, scratch.bytes);
        mismatches += memcmp(expected, actual, SIZE) != 0;
    }
    report("matmul_s8", mismatches);
}

/** An exponential e of the smaller of two values, for which e's share of the row comes out half of 1/256 above a whole
 * number of them, and so is rounded up, only because its product with the reciprocal has been rounded up before: one in
 * some thousands has that. Begins with multiples of 2^12, the step of the sum, drawn at random. */
static int32_t find_tie(void) {
    for (int32_t steps = between(1, 1 << 18);; steps++) {
        int32_t shift;
        const int64_t scale = tsk_softmax_scale((1 << 19) + steps, &shift);
        /* The wanted product, in units of 2^-31: a whole number and a half of 2^shift, less at most one half. */
        const int64_t near = scale * steps >> 19 >> shift << shift, wanted = (near + (1 << (shift - 1))) * (1LL << 31);
        const int64_t found = (wanted - (1 << 30) + scale - 1) / scale;
        if (found * scale < wanted && (found + (1 << 11)) >> 12 == steps) {
            return (int32_t)found;
        }
    }
}

/** @return mismatches, of rows where the last bit of a product decides. */
static int32_t test_softmax_ties(void) {
    int32_t mismatches = 0;
    for (int32_t round = 0; round < 8; round++) {
        const tsk_softmax_s8_t p = {.columns = 2, .exponents = exponents};
        exponents[0] = INT32_MAX;
        exponents[1] = find_tie();
        int8_t *const x = PLACE(2);
        x[0] = (int8_t)between(-127, 127);
        x[1] = (int8_t)(x[0] - 1);
        clear();
        tsk_softmax_s8_plain(&p, x, expected, 1);
        tsk_softmax_s8(&p, x, actual, 1);
        mismatches += memcmp(expected, actual, SIZE) != 0;
    }
    return mismatches;
}

static void test_softmax(void) {
    int32_t mismatches = test_softmax_ties();
    for (int32_t round = 0; round < ROUNDS; round++) {
        const tsk_softmax_s8_t p = {.columns = between(1, between(1, 700)), .exponents = exponents};
        const int32_t rows = between(0, 5), step = between(1, 1 << between(5, 22));
        exponents[0] = INT32_MAX;
        for (int32_t d = 1; d < 256; d++) {
            const int32_t less = (exponents[d - 1] >> 15) * (step >> 8) + between(0, 1000);
            exponents[d] = exponents[d - 1] > less ? exponents[d - 1] - less : 0;
        }
        int8_t *const x = PLACE(rows * p.columns);
        fill(x, rows * p.columns);
        if (between(0, 3) == 0) {
            repeat(x, (int8_t)between(-128, 127), rows * p.columns);
        }
        clear();
        tsk_softmax_s8_plain(&p, x, expected, rows);
        tsk_softmax_s8(&p, x, actual, rows);
        mismatches += memcmp(expected, actual, SIZE) != 0;
        memcpy(actual, x, (size_t)(rows * p.columns));
        tsk_softmax_s8(&p, actual, actual, rows);
        mismatches += memcmp(expected, actual, SIZE) != 0;
    }
    report("softmax_s8", mismatches);
}

/** Where the operands of a binary operator are: dense, repeated, or apart. */
typedef struct {
    int32_t columns, rows, a_row, a_column, b_row, b_column;
    int8_t *a, *b;
} places_t;

static places_t random_places(void) {
    places_t at = {.columns = between(1, between(1, 40)), .rows = between(0, 6)};
    at.a_column = between(0, 3) ? 1 : between(0, 2);
    at.b_column = between(0, 3) ? 1 : between(0, 2);
    at.a_row = between(0, 3) ? at.columns * at.a_column : between(0, 1);
    at.b_row = between(0, 1) ? at.columns * at.b_column : between(0, 1);
    at.a = PLACE(1 + (at.columns - 1) * at.a_column + (at.rows > 0 ? at.rows - 1 : 0) * at.a_row);
    at.b = at.a - (1 + (at.columns - 1) * at.b_column + (at.rows > 0 ? at.rows - 1 : 0) * at.b_row);
    fill(at.b, (int32_t)(PLACE(0) - at.b));
    return at;
}

/** As in models, the rescaled values of one operand are exact, or of both; seldom of neither. */
static tsk_add_s8_t random_add(const places_t *at, bool squared) {
    const int32_t exact = between(0, 9), left_shift = squared ? 7 : 20;
    const bool a_exact = exact <= 5, b_exact = exact >= 5 && exact <= 8;
    tsk_add_s8_t p = {.columns = at->columns, .a_row = at->a_row, .a_column = at->a_column, .b_row = at->b_row};
    p.b_column = at->b_column;
    p.a_offset = between(-127, 128);
    p.b_offset = between(-127, 128);
    p.out_offset = between(-128, 127);
    p.left_shift = left_shift;
    p.a_multiplier = a_exact ? 1 << 30 : random_multiplier();
    p.b_multiplier = b_exact ? 1 << 30 : random_multiplier();
    p.a_shift = a_exact ? 0 : between(-12, -1);
    p.b_shift = b_exact ? 0 : between(-12, -1);
    p.out_multiplier = random_multiplier();
    p.out_shift = between(0, 9) ? between(-left_shift, -left_shift + 6) : between(-31, 0);
    p.subtract = between(0, 1);
    limit(&p.min, &p.max);
    return p;
}

static void test_add(void) {
    int32_t mismatches = 0;
    for (int32_t round = 0; round < ROUNDS; round++) {
        const places_t at = random_places();
        const tsk_add_s8_t p = random_add(&at, false);
        clear();
        tsk_add_s8_plain(&p, at.a, at.b, expected, at.rows);
        tsk_add_s8(&p, at.a, at.b, actual, at.rows);
        mismatches += memcmp(expected, actual, SIZE) != 0;
        if (at.a_column == 1 && at.a_row == at.columns) {
            memcpy(actual, at.a, (size_t)(at.rows * at.columns));
            tsk_add_s8(&p, actual, at.b, actual, at.rows);
            mismatches += memcmp(expected, actual, SIZE) != 0;
        }
    }
    report("add_s8", mismatches);
}

static void test_squared_difference(void) {
    int32_t mismatches = 0;
    for (int32_t round = 0; round < ROUNDS; round++) {
        const places_t at = random_places();
        const tsk_squared_difference_s8_t p = random_add(&at, true);
        clear();
        tsk_squared_difference_s8_plain(&p, at.a, at.b, expected, at.rows);
        tsk_squared_difference_s8(&p, at.a, at.b, actual, at.rows);
        mismatches += memcmp(expected, actual, SIZE) != 0;
        if (at.b_column == 1 && at.b_row == at.columns) {
            memcpy(actual, at.b, (size_t)(at.rows * at.columns));
            tsk_squared_difference_s8(&p, at.a, actual, actual, at.rows);
            mismatches += memcmp(expected, actual, SIZE) != 0;
        }
    }
    report("squared_difference_s8", mismatches);
}

static void test_mul(void) {
    int32_t mismatches = 0;
    for (int32_t round = 0; round < ROUNDS; round++) {
        const places_t at = random_places();
        tsk_mul_s8_t p = {.columns = at.columns, .a_row = at.a_row, .a_column = at.a_column, .b_row = at.b_row};
        p.b_column = at.b_column;
        p.a_offset = between(-127, 128);
        p.b_offset = between(-127, 128);
        p.out_offset = between(-128, 127);
        p.multiplier = random_multiplier();
        p.shift = between(0, 9) ? between(-10, -4) : between(-31, 7);
        limit(&p.min, &p.max);
        clear();
        tsk_mul_s8_plain(&p, at.a, at.b, expected, at.rows);
        tsk_mul_s8(&p, at.a, at.b, actual, at.rows);
        mismatches += memcmp(expected, actual, SIZE) != 0;
        if (at.a_column == 1 && at.a_row == at.columns) {
            memcpy(actual, at.a, (size_t)(at.rows * at.columns));
            tsk_mul_s8(&p, actual, at.b, actual, at.rows);
            mismatches += memcmp(expected, actual, SIZE) != 0;
        }
    }
    report("mul_s8", mismatches);
}

static void test_lut(void) {
    int32_t mismatches = 0;
    for (int32_t round = 0; round < ROUNDS; round++) {
        const tsk_lut_s8_t p = {.columns = between(1, 70), .lut = lut};
        const int32_t rows = between(0, 5);
        int8_t *const x = PLACE(rows * p.columns);
        fill(x, rows * p.columns);
        clear();
        tsk_lut_s8_plain(&p, x, expected, rows);
        tsk_lut_s8(&p, x, actual, rows);
        mismatches += memcmp(expected, actual, SIZE) != 0;
        memcpy(second, expected, SIZE);
        memcpy(second, x, (size_t)(rows * p.columns));
        tsk_lut_s8(&p, second, second, rows);
        mismatches += memcmp(expected, second, SIZE) != 0;
    }
    report("lut_s8", mismatches);
}

static void test_reduce(void) {
    int32_t mismatches = 0;
    for (int32_t round = 0; round < ROUNDS; round++) {
        tsk_reduce_s8_t p = {.count = between(1, 60), .inner = between(0, 2) ? between(1, 40) : 1};
        const int32_t rows = between(0, 9);
        p.in_zero = between(-128, 127);
        p.out_zero = between(-128, 127);
        p.multiplier = random_multiplier();
        p.shift = between(0, 9) ? between(-9, -1) : between(-31, 3);
        p.kind = between(0, 2);
        limit(&p.min, &p.max);
        int8_t *const x = PLACE(rows * p.count * p.inner);
        fill(x, rows * p.count * p.inner);
        clear();
        tsk_reduce_s8_plain(&p, x, expected, rows);
        tsk_reduce_s8(&p, x, actual, rows);
        mismatches += memcmp(expected, actual, SIZE) != 0;
    }
    report("reduce_s8", mismatches);
}

int main(void) {
    fill(lut, 256);
    test_fc();
    test_matmul();
    test_softmax();
    test_add();
    test_squared_difference();
    test_mul();
    test_lut();
    test_reduce();
    say("done\n");
    for (;;) {
    }
}
