#include "tsk_serve.h"

#include <string.h>

#include "tsk_port.h"
#include "tsk_status.h"

/* What is read at once, and how long a read waits; neither bounds a line. */
#define CHUNK 64
#define WAIT_MS 1000

static int say(const char *word) {
    return tsk_port_write(word, strlen(word));
}

/* A number in decimal, with `decimals` digits after a point. */
static int say_number(uint32_t number, int32_t decimals) {
    char digits[12];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
        if (--decimals == 0) {
            digits[--at] = '.';
        }
    } while (number > 0 || decimals >= 0);
    return tsk_port_write(digits + at, sizeof digits - at);
}

int tsk_serve_answer(const tsk_answer_t *answer, uint32_t began) {
    const uint32_t took = tsk_port_milliseconds() - began;
    int status = say(answer->sure ? "sure\t" : "unsure\t");
    status = status == TSK_OK ? say(answer->name) : status;
    status = status == TSK_OK ? say("\t") : status;
    status = status == TSK_OK ? say_number((uint32_t)(answer->confidence * 10000.0f + 0.5f), 4) : status;
    status = status == TSK_OK ? say("\t") : status;
    status = status == TSK_OK ? say_number(took, 0) : status;
    return status == TSK_OK ? say("\n") : status;
}

int tsk_serve_error(int status) {
    switch (status) {
    case TSK_E_TEXT:
        return say("error\ttext\n");
    case TSK_E_SPACE:
        return say("error\tlong\n");
    case TSK_E_FULL:
        return say("error\tfull\n");
    case TSK_E_SELFTEST:
        return say("error\tselftest\n");
    default:
        return say("error\tmodel\n");
    }
}

/* The line of a text begins with its first part, or where there is none with its end. */
static int start(tsk_serve_text_t *answer) {
    const int status = answer->started ? TSK_OK : say("text\t");
    answer->started = 1;
    return status;
}

int tsk_serve_text(void *context, const char *text, size_t bytes) {
    static const char hex[] = "0123456789abcdef";
    int status = start(context);
    for (size_t at = 0; at < bytes && status == TSK_OK; at++) {
        const uint8_t byte = (uint8_t)text[at];
        char escaped[4] = {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
        size_t count = 1;
        if (byte == '\\' || byte == '\n' || byte == '\r' || byte == '\t') {
            escaped[1] = byte == '\n' ? 'n' : byte == '\r' ? 'r' : byte == '\t' ? 't' : '\\';
            count = 2;
        } else if (byte < 32 || byte == 127) {
            count = 4;
        } else {
            escaped[0] = (char)byte;
        }
        status = tsk_port_write(escaped, count);
    }
    return status;
}

int tsk_serve_done(tsk_serve_text_t *answer, const tsk_written_t *written) {
    static const char *const words[3] = {"\ndone\tstop\t", "\ndone\tlength\t", "\ndone\tcontext\t"};
    const uint32_t took = tsk_port_milliseconds() - answer->began;
    int status = start(answer);
    status = status == TSK_OK ? say(words[written->ending]) : status;
    status = status == TSK_OK ? say_number((uint32_t)written->tokens, 0) : status;
    status = status == TSK_OK ? say("\t") : status;
    status = status == TSK_OK ? say_number(took, 0) : status;
    return status == TSK_OK ? say("\n") : status;
}

int tsk_serve_failed(const tsk_serve_text_t *answer, int status) {
    const int said = answer->started ? say("\n") : TSK_OK;
    return said == TSK_OK ? status : said;
}

/* A whole line, `length` bytes of it kept; more than TSK_SERVE_LINE say that it was longer. */
static int finish(tsk_serve_line_t line, void *context, const char *text, size_t length) {
    int status = TSK_E_SPACE;
    if (length <= TSK_SERVE_LINE) {
        if (length > 0 && text[length - 1] == '\r') {
            length--;
        }
        status = line(context, text, length);
    }
    return status == TSK_OK || status == TSK_E_IO ? status : tsk_serve_error(status);
}

int tsk_serve(const char *name, tsk_serve_line_t line, void *context) {
    char text[TSK_SERVE_LINE], chunk[CHUNK];
    size_t length = 0;
    int status = say("ready\t");
    status = status == TSK_OK ? say(name) : status;
    status = status == TSK_OK ? say("\n") : status;
    while (status == TSK_OK) {
        const int32_t got = tsk_port_read(chunk, sizeof chunk, WAIT_MS);
        int32_t i;
        if (got < 0) {
            return TSK_E_IO;
        }
        for (i = 0; i < got && status == TSK_OK; i++) {
            if (chunk[i] == '\n') {
                status = finish(line, context, text, length);
                length = 0;
            } else if (length < TSK_SERVE_LINE) {
                text[length++] = chunk[i];
            } else {
                length = TSK_SERVE_LINE + 1;
            }
        }
    }
    return status;
}
