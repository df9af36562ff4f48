"""Generation and scores: the pieces are the text, the text is what its definition says, and hostile prompts."""

import importlib
import json
import math
import sys
import threading
from collections.abc import Sequence
from typing import Any

import artifact_kit
import causal_kit as kit
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.converter import pack
from tasuki.sdk import artifact, generate
from tasuki.sdk.checkpoint_tokenizer import TextTokenizer
from tasuki.sdk.errors import (
    ArtifactCorrupt,
    ArtifactForeign,
    EmptyText,
    InputError,
    MissingExtra,
    NotAvailable,
    TextTooLong,
)
from tasuki.sdk.generate import TextModel, text_model
from tasuki.sdk.runtime import Options
from tasuki.sdk.sampling import Sampler
from tasuki.sdk.text_stream import TextStream
from tasuki.sdk.text_windows import windows

MODELS: dict[str, TextModel] = {}


def opened(which: str = "student") -> TextModel:
    if which not in MODELS:
        MODELS[which] = text_model(kit.read(which))
    return MODELS[which]


class Pieces:
    """A decoding whose token n is the n-th of `texts`."""

    def __init__(self, texts: Sequence[str], joins: bool = True) -> None:
        self.texts, self.joins, self.skipped = texts, joins, frozenset[int]()

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.texts[n] for n in ids)

    def piece(self, token: int) -> str:
        return self.texts[token]

    def encode(self, text: str, special: bool = False) -> list[int]:
        return [0] if text else []


class Script:
    """A decoder that says what it was told to."""

    def __init__(self, said: Sequence[int], context: int = 10_000) -> None:
        self.said, self.context, self.position, self.begun = said, context, 0, 0

    def resume(self, ids: Sequence[int]) -> int:
        self.position, self.begun = 0, self.begun + 1
        return 0

    def feed(self, ids: Sequence[int]) -> None:
        self.position += len(ids)

    def advance(self, token: int) -> None:
        assert token == self.said[self.position - 1]
        self.position += 1

    def best(self) -> int:
        return self.said[self.position - 1]


def until(text: str, stop: Sequence[str]) -> str | None:
    """What comes before the first stop text to be complete, or None if there is none."""
    for end in range(1, len(text) + 1):
        found = [s for s in stop if text[:end].endswith(s)]
        if found:
            return text[: end - len(max(found, key=len))]
    return None


TEXTS = st.lists(st.text("ab\n", max_size=4), min_size=1, max_size=12)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=4)


@given(TEXTS, STOPS, st.booleans())
@settings(max_examples=400, deadline=None)
def test_stop_texts_end_it_wherever_tokens_end(texts: list[str], stop: list[str], joins: bool) -> None:
    model = TextModel(Script(range(len(texts))), Pieces(texts, joins), None, frozenset())  # type: ignore[arg-type]
    made = generate.generate(model, "x", stop=stop, max_tokens=len(texts))
    pieces = list(made)
    wanted = until("".join(texts), stop)
    assert "".join(pieces) == made.text == ("".join(texts) if wanted is None else wanted)
    assert made.reason == ("length" if wanted is None else "stop")
    assert all(pieces)
    # Nothing is made behind the token that completes a stop text.
    assert wanted is None or until("".join(texts[: made.tokens - 1]), stop) is None
    assert made.ids == tuple(range(made.tokens))


@given(TEXTS, STOPS)
@settings(max_examples=300, deadline=None)
def test_no_more_is_held_back_than_may_begin_a_stop_text(texts: list[str], stop: list[str]) -> None:
    stream, said, given_ = TextStream(Pieces(texts), stop), "", ""
    for token, piece in enumerate(texts):
        said += piece
        given_ += stream.push(token)
        if stream.stopped:
            return
        held = max(n for n in range(len(said) + 1) if not n or any(s[:n] == said[-n:] and n < len(s) for s in stop))
        assert given_ == said[: len(said) - held]


def tokenizer(which: str = "student") -> TextTokenizer:
    return opened(which).tokenizer


IDS = st.lists(st.integers(0, 299), max_size=30)


@given(IDS, st.booleans())
@settings(max_examples=400, deadline=None)
def test_pieces_are_what_decoding_everything_gives(ids: list[int], joins: bool) -> None:
    made = tokenizer()
    stream = TextStream(made)
    stream._decoding = Slow(made) if not joins else made
    assert made.joins
    assert "".join([*map(stream.push, ids), stream.end()]) == made.decode(ids)


class Slow:
    """A tokenizer that does not say that its pieces can be joined."""

    joins = False

    def __init__(self, made: TextTokenizer) -> None:
        self.decode, self.piece, self.skipped = made.decode, made.piece, made.skipped


@given(st.text(max_size=20))
@settings(max_examples=300, deadline=None)
def test_characters_come_whole(text: str) -> None:
    made, seen = tokenizer(), ""
    cleaned = text.encode("utf-8", "replace").decode()
    for source in (made, Slow(made)):
        stream = TextStream(source)
        seen = ""
        for token in made.encode(text):
            seen += stream.push(token)
            assert cleaned.startswith(seen)
        assert seen + stream.end() == cleaned


def test_japanese_and_emoji() -> None:
    made = tokenizer()
    stream = TextStream(made)
    pieces = [stream.push(token) for token in made.encode("火事だ 👩‍🚒!")]
    assert [p for p in pieces if p][:4] == ["火", "事", "だ", " "]
    assert "".join(pieces) == "火事だ 👩‍🚒!"


def byte_fallback() -> TextTokenizer:
    """As Llama's: words begin with a mark, the first mark is stripped, and what has no token is bytes."""
    library = importlib.import_module("tokenizers")
    words = ["<unk>", *(f"<0x{n:02X}>" for n in range(256)), "▁", *"abcdehlo", "▁a", "<s>"]
    model = library.models.BPE({w: n for n, w in enumerate(words)}, [("▁", "a")], byte_fallback=True, unk_token="<unk>")
    made = library.Tokenizer(model)
    made.add_special_tokens(["<s>"])
    made.normalizer = library.normalizers.Sequence(
        [library.normalizers.Prepend("▁"), library.normalizers.Replace(" ", "▁")]
    )
    parts = [library.decoders.Replace("▁", " "), library.decoders.ByteFallback(), library.decoders.Fuse(),
             library.decoders.Strip(" ", 1, 0)]  # fmt: skip
    made.decoder = library.decoders.Sequence(parts)
    return TextTokenizer(made.to_str().encode(), len(words))


FALLBACK: list[TextTokenizer] = []


@given(st.text(st.sampled_from("a bé火👩hello"), max_size=12), st.sets(st.integers(0, 12)))
@settings(max_examples=300, deadline=None)
def test_other_decoders_too(text: str, special: set[int]) -> None:
    if not FALLBACK:
        FALLBACK.append(byte_fallback())
    made = FALLBACK[0]
    assert not made.joins
    ids = made.encode(text)
    assert made.decode(ids) == text
    start = made.encode("<s>", special=True)[-1]
    for place in sorted(special, reverse=True):
        ids[place:place] = [start]
    stream, seen = TextStream(made), ""
    for token in ids:
        seen += stream.push(token)
        assert made.decode(ids).startswith(seen)
    assert seen + stream.end() == made.decode(ids)


WANTED: list[dict[str, Any]] = [{}, {"temperature": 1.5, "seed": 5}, {"temperature": 1.0, "top_k": 9, "top_p": 0.9}]


def by_hand(model: TextModel, prompt: str, count: int, wanted: dict[str, Any]) -> list[int]:
    """Tokens by sampling from logits, the text read from its beginning each time as generation reads it."""
    decoder, sampler = model.decoder, Sampler(**wanted)
    first = [*model.first, *model.tokenizer.encode(prompt)]
    made: list[int] = []
    while len(made) < count:
        decoder.restart()
        decoder.feed(first)
        for token in made:
            decoder.advance(token)
        token = sampler.pick(decoder.logits())
        if token in model.stops:
            break
        made.append(token)
    return made


@pytest.mark.parametrize("which", ["student", "published", "wide"])
@pytest.mark.parametrize("wanted", WANTED)
def test_a_text_is_what_sampling_from_the_logits_gives(which: str, wanted: dict[str, Any]) -> None:
    model = opened(which)
    ids = by_hand(model, "how was", 8, wanted)
    for _ in range(2):
        made = generate.generate(model, "how was", max_tokens=8, **wanted)
        pieces = list(made)
        assert list(made.ids) == ids
        assert "".join(pieces) == made.text == model.tokenizer.decode(ids)
        assert (made.tokens, made.reason) == (len(ids), "length" if len(ids) == 8 else "stop")
        assert list(made) == []


def test_seeds_differ() -> None:
    texts = {generate.generate(opened(), "a", max_tokens=8, temperature=2.0, seed=n).ids for n in range(5)}
    assert texts == {()}  # nothing is made before it is asked for
    made = [generate.generate(opened(), "a", max_tokens=8, temperature=2.0, seed=n) for n in range(5)]
    assert len({"".join(one) for one in made}) > 3


@pytest.mark.parametrize("which", ["student", "published"])
def test_it_ends_where_the_context_is_full(which: str) -> None:
    model = opened(which)
    room = kit.CONTEXT - len(model.first)
    model = TextModel(model.decoder, model.tokenizer, model.start, frozenset())
    for length in (1, 7, room):
        made = generate.generate(model, "~" * length, temperature=3.0)
        list(made)
        # The last token is made of a full context, and not read any more.
        assert (made.tokens, made.reason) == (room - length + 1, "context")
        assert model.decoder.position == kit.CONTEXT
    made = generate.generate(model, "~" * room, max_tokens=1)
    list(made)
    assert made.reason == "length"
    with pytest.raises(TextTooLong, match=rf"{room + 1} tokens, and {room} fit"):
        generate.generate(model, "~" * (room + 1))


def test_an_id_of_the_manifest_ends_it() -> None:
    model = opened()
    assert model.stops == {1}
    plain = generate.generate(model, "how", max_tokens=6)
    list(plain)
    ended = TextModel(model.decoder, model.tokenizer, model.start, frozenset(plain.ids[-1:]))
    first = plain.ids.index(plain.ids[-1])
    made = generate.generate(ended, "how", max_tokens=6)
    assert "".join(made) == model.tokenizer.decode(plain.ids[:first])
    assert (made.ids, made.reason) == (plain.ids[:first], "stop")


@pytest.mark.parametrize("which", ["student", "published", "wide"])
def test_texts_may_be_left_and_interleaved(which: str) -> None:
    model, wanted = opened(which), {"max_tokens": 9, "temperature": 1.0}
    alone = ["".join(generate.generate(model, p, **wanted)) for p in ("how was", "~~")]
    left = generate.generate(model, "the lake", **wanted)
    next(left)
    left.close()
    assert list(left) == []
    assert left.reason is None
    pair = [generate.generate(model, p, **wanted) for p in ("how was", "~~")]
    seen = ["", ""]
    for _ in range(9):
        for n, made in enumerate(pair):
            seen[n] += next(made, "")
        generate.score(model, "oh my")
    assert seen == alone
    model.decoder.restart()
    assert "".join(generate.generate(model, "how was", **wanted)) == alone[0]


def test_the_adapters_term_is_applied() -> None:
    model = opened()
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def adapt(features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        seen.append((features, logits))
        changed = logits.copy()
        changed[50 + len(seen)] += 1000
        return changed

    made = generate.generate(model, "how", max_tokens=3, adapt=adapt)
    list(made)
    assert made.ids == (51, 52, 53)
    model.decoder.restart()
    model.decoder.feed([0, *model.tokenizer.encode("how"), 51, 52])
    np.testing.assert_array_equal(seen[-1][0], model.decoder.features())
    np.testing.assert_array_equal(seen[-1][1], model.decoder.logits())
    assert seen[0][0].dtype == seen[0][1].dtype == np.float32
    with pytest.raises(InputError, match="adapter"):
        list(generate.generate(model, "how", adapt=lambda features, logits: logits[:5]))
    with pytest.raises(InputError, match="not a number"):
        list(generate.generate(model, "how", adapt=lambda features, logits: logits * np.nan))


def test_the_lock_is_held_while_a_piece_is_made() -> None:
    model, lock = opened(), threading.RLock()
    alone = ["".join(generate.generate(model, f"{n}", max_tokens=12, temperature=1.0)) for n in range(4)]
    found = [""] * 4

    def write(n: int) -> None:
        found[n] = "".join(generate.generate(model, f"{n}", max_tokens=12, temperature=1.0, lock=lock))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def surprise(model: TextModel, before: Sequence[int], token: int) -> float:
    """-log p of `token` after `before`, read from the beginning."""
    model.decoder.restart()
    model.decoder.feed(before)
    logits = [float(value) for value in model.decoder.logits()]
    return math.log(math.fsum(math.exp(value) for value in logits)) - logits[token]


def test_a_score_is_the_sum_of_its_tokens() -> None:
    model = opened()
    ids = [0, *model.tokenizer.encode("how was the lake")]
    found = generate.score(model, "how was the lake")
    wanted = [surprise(model, ids[:n], ids[n]) for n in range(1, len(ids))]
    np.testing.assert_allclose(found.per_token, wanted, rtol=1e-9)
    assert found.tokens == len(ids) - 1
    assert found.nats == pytest.approx(sum(wanted))
    assert found.perplexity == pytest.approx(math.exp(sum(wanted) / len(wanted)))
    # Where the start token is inside, the first token is given.
    inside = opened("published")
    scored = generate.score(inside, "how was")
    rows = inside.decoder
    rows.restart()
    logits = np.concatenate([r.logits() for r in rows.rows(inside.tokenizer.encode("how was"))]).astype(np.float64)
    follow = inside.tokenizer.encode("how was")[1:]
    exact = [math.log(np.exp(row).sum()) - row[token] for row, token in zip(logits, follow, strict=False)]
    assert scored.tokens == len(follow)
    # The last row is not read for a score, so chunks may be cut elsewhere and round another way.
    np.testing.assert_allclose(scored.per_token, exact, atol=0.2)
    assert generate.Score(1, 1e6, (1e6,)).perplexity == math.inf


def test_long_texts_are_scored_in_windows() -> None:
    model, text = opened(), "how was the lake today my dog " * 8
    ids, room = model.tokenizer.encode(text), kit.CONTEXT - 1
    found = generate.score(model, text)
    assert found.tokens == len(ids) > 3 * kit.CONTEXT
    first = [surprise(model, [0, *ids[:n]], ids[n]) for n in range(kit.CONTEXT)]
    np.testing.assert_allclose(found.per_token[: kit.CONTEXT], first, rtol=1e-9)
    begin = kit.CONTEXT - room // 2
    after = [surprise(model, [0, *ids[begin:n]], ids[n]) for n in range(kit.CONTEXT, begin + room + 1)]
    np.testing.assert_allclose(found.per_token[kit.CONTEXT : begin + room + 1], after, rtol=1e-9)


@given(st.integers(0, 300), st.integers(2, 40), st.integers(0, 1))
@settings(max_examples=300, deadline=None)
def test_every_token_is_the_target_of_one_window(count: int, context: int, first: int) -> None:
    targets: list[int] = []
    for number, window in enumerate(windows(count, context, first)):
        assert 1 <= first + window.end - window.begin <= context
        assert window.begin <= window.target <= window.end < count
        assert first + window.target - window.begin >= 1
        assert (window.begin == 0) if number == 0 else (window.target - window.begin >= (context - first) // 2)
        targets += range(window.target, window.end + 1)
    assert targets == list(range(1 - first, count))


def test_a_context_of_one_token() -> None:
    assert [(w.begin, w.end, w.target) for w in windows(3, 1, 1)] == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
    assert [(w.begin, w.end, w.target) for w in windows(3, 1, 0)] == [(0, 1, 1), (1, 2, 2)]


def test_an_adapter_changes_the_score() -> None:
    model = opened()
    bias = np.zeros(model.decoder.vocabulary, np.float32)
    bias[model.tokenizer.encode("how")] = 5
    plain, helped = (generate.score(model, "how", a) for a in (None, lambda features, logits: logits + bias))
    assert helped.nats < plain.nats
    with pytest.raises(InputError, match="adapter"):
        generate.score(model, "how", lambda features, logits: features)


def test_an_empty_prompt_needs_a_start_id() -> None:
    made = generate.generate(opened(), "", max_tokens=3)
    assert "".join(made) == opened().tokenizer.decode(made.ids)
    for empty in (lambda: generate.generate(opened("published"), ""), lambda: generate.score(opened(), ""),
                  lambda: generate.score(opened("published"), "~")):  # fmt: skip
        with pytest.raises(EmptyText):
            empty()


@pytest.mark.parametrize(
    "prompt", ["\0\x1b[2J\x7f", "\ud800x\udfff", " \n\t", "\u202eab\ufeff", "\ufffd", "e\u0301" * 3]
)
def test_hostile_prompts_are_read_as_text(prompt: str) -> None:
    model = opened()
    cleaned = prompt.encode("utf-8", "replace").decode()
    assert model.tokenizer.decode(model.ids(prompt)) == cleaned
    made = generate.generate(model, prompt, max_tokens=2)
    list(made)
    assert made.tokens == 2
    assert generate.score(model, prompt).tokens == len(model.ids(prompt))


def test_the_bound_is_that_of_classifiers() -> None:
    model = opened()
    for text in ("a" * 65_537, "\ud800" * 22_000, "火" * 21_846):
        for call in (generate.generate, generate.score):
            with pytest.raises(TextTooLong, match="65,536"):
                call(model, text)
    assert generate.score(model, "how was " * 300).tokens > 500
    with pytest.raises(InputError):
        generate.generate(model, b"bytes")  # type: ignore[arg-type]


def test_names_of_special_tokens_are_text_unless_wanted() -> None:
    model = opened()
    name = "<|end|>"
    assert model.ids(name, special=True) == [1]
    assert 1 not in model.ids(name)
    assert model.tokenizer.decode(model.ids(name)) == name
    assert model.tokenizer.decode([1]) == ""
    assert model.ids(name, special=True) == [1]


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": 0}, {"max_tokens": 1.5}, {"max_tokens": True}, {"stop": "text"}, {"stop": [""]}, {"stop": [1]},
     {"stop": ["x" * 257]}, {"stop": ["x"] * 17}, {"temperature": -1}, {"top_p": 0}, {"top_k": -1}, {"seed": -1}],
)  # fmt: skip
def test_bad_arguments_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        generate.generate(opened(), "a", **wrong)


def test_what_can_not_write_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactForeign, match="classify"):
        text_model(artifact.parse(pack.pack(artifact_kit.MODEL, artifact_kit.parts(), artifact_kit.about())))
    found = kit.read()
    pieces = {**found._asdict(), "tokenizer_json": None, "vocabulary": artifact_kit.PIECES}
    with pytest.raises(NotAvailable, match=r"tokenizer\.json"):
        text_model(artifact.Artifact(**pieces))
    with pytest.raises(ArtifactCorrupt):
        text_model(artifact.Artifact(**{**found._asdict(), "tokenizer_json": b"{}"}))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra):
        text_model(found, Options())


def test_ids_that_the_model_has_not_are_refused() -> None:
    content = kit.read().tokenizer_json
    assert content is not None
    about = json.loads(content)
    assert max(about["model"]["vocab"].values()) == 299
    small = TextTokenizer(content, 250)
    with pytest.raises(ArtifactCorrupt, match="the model has 250"):
        small.encode("how was the lake yesterday, music please")
