"""Minimises the convex objective of `tasuki.sdk.Problem`.

The rule: a problem is *large* if its table ``C (d + 1)`` has more than 2**18 numbers, its logits ``n C`` more than
2**22, or its offset is a function. All others, such as every head of a classifier, go to L-BFGS (Nocedal and Wright
2006, algorithm 7.4) with three changes for a last layer:

- Logits are linear in the table, so those along a search direction D are ``Z + a D X^T``: one product gives the loss
  and the slope of every step a, and an iteration costs two products of n C (d + 1), however long its line search.
- The first inverse Hessian is ``(w X^T X + pull (M + e I))^-1`` and not a multiple of the identity. The Hessian of the
  loss is ``sum_i (diag(p_i) - p_i p_i^T) (x) x_i x_i^T``, for which Boehning (1992) takes the bound
  ``1/2 X^T X`` for every class; w, the mean of ``p (1 - p)``, is the same form without the slack. Features whose
  variances differ by decades cost no further iterations.
- float32 products and probabilities; every sum over examples, the loss and the slopes are float64.

The search ends where the largest entry of the gradient is at most `TOLERANCE` per example (the rule of scikit-learn's
LogisticRegression) and the Newton decrement, an estimate of what is left to gain, at most `GAP` of the objective; or
where float32 shows no decrease any more.

Large problems (the layer over a vocabulary, C up to 49,152 and n up to 64k tokens) go to Adam (Kingma and Ba 2015) with
decoupled decay (Loshchilov and Hutter 2019), a warm-up, a cosine schedule and seeded minibatches. With
``M + e I = L L^T`` and ``T = P L^-1`` the pull on row c is ``pull_c/2 |P_c|^2``, a plain decay of P: the search runs
over P with features ``L^-1 x``. The decay is kept out of Adam's moments and taken as the proximal step (Zhuang et al.
2022): with Adam's step s of an entry and g its bias-corrected mean gradient,

    P <- (P - s g) / (1 + s pull_c / n)

so that a point that stands still, ``g = -pull_c/n P``, is the minimum of the objective, and no step is too long for the
decay to be stable. Of the start and the end, the better on the full objective is kept.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.adapter import Floats, Head, from_joined, select, zero
from tasuki.sdk.problem import Indices, Problem

TOLERANCE = 1e-4
GAP = 5e-6
LARGE_TABLE = 1 << 18
LARGE_LOGITS = 1 << 22
_STEPS = 200
_MEMORY = 10
_TRIALS = 12
# Strong Wolfe conditions (Nocedal and Wright 2006, 3.7) of a step.
_DECREASE = 1e-4
_CURVATURE = 0.6
# Where the preconditioner is made: at the start, and once the shares say which examples are in doubt.
_REFRESH = (0, 2)
# What float32 logits leave of the objective's precision.
_PRECISION = 2e-7
# AdamW: rate, minibatch, passes over the examples, and bounds of the number of steps.
RATE = 0.05
BATCH = 256
PASSES = 8
LEAST_STEPS = 200
MOST_STEPS = 2000
_WARM = 0.1
_BETAS = (0.9, 0.99)
_TINY = 1e-8
# Logits at once, in numbers: 16 MB of float32.
_CHUNK = 1 << 22

Point = NDArray[np.float64]
Precondition = Callable[[Floats], Floats]


class _Data(NamedTuple):
    """A problem in the solver's layout, labels first: products and softmax then run along contiguous rows."""

    inputs: Floats  # [n, k], the last column is 1
    turned: Floats  # [k, n]
    flat: Indices  # of each example's target in scores [C, n]
    gram: Floats  # [k, k]
    metric: Floats | None  # [k, k]; None for the identity
    pulls: Floats  # [C, 1]


class _Line(NamedTuple):
    """The objective along ``table + a direction``: the loss needs scores, the pull is a polynomial in a."""

    value: float
    slope: float
    picked: float  # sum of the targets' scores at a = 0
    picked_slope: float
    pull_slope: float
    pull_curve: float


def large(problem: Problem) -> bool:
    """Whether the rule above sends the problem to AdamW."""
    labels, width = len(problem.labels), problem.features.shape[1] + 1
    too_many = labels * width > LARGE_TABLE or labels * len(problem.targets) > LARGE_LOGITS
    return callable(problem.offset) or too_many


def minimise(problem: Problem, start: Head | None = None, seed: int = 0) -> Head:
    """The delta that minimises the objective, a head over ``problem.features``.

    The search begins at `start`, whose rows are matched by label (None: at zero), and the objective never ends above
    its value there. The result depends on `start` and `seed` (of the minibatches of large problems) within the
    tolerance only, and is the same for the same arguments. Without examples it is zero. Raises ValueError where `start`
    has another width or the features or offsets are not finite.
    """
    width = problem.features.shape[1]
    if start is not None and start.weight.shape[1] != width:
        raise ValueError(f"the start has {start.weight.shape[1]} columns, not {width}")
    if not len(problem.targets):
        return zero(problem.labels, width)
    table = (zero(problem.labels, width) if start is None else select(start, problem.labels)).joined
    found = _adamw(problem, table, seed) if large(problem) else _lbfgs(problem, table)
    return from_joined(problem.labels, found)


def objective(problem: Problem, table: NDArray[np.floating]) -> float:
    """The objective at ``T = [W | b]`` [C, d + 1], in float64; some rows at a time, so that [n, C] need not fit."""
    exact = table.astype(np.float64)
    loss = 0.0
    size = max(1, _CHUNK // (2 * len(problem.labels)))
    for begin in range(0, len(problem.targets), size):
        rows = np.arange(begin, min(begin + size, len(problem.targets)))
        scores = problem.offsets(rows) + _with_ones(problem.features[rows]).astype(np.float64) @ exact.T
        scores -= scores.max(1, keepdims=True)
        loss -= float(scores[np.arange(len(rows)), problem.targets[rows]].sum())
        loss += float(np.log(np.exp(scores, out=scores).sum(1)).sum())
    metric = problem.metric()
    moved = exact if metric is None else exact @ metric
    return loss + 0.5 * float(np.einsum("c,ck,ck->", problem.pulls, moved, exact))


def _with_ones(features: Floats) -> Floats:
    """``x = (features, 1)``, float32 [n, d + 1]."""
    count, width = features.shape
    inputs = np.empty((count, width + 1), np.float32)
    inputs[:, :-1] = features
    inputs[:, -1] = 1
    return inputs


def _lbfgs(problem: Problem, table: Floats) -> Floats:
    data = _data(problem)
    everyone = np.arange(len(problem.targets))
    scores = np.ascontiguousarray(problem.offsets(everyone).T, np.float32)
    if table.any():
        scores += table @ data.turned
    shares = np.empty_like(scores)
    value = _softmax(scores, shares) - _picked(scores, data) + _pull(table, data)
    if not (np.isfinite(value) and np.isfinite(data.gram).all()):
        raise ValueError("features or offsets are not finite, or too large for float32")
    spare, along = np.empty_like(scores), np.empty_like(scores)
    history: deque[tuple[Floats, Floats, float]] = deque(maxlen=_MEMORY)
    first, began, moved, slope = table, value, table, table
    precondition: Precondition = _same
    for step in range(_STEPS):
        if step in _REFRESH:
            doubt = 1.0 - float(np.vdot(shares, shares)) / len(everyone)
            precondition = _preconditioner(data, doubt / len(shares))
        curve_of = shares.copy() if step == 0 else None
        shares.ravel()[data.flat] -= 1
        pulled = data.pulls * _times_metric(table, data)
        previous, slope = slope, shares @ data.inputs + pulled
        if step:
            turned = slope - previous
            curvature = float(np.vdot(moved, turned))
            if curvature > 0:
                history.append((moved, turned, curvature))
        direction = -_two_loops(slope, history, precondition)
        descent = float(np.vdot(slope, direction))
        if not descent < 0:
            break
        if np.abs(slope).max() <= TOLERANCE * len(everyone) and -0.5 * descent <= GAP * value:
            break
        np.matmul(direction, data.turned, out=along)
        weighed = data.pulls * _times_metric(direction, data)
        line = _Line(
            value,
            descent,
            _picked(scores, data),
            _picked(along, data),
            float(np.vdot(pulled, direction)),
            float(np.vdot(weighed, direction)),
        )
        length = 1.0 if curve_of is None else -descent / (_curvature(curve_of, along) + line.pull_curve)
        if curve_of is not None and not 0 < length < np.inf:
            length = 1.0
        length, lower = _search(scores, along, spare, shares, line, length, _pull(table, data))
        if length == 0:
            break  # no decrease left at this precision
        scores, spare = spare, scores
        moved = direction * np.float32(length)
        table = table + moved
        settled = value - lower <= _PRECISION * value
        value = lower
        if settled:
            break
    return table if value <= began else first


def _data(problem: Problem) -> _Data:
    inputs = _with_ones(problem.features)
    count = len(inputs)
    metric = problem.metric()
    return _Data(
        inputs,
        np.ascontiguousarray(inputs.T),
        problem.targets * count + np.arange(count),
        inputs.T @ inputs,
        None if metric is None else metric.astype(np.float32),
        problem.pulls.astype(np.float32)[:, None],
    )


def _softmax(scores: Floats, shares: Floats) -> float:
    """Softmax over the labels, scores [C, n] into `shares`; returns the sum of the log-normalisers."""
    top = scores.max(0)
    np.subtract(scores, top, out=shares)
    np.exp(shares, out=shares)
    totals = shares.sum(0)
    shares *= 1 / totals
    return float((top + np.log(totals)).sum(dtype=np.float64))


def _picked(scores: Floats, data: _Data) -> float:
    return float(scores.ravel()[data.flat].sum(dtype=np.float64))


def _times_metric(table: Floats, data: _Data) -> Floats:
    return table if data.metric is None else table @ data.metric


def _pull(table: Floats, data: _Data) -> float:
    return 0.5 * float(np.vdot(data.pulls * _times_metric(table, data), table))


def _curvature(shares: Floats, along: Floats) -> float:
    """The loss's second derivative along the line: the variance of `along` under the shares, over all examples."""
    weighed = shares * along
    means = weighed.sum(0)
    return float(np.vdot(weighed, along)) - float(np.vdot(means, means))


def _search(
    scores: Floats, along: Floats, spare: Floats, shares: Floats, line: _Line, length: float, pull: float
) -> tuple[float, float]:
    """The step and its value, by secant steps inside a bracket; scores and shares of that step are left in place.

    The first step that meets both conditions, else the last one that decreases enough, else (0, value).
    """
    low, high = 0.0, np.inf
    before, slope_before = 0.0, line.slope
    for trial in range(_TRIALS):
        np.multiply(along, np.float32(length), out=spare)
        np.add(spare, scores, out=spare)
        loss = _softmax(spare, shares) - line.picked - length * line.picked_slope
        value = loss + pull + length * line.pull_slope + 0.5 * length * length * line.pull_curve
        slope = float(np.vdot(shares, along)) - line.picked_slope + line.pull_slope + length * line.pull_curve
        enough = value <= line.value + _DECREASE * length * line.slope
        last = trial >= _TRIALS // 2
        if enough and (last or abs(slope) <= -_CURVATURE * line.slope):
            return length, value
        if enough and slope < 0:
            low = length
        else:
            high = length
        turn = slope - slope_before
        guess = length - slope * (length - before) / turn if turn > 0 and np.isfinite(slope) else np.inf
        before, slope_before = length, slope
        if not low < guess < min(high, 10 * length):
            guess = (low + high) / 2 if high < np.inf else 4 * length
        length = guess
    return 0.0, line.value


def _same(table: Floats) -> Floats:
    return table


def _preconditioner(data: _Data, doubt: float) -> Precondition:
    """Multiplies rows by ``(doubt X^T X + pull (M + e I))^-1``; pulls within a factor of 2 share one inverse."""
    width = len(data.gram)
    metric = np.eye(width) if data.metric is None else data.metric.astype(np.float64)
    loss = doubt * data.gram.astype(np.float64)
    logs = np.log2(data.pulls[:, 0].astype(np.float64))
    levels = np.round(logs)
    parts = []
    for level in np.unique(levels):
        rows = np.flatnonzero(levels == level)
        both = loss + 2.0 ** logs[rows].mean() * metric
        # Rounding of the products must not make it indefinite.
        both.flat[:: width + 1] += 1e-6 * both.diagonal().max() if width > 1 else 0.0
        inverse = np.linalg.inv(both)
        parts.append((rows, ((inverse + inverse.T) / 2).astype(np.float32)))
    if len(parts) == 1:
        only = parts[0][1]
        return lambda table: table @ only

    def apply(table: Floats) -> Floats:
        out = np.empty_like(table)
        for rows, inverse in parts:
            out[rows] = table[rows] @ inverse
        return out

    return apply


def _two_loops(slope: Floats, history: deque[tuple[Floats, Floats, float]], precondition: Precondition) -> Floats:
    direction = slope.copy()
    shares = []
    for moved, turned, curvature in reversed(history):
        share = float(np.vdot(moved, direction)) / curvature
        shares.append(share)
        direction -= np.float32(share) * turned
    direction = precondition(direction)
    if history:
        _, turned, curvature = history[-1]
        direction *= np.float32(curvature / float(np.vdot(turned, precondition(turned))))
    for (moved, turned, curvature), share in zip(history, reversed(shares), strict=True):
        direction += np.float32(share - float(np.vdot(turned, direction)) / curvature) * moved
    return direction


def _adamw(problem: Problem, start: Floats, seed: int) -> Floats:
    """The table [C, d + 1] after AdamW from `start`, or `start` where that is no worse.

    Memory: six float32 tables and two float64 ones, the features twice, and a minibatch's logits. Raises ValueError
    where the start's objective is not finite.
    """
    before = objective(problem, start)
    if not np.isfinite(before):
        raise ValueError("features or offsets are not finite, or too large for float32")
    found = _descend(problem, start, np.random.default_rng(seed))
    after = objective(problem, found)
    return found if after < before else start


def _descend(problem: Problem, start: Floats, rng: np.random.Generator) -> Floats:
    metric = problem.metric()
    inputs, table = _with_ones(problem.features), start.copy()
    factor = None if metric is None else np.linalg.cholesky(metric)
    if factor is not None:
        inputs = (inputs @ np.linalg.inv(factor).T).astype(np.float32)
        table = (table @ factor).astype(np.float32)
    count = len(inputs)
    batch = min(BATCH, count)
    # Adam's steps are of one size in every entry: bring the columns to one size too.
    spread = np.sqrt(np.maximum((inputs * inputs).mean(0, dtype=np.float64), 1e-12)).astype(np.float32)
    steps = min(max(PASSES * -(-count // batch), LEAST_STEPS), MOST_STEPS)
    decay = (problem.pulls / count).astype(np.float32)[:, None]
    mean, square, slope, spare = (np.zeros_like(table) for _ in range(4))
    first, second = (np.float32(beta) for beta in _BETAS)
    order, taken = rng.permutation(count), 0
    for step in range(1, steps + 1):
        if taken + batch > count:
            order, taken = rng.permutation(count), 0
        rows = order[taken : taken + batch]
        taken += batch
        _batch_slope(problem, inputs[rows], table, rows, slope)
        mean *= first
        mean += np.multiply(slope, 1 - first, out=spare)
        slope *= slope
        square *= second
        square += np.multiply(slope, 1 - second, out=spare)
        sizes = np.sqrt(square, out=slope)
        sizes *= np.float32((1 - _BETAS[1] ** step) ** -0.5)
        sizes += np.float32(_TINY)
        np.divide(np.float32(_rate(step, steps)) / spread, sizes, out=sizes)
        moved = np.multiply(sizes, mean, out=spare)
        moved *= np.float32(1 / (1 - _BETAS[0] ** step))
        table -= moved
        sizes *= decay
        sizes += 1
        table /= sizes
    return np.asarray(table if factor is None else table @ np.linalg.inv(factor), np.float32)


def _batch_slope(problem: Problem, inputs: Floats, table: Floats, rows: Indices, out: Floats) -> None:
    """Gradient of the mean loss over a minibatch, into `out` [C, k]."""
    scores = problem.offsets(rows) + inputs @ table.T
    scores -= scores.max(1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(1, keepdims=True)
    scores[np.arange(len(rows)), problem.targets[rows]] -= 1
    scores *= np.float32(1 / len(rows))
    np.matmul(scores.T, inputs, out=out)


def _rate(step: int, steps: int) -> float:
    """Linear warm-up over the first tenth, then a half cosine to zero (Loshchilov and Hutter 2017)."""
    warm = max(1, round(_WARM * steps))
    if step <= warm:
        return RATE * step / warm
    return RATE * 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm))))
