"""Writing on, at the bounds of its context: a model of bytes that says what the test tells it to."""

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from firmware import text_kit

from tasuki.firmware_bridge.emit.header import RUNTIME

OK, ARGUMENT, INDEX, FAILED, FULL, TEXT = 0, -1, -2, -4, -7, -8
STOP, LENGTH, CONTEXT = range(3)
PLACES = 6
_CODE = """
#include <string.h>
#include "tsk_causal.h"
#include "tsk_status.h"

enum { PLACES = 6, ROW = 3 };

/* Two caches of two heads; after the token at each place comes `follows`. */
static uint8_t cache[4 * PLACES * ROW], fresh[4 * ROW], pieces[255];
static uint16_t ids[64], letters[256], offsets[256];
static int8_t logits[255];
static tsk_sampler_t sampler;
uint8_t follows[PLACES];
int32_t fails_at = -1;
char said[256];
size_t said_bytes;

static int step(void *memory, int32_t token, int32_t position) {
    (void)memory;
    memset(logits, -100, sizeof logits);
    logits[follows[position]] = 100;
    for (size_t i = 0; i < sizeof fresh; i++) {
        fresh[i] = (uint8_t)(token + (int32_t)i);
    }
    return position == fails_at ? TSK_E_SELFTEST : TSK_OK;
}

static int say(void *context, const char *text, size_t bytes) {
    (void)context;
    memcpy(said + said_bytes, text, bytes);
    said_bytes += bytes;
    return TSK_OK;
}

static const uint16_t stops[2] = {'.', '!'};
static const tsk_bpe_t tokenizer = {
    .bytes = letters, .text = pieces, .offsets = offsets, .vocabulary = 255,
};
static tsk_causal_model_t model = {
    .context = PLACES, .caches = 2, .heads = 2, .row_bytes = ROW, .logits = 255, .scale = 0.1f, .stops = stops,
    .stop_count = 2, .tokenizer = &tokenizer, .step = step,
};
static tsk_causal_t causal = {
    .model = &model, .cache = cache, .fresh = fresh, .logits = logits, .ids = ids, .room = 64, .sampler = &sampler,
};

void begin(int32_t start);
int advance(int32_t token);
int position(void);
const uint8_t *cached(void);
int generate(const char *text, size_t bytes, int32_t most, tsk_written_t *written, int32_t absent);

void begin(int32_t start) {
    for (uint16_t i = 0; i < 255; i++) {
        pieces[i] = (uint8_t)i;
        letters[i] = offsets[i] = i;
    }
    letters[255] = TSK_BPE_NONE;
    offsets[255] = 255;
    model.start = start;
    said_bytes = 0;
    tsk_causal_restart(&causal);
}

int advance(int32_t token) {
    return tsk_causal_advance(&causal, token);
}

int position(void) {
    return causal.position;
}

const uint8_t *cached(void) {
    return cache;
}

int generate(const char *text, size_t bytes, int32_t most, tsk_written_t *written, int32_t absent) {
    const tsk_generation_t how = {.most = most, .top_p = 1.0};
    return tsk_causal_generate(&causal, absent == 1 ? NULL : text, bytes, absent == 2 ? NULL : &how,
                               absent == 3 ? NULL : say, NULL, absent == 4 ? NULL : written);
}
"""


@functools.cache
def _library() -> ctypes.CDLL:
    names = ("causal", "bpe", "utf8", "sampler")
    found = text_kit.compiled(_CODE, [RUNTIME / "src" / f"tsk_{name}.c" for name in names])
    found.cached.restype = ctypes.POINTER(ctypes.c_uint8)
    return found


@dataclass
class Model:
    """A model that begins with `start` (-1: with nothing), and after whose n-th token comes ``follows[n]``."""

    follows: bytes = b"abcdef"
    start: int = -1
    fails_at: int = -1

    def __post_init__(self) -> None:
        self.code = _library()
        (ctypes.c_uint8 * PLACES).in_dll(self.code, "follows")[:] = self.follows
        ctypes.c_int32.in_dll(self.code, "fails_at").value = self.fails_at
        self.code.begin(self.start)

    def write(self, prompt: bytes, most: int = 99, absent: int = 0) -> tuple[int, bytes, int, int]:
        """Status, text, number of tokens, and why it ended."""
        written = (ctypes.c_int32 * 2)(-1, -1)
        status = self.code.generate(prompt, ctypes.c_size_t(len(prompt)), most, written, absent)
        return status, self.said, written[0], written[1]

    @property
    def said(self) -> bytes:
        """The text so far."""
        size = ctypes.c_size_t.in_dll(self.code, "said_bytes").value
        return bytes((ctypes.c_char * 256).in_dll(self.code, "said")[:size])

    def cache(self) -> list[list[list[int]]]:
        """By cache and head, and by place: what is kept."""
        flat = self.code.cached()[: 4 * PLACES * 3]
        rows: list[Sequence[int]] = [flat[at : at + 3] for at in range(0, len(flat), 3)]
        return [[list(row) for row in rows[head * PLACES :][:PLACES]] for head in range(4)]


def test_a_prompt_may_fill_the_context() -> None:
    assert Model().write(b"x" * 5) == (OK, b"ef", 2, CONTEXT)
    assert Model().write(b"x" * 6) == (OK, b"f", 1, CONTEXT)
    assert Model().write(b"x" * 7)[:2] == (FULL, b"")
    assert Model(start=7).write(b"x" * 5) == (OK, b"f", 1, CONTEXT)
    assert Model(start=7).write(b"x" * 6)[:2] == (FULL, b"")


def test_a_length_counts_before_the_context() -> None:
    assert Model().write(b"xxx", most=1) == (OK, b"c", 1, LENGTH)
    assert Model().write(b"xxx", most=4) == (OK, b"cdef", 4, LENGTH)
    assert Model().write(b"xxx", most=5) == (OK, b"cdef", 4, CONTEXT)
    assert Model().write(b"xxx", most=0)[:2] == (ARGUMENT, b"")


@pytest.mark.parametrize("stop", [b".", b"!"])
def test_every_stop_ends_a_text_and_is_not_said(stop: bytes) -> None:
    assert Model(b"ab" + stop + b"def").write(b"x") == (OK, b"ab", 2, STOP)
    assert Model(stop * 6).write(b"x") == (OK, b"", 0, STOP)


def test_a_text_needs_a_token_to_begin_with() -> None:
    assert Model().write(b"")[:2] == (TEXT, b"")
    assert Model(start=0).write(b"", most=2) == (OK, b"ab", 2, LENGTH)


def test_what_is_cut_off_in_a_character_is_replaced() -> None:
    assert Model(b"\xc3\xa9\xe2\x82..").write(b"x")[:3] == (OK, "é\ufffd".encode(), 4)
    assert Model(b"\xc3\xa9\xe2\x82..").write(b"x", most=3)[:3] == (OK, "é\ufffd".encode(), 3)


@pytest.mark.parametrize("absent", [1, 2, 3, 4])
def test_null_is_refused(absent: int) -> None:
    assert Model().write(b"x", absent=absent) == (ARGUMENT, b"", -1, -1)


def test_a_model_that_fails_has_not_read_the_token() -> None:
    assert Model(fails_at=0).write(b"xx")[:2] == (FAILED, b"")
    assert Model(fails_at=2).write(b"xx")[:2] == (FAILED, b"b")
    model = Model(fails_at=1)
    assert [model.code.advance(5), model.code.advance(6)] == [OK, FAILED]
    assert model.code.position() == 1
    assert [head[1] for head in model.cache()] == [[0, 0, 0]] * 4


def test_tokens_are_checked_and_kept_in_their_place_by_head() -> None:
    model = Model()
    for token in (-1, 255):
        assert model.code.advance(token) == INDEX
    assert model.code.position() == 0
    assert [model.code.advance(10 * place) for place in range(PLACES)] == [OK] * PLACES
    assert model.code.advance(1) == FULL
    wanted = [[[10 * place + 3 * head + n for n in range(3)] for place in range(PLACES)] for head in range(4)]
    assert model.cache() == wanted
    assert Model().cache() == [[[0] * 3] * PLACES] * 4
