"""What a causal model learns from its cached texts: an adapter of its vocabulary layer, and whether it may speak.

Every token of a text is an example: the feature below the last layer, and the token that followed. Base logits are
not cached but computed from the features by the vocabulary layer (`tasuki.sdk.vocabulary_layer`), so that refitting
needs no inference. Do no harm: each fifth text is held out, and an adapter that does not lower the loss there is not
used; the one that is used was fitted on all texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk import held_out
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.kinds import Kind
from tasuki.sdk.prediction import Verdict
from tasuki.sdk.problem import Problem

# The pull towards the body, in tokens of cached text, in the metric of the cache. Chosen on people whose words trained
# the student; figures are of others.
STRENGTH: Final = 10.0
_HELD_OUT: Final = 5
_CHUNK: Final = 256

Logits = Callable[[Floats], Floats]


@dataclass(frozen=True)
class TextLesson:
    """The tokens of all cached texts in a row: `features` float32 [n, d], `targets` [n], and which `text` [n] it is."""

    features: Floats
    targets: NDArray[np.intp]
    text: NDArray[np.intp]


@dataclass(frozen=True)
class Spoken:
    """The outcome: `local` is None until there is something to learn from; `verdict` says whether it is used."""

    local: Head | None
    verdict: Verdict


def learn(kind: Kind, vocabulary: int, logits: Logits, lesson: TextLesson, start: Head | None = None) -> Spoken:
    """Fit the adapter on all texts; judge it by a fit on four fifths of them.

    `logits` gives the base logits float32 [m, vocabulary] of features float32 [m, d].
    """
    texts = int(lesson.text.max()) + 1 if len(lesson.text) else 0
    labels = tuple(map(str, range(vocabulary)))
    if texts < 2:
        return Spoken(None, Verdict("base", f"{texts} texts are too few to judge by", texts))
    aside = lesson.text % _HELD_OUT == min(_HELD_OUT, texts) - 1
    judged = kind.fit(_problem(labels, logits, lesson, ~aside))
    base, adapted = _losses(kind, judged, logits, lesson, aside)
    helps = adapted < base
    reason = (
        f"on {int(aside.sum())} tokens of texts that its fit did not see, the local adapter's loss is {adapted:.3f} a"
        f" token, the body's {base:.3f}"
    )
    local = kind.fit(_problem(labels, logits, lesson, np.ones_like(aside)), start) if helps else None
    return Spoken(local, Verdict("local" if helps else "base", reason, texts, adapted, base))


def _problem(labels: Sequence[str], logits: Logits, lesson: TextLesson, chosen: NDArray[np.bool_]) -> Problem:
    features = lesson.features[chosen]
    return Problem(
        labels=tuple(labels),
        features=features,
        offset=lambda rows: logits(features[rows]),
        targets=lesson.targets[chosen],
        moment=_moment(lesson.features),
        pulls=np.full(len(labels), STRENGTH),
    )


def _moment(features: Floats) -> Floats:
    """The second moment of ``x = (h, 1)`` over the cache, float32 [d + 1, d + 1]: there is none of public text."""
    inputs = np.concatenate([features, np.ones((len(features), 1), np.float32)], 1)
    return np.asarray(inputs.T @ inputs / np.float32(len(inputs)), np.float32)


def _losses(
    kind: Kind, local: Head, logits: Logits, lesson: TextLesson, chosen: NDArray[np.bool_]
) -> tuple[float, float]:
    """Mean loss in nats a token without and with `local`, in chunks."""
    features, targets = lesson.features[chosen], lesson.targets[chosen]
    sums = np.zeros(2)
    for begin in range(0, len(targets), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        base = logits(features[part])
        added = kind.project(features[part]) @ local.weight.T + local.bias
        sums += [held_out.losses(scores, targets[part]).sum() for scores in (base, base + added)]
    return float(sums[0] / len(targets)), float(sums[1] / len(targets))
