"""The tokenizer in C: the same bytes, the same ids as the SDK's."""

import ctypes
from collections.abc import Sequence

import numpy as np
import pytest
from firmware.kernel_kit import library
from firmware.text_kit import flat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasuki.firmware_bridge.text import wordpiece
from tasuki.sdk.errors import ModelUnsupported
from tasuki.sdk.tokenizer import MAX_WORD_BYTES, Tokenizer

_WORDS = [
    "turn",
    "on",
    "the",
    "light",
    "lights",
    "living",
    "don't",
    "21",
    "degrees",
    "café",
    "über",
    "電気",
    "をつけて",
]


class _Table(ctypes.Structure):
    _fields_ = (
        ("first", ctypes.c_void_p), ("later", ctypes.c_void_p), ("first_bytes", ctypes.c_uint32),
        ("later_bytes", ctypes.c_uint32), ("tokens", ctypes.c_int32),
    )  # fmt: skip


class InC:
    """`tsk_tokenizer_encode` over a vocabulary."""

    def __init__(self, vocabulary: Sequence[str], tokens: int) -> None:
        found = wordpiece.dictionaries(vocabulary)
        self._kept = flat(found.first), flat(found.later)
        first, later = (ctypes.addressof(memory) for memory in self._kept)
        self._table = _Table(first, later, len(found.first), len(found.later), tokens)
        self._library = library()

    def encode(self, text: bytes) -> tuple[int, list[int]]:
        """How many pieces, and all ids; ids beyond the last are as the caller left them."""
        ids = np.full(self._table.tokens + 1, -7, np.int32)
        count = self._library.tsk_tokenizer_encode(
            ctypes.byref(self._table), flat(text), ctypes.c_size_t(len(text)), ctypes.c_void_p(ids.ctypes.data)
        )
        assert ids[-1] == -7
        return count, ids[:-1].tolist()


def _same(vocabulary: Sequence[str], tokens: int, text: bytes) -> None:
    pieces = Tokenizer(vocabulary, tokens).pieces(text)
    count, ids = InC(vocabulary, tokens).encode(text)
    assert (count, ids[:count], set(ids[count:]) | {0}) == (len(pieces), pieces, {0})


def _vocabulary(pieces: Sequence[str]) -> list[str]:
    return ["[PAD]", "[UNK]", *pieces]


_SMALL = _vocabulary(
    ["a", "ab", "abc", "b", "##a", "##b", "##bc", "##bcd", "##c", "1", "##1", "é", "##é", "##", "A", "don", "##t", "ab"]
)


@given(st.text("abcdé1'#A \n\0,", max_size=40))
@example("a" * MAX_WORD_BYTES)
@example("a" * (MAX_WORD_BYTES + 1))
@example("b" * MAX_WORD_BYTES + "a ab")
@example("don't DON'T 'a' a'b '")
@settings(deadline=None)
def test_texts_that_nearly_fit_the_pieces(text: str) -> None:
    for tokens in (1, 5, 100):
        _same(_SMALL, tokens, text.encode())


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_any_bytes(text: bytes) -> None:
    _same(_SMALL, 16, text)


@given(
    st.lists(st.text("abé", min_size=1, max_size=70) | st.sampled_from([f"##{w}" for w in _WORDS]),
             max_size=30),
    st.text("abé ", max_size=150),
)  # fmt: skip
@settings(deadline=None)
def test_any_vocabulary(pieces: list[str], text: str) -> None:
    _same(_vocabulary([*pieces, *_WORDS]), 40, text.encode())


def test_long_pieces_that_share_long_beginnings() -> None:
    pieces = ["a" * n + end for n in range(10, 66) for end in ("", "b", "b" * 20)]
    for text in ("a" * 64, "a" * 30 + "b", "a" * 30 + "b" * 20, "a" * 40 + "b" * 21, "a" * 9, "a" * 63 + "b"):
        _same(_vocabulary(pieces), 8, text.encode())


def test_a_piece_is_not_found_by_what_it_shares_with_another() -> None:
    """`acx` shares two bytes with the piece before it, which is not the beginning of `abx`."""
    for text in ("abx", "acx", "ab", "ac", "abc"):
        _same(_vocabulary(["ab", "ac", "acx"]), 8, text.encode())


def test_blank_is_what_python_calls_white_space() -> None:
    blank = library().tsk_tokenizer_is_blank
    assert blank(b"", 0) == 1
    for code in range(128):
        text = bytes([code])
        assert blank(text, 1) == text.decode().isspace()
        assert blank(text + b" a", 3) == 0


def test_pieces_that_no_word_has_are_left_out() -> None:
    kept = wordpiece.dictionaries(_vocabulary(["a", "ab" * 32, "##b"]))
    assert wordpiece.dictionaries(_vocabulary(["a", "ab" * 32, "##b", "ab" * 32 + "c", "a" * 300, "a!", "A"])) == kept


def test_as_many_pieces_as_there_is_room_for() -> None:
    letters = "abcdefghijklmnop"
    pieces = [f"{letters[n % 16]}{n:05}" for n in range(wordpiece.MAX_PIECES - 2)]
    _same(_vocabulary(pieces), 4, f"{pieces[-1]} {pieces[0]} {pieces[4711]}".encode())


def test_a_group_takes_65535_bytes() -> None:
    pieces = [f"x{n:05}" for n in range(15_930)]
    left = 65_535 - (len(wordpiece.dictionaries(_vocabulary(pieces)).first) - 3)
    # Behind all others, and sharing no more than the x: three bytes say so, two are the id.
    last = "x" + "z" * (left - 5)
    assert len(wordpiece.dictionaries(_vocabulary([*pieces, last])).first) - 3 == 65_535
    _same(_vocabulary([*pieces, last]), 4, f"{last} {pieces[-1]}".encode())
    with pytest.raises(ModelUnsupported, match=r"begin with the byte 120 take 65,536 bytes"):
        wordpiece.dictionaries(_vocabulary([*pieces, last + "z"]))


def test_too_many_pieces_are_refused() -> None:
    with pytest.raises(ModelUnsupported, match=r"65,537 pieces"):
        wordpiece.dictionaries(_vocabulary([f"x{n}" for n in range(wordpiece.MAX_PIECES - 1)]))
    with pytest.raises(ModelUnsupported, match=r"begin with the byte 120 take"):
        wordpiece.dictionaries(_vocabulary([f"x{n:05}" for n in range(30_000)]))
