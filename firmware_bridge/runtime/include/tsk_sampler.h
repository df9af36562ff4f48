/** @file
 * Choosing the next token from int8 logits: greedy, temperature, top-k and top-p. For the same seed it picks what the
 * SDK's sampler picks (SPEC.md, "Sampling"): NumPy's PCG64 and SeedSequence, sums in binary64 in the same order. An
 * exponential may differ from another library's in its last bit; no pick is known to.
 * Pointers must not be NULL unless a comment says so. */
#ifndef TSK_SAMPLER_H
#define TSK_SAMPLER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The most logits. */
#define TSK_SAMPLER_MAX_LOGITS 65535

/** What one text's tokens are drawn with. Begin with tsk_sampler_start; then the fields are the sampler's own. */
typedef struct {
    double temperature, top_p;
    uint32_t top_k;
    uint64_t state[2], increment[2]; /**< of PCG64: 128 bits each, the lower half first */
    double worth[256];               /**< of each code, 0 for one that no token has */
    uint16_t count[256];             /**< tokens that have each code */
} tsk_sampler_t;

/** @param temperature 0 (greedy) to 100
 * @param top_k        0 (every token), or how many are kept
 * @param top_p        above 0 to 1 (every token): the share of the nucleus
 * @return TSK_OK, or TSK_E_ARGUMENT for a number out of its range */
int tsk_sampler_start(tsk_sampler_t *s, double temperature, uint32_t top_k, double top_p, uint64_t seed);

/** An id, 0 to count - 1. Of equal logits the lowest ids come first.
 * @param logits int8 [count], 1 to TSK_SAMPLER_MAX_LOGITS, whose values are scale * (code - zero) */
int32_t tsk_sampler_pick(tsk_sampler_t *s, const int8_t *logits, int32_t count, float scale, int32_t zero);

#ifdef __cplusplus
}
#endif

#endif
