/** @file
 * UTF-8: characters out of bytes, and bytes that come in pieces.
 * Pointers must not be NULL unless a comment says so. */
#ifndef TSK_UTF8_H
#define TSK_UTF8_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Takes a part of a text, which does not end with a 0 byte. @return TSK_OK, or a code that ends what is going on. */
typedef int (*tsk_say_t)(void *context, const char *text, size_t bytes);

/** The character at `text`, of which `bytes` are left; in *size its bytes.
 * @return a code point, or -1 if there is none, or bytes that are no UTF-8 */
int32_t tsk_utf8_read(const char *text, size_t bytes, size_t *size);

/** A text whose characters may be split over its parts; all 0 at first. */
typedef struct {
    char held[4];       /**< of a character, before its last byte has come */
    uint8_t count;      /**< how many */
    uint8_t left;       /**< bytes of it to come */
    uint8_t low, high;  /**< between which the next must be */
} tsk_utf8_t;

/** Gives `say` what is whole of the text so far and one more part. A sequence that is no UTF-8 becomes U+FFFD, as long
 * as it could have been the beginning of a character (Unicode, "maximal subpart").
 * @return TSK_OK, or what `say` did */
int tsk_utf8_push(tsk_utf8_t *stream, const char *text, size_t bytes, tsk_say_t say, void *context);
/** The text ends: what is held becomes U+FFFD. @return TSK_OK, or what `say` did */
int tsk_utf8_end(tsk_utf8_t *stream, tsk_say_t say, void *context);

#ifdef __cplusplus
}
#endif

#endif
