"""What an adapter is fitted to: the examples, what is below it, and the pull to zero.

A local adapter is one more delta on top, ``T = [W | b]`` over ``x = (phi(h), 1)``, where the kind (`tasuki.sdk.kinds`)
gives phi. It minimises a convex objective, which `Problem` holds and `tasuki.sdk.solver` minimises:

    sum_i  -log softmax(o_i + T x_i)[y_i]  +  1/2 * sum_c pull_c T_c (M + e I) T_c^T

``o_i`` are the logits without it (base and global), and ``M`` is the second moment ``mean(x x^T)`` over public text,
which the artifact carries. The pull is therefore the mean squared change of the logits on public text: what the fleet
or the body already answers well stays as it is, and directions that public text does not use are free. It is elastic
weight consolidation (Kirkpatrick et al. 2017) for a last layer, or a Laplace prior with the body's own curvature.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.adapter import Floats

Indices = NDArray[np.intp]
# Logits under the adapter: float32 [n, labels], or a function from m row numbers to float32 [m, labels] where all rows
# at once would not fit in memory.
Offset = Floats | Callable[[Indices], Floats]
# `e` of the objective: a moment of few texts is singular.
RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Problem:
    """What an adapter is fitted to: n examples over C labels, and the pull to zero.

    `features` float32 [n, d], `offset` see `Offset`, `targets` indices into `labels` [n], `moment` float32
    [d + 1, d + 1] in the order of ``x = (features, 1)``, or None for a plain ridge (``M + e I`` is then the identity),
    `pulls` float64 [C], above 0. Raises ValueError where shapes or numbers do not fit.
    """

    labels: tuple[str, ...]
    features: Floats
    offset: Offset
    targets: Indices
    moment: Floats | None
    pulls: NDArray[np.float64]

    def __post_init__(self) -> None:
        count, rows = len(self.targets), len(self.labels)
        if self.targets.ndim != 1 or self.features.ndim != 2 or len(self.features) != count:
            raise ValueError(f"targets {self.targets.shape} and features {self.features.shape} do not fit")
        if not callable(self.offset) and self.offset.shape != (count, rows):
            raise ValueError(f"offset {self.offset.shape} is not [{count}, {rows}]")
        if count and (self.targets.min() < 0 or self.targets.max() >= rows):
            raise ValueError(f"targets are not all in 0 to {rows - 1}")
        width = self.features.shape[1] + 1
        if self.moment is not None and self.moment.shape != (width, width):
            raise ValueError(f"moment {self.moment.shape} is not [{width}, {width}]")
        if self.pulls.shape != (rows,) or not (np.isfinite(self.pulls).all() and (self.pulls > 0).all()):
            raise ValueError(f"pulls must be {rows} numbers above 0")

    def offsets(self, rows: Indices) -> Floats:
        """The logits without the adapter of the examples `rows` [m], float32 [m, C]."""
        return self.offset(rows) if callable(self.offset) else self.offset[rows]

    def metric(self) -> NDArray[np.float64] | None:
        """``M + e I``, float64 [d + 1, d + 1]; None for the identity."""
        if self.moment is None:
            return None
        return self.moment.astype(np.float64) + RIDGE * np.eye(len(self.moment))


def check_width(problem: Problem, width: int) -> None:
    """Raises ValueError where the features of `problem` are not `width` numbers."""
    if problem.features.shape[1] != width:
        raise ValueError(f"features {problem.features.shape} for an adapter of width {width}")


def subset(problem: Problem, rows: Indices) -> Problem:
    """The problem with the examples `rows` [m] only, in that order."""
    whole = problem.offset
    part: Offset = (lambda some: whole(rows[some])) if callable(whole) else whole[rows]
    return replace(problem, features=problem.features[rows], offset=part, targets=problem.targets[rows])
