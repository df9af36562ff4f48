"""More training texts from few: words left out, and names swapped for others of their kind.

Pure functions of their arguments; chance comes from the caller's `random.Random`. No new text equals a given one or
another new one, so none can contradict a label that is known.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence

# How often a draw may repeat what is known, for each wanted text, before the sources count as exhausted.
_PATIENCE = 20
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
    slot_of = {
        value.casefold(): name for name, values in reversed(slots.items()) for value in reversed(values) if value
    }
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
                drawn[found] = rng.choice([value for value in slots[slot_of[found]] if value])
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
