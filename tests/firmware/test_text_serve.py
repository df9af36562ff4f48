"""What the runtime says on the serial line, byte by byte, with a port that keeps what it is given."""

import ctypes
import functools

import pytest
from firmware import host_kit

from tasuki.firmware_bridge.emit.header import RUNTIME

OK, SPACE, SELFTEST, IO, FULL, TEXT = 0, -3, -4, -5, -7, -8
LONGEST = 256
_CODE = """
#include <string.h>
#include "tsk_port.h"
#include "tsk_serve.h"

char said[4096], asked[4096];
size_t said_bytes, said_most = sizeof said, asked_bytes, asked_at, chunk = 64;
uint32_t now;
int line_status;

int32_t tsk_port_write(const void *buffer, size_t size) {
    if (said_bytes + size > said_most) {
        return TSK_E_IO;
    }
    memcpy(said + said_bytes, buffer, size);
    said_bytes += size;
    return TSK_OK;
}

int32_t tsk_port_read(void *buffer, size_t size, uint32_t timeout_ms) {
    size_t count = asked_bytes - asked_at;
    (void)timeout_ms;
    count = count < size ? count : size;
    count = count < chunk ? count : chunk;
    memcpy(buffer, asked + asked_at, count);
    asked_at += count;
    return count > 0 ? (int32_t)count : TSK_E_IO;
}

uint32_t tsk_port_milliseconds(void) {
    return now;
}

static int say_line(void *context, const char *text, size_t bytes) {
    (void)context;
    if (line_status == TSK_OK) {
        (void)tsk_port_write("<", 1);
        (void)tsk_port_write(text, bytes);
        (void)tsk_port_write(">\\n", 2);
    }
    return line_status;
}

int serve(void);
int answer(float confidence, int32_t sure, uint32_t began);
int text(const char *part, size_t bytes, int32_t parts, int32_t tokens, tsk_ending_t ending, uint32_t began);
int failed(int32_t parts, int status);

int serve(void) {
    return tsk_serve("lamp", say_line, NULL);
}

int answer(float confidence, int32_t sure, uint32_t began) {
    const tsk_answer_t made = {0, "turn on", confidence, 0.0f, sure};
    return tsk_serve_answer(&made, began);
}

int text(const char *part, size_t bytes, int32_t parts, int32_t tokens, tsk_ending_t ending, uint32_t began) {
    tsk_serve_text_t made = {began, 0};
    const tsk_written_t written = {tokens, ending};
    for (int32_t i = 0; i < parts; i++) {
        (void)tsk_serve_text(&made, part, bytes);
    }
    return tsk_serve_done(&made, &written);
}

int failed(int32_t parts, int status) {
    tsk_serve_text_t made = {0, 0};
    for (int32_t i = 0; i < parts; i++) {
        (void)tsk_serve_text(&made, "a", 1);
    }
    return tsk_serve_failed(&made, status);
}
"""


@functools.cache
def _library() -> ctypes.CDLL:
    files = {"test.c": _CODE.encode(), "tsk_serve.c": (RUNTIME / "src" / "tsk_serve.c").read_bytes()}
    return ctypes.CDLL(str(host_kit.compile_c(files, "shared")))


class Port:
    """The line: `asked` comes in pieces of `chunk` bytes, and nothing more is taken after `most`."""

    def __init__(self, asked: bytes = b"", chunk: int = 64, now: int = 0, most: int = 4096, line: int = OK) -> None:
        self.code = _library()
        numbers = {"said_bytes": 0, "asked_at": 0, "asked_bytes": len(asked), "chunk": chunk, "said_most": most}
        for name, value in numbers.items():
            ctypes.c_size_t.in_dll(self.code, name).value = value
        ctypes.c_uint32.in_dll(self.code, "now").value = now
        ctypes.c_int.in_dll(self.code, "line_status").value = line
        (ctypes.c_char * 4096).in_dll(self.code, "asked")[: len(asked)] = asked

    @property
    def said(self) -> bytes:
        """All that was written."""
        size = ctypes.c_size_t.in_dll(self.code, "said_bytes").value
        return bytes((ctypes.c_char * 4096).in_dll(self.code, "said")[:size])


@pytest.mark.parametrize(
    ("confidence", "said"),
    [(0.0, b"0.0000"), (0.00004, b"0.0000"), (0.00006, b"0.0001"), (0.98765, b"0.9877"), (1.0, b"1.0000")],
)
def test_an_answer_has_four_digits_and_the_time_since_it_was_asked(confidence: float, said: bytes) -> None:
    port = Port(now=1234)
    assert port.code.answer(ctypes.c_float(confidence), 1, 1000) == OK
    assert port.said == b"sure\tturn on\t" + said + b"\t234\n"


def test_time_wraps() -> None:
    port = Port(now=5)
    assert port.code.answer(ctypes.c_float(0.5), 0, 2**32 - 5) == OK
    assert port.said == b"unsure\tturn on\t0.5000\t10\n"


def test_what_could_be_mistaken_is_escaped() -> None:
    port = Port()
    assert port.code.text(bytes(range(256)), ctypes.c_size_t(256), 1, 0, 0, 0) == OK
    line = port.said.split(b"\n")[0]
    short = {ord("\\"): b"\\\\", ord("\n"): b"\\n", ord("\r"): b"\\r", ord("\t"): b"\\t"}
    plain = {*range(32, 127), *range(128, 256)}
    wanted = [short.get(byte, bytes([byte]) if byte in plain else b"\\x%02x" % byte) for byte in range(256)]
    assert line == b"text\t" + b"".join(wanted)


@pytest.mark.parametrize(("ending", "word"), [(0, "stop"), (1, "length"), (2, "context")])
def test_a_text_has_one_beginning_and_one_end(ending: int, word: str) -> None:
    port = Port(now=90)
    for parts in (0, 3):
        assert port.code.text(b"ab", ctypes.c_size_t(2), parts, 20, ending, 50) == OK
    end = f"done\t{word}\t20\t40\n".encode()
    assert port.said == b"text\t\n" + end + b"text\tababab\n" + end


def test_a_text_that_fails_ends_its_line_if_it_has_begun() -> None:
    port = Port()
    assert port.code.failed(0, FULL) == FULL
    assert port.said == b""
    assert port.code.failed(1, FULL) == FULL
    assert port.said == b"text\ta\n"
    assert Port(most=6).code.failed(1, FULL) == IO


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_lines_end_with_a_line_feed_and_keep_all_but_one_return(chunk: int) -> None:
    most = b"x" * LONGEST
    port = Port(b"on\noff\r\n\n\r\n\r\r\n" + most + b"\n" + most[1:] + b"\r\n" + most + b"\r\nno end", chunk)
    assert port.code.serve() == IO
    answered = [b"<on>", b"<off>", b"<>", b"<>", b"<\r>", b"<" + most + b">", b"<" + most[1:] + b">", b"error\tlong"]
    assert port.said == b"".join(line + b"\n" for line in [b"ready\tlamp", *answered])


@pytest.mark.parametrize("size", [LONGEST + 1, LONGEST + 2, 3 * LONGEST])
def test_a_line_that_is_too_long_is_one_error(size: int) -> None:
    port = Port(b"x" * size + b"\non\n")
    assert port.code.serve() == IO
    assert port.said == b"ready\tlamp\nerror\tlong\n<on>\n"


@pytest.mark.parametrize(
    ("status", "word"),
    [(TEXT, "text"), (SPACE, "long"), (FULL, "full"), (SELFTEST, "selftest"), (-1, "model"), (7, "model")],
)
def test_what_goes_wrong_with_a_line_is_named_and_the_next_is_answered(status: int, word: str) -> None:
    port = Port(b"on\noff\n", line=status)
    assert port.code.serve() == IO
    assert port.said == b"ready\tlamp\n" + 2 * f"error\t{word}\n".encode()


def test_a_line_that_fails_ends_it() -> None:
    port = Port(b"on\noff\n", line=IO)
    assert port.code.serve() == IO
    assert port.said == b"ready\tlamp\n"
    port = Port(b"on\noff\n", most=5)
    assert port.code.serve() == IO
    assert port.said == b""
