#include "tsk_bpe.h"

#include <string.h>

#include "tsk_status.h"
#include "tsk_unicode.h"

#define NO_RANK 0xFFFFFFFFU

static uint32_t read_groups(const uint8_t **at) {
    uint32_t value = 0, shift = 0;
    do {
        value |= (uint32_t)(**at & 127) << shift;
        shift += 7;
    } while (*(*at)++ & 128);
    return value;
}

/* The class of a character: one of tsk_unicode.h. */
static int32_t classify(int32_t point) {
    const uint8_t *at = character_ranges;
    uint32_t left = (uint32_t)point;
    while (at < character_ranges + sizeof character_ranges) {
        const uint32_t gap = read_groups(&at), range = read_groups(&at);
        if (left < gap) {
            break;
        }
        left -= gap;
        if (left <= range >> 2) {
            return (int32_t)(range & 3) + 1;
        }
        left -= (range >> 2) + 1;
    }
    return OTHER;
}

/* A text that is cut into pieces, each of which is encoded by itself. */
typedef struct {
    const char *text;
    size_t at, end;
    int digits;
} cut_t;

/* The class of the character at `at`, and where the next begins; SPACE at the end of the text. DIGIT is told from OTHER
 * only by is_digit. */
static int32_t look(const cut_t *cut, size_t at, size_t *next) {
    size_t size = 0;
    const int32_t point = tsk_utf8_read(cut->text + at, cut->end - at, &size);
    *next = at + size;
    return point < 0 ? SPACE : classify(point);
}

static int is_digit(const cut_t *cut, int32_t class) {
    return cut->digits && (class == NUMBER || class == DIGIT);
}

/* Where the characters from `at` on that are like the first end; a digit that is a piece by itself ends them, too. */
static size_t skip_alike(const cut_t *cut, size_t at) {
    size_t next;
    const int32_t first = look(cut, at, &next) % DIGIT;
    int32_t class;
    do {
        at = next;
        class = look(cut, at, &next);
    } while (at < cut->end && class % DIGIT == first && !is_digit(cut, class));
    return at;
}

/* The bytes of 's 't 're 've 'm 'll 'd at `at`, or 0. */
static size_t match_contraction(const cut_t *cut, size_t at) {
    static const char endings[7][3] = {"s", "t", "re", "ve", "m", "ll", "d"};
    for (size_t i = 0; cut->text[at] == '\'' && i < 7; i++) {
        const size_t length = strlen(endings[i]);
        if (cut->end - at > length && memcmp(cut->text + at + 1, endings[i], length) == 0) {
            return length + 1;
        }
    }
    return 0;
}

/* Where white space from `at` on ends: its last character belongs to what follows, if something does. */
static size_t skip_space(const cut_t *cut, size_t at) {
    size_t last = at, next;
    const size_t begin = at;
    while (at < cut->end && look(cut, at, &next) == SPACE) {
        last = at;
        at = next;
    }
    return at < cut->end && last > begin && !is_digit(cut, look(cut, at, &next)) ? last : at;
}

/* The end of the piece that begins at cut->at, which is before cut->end, by the expression of GPT-2:
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t find_end(const cut_t *cut) {
    size_t next, after;
    const size_t contraction = match_contraction(cut, cut->at);
    const int32_t class = look(cut, cut->at, &next);
    if (contraction > 0) {
        return cut->at + contraction;
    }
    if (is_digit(cut, class)) {
        return next;
    }
    if (class != SPACE) {
        return skip_alike(cut, cut->at);
    }
    if (cut->text[cut->at] == ' ' && next < cut->end) {
        const int32_t following = look(cut, next, &after);
        if (following != SPACE && !is_digit(cut, following)) {
            return skip_alike(cut, next);
        }
    }
    return skip_space(cut, cut->at);
}

/* How soon two neighbours are joined, and what they become; NO_RANK if they are not. */
static uint32_t find_rank(const tsk_bpe_t *p, uint16_t left, uint16_t right, uint16_t *id) {
    const uint32_t wanted = (uint32_t)left << 16 | right;
    uint32_t low = 0, high = p->merge_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const tsk_bpe_merge_t *const merge = p->merges + middle;
        const uint32_t found = (uint32_t)merge->left << 16 | merge->right;
        if (found == wanted) {
            *id = merge->id;
            return p->ranks == NULL ? merge->id : p->ranks[middle];
        }
        if (found < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NO_RANK;
}

/* Joins neighbours, those with the lowest rank first, of equals the leftmost; returns how many are left. */
static int32_t join(const tsk_bpe_t *p, uint16_t *ids, int32_t count) {
    for (;;) {
        uint32_t best = NO_RANK;
        int32_t place = 0;
        uint16_t made = 0;
        for (int32_t i = 0; i + 1 < count; i++) {
            uint16_t id = 0;
            const uint32_t rank = find_rank(p, ids[i], ids[i + 1], &id);
            if (rank < best) {
                best = rank;
                place = i;
                made = id;
            }
        }
        if (best == NO_RANK) {
            return count;
        }
        ids[place] = made;
        count--;
        memmove(ids + place + 1, ids + place + 2, (size_t)(count - place - 1) * sizeof *ids);
    }
}

int32_t tsk_bpe_encode(const tsk_bpe_t *p, const char *text, size_t bytes, uint16_t *ids, size_t room) {
    cut_t cut = {text, 0, bytes, p->digits};
    int32_t count = 0;
    if (room < bytes) {
        return TSK_E_SPACE;
    }
    for (size_t at = 0, size = 0; at < bytes; at += size) {
        if (tsk_utf8_read(text + at, bytes - at, &size) < 0) {
            return TSK_E_TEXT;
        }
    }
    while (cut.at < bytes) {
        const size_t end = find_end(&cut);
        int32_t length = 0;
        for (; cut.at < end; cut.at++) {
            const uint16_t id = p->bytes[(uint8_t)text[cut.at]];
            if (id != TSK_BPE_NONE) {
                ids[count + length++] = id;
            }
        }
        count += join(p, ids + count, length);
    }
    return count;
}

int tsk_bpe_say(const tsk_bpe_t *p, tsk_utf8_t *stream, int32_t token, tsk_say_t say, void *context) {
    if (token < 0 || token >= p->vocabulary) {
        return TSK_E_INDEX;
    }
    return tsk_utf8_push(stream, (const char *)p->text + p->offsets[token],
                         (size_t)(p->offsets[token + 1] - p->offsets[token]), say, context);
}
