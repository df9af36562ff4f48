"""The vocabulary and the text of a causal student."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.converter import causal_texts, causal_toy, chat, pruned
from tasuki.converter.causal_texts import windows
from tasuki.converter.texts import Texts
from tasuki.sdk.checkpoint_tokenizer import CheckpointTokenizer
from tasuki.sdk.errors import ConversionError, TextsInvalid


@pytest.fixture(scope="module")
def small() -> pruned.Pruned:
    return pruned.prune(causal_toy.teacher(0).tokenizer, causal_toy.talk(0).train, 300, 0, [1])


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back(small: pruned.Pruned, text: str) -> None:
    tokenizer = small.load()
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_every_text_begins_with_the_start_token(small: pruned.Pruned) -> None:
    ids = CheckpointTokenizer(small.tokenizer, 16, small.start).encode("hello")
    assert ids[0] == small.start == 0
    assert small.load().decode(ids[1:].tolist()).strip() == "hello"


def test_every_token_is_the_teachers(small: pruned.Pruned) -> None:
    whole = json.loads(causal_toy.teacher(0).tokenizer)["model"]["vocab"]
    part = json.loads(small.tokenizer)["model"]["vocab"]
    assert len(part) == len(small.kept) == 300
    assert all(whole[token] == small.kept[number] for token, number in part.items())
    assert (np.diff(small.kept) > 0).all()
    assert small.kept[:2].tolist() == [0, 1]


def test_frequent_words_stay_whole(small: pruned.Pruned) -> None:
    tokenizer = small.load()
    texts = causal_toy.talk(0).train
    bytes_ = sum(len(text.encode()) for text in texts)
    assert sum(len(found.ids) for found in tokenizer.encode_batch(list(texts))) < 0.7 * bytes_


def test_pruning_twice_gives_the_same_bytes(small: pruned.Pruned) -> None:
    again = pruned.prune(causal_toy.teacher(0).tokenizer, causal_toy.talk(0).train, 300, 0, [1])
    assert again.tokenizer == small.tokenizer


def test_a_vocabulary_without_room_for_all_bytes_is_refused() -> None:
    with pytest.raises(ConversionError, match="no place for 258"):
        pruned.prune(causal_toy.teacher(0).tokenizer, ["a"], 257, 0, [1])


def test_another_kind_of_tokenizer_is_refused() -> None:
    content = json.dumps({"model": {"type": "WordPiece", "vocab": {}}}).encode()
    with pytest.raises(ConversionError, match="WordPiece"):
        pruned.prune(content, ["a"], 300, 0)


# The text


def dataset() -> dict[str, dict[str, list[list[dict[str, str]]]]]:
    found = {}
    for number in range(400):
        pair = (f"person {number % 20}", f"person {(number * 7 + 3) % 20}")
        said = [f"{number} " + "  ".join(f"word{turn}{place}" for place in range(9)) for turn in range(number % 90)]
        turns = [[{"text": text, "sender": pair[turn % 2]}] for turn, text in enumerate(said)]
        found[str(number)] = {"messages": turns}
    return found


def test_nobody_speaks_in_two_roles() -> None:
    talk = chat.divide(dataset(), 1)
    people = []
    for texts in (talk.train, talk.validation, talk.held_out):
        numbers = {int(text.split()[0]) for text in texts}
        people.append({n % 20 for n in numbers} | {(n * 7 + 3) % 20 for n in numbers})
    assert all(people)
    assert not people[0] & people[1]
    assert not people[0] & people[2]
    assert not people[1] & people[2]
    every = talk.train + talk.validation + talk.held_out
    assert all(200 <= len(text) <= 3000 for text in every)
    assert any(len(text) > 2900 for text in every)
    assert all("  " not in text and text.endswith("\n") for text in every)


SPOKEN = " ".join(f"word{number}" for number in range(60))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(SPOKEN, True), ("a " * 5000, False), (SPOKEN + " a" * 300, False), ("too short", False), ("", False),
     (" ".join(f"word{number}" for number in range(6000)), True), ("endless" * 1000, True)],
)  # fmt: skip
def test_what_is_no_talk_is_left_out(text: str, wanted: bool) -> None:
    found = chat.divide({"1": {"messages": [[{"text": text, "sender": "somebody"}]]}}, 0)
    said = found.train + found.validation + found.held_out
    assert len(said) == wanted
    assert all(len(one) <= 3000 and text.startswith(one.strip()) for one in said)


def test_the_division_depends_on_the_seed_alone() -> None:
    assert chat.divide(dataset(), 1) == chat.divide(dict(reversed(dataset().items())), 1)
    assert chat.divide(dataset(), 1) != chat.divide(dataset(), 2)


def test_windows_start_with_the_start_token_and_stay_in_one_text(small: pruned.Pruned) -> None:
    tokenizer, texts = small.load(), causal_toy.talk(0).train[:3]
    found = windows(tokenizer, texts, 16, 0, 1000)
    assert found.shape[1] == 17
    assert (found[:, 0] == 0).all()
    said = [tokenizer.decode(row[1:].tolist()) for row in found]
    assert all(any(part in text for text in texts) for part in said)
    assert said[0] == texts[0][: len(said[0])]


def test_short_texts_are_joined_by_a_line_break(small: pruned.Pruned) -> None:
    tokenizer = small.load()
    texts = ["hello", "how are you", "fine thanks", "bye"]
    length = len(tokenizer.encode("\n".join(texts)).ids) - 1
    (row,) = windows(tokenizer, texts, length, 0, 1000)
    assert tokenizer.decode(row[1:].tolist()) == "\n".join(texts)


def test_of_too_many_windows_evenly_spaced_ones_are_taken(small: pruned.Pruned) -> None:
    texts = causal_toy.talk(0).train[:5]
    every, some = (windows(small.load(), texts, 16, 0, most) for most in (1000, 7))
    rows = [int(np.flatnonzero((every == row).all(1))[0]) for row in some]
    assert (rows[0], rows[-1]) == (0, len(every) - 1)
    assert np.ptp(np.diff(rows)) <= 1


def test_too_little_text_for_one_window_is_refused(small: pruned.Pruned) -> None:
    with pytest.raises(ConversionError, match="3 texts have no 9999 tokens together"):
        windows(small.load(), causal_toy.talk(0).train[:3], 9999, 0, 10)


def test_a_users_texts_are_divided_without_leaks() -> None:
    lines = [f"line {number % 90}" for number in range(100)]
    found = causal_texts.divide(Texts(tuple(lines), ("x",) * 100), 0)
    assert sorted(found.train + found.validation + found.held_out) == sorted(lines)
    roles = [set(texts) for texts in (found.train, found.validation, found.held_out)]
    assert not roles[0] & roles[1]
    assert not roles[0] & roles[2]
    assert not roles[1] & roles[2]
    assert [len(role) for role in roles] == [72, 9, 9]
    with pytest.raises(TextsInvalid):
        causal_texts.divide(Texts(("only", "two")), 0)
