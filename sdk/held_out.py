"""What an adapter answers on examples that its fit did not see: stratified K-fold cross-validation (Kohavi 1995)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk import adapter
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.kinds import Kind
from tasuki.sdk.problem import Indices, Problem, subset


def held_out(kind: Kind, problem: Problem, folds: int = 5, seed: int = 0) -> Floats:
    """Logits, offset and adapter, of each example from a fit that did not see it: float32 [n, C].

    `seed` shuffles the folds. Each fit starts from zero. An example that is the only one of its label is answered by a
    fit that knows no example of the label, as a new command would be. Raises ValueError on fewer than two folds.
    """
    answers = np.empty((len(problem.targets), len(problem.labels)), np.float32)
    for rows, head in _fits(kind, problem, folds, seed):
        answers[rows] = adapter.logits(head, kind.project(problem.features[rows]), problem.offsets(rows))
    return answers


def losses(logits: Floats, targets: Indices) -> NDArray[np.float64]:
    """Cross-entropy of each example in nats, float64 [n]; `logits` float32 [n, C], `targets` [n]."""
    scores = logits.astype(np.float64)
    scores -= scores.max(1, keepdims=True)
    picked = scores[np.arange(len(targets)), targets]
    return np.asarray(np.log(np.exp(scores).sum(1)) - picked, np.float64)


def assign(targets: Indices, folds: int, seed: int) -> Indices:
    """The fold of each example [n]: labels are spread evenly, and so are the labels of few examples.

    With at most `folds` examples each has a fold of its own (leave one out).
    """
    if folds < 2:
        raise ValueError(f"{folds} folds: cross-validation needs two")
    shuffled = np.random.default_rng(seed).permutation(len(targets))
    by_label = shuffled[np.argsort(targets[shuffled], kind="stable")]
    places = np.empty(len(targets), np.intp)
    places[by_label] = np.arange(len(targets)) % folds
    return places


def _fits(kind: Kind, problem: Problem, folds: int, seed: int) -> Iterator[tuple[Indices, Head]]:
    """The rows of each fold, with the table fitted to all others."""
    places = assign(problem.targets, folds, seed)
    for fold in np.unique(places):
        aside = places == fold
        yield np.flatnonzero(aside), kind.fit(subset(problem, np.flatnonzero(~aside)))
