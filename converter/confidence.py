"""How sure an answer is: the temperature and the conformal thresholds, fitted on held-out text."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk import adapter
from tasuki.sdk.adapter import Floats

LEVELS: Final = (0.01, 0.05, 0.1, 0.2)
# Thresholds are rounded up to this step, so that a last bit of float32 on a device can't break the guarantee.
_STEP: Final = 1e-6


def fit_temperature(logits: Floats, targets: NDArray[np.int64]) -> float:
    """The temperature with the least cross entropy on held-out texts (Guo et al. 2017), by a fine grid."""
    grid = np.exp(np.linspace(np.log(0.25), np.log(8.0), 121))
    rows = np.arange(len(targets))
    losses = [
        -np.log(adapter.probabilities(np.asarray(logits / t, np.float32))[rows, targets] + 1e-12).mean() for t in grid
    ]
    return round(float(grid[int(np.argmin(losses))]), 4)


def conformal_table(
    logits: Floats, targets: NDArray[np.int64], temperature: float, levels: Sequence[float] = LEVELS
) -> list[list[float]]:
    """Rows of error level and threshold: split conformal prediction, score ``1 - p(true)`` (Sadinle et al. 2019).

    The labels whose probability is at least 1 - threshold hold the true one with a probability of at least 1 - level,
    for new texts of the kind of the held-out ones: `logits` float32 [n, C], `targets` [n]. The guarantee needs texts
    that the temperature was not fitted on. With too few texts for a level the threshold is 1: every label.
    """
    shares = adapter.probabilities(np.asarray(logits / np.float32(temperature), np.float32))
    scores = np.sort(1 - shares[np.arange(len(targets)), targets].astype(np.float64))
    return [[level, _quantile(scores, level)] for level in sorted(levels)]


def _quantile(scores: NDArray[np.float64], level: float) -> float:
    """The ceil((n + 1)(1 - level)) smallest of the sorted `scores`, or 1 where there are not so many."""
    rank = math.ceil((len(scores) + 1) * (1 - Fraction(str(level))))
    if rank > len(scores):
        return 1.0
    return min(1.0, max(0.0, round(math.ceil(float(scores[rank - 1]) / _STEP) * _STEP, 6)))
