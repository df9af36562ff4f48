"""The kinds of adapter: which numbers of a feature vector the table sees, and how the table is fitted.

A kind's table is a `tasuki.sdk.adapter.Head` over ``phi(h)``, k columns: the adapted logits are
``o + W phi(h) + b``. C labels cost ``C (k + 1)`` numbers.

| kind         | phi(h)        | columns | fit                                  |
|--------------|---------------|---------|--------------------------------------|
| `head`       | h             | d       | convex, `tasuki.sdk.solver`          |
| `low_rank`   | A h, A frozen | rank    | convex, `tasuki.sdk.solver`          |
| `bias`       | nothing       | 0       | convex, `tasuki.sdk.solver`          |
| `statistics` | h             | d       | one linear solve of sums that add up |
"""

from typing import Final, Protocol

from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.adapter_bias import BiasKind
from tasuki.sdk.adapter_head import HeadKind
from tasuki.sdk.adapter_low_rank import LowRankKind
from tasuki.sdk.adapter_statistics import StatisticsKind
from tasuki.sdk.problem import Problem

NAMES: Final = ("head", "low_rank", "bias", "statistics")


class Kind(Protocol):
    """What all kinds do. They are frozen values: equal arguments of `make` give equal kinds."""

    @property
    def name(self) -> str:
        """One of `NAMES`."""

    @property
    def columns(self) -> int:
        """k, the columns of the weight."""

    def project(self, features: Floats) -> Floats:
        """``phi`` of each row: float32 [n, d] to float32 [n, k]."""

    def moment(self, moment: Floats) -> Floats:
        """The second moment of ``(phi(h), 1)``, float32 [k + 1, k + 1], from that of ``(h, 1)``."""

    def expand(self, table: Head) -> Head:
        """The same adapter as a table over the features themselves, W float32 [C, d]."""

    def fit(self, problem: Problem, start: Head | None = None) -> Head:
        """The delta over ``project(features)`` with the labels of `problem`; `start` is where a search begins.

        `problem` is over the features h, [n, d]. Raises ValueError where its width is not the kind's.
        """


def make(name: str, width: int, rank: int = 8, seed: int = 0) -> Kind:
    """The kind `name` for features of `width` numbers; `rank` and `seed` (0 to 2**64 - 1) are those of `low_rank`.

    Raises ValueError on an unknown name or numbers out of range.
    """
    if width < 1:
        raise ValueError(f"features of width {width}")
    match name:
        case "head":
            return HeadKind(width)
        case "low_rank":
            return LowRankKind(width, rank, seed)
        case "bias":
            return BiasKind(width)
        case "statistics":
            return StatisticsKind(width)
    raise ValueError(f"kind {name!r} is not one of {', '.join(NAMES)}")
