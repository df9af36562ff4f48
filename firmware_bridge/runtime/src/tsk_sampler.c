#include "tsk_sampler.h"

#include <string.h>

#include "tsk_status.h"

/* --- NumPy's SeedSequence: a seed of any quality becomes 256 bits (O'Neill's seed_seq_fe) --- */

#define POOL 4

static uint32_t hash(uint32_t value, uint32_t *constant, uint32_t multiplier) {
    value ^= *constant;
    *constant *= multiplier;
    value *= *constant;
    return value ^ value >> 16;
}

static uint32_t mix(uint32_t x, uint32_t y) {
    const uint32_t mixed = 0xca01f9ddU * x - 0x4973f715U * y;
    return mixed ^ mixed >> 16;
}

static void expand_seed(uint64_t seed, uint64_t expanded[4]) {
    uint32_t pool[POOL] = {(uint32_t)seed, (uint32_t)(seed >> 32), 0, 0}, constant = 0x43b0d7e5U;
    for (int32_t i = 0; i < POOL; i++) {
        pool[i] = hash(pool[i], &constant, 0x931e8875U);
    }
    for (int32_t from = 0; from < POOL; from++) {
        for (int32_t to = 0; to < POOL; to++) {
            if (from != to) {
                pool[to] = mix(pool[to], hash(pool[from], &constant, 0x931e8875U));
            }
        }
    }
    constant = 0x8b51f9ddU;
    for (int32_t i = 0; i < 4; i++) {
        const uint32_t low = hash(pool[2 * i % POOL], &constant, 0x58f38dedU);
        expanded[i] = (uint64_t)hash(pool[(2 * i + 1) % POOL], &constant, 0x58f38dedU) << 32 | low;
    }
}

/* --- PCG64 (O'Neill 2014, XSL-RR 128/64) --- */

static void add_128(uint64_t to[2], const uint64_t term[2]) {
    to[0] += term[0];
    to[1] += term[1] + (to[0] < term[0]);
}

/* state = state * multiplier + increment, modulo 2^128. */
static void step(tsk_sampler_t *s) {
    static const uint64_t factor[2] = {0x4385df649fccf645U, 0x2360ed051fc65da4U};
    const uint64_t a = s->state[0] & 0xffffffffU, b = s->state[0] >> 32;
    const uint64_t c = factor[0] & 0xffffffffU, d = factor[0] >> 32;
    const uint64_t middle = b * c + (a * c >> 32), other = a * d + (middle & 0xffffffffU);
    s->state[1] = b * d + (middle >> 32) + (other >> 32) + s->state[0] * factor[1] + s->state[1] * factor[0];
    s->state[0] = other << 32 | (a * c & 0xffffffffU);
    add_128(s->state, s->increment);
}

/* A double from 0 to below 1, of 53 random bits. */
static double draw(tsk_sampler_t *s) {
    uint64_t mixed;
    uint32_t turn;
    step(s);
    mixed = s->state[0] ^ s->state[1];
    turn = (uint32_t)(s->state[1] >> 58);
    mixed = mixed >> turn | mixed << (-turn & 63U);
    return (double)(mixed >> 11) * (1.0 / 9007199254740992.0);
}

/* --- choosing --- */

/* exp(x) for x up to 0: 2^n exp(r) with |r| up to log(2) / 2, and exp(r) as in FreeBSD's e_exp.c, the first terms of
 * a continued fraction (Remez). Below exp(-708), where results would be denormal, 0. */
static double exp_negative(double x) {
    double n, high, low, r, t, c;
    uint64_t bits;
    if (!(x >= -708.0)) {
        return 0.0;
    }
    n = (double)(int32_t)(x * 1.44269504088896338700 - 0.5);
    high = x - n * 6.93147180369123816490e-01;
    low = n * 1.90821492927058770002e-10;
    r = high - low;
    t = r * r;
    c = r - t * (1.66666666666666019037e-01 +
                 t * (-2.77777777770155933842e-03 +
                      t * (6.61375632143793436117e-05 + t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08))));
    r = 1.0 - ((low - r * c / (2.0 - c)) - high);
    bits = (uint64_t)(1023 + (int32_t)n) << 52;
    memcpy(&t, &bits, sizeof t);
    return r * t;
}

int tsk_sampler_start(tsk_sampler_t *s, double temperature, uint32_t top_k, double top_p, uint64_t seed) {
    uint64_t expanded[4];
    if (!(temperature >= 0.0 && temperature <= 100.0 && top_p > 0.0 && top_p <= 1.0)) {
        return TSK_E_ARGUMENT;
    }
    s->temperature = temperature;
    s->top_k = top_k;
    s->top_p = top_p;
    expand_seed(seed, expanded);
    s->increment[0] = expanded[3] << 1 | 1;
    s->increment[1] = expanded[2] << 1 | expanded[3] >> 63;
    s->state[0] = s->state[1] = 0;
    step(s);
    add_128(s->state, (const uint64_t[2]){expanded[1], expanded[0]});
    step(s);
    return TSK_OK;
}

/* How many tokens with each code there are, and what one is worth. Returns the highest code. */
static int32_t survey(tsk_sampler_t *s, const int8_t *logits, int32_t count, float scale, int32_t zero) {
    int32_t highest = -128;
    float top;
    memset(s->count, 0, sizeof s->count);
    for (int32_t i = 0; i < count; i++) {
        s->count[logits[i] + 128]++;
        highest = logits[i] > highest ? logits[i] : highest;
    }
    top = (float)(highest - zero) * scale;
    for (int32_t code = -128; code < 128; code++) {
        const double below = (double)((float)(code - zero) * scale) - (double)top;
        s->worth[code + 128] = s->count[code + 128] > 0 ? exp_negative(below / s->temperature) : 0.0;
    }
    return highest;
}

/* The last code of the `most` highest tokens, and in *equal how many of that code are among them. */
static int32_t find_least(const tsk_sampler_t *s, int32_t highest, uint32_t most, uint32_t *equal) {
    int32_t code = highest;
    while (most > s->count[code + 128]) {
        most -= s->count[code + 128];
        code--;
    }
    *equal = most;
    return code;
}

/* Adds what the `most` highest tokens are worth, the highest first, until there are `most` of them or the sum is at
 * least `enough`. Returns how many it took; the sum is in *sum. */
static uint32_t add_up(const tsk_sampler_t *s, int32_t highest, uint32_t most, double enough, double *sum) {
    uint32_t taken = 0;
    *sum = 0.0;
    for (int32_t code = highest; taken < most; code--) {
        for (uint32_t i = 0; i < s->count[code + 128] && taken < most; i++) {
            *sum += s->worth[code + 128];
            taken++;
            if (*sum >= enough) {
                return taken;
            }
        }
    }
    return taken;
}

int32_t tsk_sampler_pick(tsk_sampler_t *s, const int8_t *logits, int32_t count, float scale, int32_t zero) {
    uint32_t most = (uint32_t)count, equal, left;
    int32_t highest, least, last = 0;
    double sum = 0.0, wanted;
    if (s->temperature <= 0.0) {
        for (int32_t i = 1; i < count; i++) {
            last = logits[i] > logits[last] ? i : last;
        }
        return last;
    }
    highest = survey(s, logits, count, scale, zero);
    if (s->top_k > 0 && s->top_k < most) {
        most = s->top_k;
    }
    if (s->top_p < 1.0) {
        (void)add_up(s, highest, most, 1e300, &sum);
        most = add_up(s, highest, most, s->top_p * sum, &sum);
    }
    least = find_least(s, highest, most, &equal);
    sum = 0.0;
    left = equal;
    for (int32_t i = 0; i < count; i++) {
        if (logits[i] > least || (logits[i] == least && left > 0)) {
            left -= logits[i] == least;
            sum += s->worth[logits[i] + 128];
        }
    }
    wanted = draw(s) * sum;
    sum = 0.0;
    left = equal;
    for (int32_t i = 0; i < count; i++) {
        if (logits[i] > least || (logits[i] == least && left > 0)) {
            left -= logits[i] == least;
            sum += s->worth[logits[i] + 128];
            if (sum > wanted) {
                return i;
            }
            if (s->worth[logits[i] + 128] > 0.0) {
                last = i; /* the product may have been rounded up to the whole sum: then it is the last of any weight */
            }
        }
    }
    return last;
}
