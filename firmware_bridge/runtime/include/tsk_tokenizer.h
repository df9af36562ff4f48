/** @file
 * Text to ids: greedy longest match over a fixed vocabulary of pieces (WordPiece), on bytes (SPEC.md, "Tokenizer").
 * The same bytes give the same ids as the SDK's tokenizer.
 * Pointers must not be NULL unless a comment says so. */
#ifndef TSK_TOKENIZER_H
#define TSK_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Longer words are one unknown piece; bounds the work per byte of text. */
#define TSK_MAX_WORD_BYTES 64

/** A vocabulary as two dictionaries, of pieces that begin a word and of those that continue one.
 * A dictionary is a list of groups, by the first byte of their pieces, ascending: that byte, the bytes of the entries
 * that follow (16 bits), and an entry for each piece, in the order of their bytes:
 *   - shared with the piece before, beyond the first byte: the upper 4 bits of a byte; bytes that follow: the lower 4.
 *     Where either is above 14, a byte 0xFF and then a byte for each.
 *   - the bytes that follow
 *   - the id (16 bits)
 * All numbers are little-endian. */
typedef struct {
    const uint8_t *first, *later;
    uint32_t first_bytes, later_bytes;
    int32_t tokens; /**< ids of an encoding */
} tsk_tokenizer_t;

/** Ids of the `bytes` bytes `text`, padded with 0 and cut at the end. Any bytes will do; invalid UTF-8 is bytes, too.
 * @param ids int32 [tokens]
 * @return how many of `ids` are pieces */
int32_t tsk_tokenizer_encode(const tsk_tokenizer_t *p, const char *text, size_t bytes, int32_t *ids);

/** 1 if there is nothing but ASCII white space, else 0. */
int tsk_tokenizer_is_blank(const char *text, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
