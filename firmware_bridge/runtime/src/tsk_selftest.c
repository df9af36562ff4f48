/* The boot self-test of kernels: each form that tsk_select.h chose against the plain one, on the chip itself. */
#include "tsk_kernels.h"

#if TSK_SELFTEST
#include <string.h>

enum { TURNS = 8, DATA = 512, OUT = 256, ROWS = 13, WIDTH = 67, CHANNELS = 16, MATRIX = 11, DEPTH = 35 };

/** What the test needs in memory. Sizes of a turn are drawn so that everything fits. */
typedef struct {
    int8_t work[TSK_MATMUL_S8_SCRATCH(MATRIX, DEPTH)]; /* scratch of the kernels; first, since it is aligned to 16 */
#if TSK_ROUNDING == TSK_ROUNDING_SINGLE
    double scale[CHANNELS];
#endif
    int32_t exponents[256], bias[CHANNELS], multiplier[CHANNELS];
    int8_t shift[CHANNELS], lut[256];
    int8_t a[DATA], b[DATA], fast[OUT], plain[OUT];
    uint32_t seed;
} bench_t;

/* Scratch must hold bench_t, and `work` what the largest turn of FULLY_CONNECTED asks for, too. */
typedef char bench_fits[sizeof(bench_t) <= TSK_SELFTEST_SCRATCH ? 1 : -1];
typedef char fc_fits[TSK_FC_S8_SCRATCH(WIDTH) <= sizeof(((bench_t *)0)->work) ? 1 : -1];

/** The next number of Marsaglia's xorshift32, from `low` to `high`. */
static int32_t draw(bench_t *t, int32_t low, int32_t high) {
    t->seed ^= t->seed << 13;
    t->seed ^= t->seed >> 17;
    t->seed ^= t->seed << 5;
    return low + (int32_t)(t->seed % (uint32_t)(high - low + 1));
}

/** Bytes, a quarter of them the extremes. */
static void fill(bench_t *t, int8_t *bytes, int32_t count) {
    for (int32_t n = 0; n < count; n++) {
        const int32_t kind = draw(t, 0, 7);
        bytes[n] = (int8_t)(kind == 0 ? -128 : kind == 1 ? 127 : draw(t, -128, 127));
    }
}

static int32_t draw_multiplier(bench_t *t) {
    return draw(t, 1 << 30, INT32_MAX);
}

/** Both results are the same. They began alike, so that bytes which nobody may write are compared, too. */
static int same(const bench_t *t) {
    return memcmp(t->fast, t->plain, OUT) == 0;
}

static void clear(bench_t *t) {
    memset(t->fast, 0x55, OUT);
    memset(t->plain, 0x55, OUT);
}

static int test_fc(bench_t *t, int32_t turn) {
    const int32_t in = draw(t, 1, WIDTH), rows = draw(t, 1, DATA / in < ROWS ? DATA / in : ROWS);
    const int32_t most = DATA / in < OUT / rows ? DATA / in : OUT / rows;
    tsk_fc_s8_t p = {.weights = t->b, .bias = t->bias, .in = in, .channels = turn % 3 != 0};
    p.lut = turn % 2 ? t->lut : NULL;
    p.out = draw(t, 1, most < CHANNELS ? most : CHANNELS);
    p.out_zero = draw(t, -128, 127);
    p.min = draw(t, -128, p.out_zero);
    p.max = 127;
    for (int32_t o = 0; o < CHANNELS; o++) {
        t->bias[o] = draw(t, -100000, 100000);
        t->multiplier[o] = draw_multiplier(t);
        t->shift[o] = (int8_t)draw(t, -12, -5);
    }
#if TSK_ROUNDING == TSK_ROUNDING_SINGLE
    for (int32_t o = 0; o < CHANNELS; o++) {
        t->scale[o] = t->multiplier[o] / 2147483648.0 / (double)(1 << -t->shift[o]);
    }
    p.scale = t->scale;
#else
    p.multiplier = t->multiplier;
    p.shift = t->shift;
#endif
    tsk_fc_s8(&p, t->a, t->fast, rows, t->work);
    tsk_fc_s8_plain(&p, t->a, t->plain, rows, t->work);
    return same(t);
}

static int test_matmul(bench_t *t, int32_t turn) {
    tsk_matmul_s8_t p = {.m = draw(t, 1, 7), .n = draw(t, 1, MATRIX), .k = draw(t, 1, DEPTH), .batch = {1, 1}};
    p.lut = turn % 2 ? t->lut : NULL;
    p.a_row = turn % 4 < 2 ? p.k : 1;
    p.a_column = turn % 4 < 2 ? 1 : p.m;
    p.b_row = turn % 3 ? p.n : 1;
    p.b_column = turn % 3 ? 1 : p.k;
    p.y_row = turn % 5 ? p.n : 1;
    p.y_column = turn % 5 ? 1 : p.m;
    p.batch[turn % 2] = 2; /* the second pair begins a few bytes further */
    p.a_batch[turn % 2] = 5;
    p.b_batch[turn % 2] = 3;
    p.y_batch[turn % 2] = p.m * p.n;
    p.a_zero = draw(t, -128, 127);
    p.b_zero = draw(t, -128, 127);
    p.out_zero = draw(t, -128, 127);
    p.multiplier = draw_multiplier(t);
    p.shift = draw(t, -12, -7);
    p.min = -128;
    p.max = 127;
    tsk_matmul_s8(&p, t->a, t->b, t->fast, t->work);
    tsk_matmul_s8_plain(&p, t->a, t->b, t->plain, t->work);
    return same(t);
}

static int test_softmax(bench_t *t, int32_t turn) {
    const tsk_softmax_s8_t p = {.columns = draw(t, 1, WIDTH), .exponents = t->exponents};
    const int32_t rows = draw(t, 1, OUT / p.columns), cut = draw(t, 20, 255);
    int32_t value = INT32_MAX;
    for (int32_t d = 0; d < 256; d++) {
        t->exponents[d] = d < cut ? value : 0;
        value -= value >> (2 + turn % 5);
    }
    tsk_softmax_s8(&p, t->a, t->fast, rows);
    tsk_softmax_s8_plain(&p, t->a, t->plain, rows);
    return same(t);
}

/** Strides of an operand of [rows][columns]: dense, one row for all, one value a row, or one value. */
static void draw_strides(bench_t *t, int32_t columns, int32_t *row, int32_t *column) {
    const int32_t kind = draw(t, 0, 3);
    *row = kind == 0 ? columns : kind == 2 ? 1 : 0;
    *column = kind < 2;
}

static int test_add(bench_t *t, int32_t turn) {
    tsk_add_s8_t p = {.columns = draw(t, 1, WIDTH), .min = -128, .max = draw(t, 0, 127)};
    const int32_t rows = draw(t, 1, OUT / p.columns);
    draw_strides(t, p.columns, &p.a_row, &p.a_column);
    draw_strides(t, p.columns, &p.b_row, &p.b_column);
    p.a_offset = draw(t, -127, 128);
    p.b_offset = draw(t, -127, 128);
    p.out_offset = draw(t, -128, 127);
    p.left_shift = 20;
    p.a_multiplier = draw_multiplier(t);
    p.b_multiplier = draw_multiplier(t);
    p.out_multiplier = draw_multiplier(t);
    p.a_shift = draw(t, -4, 0);
    p.b_shift = draw(t, -1, 0);
    p.out_shift = draw(t, -20, -17);
    p.subtract = turn % 2;
    tsk_add_s8(&p, t->a, t->b, t->fast, rows);
    tsk_add_s8_plain(&p, t->a, t->b, t->plain, rows);
    if (!same(t)) {
        return 0;
    }
    clear(t);
    p.left_shift = 7;
    p.out_shift = draw(t, -22, -16);
    tsk_squared_difference_s8(&p, t->a, t->b, t->fast, rows);
    tsk_squared_difference_s8_plain(&p, t->a, t->b, t->plain, rows);
    return same(t);
}

static int test_mul(bench_t *t, int32_t turn) {
    tsk_mul_s8_t p = {.columns = draw(t, 1, WIDTH), .min = turn % 2 ? -128 : -50, .max = 127};
    const int32_t rows = draw(t, 1, OUT / p.columns);
    draw_strides(t, p.columns, &p.a_row, &p.a_column);
    draw_strides(t, p.columns, &p.b_row, &p.b_column);
    p.a_offset = draw(t, -127, 128);
    p.b_offset = draw(t, -127, 128);
    p.out_offset = draw(t, -128, 127);
    p.multiplier = draw_multiplier(t);
    p.shift = draw(t, -9, 1);
    tsk_mul_s8(&p, t->a, t->b, t->fast, rows);
    tsk_mul_s8_plain(&p, t->a, t->b, t->plain, rows);
    return same(t);
}

static int test_lut(bench_t *t, int32_t turn) {
    const tsk_lut_s8_t p = {.columns = turn % 2 ? draw(t, 1, OUT) : OUT, .lut = t->lut};
    tsk_lut_s8(&p, t->a, t->fast, 1);
    tsk_lut_s8_plain(&p, t->a, t->plain, 1);
    return same(t);
}

static int test_reduce(bench_t *t, int32_t turn) {
    tsk_reduce_s8_t p = {.inner = turn % 2 ? draw(t, 1, 19) : 1, .min = -128, .max = 127, .kind = turn % 3};
    p.count = draw(t, 1, DATA / p.inner < WIDTH ? DATA / p.inner : WIDTH);
    const int32_t rows = draw(t, 1, DATA / (p.inner * p.count) < ROWS ? DATA / (p.inner * p.count) : ROWS);
    p.in_zero = draw(t, -128, 127);
    p.out_zero = draw(t, -128, 127);
    p.multiplier = draw_multiplier(t);
    p.shift = draw(t, -7, 1);
    tsk_reduce_s8(&p, t->a, t->fast, rows);
    tsk_reduce_s8_plain(&p, t->a, t->plain, rows);
    return same(t);
}

int tsk_selftest_kernels(void *scratch, size_t bytes) {
    static int (*const TESTS[])(bench_t *, int32_t) = {
        test_fc, test_matmul, test_softmax, test_add, test_mul, test_lut, test_reduce,
    };
    if (scratch == NULL || bytes < sizeof(bench_t) || ((uintptr_t)scratch & 15) != 0) {
        return TSK_E_SPACE;
    }
    bench_t *t = scratch;
    t->seed = 1;
    for (int32_t turn = 0; turn < TURNS; turn++) {
        fill(t, t->lut, 256);
        for (size_t n = 0; n < sizeof(TESTS) / sizeof(TESTS[0]); n++) {
            fill(t, t->a, DATA);
            fill(t, t->b, DATA);
            clear(t);
            if (!TESTS[n](t, turn)) {
                return TSK_E_SELFTEST;
            }
        }
    }
    return TSK_OK;
}
#else
typedef int tsk_selftest_is_off; /* C99 wants something in every file */
#endif
