"""Byte-level BPE in C: ids and text as the package `tokenizers` has them."""

import ctypes
import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from firmware.kernel_kit import library
from firmware.text_kit import flat
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tasuki.firmware_bridge.text import bpe
from tasuki.sdk.checkpoint_tokenizer import TextTokenizer
from tasuki.sdk.errors import ArtifactCorrupt, ModelUnsupported
from tasuki.sdk.text_stream import TextStream

_SAY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_E_TEXT, _E_SPACE, _E_INDEX = -8, -3, -2
_TALK = [
    "we'll see how it's going: turn on the 21 lights, don't they're I've I'm he'd  now\n\tor  never!\n",
    "don't turn it off... (the kitchen, 100 % of 3,000) café déjà über straße naïve",
    "電気をつけて ください 照明 привет как дела ١٢٣ 𝟘𝟙 ½ Ⅳ",
]


class _Table(ctypes.Structure):
    _fields_ = (
        ("merges", ctypes.c_void_p), ("ranks", ctypes.c_void_p), ("merge_count", ctypes.c_uint32),
        ("bytes", ctypes.c_void_p), ("text", ctypes.c_void_p), ("offsets", ctypes.c_void_p),
        ("vocabulary", ctypes.c_int32), ("digits", ctypes.c_int32),
    )  # fmt: skip


class InC:
    """`tsk_bpe_encode` and `tsk_bpe_say` with the tables of a `tokenizer.json`."""

    def __init__(self, description: bytes, vocabulary: int) -> None:
        self.tables = found = bpe.tables(description, vocabulary)
        arrays: list[Any] = [found.merges, found.ranks or [0], found.letters, found.offsets]
        merges, ranks, letters, offsets = (np.array(values, np.uint16).reshape(-1) for values in arrays)
        text = flat(b"".join(found.pieces))
        self._kept = merges, ranks, letters, offsets, text
        self._table = _Table(
            merges.ctypes.data, None if found.ranks is None else ranks.ctypes.data, len(found.merges),
            letters.ctypes.data, ctypes.addressof(text), offsets.ctypes.data, vocabulary, found.digits,
        )  # fmt: skip
        self._library = library()

    def encode(self, text: bytes, room: int | None = None) -> int | list[int]:
        """The ids, or an error's number."""
        room = len(text) if room is None else room
        ids = np.full(room + 1, 7777, np.uint16)
        count: int = self._library.tsk_bpe_encode(
            ctypes.byref(self._table), flat(text), ctypes.c_size_t(len(text)), ctypes.c_void_p(ids.ctypes.data),
            ctypes.c_size_t(room),
        )  # fmt: skip
        assert ids[room] == 7777
        return count if count < 0 else ids[:count].tolist()

    def stream(self, ids: Sequence[int]) -> list[bytes]:
        """What has been said after each id, and at the end."""
        said = [b""]

        @_SAY
        def say(_: int, text: int, size: int) -> int:
            said[-1] += ctypes.string_at(text, size)
            return 0

        stream = (ctypes.c_uint8 * 8)()
        for token in ids:
            status = self._library.tsk_bpe_say(ctypes.byref(self._table), stream, token, say, None)
            assert status == 0
            said.append(b"")
        assert self._library.tsk_utf8_end(stream, say, None) == 0
        return said

    def refuses(self, token: int) -> bool:
        """Whether there is no such token."""
        found: int = self._library.tsk_bpe_say(ctypes.byref(self._table), (ctypes.c_uint8 * 8)(), token, None, None)
        return found == _E_INDEX


@functools.cache
def _trained(digits: bool, size: int = 420, missing: bytes = b"") -> bytes:
    """A tokenizer.json trained on a few lines, with special tokens as SmolLM2 has them."""
    made = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    single = pre_tokenizers.Digits(individual_digits=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([single, level]) if digits else level
    made.decoder = decoders.ByteLevel()
    letters = {byte: letter for letter, byte in bpe.byte_names().items()}
    alphabet = sorted(letter for byte, letter in letters.items() if byte not in missing)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|start|>", "<|end|>"], show_progress=False, initial_alphabet=alphabet
    )
    made.train_from_iterator(_TALK * 3, trainer)
    return made.to_str().encode()


def _changed(**changes: Any) -> bytes:
    about = json.loads(_trained(False))
    for path, value in changes.items():
        *way, last = path.split("__")
        place = about
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        place[last] = value
    return json.dumps(about).encode()


def _pair(digits: bool) -> tuple[InC, TextTokenizer]:
    size = len(json.loads(_trained(digits))["model"]["vocab"])
    return InC(_trained(digits), size), TextTokenizer(_trained(digits), size)


_LETTERS = st.sampled_from("".join(_TALK) + "'\r\f\u00a0\u3000\U00016ff4²")
_texts = st.text(_LETTERS | st.characters(codec="utf-8"), max_size=60)


@given(_texts, st.booleans())
@example("<|end|> a<|start|>", False)
@example(" 1 2  34\t5 ", True)
@example("  ", True)
@example("\n \n a \u00a0 b", False)
@settings(deadline=None, max_examples=250)
def test_ids_are_those_of_the_package(text: str, digits: bool) -> None:
    c, theirs = _pair(digits)
    assert c.encode(text.encode()) == theirs.encode(text)


@given(st.binary(max_size=40))
@settings(deadline=None)
def test_bytes_that_are_no_utf8_are_refused(text: bytes) -> None:
    c, theirs = _pair(True)
    try:
        expected: int | list[int] = theirs.encode(text.decode())
    except UnicodeDecodeError:
        expected = _E_TEXT
    assert c.encode(text) == expected


@given(st.lists(st.integers(0, 419), max_size=30))
@settings(deadline=None, max_examples=250)
def test_streamed_text_is_that_of_the_sdk(ids: list[int]) -> None:
    c, theirs = _pair(False)
    ids = [token % len(c.tables.pieces) for token in ids]
    said = c.stream(ids)
    assert b"".join(said).decode() == theirs.decode(ids)
    stream, given_ = TextStream(theirs), ""
    for count, token in enumerate(ids):
        given_ += stream.push(token)
        # Never later than the SDK, and never what is taken back.
        assert theirs.decode(ids).startswith(b"".join(said[: count + 1]).decode())
        assert len(b"".join(said[: count + 1]).decode()) >= len(given_)


def test_merges_whose_ids_are_out_of_order_have_ranks() -> None:
    about = json.loads(_trained(False))
    vocabulary = about["model"]["vocab"]
    size = len(vocabulary)
    # Ids of merged tokens the other way round.
    made = sorted((number for token, number in vocabulary.items() if number >= 258), reverse=True)
    order = dict(zip(sorted(made), made, strict=True))
    about["model"]["vocab"] = {token: order.get(number, number) for token, number in vocabulary.items()}
    description = json.dumps(about).encode()
    c, theirs = InC(description, size), TextTokenizer(description, size)
    assert c.tables.ranks is not None
    assert _pair(False)[0].tables.ranks is None
    for text in _TALK:
        assert c.encode(text.encode()) == theirs.encode(text)


def test_bytes_that_the_vocabulary_lacks_are_left_out() -> None:
    description = _trained(False, 400, b"qzXQ\xf0\x9f\xc3")
    size = len(json.loads(description)["model"]["vocab"])
    c, theirs = InC(description, size), TextTokenizer(description, size)
    for text in ("zebra quiz", "q", "a😀b", *_TALK):
        assert c.encode(text.encode()) == theirs.encode(text)


def test_memory_and_ids_are_checked() -> None:
    c, _ = _pair(False)
    assert c.encode(b"light", 4) == _E_SPACE
    assert c.encode(b"", 0) == []
    assert c.refuses(-1)
    assert c.refuses(len(c.tables.pieces))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__type": "Unigram"}, "model is Unigram"),
        ({"model__ignore_merges": True}, "ignore_merges True"),
        ({"model__byte_fallback": True}, "byte_fallback True"),
        ({"model__unk_token": "a"}, "unk_token 'a'"),
        ({"normalizer": {"type": "NFC"}}, "a normaliser"),
        ({"decoder": {"type": "Metaspace"}}, "decoder is Metaspace"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre-tokenizer is Whitespace"),
        ({"pre_tokenizer": None}, "pre-tokenizer is missing"),
        ({"pre_tokenizer__add_prefix_space": True}, "adds a space"),
        ({"pre_tokenizer__use_regex": False}, "does not split words"),
        ({"added_tokens__0__special": False}, "'<|start|>' is not special"),
    ],
)
def test_other_tokenizers_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelUnsupported) as caught:
        bpe.tables(_changed(**changes), 420)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"model": {"type": "BPE"}}', _changed(model__merges=[["a", "??"]])])
def test_a_damaged_tokenizer_is_corrupt_or_refused(content: bytes) -> None:
    with pytest.raises((ArtifactCorrupt, ModelUnsupported)):
        bpe.tables(content, 420)
    with pytest.raises(ArtifactCorrupt, match="an id is not in 0 to 299"):
        bpe.tables(_trained(False), 300)
