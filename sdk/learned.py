"""What a classifier has learned, as values: what an answer stands on. How it is learned is in `tasuki.sdk.learner`."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk import confidence
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.prediction import Verdict

# Fewer held-out answers than this say nothing about how often answers are wrong: the artifact's table stands.
FLOOR_EXAMPLES: Final = 20
_NONE: Final = np.zeros(0)
_NO: Final = np.zeros(0, np.bool_)


class Body(NamedTuple):
    """What learning needs to know of the artifact: its labels, calibration and second moment float32 [d+1, d+1]."""

    labels: tuple[str, ...]
    temperature: float
    moment: Floats
    conformal: Sequence[tuple[float, float]]


class Lesson(NamedTuple):
    """Cached examples as arrays: `features` float32 [n, d], `base` logits float32 [n, C], `named` the label of each."""

    features: Floats
    base: Floats
    named: Sequence[str]


class Learned(NamedTuple):
    """The outcome. `local` is the difference to the fleet's adapter over the kind's columns and over `labels`.

    `best` float64 [n] and `right` bool [n] are the held-out answers of the adapter that answers, empty for none.
    """

    labels: tuple[str, ...]
    fleet: Head
    local: Head | None
    verdict: Verdict
    temperature: float
    conformal: Sequence[tuple[float, float]]
    best: NDArray[np.float64] = _NONE
    right: NDArray[np.bool_] = _NO

    def floor(self, level: float) -> float:
        """The calibrated probability that an answer must reach at the error level `level`, 0 to 1."""
        if len(self.best) >= FLOOR_EXAMPLES:
            return confidence.cache_floor(self.best, self.right, level)
        return confidence.table_floor(self.conformal, level)


def untaught(body: Body, fleet: Head, reason: str = "no examples yet") -> Learned:
    """What a device answers with before it has learned anything."""
    return Learned(fleet.labels, fleet, None, Verdict("global", reason), body.temperature, body.conformal)
