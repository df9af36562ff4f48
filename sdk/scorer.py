"""What a text's integers mean: the best label, how sure, and the distance to the second, for one adapter.

An adapter adds ``W h + b`` to the base logits z, and the sum is divided by the temperature T before the softmax. Codes
are affine in values, ``h = s (q - o)``, so scales, zero points and T are folded into one matrix when the adapter is
made, and a text costs one product with the codes as they are:

    (z + W h + b) / T  =  [S_z / T | W S_h / T] (q_z, q_h)  +  (b - S_z o_z - W S_h o_h) / T

Without an adapter and in int8 the exponentials are tables, because z - max z takes 256 values. Few labels are summed
in plain Python, whose overhead is less than NumPy's; many in NumPy.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk import adapter
from tasuki.sdk.adapter import CONFIDENT, Floats, Head
from tasuki.sdk.classifier import Raw
from tasuki.sdk.errors import ArtifactCorrupt
from tasuki.sdk.features import Grid

# Up to so many labels plain Python is quicker; on x86-64 the two cross between 100 and 150.
FEW: Final = 64
# exp(-18) is less than two hundred-millionths: such a label is left out of the sum.
_FAR: Final = 18.0
_ONE: Final = np.ones(1, np.int8)
_join: Final = np.concatenate
# From two's complement to bytes whose order is that of the values.
_ORDERED: Final = bytes(code ^ 128 for code in range(256))
# No folded weight of an adapter that was learned is near; sums of so large ones are still finite.
_LARGEST: Final = 1e30


# The answer: the number of the best label (the first of equals), its probability and the second best's.
Scores: TypeAlias = tuple[int, float, float]


def joined(labels: Sequence[str], width: int, parts: Sequence[tuple[Head, Floats | None]]) -> Head:
    """The sum of adapters as one head over `labels` and all `width` features.

    Each part has its projection, float32 [columns, width]: the part's columns are that product with the features. None
    stands for the features themselves. Rows are matched by name, a label that a part does not have is not changed.
    """
    total = np.zeros((len(labels), width + 1))
    for head, projection in parts:
        rows = adapter.select(head, labels)
        weight = rows.weight.astype(np.float64)
        total[:, :width] += weight if projection is None else weight @ projection
        total[:, width] += rows.bias
    return adapter.from_joined(labels, total)


class Scorer:
    """Answers of one adapter, or of none. Immutable, and so thread-safe.

    `base` and `grid` are the classifier's, `temperature` divides the sum. `head` is the adapter over all features, its
    first labels those of the base logits. With `gate`, the base's own temperature, the base logits stand where their
    calibrated maximum is at least CONFIDENT: what `adapter.fleet_logits` does.
    """

    def __init__(
        self, base: Grid, grid: Grid, temperature: float, head: Head | None = None, gate: float | None = None
    ) -> None:
        self._base, self._grid, self._temperature = base, grid, temperature
        self._count = base.width
        self.labels = base.width if head is None else len(head.labels)
        self.needs_features = head is not None
        self._few = self.labels <= FEW
        self._gate = None if head is None else gate
        quick = base.exact and self._few
        self._table = _Table(base, temperature).scores if quick else None
        # What to call for an answer: the table itself where there is nothing else to it.
        self.score: Callable[[Raw], Scores] = self._table if self._table is not None and head is None else self
        self._gate_table = _Table(base, self._gate).scores if quick and self._gate is not None else None
        self._matrix = None if head is None else self._folded(head)
        self._dot = None if self._matrix is None else self._matrix.dot

    def _folded(self, head: Head) -> Floats:
        """The matrix of the module's equation, [labels, C + d + 1], or [labels, d + 1] for many labels."""
        weight, base = head.weight.astype(np.float64), np.zeros((self.labels, self._count))
        np.fill_diagonal(base, self._base.scales)
        bias = head.bias - weight @ (self._grid.scales * self._grid.zeros)
        bias[: self._count] -= self._base.scales * self._base.zeros if self._few else 0
        parts = [base] if self._few else []
        folded = np.concatenate([*parts, weight * self._grid.scales, bias[:, None]], 1) / self._temperature
        return np.ascontiguousarray(np.clip(folded, -_LARGEST, _LARGEST), np.float32)

    def __call__(self, raw: Raw) -> Scores:
        """The answer for what the model gives; `raw` has features where `needs_features` says so.

        Raises ArtifactCorrupt where features and adapter are so large that their product is not finite.
        """
        logits, features = raw
        if self._dot is None or (self._gate is not None and self.labels == self._count and self._sure(logits)):
            if self._table is not None:
                return self._table(raw)
            return self._summed(self._plain(logits))
        return self._summed(self._scores(logits, features))

    def probabilities(self, raw: Raw) -> Floats:
        """Probabilities float32 [labels] of all labels. Raises as a call does."""
        scores = self._plain(raw[0]) if self._dot is None else self._scores(*raw)
        _need_finite(float(scores.max()))
        return adapter.probabilities(scores)

    def _sure(self, logits: NDArray[Any]) -> bool:
        if self._gate_table is not None:
            _, share, _ = self._gate_table((logits, ()))
            return share >= CONFIDENT
        calibrated = self._base.real((logits.reshape(-1),)) / np.float32(self._gate or 1)
        return bool(adapter.probabilities(calibrated).max() >= CONFIDENT)

    def _plain(self, logits: NDArray[Any]) -> Floats:
        """Base logits divided by the temperature, float32 [C]."""
        return np.asarray(self._base.real((logits.reshape(-1),)) / np.float32(self._temperature), np.float32)

    def _scores(self, logits: NDArray[Any], features: Sequence[NDArray[Any]]) -> Floats:
        """Adapted logits divided by the temperature, float32 [labels]."""
        assert self._dot is not None  # noqa: S101  (the callers', for the type checker)
        # One array of codes of any type: quicker than filling one.
        parts = (logits.reshape(-1), *features, _ONE) if self._few else (*features, _ONE)
        values = _join(parts, dtype=np.float32)
        found: Floats
        if self._grid.exact:
            found = self._dot(values)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                found = self._dot(values)
                _need_finite(float(found.sum()))
        if not self._few:
            found[: self._count] += self._plain(logits)
        if self._gate is not None and self._sure(logits):
            found[: self._count] = self._plain(logits)
        return found

    def _summed(self, scores: Floats) -> Scores:
        if not self._few:
            best = int(scores.argmax())
            _need_finite(float(scores[best]))
            raised = np.exp(scores - scores[best])
            total = float(raised.sum())
            raised[best] = 0
            return best, 1 / total, float(raised.max()) / total
        listed: list[float] = scores.tolist()
        ranked = sorted(listed)
        top, exp = ranked.pop(), math.exp
        _need_finite(top)
        second, total, low = exp(ranked[-1] - top), 1.0, top - _FAR
        for score in reversed(ranked):
            if score < low:
                break
            total += exp(score - top)
        return listed.index(top), 1 / total, second / total


def _need_finite(score: float) -> None:
    if not -math.inf < score < math.inf:
        raise ArtifactCorrupt("features and adapter make an answer that is not finite")


class _Table:
    """Softmax of int8 codes by table. Codes come as bytes in ascending order of their value: -128 is 0."""

    def __init__(self, base: Grid, temperature: float) -> None:
        step = float(base.scales[0]) / temperature
        self._falling = [math.exp(-step * below) for below in range(256)]
        self._below: dict[int, list[float]] = {}

    def scores(self, raw: Raw) -> Scores:
        codes = raw[0].tobytes().translate(_ORDERED)
        top = max(codes)
        below = self._below.get(top) or self._shifted(top)
        # A list is summed quicker than what makes it.
        shares = [below[code] for code in codes]
        total, best = sum(shares), codes.index(top)
        shares[best] = 0.0
        return best, 1 / total, max(shares) / total

    def _shifted(self, top: int) -> list[float]:
        """``exp`` of each code's distance to the largest, `top`, made when it is first met."""
        found = self._below[top] = self._falling[top::-1]
        return found
