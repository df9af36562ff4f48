"""More training texts from few: words left out, names swapped for others of their kind, words for near ones, and
beginnings joined to other endings.

Pure functions of their arguments; chance comes from the caller's `random.Random`. No new text equals a given one or
another new one, so none can contradict a label that is known.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from tasuki.converter.graph import Floats

# How often a draw may repeat what is known, for each wanted text, before the sources count as exhausted.
_PATIENCE: Final = 20
_NEIGHBOURS: Final = 8
# A word's neighbours are looked for among as many pieces, the frequent ones.
_FREQUENT: Final = 12000
_SWAPPED: Final = 0.25
Pairs = tuple[list[str], list[str]]


def word_dropout(text: str, rate: float, rng: random.Random) -> str:
    """The text without each word with probability `rate`; at least one word stays, and so does a text without any."""
    if not 0 <= rate < 1:
        raise ValueError("rate must be from 0 to below 1")
    words = text.split()
    if not words:
        return text
    kept = [word for word in words if rng.random() >= rate]
    return " ".join(kept or [rng.choice(words)])


def from_templates(
    texts: Sequence[str],
    labels: Sequence[str],
    slots: Mapping[str, Sequence[str]],
    count: int,
    rng: random.Random,
) -> Pairs:
    """At most `count` new texts, and their labels: names known from `slots` become others of the same slot.

    A name is found as whole words whatever its case, the longest first; one that stands in two slots is of the first.
    All of a text's names are drawn anew, and a name that occurs twice stays the same. Fewer than `count` come back when
    the texts have too few names.
    """
    slot_of: dict[str, str] = {}
    for slot, values in slots.items():
        for value in values:
            if value.strip():
                slot_of.setdefault(value.casefold(), slot)
    if not slot_of:
        return [], []
    names = "|".join(map(re.escape, sorted(slot_of, key=lambda value: (-len(value), value))))
    pattern = re.compile(rf"(?<!\w)(?:{names})(?!\w)", re.IGNORECASE)
    # A letter may change its length with its case, so a match need not be a known name.
    usable = [n for n, text in enumerate(texts) if any(m[0].casefold() in slot_of for m in pattern.finditer(text))]

    def make() -> tuple[str, str]:
        n = rng.choice(usable)
        drawn: dict[str, str] = {}

        def another(match: re.Match[str]) -> str:
            found = match[0].casefold()
            if found in slot_of and found not in drawn:
                drawn[found] = rng.choice([value for value in slots[slot_of[found]] if value.strip()])
            return drawn.get(found, match[0])

        return pattern.sub(another, texts[n]), labels[n]

    return _distinct(texts, labels, count, make) if usable else ([], [])


def augment(
    texts: Sequence[str],
    labels: Sequence[str],
    count: int,
    rng: random.Random,
    slots: Mapping[str, Sequence[str]] | None = None,
    rate: float = 0.15,
) -> Pairs:
    """At most `count` new texts, and their labels: half with other names from `slots`, as far as there are, the rest
    with words left out at `rate`. A label is that of the text it was made from.
    """
    new, new_labels = from_templates(texts, labels, slots or {}, count // 2, rng)
    known, known_labels = [*texts, *new], [*labels, *new_labels]
    usable = [n for n, text in enumerate(known) if len(text.split()) > 1]

    def make() -> tuple[str, str]:
        n = rng.choice(usable)
        return word_dropout(known[n], rate, rng), known_labels[n]

    more, more_labels = _distinct(known, known_labels, count - len(new), make) if usable else ([], [])
    return [*new, *more], [*new_labels, *more_labels]


def neighbours(texts: Sequence[str], pieces: Sequence[str], table: Floats) -> dict[str, list[str]]:
    """For each word of `texts` that is one of the `pieces`: the words whose rows of `table` are nearest by cosine.

    As Jiao et al. (2020, "TinyBERT") replace words. Only letters count, in whole words of at least three.
    """
    said = {word for text in texts for word in text.casefold().split()}
    rows = [row for row, piece in enumerate(pieces) if len(piece) > 2 and piece.isalpha() and piece == piece.casefold()]
    names = [pieces[row] for row in rows]
    known = [row for row, name in enumerate(names) if name in said]
    if not known or len(names) <= _NEIGHBOURS:
        return {}
    unit = table[rows] - table[rows].mean(0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
    near = {}
    for row in known:
        alike = unit[:_FREQUENT] @ unit[row]
        order = np.argsort(-alike, kind="stable")[: _NEIGHBOURS + 1]
        near[names[row]] = [names[other] for other in order if other != row][:_NEIGHBOURS]
    return near


def blend(texts: Sequence[str], count: int, rng: random.Random, near: Mapping[str, Sequence[str]]) -> list[str]:
    """At most `count` new texts that no label is known of: half with words replaced by `near` ones, half with the
    beginning of one text and the end of another.
    """
    cut = [words for words in (text.split() for text in texts) if len(words) > 1]
    if not cut:
        return []

    def make() -> tuple[str, str]:
        words = rng.choice(cut)
        if near and rng.random() < 0.5:
            return " ".join(_replaced(words, near, rng)), ""
        other = rng.choice(cut)
        return " ".join([*words[: rng.randint(1, len(words) - 1)], *other[-rng.randint(1, len(other) - 1) :]]), ""

    return _distinct(texts, [""] * len(texts), count, make)[0]


def _replaced(words: Sequence[str], near: Mapping[str, Sequence[str]], rng: random.Random) -> list[str]:
    """At least one of the `words` that have near ones is replaced."""
    places = [place for place, word in enumerate(words) if near.get(word.casefold())]
    chosen = {place for place in places if rng.random() < _SWAPPED} or set(places and [rng.choice(places)])
    return [rng.choice(near[word.casefold()]) if place in chosen else word for place, word in enumerate(words)]


def _distinct(texts: Sequence[str], labels: Sequence[str], count: int, make: Callable[[], tuple[str, str]]) -> Pairs:
    """At most `count` pairs from `make` whose texts are new."""
    if len(texts) != len(labels):
        raise ValueError("there must be one label for each text")
    seen = {_plain(text) for text in texts}
    new: Pairs = ([], [])
    for _ in range(_PATIENCE * count):
        if len(new[0]) == count:
            break
        text, label = make()
        if text.strip() and _plain(text) not in seen:
            seen.add(_plain(text))
            new[0].append(text)
            new[1].append(label)
    return new


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
