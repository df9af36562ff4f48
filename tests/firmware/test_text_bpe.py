"""Byte-level BPE in C: ids and text as the package `tokenizers` has them."""

import ctypes
import functools
import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
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

    def encode(self, text: bytes, room: int | None = None, behind: bytes = b"") -> int | list[int]:
        """The ids, or an error's number; `behind` is in memory behind the text."""
        room = len(text) if room is None else room
        ids = np.full(room + 1, 7777, np.uint16)
        count: int = self._library.tsk_bpe_encode(
            ctypes.byref(self._table), flat(text + behind), ctypes.c_size_t(len(text)),
            ctypes.c_void_p(ids.ctypes.data), ctypes.c_size_t(room),
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


def _digits_and_level(**digits: bool) -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"type": "Sequence", "pretokenizers": [{"type": "Digits", **digits}, level]}


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


@functools.cache
def _paired(digits: bool) -> tuple[InC, TextTokenizer]:
    """Whatever two of a few characters stand together in a piece become one token: the ids show where pieces end."""
    about = json.loads(_trained(digits))
    letters = [letter for letter, _ in sorted(bpe.byte_names().items(), key=lambda pair: pair[1])]
    pairs = list(itertools.product([letters[byte] for byte in b" \n1a!'sr\xa0\xc2"], repeat=2))
    tokens = [*letters, *("".join(pair) for pair in pairs)]
    about["model"].update(vocab={token: number for number, token in enumerate(tokens)}, merges=pairs)
    description = json.dumps({**about, "added_tokens": []}).encode()
    return InC(description, len(tokens)), TextTokenizer(description, len(tokens))


@given(st.text(" \n1a!'sr\u00a0", max_size=10), st.booleans())
@example("a 1", True)
@example("a  1", True)
@example("a  a \n\n1 ", False)
@example("a's 'r", False)
@settings(deadline=None, max_examples=250)
def test_pieces_are_those_of_the_package(text: str, digits: bool) -> None:
    c, theirs = _paired(digits)
    assert c.encode(text.encode()) == theirs.encode(text)


def test_what_stands_behind_a_text_is_not_read() -> None:
    c, theirs = _pair(False)
    for text, behind in ((b"they'r", b"e"), (b"it'", b"s"), (b"on", b"e"), (b"caf\xc3", b"\xa9")):
        expected = _E_TEXT if text.endswith(b"\xc3") else theirs.encode(text.decode())
        assert c.encode(text, behind=behind) == expected


@given(st.binary(max_size=40))
@settings(deadline=None)
def test_bytes_that_are_no_utf8_are_refused(text: bytes) -> None:
    c, theirs = _pair(True)
    try:
        expected: int | list[int] = theirs.encode(text.decode())
    except UnicodeDecodeError:
        expected = _E_TEXT
    assert c.encode(text) == expected


# The bytes on both sides of every bound of Unicode's table 3-7.
_FIRST = (0x00, 0x7F, 0x80, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF)
_SECOND = (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)
_LATER = (0x7F, 0x80, 0xBF, 0xC0)
_EDGES = [bytes(edge) for edge in itertools.product(_FIRST, _SECOND, _LATER, _LATER)]


def _first_character(text: bytes) -> tuple[int, int]:
    """Its code point and size; -1 and 0 if there is none."""
    for size in range(1, 5):
        with suppress(UnicodeDecodeError):
            return ord(text[:size].decode()), size
    return -1, 0


def test_utf8_is_what_python_takes_at_every_bound() -> None:
    read = library().tsk_utf8_read
    for text in (edge[:size] for edge in _EDGES for size in range(1, 5)):
        size = ctypes.c_size_t(0)
        point = read(flat(text), ctypes.c_size_t(len(text)), ctypes.byref(size))
        assert (point, size.value) == _first_character(text), text


def test_streamed_bytes_are_replaced_as_python_does_at_every_bound() -> None:
    said = bytearray()

    @_SAY
    def say(_: int, text: int, size: int) -> int:
        said.extend(ctypes.string_at(text, size))
        return 0

    for text in (edge[:size] for edge in _EDGES for size in range(1, 5)):
        stream = (ctypes.c_uint8 * 8)()
        said.clear()
        for byte in text:
            assert library().tsk_utf8_push(stream, bytes([byte]), ctypes.c_size_t(1), say, None) == 0
        assert library().tsk_utf8_end(stream, say, None) == 0
        assert said.decode() == text.decode(errors="replace"), text


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
        ({"model__dropout": 0.1}, "dropout 0.1"),
        ({"model__continuing_subword_prefix": "##"}, "continuing_subword_prefix '##'"),
        ({"model__end_of_word_suffix": "</w>"}, "end_of_word_suffix '</w>'"),
        ({"normalizer": {"type": "NFC"}}, "a normaliser"),
        ({"decoder": {"type": "Metaspace"}}, "decoder is Metaspace"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre-tokenizer is Whitespace"),
        ({"pre_tokenizer": None}, "pre-tokenizer is missing"),
        ({"pre_tokenizer": _digits_and_level(individual_digits=False)}, "keeps runs of digits together"),
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


def test_an_id_is_a_number() -> None:
    for number in (True, 420, -1, "1", 1.0):
        with pytest.raises(ArtifactCorrupt, match="an id is not in 0 to 419"):
            bpe.tables(_changed(model__vocab__a=number), 420)


def test_a_token_that_is_no_bytes_stands_for_itself() -> None:
    description = _changed(**{"model__vocab__漢 字": 420})
    assert InC(description, 421).stream([420]) == ["漢 字".encode(), b""]
    assert TextTokenizer(description, 421).decode([420]) == "漢 字"


def test_merges_may_be_written_as_words() -> None:
    """Older files have them so."""
    merges = [" ".join(pair) for pair in json.loads(_trained(False))["model"]["merges"]]
    assert bpe.tables(_changed(model__merges=merges), 420) == bpe.tables(_trained(False), 420)


def test_there_is_room_for_65535_ids_and_bytes() -> None:
    assert len(bpe.tables(_trained(False), 65_535).pieces) == 65_535
    with pytest.raises(ModelUnsupported, match="it has 65,536 ids, and there is room for 65,535"):
        bpe.tables(_trained(False), 65_536)
    left = 65_535 - bpe.tables(_trained(False), 420).offsets[-1]
    assert bpe.tables(_changed(**{f"model__vocab__{'e' * left}": 420}), 421).offsets[-1] == 65_535
    with pytest.raises(ModelUnsupported, match="its tokens have 65,536 bytes, and there is room for 65,535"):
        bpe.tables(_changed(**{f"model__vocab__{'e' * (left + 1)}": 420}), 421)


def test_there_is_room_for_65535_merges() -> None:
    """Of runs of one letter, which special tokens need no room for."""
    runs = {"a" * length: length - 1 for length in range(1, 364)}
    special = [{"id": number, "content": run, "special": True} for run, number in runs.items()]
    pairs = [("a" * first, "a" * (whole - first)) for whole in range(2, 364) for first in range(1, whole)]
    made = [_changed(model__vocab=runs, added_tokens=special, model__merges=pairs[: 65_535 + n]) for n in range(2)]
    assert len(bpe.tables(made[0], 363).merges) == 65_535
    with pytest.raises(ModelUnsupported, match="it has 65,536 merges, and there is room for 65,535"):
        bpe.tables(made[1], 363)
