#include "tsk_utf8.h"

#include "tsk_status.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/* How many bytes follow `first`, between which values the next of them is (Unicode, table 3-7). -1: it begins none. */
static int32_t begin(uint8_t first, uint8_t *low, uint8_t *high) {
    *low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    *high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (first < 0x80) {
        return 0;
    }
    if (first < 0xC2 || first > 0xF4) {
        return -1;
    }
    return first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
}

int32_t tsk_utf8_read(const char *text, size_t bytes, size_t *size) {
    uint8_t low, high;
    int32_t more, point;
    if (bytes == 0) {
        return -1;
    }
    more = begin((uint8_t)text[0], &low, &high);
    if (more < 0 || (size_t)more >= bytes) {
        return -1;
    }
    point = more == 0 ? (uint8_t)text[0] : (uint8_t)text[0] & (63 >> more);
    for (int32_t i = 1; i <= more; i++) {
        const uint8_t byte = (uint8_t)text[i];
        if (byte < low || byte > high) {
            return -1;
        }
        point = point << 6 | (byte & 63);
        low = 0x80;
        high = 0xBF;
    }
    *size = (size_t)more + 1;
    return point;
}

int tsk_utf8_push(tsk_utf8_t *stream, const char *text, size_t bytes, tsk_say_t say, void *context) {
    size_t at = 0;
    int status = TSK_OK;
    while (at < bytes && status == TSK_OK) {
        const uint8_t byte = (uint8_t)text[at];
        if (stream->left > 0 && (byte < stream->low || byte > stream->high)) {
            status = tsk_utf8_end(stream, say, context); /* and the byte is looked at again */
        } else if (stream->left > 0) {
            stream->held[stream->count++] = text[at++];
            stream->low = 0x80;
            stream->high = 0xBF;
            if (--stream->left == 0) {
                status = say(context, stream->held, stream->count);
                stream->count = 0;
            }
        } else {
            const int32_t more = begin(byte, &stream->low, &stream->high);
            at++;
            if (more < 0) {
                status = say(context, REPLACEMENT, 3);
            } else if (more == 0) {
                status = say(context, text + at - 1, 1);
            } else {
                stream->held[0] = text[at - 1];
                stream->count = 1;
                stream->left = (uint8_t)more;
            }
        }
    }
    return status;
}

int tsk_utf8_end(tsk_utf8_t *stream, tsk_say_t say, void *context) {
    const uint8_t left = stream->left;
    stream->left = stream->count = 0;
    return left > 0 ? say(context, REPLACEMENT, 3) : TSK_OK;
}
