"""How sure an answer is: a temperature for its probability, and the floor below which it is called uncertain.

An answer is *uncertain* at an error level unless exactly one label's calibrated probability reaches the level's floor.
Converter and device fit both by the same functions: the converter on held-out text, the device on the answers to its
cached examples by fits that did not see them.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.adapter import Floats, probabilities

LEVELS: Final = (0.01, 0.05, 0.1, 0.2)
# Thresholds are rounded up to this step, so that a last bit of float32 on a device can't break the guarantee.
_STEP: Final = 1e-6
_GRID: Final = np.exp(np.linspace(np.log(0.25), np.log(8.0), 121))
# No probability reaches it: every answer is uncertain.
NEVER: Final = 2.0


def fit_temperature(logits: Floats, targets: NDArray[np.integer], prior: float = 0.0, expected: float = 1.0) -> float:
    """The temperature with the least cross entropy (Guo et al. 2017), by a grid of 121 from 0.25 to 8.

    `logits` float32 [n, C] of texts that nothing was fitted on, `targets` [n] below C. With `prior`, in examples'
    worth, it is held towards `expected`: the penalty is ``prior / 2 * log(T / expected)^2``.
    """
    rows = np.arange(len(targets))
    losses = [
        -np.log(probabilities(np.asarray(logits / np.float32(t), np.float32))[rows, targets] + 1e-12).sum()
        + 0.5 * prior * math.log(t / expected) ** 2
        for t in _GRID
    ]
    return round(float(_GRID[int(np.argmin(losses))]), 4)


def conformal_table(
    logits: Floats, targets: NDArray[np.integer], temperature: float, levels: Sequence[float] = LEVELS
) -> list[list[float]]:
    """Rows of error level and threshold: split conformal prediction, score ``1 - p(true)`` (Sadinle et al. 2019).

    The labels whose probability is at least 1 - threshold hold the true one with a probability of at least 1 - level,
    for new texts of the kind of the held-out ones: `logits` float32 [n, C], `targets` [n]. The guarantee needs texts
    that the temperature was not fitted on. With too few texts for a level the threshold is 1: every label.
    """
    shares = probabilities(np.asarray(logits / np.float32(temperature), np.float32))
    scores = np.sort(1 - shares[np.arange(len(targets)), targets].astype(np.float64))
    return [[level, _quantile(scores, level)] for level in sorted(levels)]


def table_floor(table: Sequence[tuple[float, float]], level: float) -> float:
    """The floor at `level` where nothing was learned yet: 1 - level, so that no answer is likelier wrong than that.

    It rests on the calibration of the held-out texts behind the conformal table: NEVER where these were too few for a
    row at or below `level`. The row's own threshold is no floor: sets grow with a stricter level, so that a floor made
    of them would flag less.
    """
    rows = [threshold for found, threshold in table if found <= level + 1e-12]
    return 1.0 - level if rows and rows[-1] < 1 else NEVER


def cache_floor(best: NDArray[np.float64], right: NDArray[np.bool_], level: float) -> float:
    """The lowest floor above which at most a share `level` of the answers is wrong; NEVER if there is none.

    `best` float64 [n] is the highest calibrated probability of each held-out answer, `right` [n] whether it was true.
    The share of wrong answers among the surest k is taken as the mean of two estimates: those counted, and
    ``mean(1 - best)``, which calibration makes unbiased and which a few examples estimate with less noise (selective
    classification, Geifman and El-Yaniv 2017, with the plug-in risk in place of their binomial bound).
    """
    order = np.argsort(-best, kind="stable")
    surest, wrong = best[order], ~right[order]
    counts = np.arange(1, len(order) + 1)
    risk = (wrong.cumsum() + (1 - surest).cumsum()) / (2 * counts)
    fits = np.flatnonzero(risk <= level)
    return float(surest[fits[-1]]) if len(fits) else NEVER


def calibration_error(best: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error with `bins` bins of equal mass (Nixon et al. 2019): 0 is perfect."""
    order = np.argsort(best, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(abs(best[part].mean() - right[part].mean()) * len(part) for part in parts) / len(best))


def _quantile(scores: NDArray[np.float64], level: float) -> float:
    """The ceil((n + 1)(1 - level)) smallest of the sorted `scores`, or 1 where there are not so many."""
    from fractions import Fraction  # only a converter needs it

    rank = math.ceil((len(scores) + 1) * (1 - Fraction(str(level))))
    if rank > len(scores):
        return 1.0
    return min(1.0, max(0.0, round(math.ceil(float(scores[rank - 1]) / _STEP) * _STEP, 6)))
