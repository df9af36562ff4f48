#include "tsk_adapter.h"

#include <stddef.h>
#include <string.h>

/* Above this probability the model answers a fleet's adapter, as in the SDK. */
#define CONFIDENT 0.9f
/* exp(-18) is less than two hundred-millionths. */
#define FAR (-18.0f)

/* exp(x) for x up to 0, 0 below FAR, to some units in the last place: 2^n exp(r) with |r| up to log(2) / 2, and exp(r)
 * by its Taylor series up to r^7. */
static float exp_negative(float x) {
    static const float terms[7] = {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f};
    float sum = 1.0f / 5040.0f, power;
    int32_t n, i;
    uint32_t bits;
    if (!(x >= FAR)) {
        return 0.0f;
    }
    n = (int32_t)(x * 1.44269504f - 0.5f);
    x = (x - (float)n * 0.693359375f) + (float)n * 2.12194440e-4f; /* log(2) in two parts */
    for (i = 0; i < 7; i++) {
        sum = sum * x + terms[i];
    }
    bits = (uint32_t)(127 + n) << 23;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

/* The calibrated logit of a label; `alone` leaves the adapter out for the model's own labels. */
static float score(const tsk_adapter_t *p, int32_t label, const int8_t *logits, const int8_t *features, int alone) {
    float sum = label < p->logits ? p->step * (float)(logits[label] - p->zero) : 0.0f;
    if (p->bias != NULL && !(alone && label < p->logits)) {
        sum += p->bias[label];
        if (p->weight != NULL) {
            const float *const row = p->weight + (size_t)label * (size_t)p->features;
            int32_t j;
            for (j = 0; j < p->features; j++) {
                sum += row[j] * (float)features[j];
            }
        }
    }
    return sum;
}

/* Whether the model's own best label has a calibrated probability of at least CONFIDENT. */
static int is_confident(const tsk_adapter_t *p, const int8_t *logits) {
    float sum = 0.0f;
    int32_t i, top = -128;
    for (i = 0; i < p->logits; i++) {
        top = logits[i] > top ? logits[i] : top;
    }
    for (i = 0; i < p->logits; i++) {
        sum += exp_negative(p->gate * (float)(logits[i] - top));
    }
    return 1.0f / sum >= CONFIDENT;
}

void tsk_adapter_answer(const tsk_adapter_t *p, const int8_t *logits, const int8_t *features, tsk_answer_t *answer) {
    const int alone = p->gate > 0.0f && is_confident(p, logits);
    float top = score(p, 0, logits, features, alone), sum = 0.0f, second = 0.0f;
    int32_t best = 0, i;
    for (i = 1; i < p->labels; i++) {
        const float found = score(p, i, logits, features, alone);
        if (found > top) {
            top = found;
            best = i;
        }
    }
    for (i = 0; i < p->labels; i++) {
        const float share = i == best ? 1.0f : exp_negative(score(p, i, logits, features, alone) - top);
        sum += share;
        if (i != best && share > second) {
            second = share;
        }
    }
    answer->label = best;
    answer->name = p->names[best];
    answer->confidence = 1.0f / sum;
    answer->second = second / sum;
    answer->sure = answer->confidence >= p->floor && answer->second < p->floor;
}
