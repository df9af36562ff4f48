"""Kind `bias`: one number a label, ``phi(h) = ()``. It learns how often each label is meant here, and nothing else.

The pull is on the bias alone: of the moment, the corner ``mean(1 * 1) = 1`` is left. It is the smallest adapter (4 C
bytes); tuning only biases is the idea of BitFit (Ben Zaken et al. 2022), here in the last layer alone.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from tasuki.sdk import solver
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.problem import Problem, check_width


@dataclass(frozen=True)
class BiasKind:
    """`width` is d, the number of features that are not looked at."""

    width: int
    name: ClassVar[str] = "bias"

    @property
    def columns(self) -> int:
        """None."""
        return 0

    def project(self, features: Floats) -> Floats:
        """Float32 [n, 0]."""
        return features[:, :0]

    def moment(self, moment: Floats) -> Floats:
        """The corner, float32 [1, 1]."""
        return moment[-1:, -1:]

    def expand(self, table: Head) -> Head:
        """``W = 0``."""
        return Head(table.labels, np.zeros((len(table.labels), self.width), np.float32), table.bias)

    def fit(self, problem: Problem, start: Head | None = None) -> Head:
        """The minimum of the objective over biases alone."""
        check_width(problem, self.width)
        corner = None if problem.moment is None else self.moment(problem.moment)
        return solver.minimise(replace(problem, features=self.project(problem.features), moment=corner), start)
