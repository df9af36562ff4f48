/** @file
 * The tokenizer of a causal model: byte-level byte-pair encoding, as the package `tokenizers` does it for GPT-2,
 * SmolLM2 and their kin (Sennrich et al. 2016; Radford et al. 2019). Text to ids, and ids to text.
 * Pointers must not be NULL unless a comment says so. */
#ifndef TSK_BPE_H
#define TSK_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "tsk_utf8.h"

#ifdef __cplusplus
extern "C" {
#endif

/** No id: a byte that the vocabulary does not have, and which is left out. */
#define TSK_BPE_NONE 0xFFFF

/** Two neighbours that become one token. */
typedef struct {
    uint16_t left, right, id;
} tsk_bpe_merge_t;

/** The vocabulary. */
typedef struct {
    const tsk_bpe_merge_t *merges; /**< sorted by left, then right */
    const uint16_t *ranks;         /**< [merge_count] the lowest is done first; NULL if these are the merges' ids */
    uint32_t merge_count;
    const uint16_t *bytes;   /**< [256] id of each byte, or TSK_BPE_NONE */
    const uint8_t *text;     /**< the bytes of all tokens, one after the other; a special token has none */
    const uint16_t *offsets; /**< [vocabulary + 1] where in `text` each begins */
    int32_t vocabulary;
    int32_t digits; /**< 1: every digit is a piece by itself */
} tsk_bpe_t;

/** Ids of `text`; names of special tokens are text as any other.
 * @param ids  uint16 [room]; what is beyond the result is overwritten, too
 * @param room at least `bytes`
 * @return how many ids, or TSK_E_TEXT if the text is no UTF-8, TSK_E_SPACE if there is not enough room */
int32_t tsk_bpe_encode(const tsk_bpe_t *p, const char *text, size_t bytes, uint16_t *ids, size_t room);

/** Gives `say` the text of one more token, as far as no later one can change it. `stream` is all 0 before the first;
 * after the last, tsk_utf8_end gives what was held back.
 * @return TSK_OK, TSK_E_INDEX if there is no such token, or what `say` did */
int tsk_bpe_say(const tsk_bpe_t *p, tsk_utf8_t *stream, int32_t token, tsk_say_t say, void *context);

#ifdef __cplusplus
}
#endif

#endif
