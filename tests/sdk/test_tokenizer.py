"""The small tokenizer: the same ids on any bytes, against a second, slower description of the same rule."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasuki.sdk.tokenizer import MAX_WORD_BYTES, PAD, UNKNOWN, Tokenizer

PIECES = ("[PAD]", "[UNK]", "turn", "on", "light", "##s", "l", "##i", "##ight", "the", "##on", "café", "7", "##7")
TOKENIZER = Tokenizer(PIECES, 12)


def slow(text: bytes) -> list[int]:
    """The rule of SPEC.md, word by word and piece by piece."""
    found: list[int] = []
    for word in re.findall(rb"[a-z0-9\x80-\xff]+", re.sub(rb"[A-Z]", lambda m: m[0].lower(), text).replace(b"'", b"")):
        if len(word) > MAX_WORD_BYTES:
            found.append(UNKNOWN)
            continue
        start = 0
        while start < len(word):
            fits = [
                (len(raw), number)
                for number, piece in enumerate(PIECES)
                if number > 1
                for raw in [piece.removeprefix("##").encode()]
                if piece.startswith("##") == (start > 0) and word.startswith(raw, start)
            ]
            if not fits:
                found.append(UNKNOWN)
                break
            length, number = max(fits)
            found.append(number)
            start += length
    return found[:12]


@given(st.text() | st.text(alphabet="turnoligh thes7 'é-", max_size=60))
def test_ids_follow_the_rule(text: str) -> None:
    ids = TOKENIZER.encode(text)
    wanted = slow(text.encode("utf-8", "replace"))
    assert ids.shape == (12,)
    assert ids.tolist() == wanted + [PAD] * (12 - len(wanted))


@given(st.binary(max_size=300))
def test_any_bytes_give_ids(raw: bytes) -> None:
    assert TOKENIZER.pieces(raw) == slow(raw)


def test_known_sentence() -> None:
    assert TOKENIZER.pieces(b"Turn ON the Lights!") == [2, 3, 9, 4, 5]
    assert TOKENIZER.pieces("the café's".encode()) == [9, 11, 5]


def test_lone_surrogate_is_a_question_mark() -> None:
    assert TOKENIZER.encode("on \ud800 on").tolist()[:2] == [3, 3]


def test_vocabulary_must_begin_with_the_special_pieces() -> None:
    with pytest.raises(ValueError, match="PAD"):
        Tokenizer(("a", "b"), 4)


def test_remembered_words_stay_bounded_and_change_nothing() -> None:
    words = [f"turn{number}lights" for number in range(5000)]
    used = Tokenizer(PIECES, 12)
    for word in (*words, "x" * (MAX_WORD_BYTES + 1), *reversed(words)):
        assert used.pieces(word.encode()) == slow(word.encode())
        assert len(used._known) <= 2048
    assert all(len(word) <= MAX_WORD_BYTES for word in used._known)
