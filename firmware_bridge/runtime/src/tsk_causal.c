#include "tsk_causal.h"

#include <string.h>

#include "tsk_status.h"

void tsk_causal_restart(tsk_causal_t *c) {
    const tsk_causal_model_t *const m = c->model;
    memset(c->cache, 0, (size_t)m->caches * (size_t)m->heads * (size_t)m->context * (size_t)m->row_bytes);
    c->position = 0;
}

int tsk_causal_advance(tsk_causal_t *c, int32_t token) {
    const tsk_causal_model_t *const m = c->model;
    const size_t row = (size_t)m->row_bytes, slots = (size_t)m->context * row;
    uint8_t *to = c->cache + (size_t)c->position * row;
    const uint8_t *from = c->fresh;
    int status;
    if (c->position >= m->context) {
        return TSK_E_FULL;
    }
    if (token < 0 || token >= m->logits) {
        return TSK_E_INDEX;
    }
    status = m->step(c->memory, token, c->position);
    if (status != TSK_OK) {
        return status;
    }
    for (int32_t i = 0; i < m->caches * m->heads; i++, to += slots, from += row) {
        memcpy(to, from, row);
    }
    c->position++;
    return TSK_OK;
}

static int is_stop(const tsk_causal_model_t *m, int32_t token) {
    for (int32_t i = 0; i < m->stop_count; i++) {
        if (m->stops[i] == token) {
            return 1;
        }
    }
    return 0;
}

/* Writes on after what has been read. */
static int write_on(tsk_causal_t *c, int32_t most, tsk_say_t say, void *context, tsk_written_t *written) {
    const tsk_causal_model_t *const m = c->model;
    tsk_utf8_t stream = {{0}, 0, 0, 0, 0};
    int status = TSK_OK;
    written->tokens = 0;
    while (status == TSK_OK) {
        const int32_t token = tsk_sampler_pick(c->sampler, c->logits, m->logits, m->scale, m->zero);
        if (is_stop(m, token)) {
            written->ending = TSK_ENDED_STOP;
            break;
        }
        written->tokens++;
        status = tsk_bpe_say(m->tokenizer, &stream, token, say, context);
        if (written->tokens == most || c->position == m->context) {
            written->ending = written->tokens == most ? TSK_ENDED_LENGTH : TSK_ENDED_CONTEXT;
            break;
        }
        status = status == TSK_OK ? tsk_causal_advance(c, token) : status;
    }
    return status == TSK_OK ? tsk_utf8_end(&stream, say, context) : status;
}

int tsk_causal_generate(tsk_causal_t *c, const char *text, size_t bytes, const tsk_generation_t *how, tsk_say_t say,
                        void *context, tsk_written_t *written) {
    const tsk_causal_model_t *const m = c->model;
    const int32_t first = m->start >= 0;
    int32_t count;
    int status;
    if (text == NULL || how == NULL || say == NULL || written == NULL) {
        return TSK_E_ARGUMENT;
    }
    count = tsk_bpe_encode(m->tokenizer, text, bytes, c->ids, c->room);
    if (count < 0) {
        return count;
    }
    status = tsk_sampler_start(c->sampler, how->temperature, how->top_k, how->top_p, how->seed);
    if (status != TSK_OK || how->most < 1) {
        return TSK_E_ARGUMENT;
    }
    if (count + first == 0) {
        return TSK_E_TEXT;
    }
    if (count + first > m->context) {
        return TSK_E_FULL;
    }
    tsk_causal_restart(c);
    status = first ? tsk_causal_advance(c, m->start) : TSK_OK;
    for (int32_t i = 0; i < count && status == TSK_OK; i++) {
        status = tsk_causal_advance(c, c->ids[i]);
    }
    return status == TSK_OK ? write_on(c, how->most, say, context, written) : status;
}
