"""Kind `statistics`: ridge regression from sums over the examples. No search, and the sums of parts add up.

With ``p_i = softmax(o_i)``, the shares without the adapter, and the residual ``e_i = onehot(y_i) - p_i``, the sums are

    G = sum_i x_i x_i^T        S_c = sum_i e_ic x_i

and row c of the table solves ``T_c (1/2 G + pull_c (M + e I)) = S_c``: ridge regression of twice the residual.

It is one step on the same convex objective that the other kinds minimise. S is its negative gradient at T = 0, and
``1/2 G`` bounds each class block of its Hessian: ``diag(p) - p p^T <= 1/2 (I - 1 1^T / C) <= 1/2 I`` (Boehning 1992,
"Multinomial logistic regression algorithm"). The table minimises that upper bound, so it never answers worse on the
objective than no adapter; it is more careful than the minimum itself.

G, S and the counts of any partition of the examples add up to those of the whole, so that one pass in any order, or
over many devices, gives the solution of all examples in one place, up to rounding of float64 (the property that
analytic federated learning uses, arXiv:2405.16240). Nothing is forgotten and nothing is revisited.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.adapter import Floats, Head, from_joined, probabilities, zero
from tasuki.sdk.adapter_head import HeadKind
from tasuki.sdk.problem import RIDGE, Problem, check_width

Doubles = NDArray[np.float64]
# Numbers at once: 16 MB of float64.
_CHUNK = 1 << 21


@dataclass(frozen=True)
class Statistics:
    """`gram` float64 [d + 1, d + 1], `sums` float64 [C, d + 1], `count` int64 [C], the examples of each label."""

    labels: tuple[str, ...]
    gram: Doubles
    sums: Doubles
    count: NDArray[np.int64]

    def __post_init__(self) -> None:
        rows, width = len(self.labels), len(self.gram)
        if self.gram.shape != (width, width) or self.sums.shape != (rows, width) or self.count.shape != (rows,):
            raise ValueError(
                f"{rows} labels, gram {self.gram.shape}, sums {self.sums.shape}, count {self.count.shape} do not fit"
            )


def empty(labels: Sequence[str], width: int) -> Statistics:
    """Of no examples; `width` is d."""
    rows = len(labels)
    gram, sums = np.zeros((width + 1, width + 1)), np.zeros((rows, width + 1))
    return Statistics(tuple(labels), gram, sums, np.zeros(rows, np.int64))


def accumulate(problem: Problem) -> Statistics:
    """The sums over the examples of `problem`; its moment and pulls play no part."""
    rows, width = len(problem.labels), problem.features.shape[1]
    total = empty(problem.labels, width)
    size = max(1, _CHUNK // max(rows, width + 1))
    for begin in range(0, len(problem.targets), size):
        some = np.arange(begin, min(begin + size, len(problem.targets)))
        inputs = np.concatenate([problem.features[some], np.ones((len(some), 1))], 1, dtype=np.float64)
        left = -probabilities(problem.offsets(some)).astype(np.float64)
        left[np.arange(len(some)), problem.targets[some]] += 1
        # Into the arrays of `empty`, which are nobody else's yet.
        total.gram[...] += inputs.T @ inputs
        total.sums[...] += left.T @ inputs
        total.count[...] += np.bincount(problem.targets[some], minlength=rows)
    return total


def add(first: Statistics, second: Statistics) -> Statistics:
    """The sums over both. Raises ValueError where labels (names and order) or widths differ."""
    if first.labels != second.labels or first.gram.shape != second.gram.shape:
        raise ValueError("statistics of different labels or widths do not add up")
    return Statistics(first.labels, first.gram + second.gram, first.sums + second.sums, first.count + second.count)


def solve(statistics: Statistics, moment: Floats | None, pulls: Doubles) -> Head:
    """The table; `moment` [d + 1, d + 1] and `pulls` [C] as in `Problem`. One factorisation for each distinct pull."""
    width = len(statistics.gram)
    metric = np.eye(width) if moment is None else moment.astype(np.float64) + RIDGE * np.eye(width)
    table = np.zeros((len(statistics.labels), width))
    for pull in np.unique(pulls):
        rows = pulls == pull
        table[rows] = np.linalg.solve(0.5 * statistics.gram + pull * metric, statistics.sums[rows].T).T
    return from_joined(statistics.labels, table)


@dataclass(frozen=True)
class StatisticsKind(HeadKind):
    """`width` is d, the number of features; the table sees them as a head does, and is fitted otherwise."""

    name: ClassVar[str] = "statistics"

    def fit(self, problem: Problem, start: Head | None = None) -> Head:
        """The ridge solution; it needs no start."""
        del start
        check_width(problem, self.width)
        if not len(problem.targets):
            return zero(problem.labels, self.width)
        return solve(accumulate(problem), problem.moment, problem.pulls)
