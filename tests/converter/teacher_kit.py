"""A made-up teacher and made-up texts: what is tested with them is the machinery, not the accuracy."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tasuki.converter.distil import Data
from tasuki.converter.graph import Floats
from tasuki.converter.recipe import Recipe
from tasuki.converter.student import StudentShape
from tasuki.converter.teacher import Teacher
from tasuki.converter.texts import Texts

WIDTH = 32
SHAPE = StudentShape(vocabulary=200, tokens=8, labels=1, width=16, layers=1, heads=2, inner=32)
RECIPE = Recipe(epochs=3, batch=32, growth=0.0, tuning=0)
WORDS = {
    "on": ("turn", "switch", "start"), "off": ("stop", "kill", "end"), "dim": ("dim", "lower", "soften"),
}  # fmt: skip
THINGS = ("lamp", "light", "radio", "heater", "fan", "blind", "pump", "oven")
PLACES = ("kitchen", "hall", "attic", "cellar", "garden", "bath")
PIECES = ("[PAD]", "[UNK]", *(w for words in WORDS.values() for w in words), *THINGS, *PLACES, "the", "in", "please")


def _vector(word: str) -> Floats:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)


def read(texts: Sequence[str], progress: Callable[[int, int], None]) -> tuple[Floats, Floats]:
    """The mean of the words' vectors; no logits."""
    rows = np.stack([np.mean([_vector(word) for word in text.split() or [""]], 0) for text in texts])
    progress(len(texts), len(texts))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), np.zeros((len(texts), 0), np.float32)


def toy() -> Teacher:
    """A teacher without a head."""
    table = np.stack([_vector(piece) for piece in PIECES])
    origin = {"file": "words", "sha256": "00" * 32, "licence": "CC0-1.0", "origin": "made up"}
    return Teacher("toy", (), PIECES, table, origin, read)


def with_head() -> Teacher:
    """One that knows the labels: that of the first word which has one."""
    labels = tuple(sorted(WORDS))

    def knows(texts: Sequence[str], progress: Callable[[int, int], None]) -> tuple[Floats, Floats]:
        said = [[4.0 * any(word in WORDS[label] for word in text.split()) for label in labels] for text in texts]
        return read(texts, progress)[0], np.array(said, np.float32)

    return replace(toy(), labels=labels, read=knows)


def texts(seed: int, count: int) -> Texts:
    """Different commands, with labels."""
    rng, said = random.Random(seed), {}
    while len(said) < count:
        label = rng.choice(sorted(WORDS))
        words = [rng.choice(WORDS[label]), "the", rng.choice(PLACES), rng.choice(THINGS)]
        said[" ".join(words + ["please"] * rng.randint(0, 1))] = label
    return Texts(tuple(said), tuple(said.values()))


def data(count: int = 160) -> Data:
    """Texts by role, all different."""
    whole = texts(0, count + 80)
    assert whole.labels is not None

    def part(start: int, stop: int) -> Texts:
        return Texts(whole.texts[start:stop], (whole.labels or ())[start:stop])

    return Data("toys", part(80, count + 80), part(0, 40), part(40, 80))


def silent(*_: object) -> None:
    pass
