"""Adapters: the tables that learn, and what they are fitted to.

A head is a *delta* on the frozen body's base logits: with features ``h`` (float32 [d]) and base logits ``z``,

    logits = z + W h + b,        W float32 [labels, d],  b float32 [labels]

so the zero head answers as the body does. A label that the body does not know has the base logit 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# Above this calibrated probability the body answers a fleet's head (chosen on split seeds 1000 to 1003).
CONFIDENT = 0.9


@dataclass(frozen=True, eq=False)
class Head:
    """Labels with their rows: `weight` float32 [labels, d], `bias` float32 [labels]."""

    labels: tuple[str, ...]
    weight: Floats
    bias: Floats

    def __post_init__(self) -> None:
        rows = len(self.labels)
        if self.weight.ndim != 2 or self.weight.shape[0] != rows or self.bias.shape != (rows,):
            raise ValueError(f"{rows} labels, weight {self.weight.shape}, bias {self.bias.shape} do not fit")

    @property
    def joined(self) -> Floats:
        """``[W | b]``, float32 [labels, d + 1]."""
        return np.concatenate([self.weight, self.bias[:, None]], 1)


def zero(labels: Sequence[str], width: int) -> Head:
    """The head that changes nothing."""
    return Head(tuple(labels), np.zeros((len(labels), width), np.float32), np.zeros(len(labels), np.float32))


def from_joined(labels: Sequence[str], joined: NDArray[np.floating]) -> Head:
    """The head with ``[W | b]`` = `joined` [labels, d + 1]."""
    table = np.asarray(joined, np.float32)
    return Head(tuple(labels), table[:, :-1].copy(), table[:, -1].copy())


def select(head: Head, labels: Sequence[str]) -> Head:
    """The same head over `labels`: rows are matched by name, new ones are zero, others are left out."""
    rows = dict(zip(head.labels, head.joined, strict=True))
    empty = np.zeros(head.weight.shape[1] + 1, np.float32)
    return from_joined(labels, np.stack([rows.get(label, empty) for label in labels]))


def logits(head: Head, features: Floats, base: Floats) -> Floats:
    """Adapted logits, float32 [n, labels]; `features` [n, d], `base` [n, b] for the first b labels of the head."""
    adapted: Floats = features @ head.weight.T + head.bias
    adapted[:, : base.shape[1]] += base
    return adapted


def fleet_logits(head: Head, features: Floats, base: Floats, temperature: float) -> Floats:
    """What a fleet's head answers, float32 [n, labels]: the body's own logits where it is confident, else adapted.

    The body's calibrated probability says when it needs no help (selective prediction, Geifman and El-Yaniv 2017).
    Far from anything that a home has said, a head learned elsewhere can be wrong with force; there the body is
    usually sure.
    """
    adapted = logits(head, features, base)
    sure = probabilities(base / np.float32(temperature)).max(1) >= CONFIDENT
    adapted[sure, : base.shape[1]] = base[sure]
    return adapted


def probabilities(scores: Floats) -> Floats:
    """Softmax over the last axis."""
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float32)
