#include "tsk_tokenizer.h"

#define UNKNOWN 1
#define NONE (-1)

static uint32_t read_u16(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

/* The entries of the group of `byte`: their first byte, and one past their last in *end. NULL if there is no group. */
static const uint8_t *find_group(const uint8_t *at, uint32_t bytes, uint8_t byte, const uint8_t **end) {
    const uint8_t *const last = at + bytes;
    while (at < last && at[0] <= byte) {
        const uint8_t *const entries = at + 3;
        *end = entries + read_u16(at + 1);
        if (at[0] == byte) {
            return entries;
        }
        at = *end;
    }
    return NULL;
}

/* The longest piece that `word` begins with: its id, and its bytes in *length. NONE if there is no such piece.
 * Of a piece, only what it does not share with the piece before is looked at: `matched` bytes of that one are those of
 * the word. Pieces are sorted, so the search ends at the first that comes after the word. */
static int32_t find_longest(const uint8_t *at, const uint8_t *end, const uint8_t *word, uint32_t bytes, uint32_t *length) {
    int32_t found = NONE;
    uint32_t matched = 1;
    while (at < end) {
        uint32_t shared = 1U + (at[0] >> 4), rest = at[0] & 15U, same = 0;
        if (*at++ == 0xFF) {
            shared = 1U + at[0];
            rest = at[1];
            at += 2;
        }
        if (shared < matched) {
            break;
        }
        if (shared == matched) {
            while (same < rest && matched < bytes && at[same] == word[matched]) {
                same++;
                matched++;
            }
            if (same == rest) {
                found = (int32_t)read_u16(at + rest);
                *length = matched;
            } else if (matched == bytes || at[same] > word[matched]) {
                break;
            }
        }
        at += rest + 2;
    }
    return found;
}

/* Appends the pieces of a word to `ids`, which has `count` and room for `tokens`; returns how many there are then. */
static int32_t split_word(const tsk_tokenizer_t *p, const uint8_t *word, uint32_t bytes, int32_t *ids, int32_t count) {
    const uint8_t *table = p->first;
    uint32_t table_bytes = p->first_bytes;
    if (bytes > TSK_MAX_WORD_BYTES) {
        ids[count++] = UNKNOWN;
        return count;
    }
    while (bytes > 0 && count < p->tokens) {
        const uint8_t *end = NULL;
        uint32_t length = 0;
        const uint8_t *const entries = find_group(table, table_bytes, word[0], &end);
        const int32_t id = entries == NULL ? NONE : find_longest(entries, end, word, bytes, &length);
        if (id == NONE) {
            ids[count++] = UNKNOWN;
            return count;
        }
        ids[count++] = id;
        word += length;
        bytes -= length;
        table = p->later;
        table_bytes = p->later_bytes;
    }
    return count;
}

static int is_word_byte(uint8_t byte) {
    return byte >= 128 || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9');
}

int32_t tsk_tokenizer_encode(const tsk_tokenizer_t *p, const char *text, size_t bytes, int32_t *ids) {
    uint8_t word[TSK_MAX_WORD_BYTES];
    uint32_t length = 0;
    int32_t count = 0, i;
    size_t at;
    /* One step past the end, as if a space followed. */
    for (at = 0; at <= bytes && count < p->tokens; at++) {
        uint8_t byte = at < bytes ? (uint8_t)text[at] : (uint8_t)' ';
        if (byte >= 'A' && byte <= 'Z') {
            byte = (uint8_t)(byte + ('a' - 'A'));
        }
        if (is_word_byte(byte)) {
            if (length < TSK_MAX_WORD_BYTES) {
                word[length] = byte;
            }
            length += length <= TSK_MAX_WORD_BYTES; /* one more than fits says that it is too long */
        } else if (byte != '\'' && length > 0) {
            count = split_word(p, word, length, ids, count);
            length = 0;
        }
    }
    for (i = count; i < p->tokens; i++) {
        ids[i] = 0;
    }
    return count;
}

int tsk_tokenizer_is_blank(const char *text, size_t bytes) {
    size_t at = 0;
    while (at < bytes && (text[at] == ' ' || (text[at] >= 9 && text[at] <= 13) || (text[at] >= 28 && text[at] <= 31))) {
        at++;
    }
    return at == bytes;
}
