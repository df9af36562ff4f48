/** @file
 * Text written on by a causal model, with the keys and values of all tokens so far in memory that the caller owns
 * (SPEC.md, "Causal models"). The tokens are those that the SDK picks from the same logits with the same seed.
 * Pointers must not be NULL unless a comment says so. */
#ifndef TSK_CAUSAL_H
#define TSK_CAUSAL_H

#include <stddef.h>
#include <stdint.h>

#include "tsk_bpe.h"
#include "tsk_sampler.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What the generated code says of a model. */
typedef struct {
    int32_t context;   /**< the most tokens of a text */
    int32_t caches;    /**< two for each layer: keys and values */
    int32_t heads;
    int32_t row_bytes; /**< of one token in one head */
    int32_t logits;    /**< as many as ids; values are scale * (code - zero) */
    float scale;
    int32_t zero;
    int32_t start;         /**< the id that a text begins with, or -1 */
    const uint16_t *stops; /**< [stop_count] ids that end one */
    int32_t stop_count;
    const tsk_bpe_t *tokenizer;
    /** Runs the model on one token: reads the cache, and leaves what is new of it, and the logits, in `memory`.
     * @return TSK_OK, or the model's code */
    int (*step)(void *memory, int32_t token, int32_t position);
} tsk_causal_model_t;

/** One text at a time. */
typedef struct {
    const tsk_causal_model_t *model;
    void *memory;           /**< what `step` is given */
    uint8_t *cache;         /**< [caches][heads][context][row_bytes]; slots that wait for a token hold zeros */
    const uint8_t *fresh;   /**< [caches][heads][row_bytes] of the last token */
    const int8_t *logits;   /**< [logits] of what follows it */
    uint16_t *ids;          /**< [room], for the ids of a prompt; tsk_causal_generate alone uses it */
    size_t room;            /**< the most bytes of a prompt */
    tsk_sampler_t *sampler; /**< begun by tsk_causal_generate */
    int32_t position;       /**< how many tokens have been read */
} tsk_causal_t;

/** How a text is written on. */
typedef struct {
    int32_t most;       /**< tokens, from 1 */
    double temperature; /**< these four as in tsk_sampler_start; all 0 but `top_p` 1 is greedy */
    uint32_t top_k;
    double top_p;
    uint64_t seed;
} tsk_generation_t;

/** Why a text ended. */
typedef enum {
    TSK_ENDED_STOP,   /**< the model gave an id that ends a text */
    TSK_ENDED_LENGTH, /**< as many tokens as were wanted */
    TSK_ENDED_CONTEXT /**< no more fit */
} tsk_ending_t;

/** What was written. */
typedef struct {
    int32_t tokens; /**< how many were made, without the id that ended the text */
    tsk_ending_t ending;
} tsk_written_t;

/** Begin another text: nothing of the one before stays. */
void tsk_causal_restart(tsk_causal_t *c);

/** Read one more token. @return TSK_OK, TSK_E_FULL if the context is full, TSK_E_INDEX for no id of the model, or the
 * model's code; the token is then not read */
int tsk_causal_advance(tsk_causal_t *c, int32_t token);

/** Begin with the prompt `text` and write on; `say` gets the text as it comes.
 * @return TSK_OK; TSK_E_TEXT for no UTF-8, or a text without tokens; TSK_E_SPACE for more bytes than `room`; TSK_E_FULL
 * if the prompt has more tokens than the context; TSK_E_ARGUMENT for numbers out of range, or NULL: then nothing has been said.
 * Or what the model or `say` gave. `written` is set with TSK_OK alone. */
int tsk_causal_generate(tsk_causal_t *c, const char *text, size_t bytes, const tsk_generation_t *how, tsk_say_t say,
                        void *context, tsk_written_t *written);

#ifdef __cplusplus
}
#endif

#endif
