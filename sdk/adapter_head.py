"""Kind `head`: the whole last layer, ``phi(h) = h``. The kind that travels to the gateway (SPEC.md, "Head")."""

from dataclasses import dataclass
from typing import ClassVar

from tasuki.sdk import solver
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.problem import Problem, check_width


@dataclass(frozen=True)
class HeadKind:
    """`width` is d, the number of features."""

    width: int
    name: ClassVar[str] = "head"

    @property
    def columns(self) -> int:
        """All features."""
        return self.width

    def project(self, features: Floats) -> Floats:
        """The features as they are."""
        return features

    def moment(self, moment: Floats) -> Floats:
        """The whole one."""
        return moment

    def expand(self, table: Head) -> Head:
        """The table itself."""
        return table

    def fit(self, problem: Problem, start: Head | None = None) -> Head:
        """The minimum of the objective, within the solver's tolerance."""
        check_width(problem, self.width)
        return solver.minimise(problem, start)
