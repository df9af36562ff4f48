"""The adapter of kind `head`: the last layer, and the only thing that learns.

A head is a *delta* on the frozen body's base logits: with features ``h`` (float32 [d]) and base logits ``z``,

    logits = z + W h + b,        W float32 [labels, d],  b float32 [labels]

so the zero head answers as the body does. A label that the body does not know has the base logit 0.

Fitting minimises a convex objective over ``T = [W | b]`` with ``x = (h, 1)``:

    sum_i  -log softmax(z_i + T x_i)[y_i]  +  1/2 * sum_c strength_c (T - A)_c (M + e I) (T - A)_c^T

``A`` is the anchor (the fleet's head) and ``M`` the second moment ``mean(x x^T)`` over public text that the artifact
carries. The pull is therefore the mean squared change of the logits on public text: what the fleet or the body
already answers well stays as it is, and directions that public text does not use are free. It is elastic weight
consolidation (Kirkpatrick et al. 2017) for a last layer, or a Laplace prior with the body's own curvature. With
``M + e I = L L^T`` and ``T = A + P L^-1`` the pull on row c becomes ``strength_c/2 |P_c|^2``, so that L-BFGS (Nocedal
1980) needs few steps.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Point = NDArray[np.float64]
_RIDGE = 1e-3
_STEPS = 60
_MEMORY = 8
_TOLERANCE = 1e-4
# Above this calibrated probability the body answers a fleet's head (chosen on split seeds 1000 to 1003).
CONFIDENT = 0.9


@dataclass(frozen=True)
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


def fit(
    anchor: Head,
    features: Floats,
    base: Floats,
    targets: NDArray[np.intp],
    moment: Floats,
    strength: float | Point,
    start: Head | None = None,
) -> Head:
    """The head that minimises the objective above.

    `features` [n, d], `base` [n, b], `targets` indices into `anchor.labels` [n], `moment` [d+1, d+1],
    `strength` one for all labels or float64 [labels]; `start` is where the search begins (the result depends on it only
    within the tolerance).
    """
    count = len(targets)
    if count == 0:
        return anchor
    width = features.shape[1] + 1
    factor = np.linalg.cholesky(moment.astype(np.float64) + _RIDGE * np.eye(width))
    inputs = np.concatenate([features, np.ones((count, 1), np.float32)], 1).astype(np.float64)
    offset = logits(anchor, features, base).astype(np.float64)
    whitened = np.linalg.solve(factor, inputs.T).T
    rows = np.arange(count)
    pull = np.broadcast_to(np.asarray(strength, np.float64), len(anchor.labels))[:, None]

    def objective(point: Point) -> tuple[float, Point]:
        scores = offset + whitened @ point.T
        scores -= scores.max(1, keepdims=True)
        shares = np.exp(scores)
        totals = shares.sum(1)
        loss = float(np.log(totals).sum() - scores[rows, targets].sum() + 0.5 * (pull * point * point).sum())
        shares /= totals[:, None]
        shares[rows, targets] -= 1.0
        return loss, shares.T @ whitened + pull * point

    first = np.zeros((len(anchor.labels), width))
    if start is not None:
        first = (start.joined - anchor.joined).astype(np.float64) @ factor
    best = _minimise(objective, first)
    return from_joined(anchor.labels, anchor.joined + np.linalg.solve(factor.T, best.T).T)


def _minimise(objective: Callable[[Point], tuple[float, Point]], point: Point) -> Point:
    """L-BFGS with backtracking (Nocedal and Wright 2006, algorithms 7.4 and 3.1)."""
    value, slope = objective(point)
    history: deque[tuple[Point, Point, float]] = deque(maxlen=_MEMORY)
    for _ in range(_STEPS):
        if np.abs(slope).max() < _TOLERANCE:
            break
        direction = -_two_loops(slope, history)
        descent = float((slope * direction).sum())
        # The first step has no curvature to go by.
        step = 1.0 if history else min(1.0, 1.0 / float(np.abs(slope).sum()))
        for _ in range(30):
            candidate = point + step * direction
            new_value, new_slope = objective(candidate)
            if new_value <= value + 1e-4 * step * descent:
                break
            step *= 0.5
        else:
            break  # no decrease left at this precision
        moved, turned = candidate - point, new_slope - slope
        curvature = float((moved * turned).sum())
        if curvature > 1e-12:
            history.append((moved, turned, curvature))
        point, value, slope = candidate, new_value, new_slope
    return point


def _two_loops(slope: Point, history: deque[tuple[Point, Point, float]]) -> Point:
    direction: Point = slope.copy()
    shares = []
    for moved, turned, curvature in reversed(history):
        share = float((moved * direction).sum()) / curvature
        shares.append(share)
        direction -= share * turned
    if history:
        _, turned, curvature = history[-1]
        direction *= curvature / float((turned * turned).sum())
    for (moved, turned, curvature), share in zip(history, reversed(shares), strict=True):
        direction += (share - float((turned * direction).sum()) / curvature) * moved
    return direction
