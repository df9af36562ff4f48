"""Causal models in C: the tokens that TFLM's logits and the SDK's sampler give, and the same text."""

import ctypes
import functools
from dataclasses import replace
from typing import Any

import causal_kit
import numpy as np
import pytest
from firmware import serve_kit, text_kit
from firmware.serve_kit import Writing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasuki.firmware_bridge import text
from tasuki.firmware_bridge.text import causal, serial
from tasuki.sdk.errors import ModelUnsupported
from tasuki.sdk.generate import TextModel, text_model
from tasuki.sdk.sampling import Sampler

_SAY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_ENDINGS = ("stop", "length", "context")
_E_ARGUMENT, _E_SPACE, _E_FULL, _E_TEXT = -1, -3, -7, -8


class _How(ctypes.Structure):
    _fields_ = (
        ("most", ctypes.c_int32), ("temperature", ctypes.c_double), ("top_k", ctypes.c_uint32),
        ("top_p", ctypes.c_double), ("seed", ctypes.c_uint64),
    )  # fmt: skip


class InC:
    """`tsk_model_generate` of an artifact."""

    def __init__(self, data: bytes) -> None:
        made = serve_kit.generated(data)
        size = '#include "model_text.h"\nunsigned size_of_memory(void) { return sizeof(tsk_model_text_t); }\n'
        self._library = text_kit.generated_library(made, size)
        self._memory = np.zeros(self._library.size_of_memory() // 16 + 1, np.complex128)

    def write(self, prompt: bytes, how: _How, stop_after: int = 10**6) -> tuple[int, str, int, str]:
        """Status, text, the number of tokens, and why it ended; `say` gives TSK_E_IO after `stop_after` parts."""
        said: list[bytes] = []

        @_SAY
        def say(_: int, part: int, size: int) -> int:
            said.append(ctypes.string_at(part, size))
            return 0 if len(said) < stop_after else -5

        written = (ctypes.c_int32 * 2)(-1, 0)
        status = self._library.tsk_model_generate(
            ctypes.c_void_p(self._memory.ctypes.data), text_kit.flat(prompt), ctypes.c_size_t(len(prompt)),
            ctypes.byref(how), say, None, written,
        )  # fmt: skip
        return status, b"".join(said).decode(), written[0], _ENDINGS[written[1]]


@functools.cache
def _student() -> tuple[InC, Writing, TextModel]:
    parts = causal_kit.read("student")
    model = text_model(parts)
    return InC(causal_kit.student()), Writing(parts, model), model


@given(
    prompt=st.text(st.sampled_from("hello how are you? music café 1\n"), max_size=12),
    most=st.integers(1, 40), temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]), top_k=st.sampled_from([0, 1, 5, 50]),
    top_p=st.sampled_from([1.0, 0.9, 0.3]), seed=st.integers(0, 2**64 - 1),
)  # fmt: skip
@example("", 30, 0.0, 0, 1.0, 0)
@settings(deadline=None, max_examples=150)
def test_text_is_what_the_sampler_picks_from_the_logits_of_tflm(
    prompt: str, most: int, temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    c, micro, model = _student()
    status, said, tokens, ending = c.write(prompt.encode(), _How(most, temperature, top_k, top_p, seed))
    if len(model.ids(prompt)) + 1 > causal_kit.CONTEXT:
        assert (status, said) == (_E_FULL, "")
        return
    written, made, reason = micro.write(prompt, most, Sampler(temperature, top_k, top_p, seed))
    assert (status, said, tokens, ending) == (0, written, len(made), reason)


def test_a_text_before_leaves_nothing_behind() -> None:
    c, _, _ = _student()
    how = _How(24, 0.0, 0, 1.0, 0)
    first = c.write(b"hello", how)
    assert c.write(b"what was yesterday", how) != first
    assert c.write(b"hello", how) == first


def test_what_can_not_be_written_is_refused_before_anything_is_said() -> None:
    c, _, _ = _student()
    good = _How(4, 0.0, 0, 1.0, 0)
    assert c.write(b"a\xff", good)[:2] == (_E_TEXT, "")
    assert c.write(b"q" * (serial.MAX_LINE_BYTES + 1), good)[:2] == (_E_SPACE, "")
    assert c.write(b"q" * causal_kit.CONTEXT, good)[:2] == (_E_FULL, "")
    for how in (_How(0, 0.0, 0, 1.0, 0), _How(4, -1.0, 0, 1.0, 0), _How(4, 1.0, 0, 0.0, 0)):
        assert c.write(b"a", how)[:2] == (_E_ARGUMENT, "")


def test_a_line_that_fails_ends_the_text() -> None:
    c, _, _ = _student()
    status, _, tokens, _ = c.write(b"hello", _How(20, 0.0, 0, 1.0, 0), stop_after=3)
    assert (status, tokens < 20) == (-5, True)


def test_the_serial_application_writes_texts() -> None:
    made = serve_kit.checked(serve_kit.generated(causal_kit.student()))
    _, micro, model = _student()
    prompts = ["hello how are", "", "music\\", "x" * 400, "q" * 100, "are you fine today"]
    with serve_kit.serving(made) as line:
        found = serial.ask(line, prompts)
    for prompt, answer in zip(prompts, found, strict=True):
        if len(prompt) > serial.MAX_LINE_BYTES:
            assert answer == serial.Failed("long")
        elif len(model.ids(prompt)) >= causal_kit.CONTEXT:
            assert answer == serial.Failed("full")
        else:
            written, ids, reason = micro.write(prompt, 64, Sampler())
            assert isinstance(answer, serial.Written)
            assert (answer.text, answer.ending, answer.tokens) == (written, reason, len(ids))


@given(st.lists(st.binary(max_size=50) | st.text(max_size=15).map(str.encode), min_size=1, max_size=10))
@settings(deadline=None, max_examples=30)
def test_any_line_is_answered(lines: list[bytes]) -> None:
    made = serve_kit.checked(serve_kit.generated(causal_kit.student()))
    lines = [text.replace(b"\n", b"") for text in lines]
    with serve_kit.serving(made) as line:
        line.write(b"".join(text + b"\n" for text in lines))
        for text in lines:
            answer = serial.read(line)
            try:
                text.decode()
            except UnicodeDecodeError:
                assert answer == serial.Failed("text")
            else:
                assert isinstance(answer, serial.Written) or answer == serial.Failed("full")


def test_other_causal_models_are_refused_by_name() -> None:
    programs = serve_kit.generated(causal_kit.student()).programs
    published = causal_kit.read("published")
    with pytest.raises(ModelUnsupported, match="`prefill` takes 6 tokens at once"):
        causal.generate(published, programs[0], "model")
    whole = programs[0]
    wide = replace(whole, inputs=tuple(replace(p, type=np.dtype(np.int16)) for p in whole.inputs))
    with pytest.raises(ModelUnsupported, match="ids is int16, and causal models in C are int8"):
        causal.generate(causal_kit.read(), wide, "model")
    wide = replace(whole, outputs=tuple(replace(p, type=np.dtype(np.int16)) for p in whole.outputs))
    with pytest.raises(ModelUnsupported, match=" is int16, and causal models in C are int8"):
        causal.generate(causal_kit.read(), wide, "model")
    with pytest.raises(ModelUnsupported, match=r"vocab\.txt"):
        causal.generate(published._replace(tokenizer_json=None), programs[0], "model")
    learned: Any = object()
    with pytest.raises(ModelUnsupported, match="for classifiers only"):
        text.generate(causal_kit.read(), programs, "model", learned)
