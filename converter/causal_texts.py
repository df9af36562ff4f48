"""The text of a causal student: divided into roles that share nothing, and cut into windows of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasuki.converter.texts import Texts, split_texts
from tasuki.sdk.errors import ConversionError

Windows = NDArray[np.int32]
# The share of a user's texts that goes to each of validation and held-out figures.
_SHARE = 0.1


@dataclass(frozen=True)
class Corpus:
    """Texts by role: `train` teaches, `validation` says when to stop, `held_out` gives the figures.

    A text is a document, or a line of one: short ones that follow each other are read as one.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    held_out: tuple[str, ...]


def divide(texts: Texts, seed: int) -> Corpus:
    """A user's texts by role, a tenth each for validation and held-out; labels don't count. Raises TextsInvalid."""
    rest, held_out = split_texts(Texts(texts.texts), seed, _SHARE)
    train, validation = split_texts(rest, seed, _SHARE / (1 - _SHARE))
    return Corpus(train.texts, validation.texts, held_out.texts)


def windows(tokenizer: Tokenizer, texts: Sequence[str], context: int, start: int, most: int) -> Windows:
    """Windows int32 [n, context + 1] of `texts`: the token `start`, then `context` tokens that follow each other.

    They do not overlap. A text that is too short waits for the next and is joined with it by a line break; what is left
    behind the last window of a text is not used. Of more than `most`, evenly spaced ones are taken. Raises
    ConversionError if there is none.
    """
    found: list[list[int]] = []
    ids: list[int] = []
    for text in texts:
        ids += tokenizer.encode(text if text.endswith("\n") else f"{text}\n", add_special_tokens=False).ids
        if len(ids) >= context:
            found += [[start, *ids[at : at + context]] for at in range(0, len(ids) - context + 1, context)]
            ids = []
    if not found:
        raise ConversionError(f"{len(texts)} texts have no {context} tokens together: give more text")
    chosen = range(len(found)) if len(found) <= most else np.linspace(0, len(found) - 1, most).round().astype(int)
    return np.array([found[row] for row in chosen], np.int32)
