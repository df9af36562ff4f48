"""New texts from known ones: never empty, the same by seed, labels kept."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasuki.converter.augment import augment, from_templates, word_dropout
from tasuki.converter.lexicon import PUBLIC

SLOTS = {"area": ("kitchen", "living room", "room"), "name": ("lamp", "tv", "İstanbul lamp"), "empty": ("", " ")}
anything = st.text(max_size=40)
likely = st.lists(
    st.sampled_from(["turn", "on", "the", "Kitchen", "living room", "room", "lamp", "tv,", "lamps"]), max_size=8
).map(" ".join)
pairs = st.lists(st.tuples(anything | likely, st.sampled_from("abc")), max_size=20)
seeds = st.integers(0, 1 << 32)


@given(anything | likely, st.floats(0, 0.99), seeds)
def test_dropout_keeps_a_word(text: str, rate: float, seed: int) -> None:
    found = word_dropout(text, rate, random.Random(seed))
    assert found == word_dropout(text, rate, random.Random(seed))
    if text.split():
        rest = iter(text.split())
        assert found.split()
        assert all(word in rest for word in found.split())  # in the same order
    else:
        assert found == text


def test_dropout_rates() -> None:
    assert word_dropout("turn  on the lamp", 0, random.Random(1)) == "turn on the lamp"
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="rate"):
            word_dropout("on", rate, random.Random(1))


@given(pairs, st.integers(0, 30), seeds)
def test_augmented_texts(known: list[tuple[str, str]], count: int, seed: int) -> None:
    texts, labels = [text for text, _ in known], [label for _, label in known]
    for make in (from_templates, augment):

        def run(make: object = make) -> tuple[list[str], list[str]]:
            if make is augment:
                return augment(texts, labels, count, random.Random(seed), SLOTS)
            return from_templates(texts, labels, SLOTS, count, random.Random(seed))

        new, new_labels = run()
        assert (new, new_labels) == run()
        assert len(new) == len(new_labels) <= count
        assert all(text.strip() for text in new)
        plain = [" ".join(text.casefold().split()) for text in new]
        assert len(set(plain)) == len(plain)
        assert not set(plain) & {" ".join(text.casefold().split()) for text in texts}
        assert set(new_labels) <= set(labels)


@given(seeds)
def test_the_label_is_that_of_the_source(seed: int) -> None:
    texts, labels = ["turn on the lamp", "warm up the kitchen"], ["light", "heat"]
    new, new_labels = augment(texts, labels, 12, random.Random(seed), SLOTS)
    first = {"turn", "on", "lamp", "tv", "i̇stanbul"}
    second = {"warm", "up", "kitchen", "living", "room"}
    for text, label in zip(new, new_labels, strict=True):
        said = set(text.casefold().split()) - {"the"}
        assert said <= (first if label == "light" else second) | {"lamp"}


def test_names_become_others_of_their_slot() -> None:
    new, labels = from_templates(["Dim the LIVING ROOM lamps"], ["dim"], SLOTS, 10, random.Random(1))
    assert sorted(new) == ["Dim the kitchen lamps", "Dim the room lamps"]
    assert labels == ["dim", "dim"]


def test_a_name_twice_stays_the_same() -> None:
    new, _ = from_templates(["lamp on, lamp off"], ["x"], SLOTS, 10, random.Random(1))
    assert sorted(new) == ["tv on, tv off", "İstanbul lamp on, İstanbul lamp off"]


def test_texts_without_names_give_nothing() -> None:
    for slots in (SLOTS, {}, {"area": ()}):
        assert from_templates(["hello there"], ["x"], slots, 5, random.Random(1)) == ([], [])
    assert augment(["hello"], ["x"], 5, random.Random(1)) == ([], [])


def test_a_lack_of_labels_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="one label for each"):
        augment(["turn on the lamp", "off"], ["x"], 5, random.Random(1), SLOTS)


def test_the_lexicon_fits() -> None:
    new, labels = augment(
        ["turn on the kitchen light", "lock the back door"], ["on", "lock"], 40, random.Random(3), PUBLIC
    )
    assert len(new) == 40
    assert set(labels) == {"on", "lock"}
