/** @file
 * The serial line in text mode: a line of text in, a line of answer out (SPEC.md, "Serial line, text mode").
 * Needs the port, and nothing of a model.
 * Pointers must not be NULL unless a comment says so. */
#ifndef TSK_SERVE_H
#define TSK_SERVE_H

#include <stddef.h>
#include <stdint.h>

#include "tsk_adapter.h"
#include "tsk_causal.h"
#include "tsk_config.h"
#include "tsk_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The bytes of a line before its line feed; a longer one is answered with an error. */
#ifndef TSK_SERVE_LINE
#define TSK_SERVE_LINE 256
#endif
#if TSK_SERVE_LINE < 16 || TSK_SERVE_LINE > 65536
#error "TSK_SERVE_LINE must be 16 to 65536 bytes"
#endif

/** Answers the line `text`, which ends without a 0 byte. It writes the answer itself, by tsk_serve_answer or
 * tsk_serve_text and tsk_serve_done.
 * @return TSK_OK, or what went wrong: the line is then answered with its name. TSK_E_IO ends tsk_serve. */
typedef int (*tsk_serve_line_t)(void *context, const char *text, size_t bytes);

/** Answers line by line until the port fails. Says `ready` and `name` first.
 * @return TSK_E_IO */
int tsk_serve(const char *name, tsk_serve_line_t line, void *context);

/** Writes `sure` or `unsure`, the label, the confidence and the milliseconds since `began`.
 * @return TSK_OK or TSK_E_IO */
int tsk_serve_answer(const tsk_answer_t *answer, uint32_t began);

/** Writes `error` and what it was: `text` (TSK_E_TEXT), `full` (TSK_E_FULL), `long` (TSK_E_SPACE), `selftest`, else `model`.
 * @return TSK_OK or TSK_E_IO */
int tsk_serve_error(int status);

/** A text that is written as the answer to a line. */
typedef struct {
    uint32_t began;  /**< tsk_port_milliseconds when the line came */
    int32_t started; /**< 0; 1 once there is a part of it on the line */
} tsk_serve_text_t;

/** A tsk_say_t: writes a part of a text, its control bytes and backslashes escaped. `context` is a tsk_serve_text_t.
 * @return TSK_OK or TSK_E_IO */
int tsk_serve_text(void *context, const char *text, size_t bytes);
/** Ends the text and writes `done`, why it ended, the number of tokens, and the milliseconds that it took.
 * @return TSK_OK or TSK_E_IO */
int tsk_serve_done(tsk_serve_text_t *answer, const tsk_written_t *written);
/** Ends the text, if it has begun, because of the error `status`.
 * @return `status`, for tsk_serve to write */
int tsk_serve_failed(const tsk_serve_text_t *answer, int status);

#ifdef __cplusplus
}
#endif

#endif
