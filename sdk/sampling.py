"""Choosing the next token: greedy, temperature, top-k and top-p. Pure: logits and a uniform number in, an id out.

All sums are in binary64 and their order is said, so that another implementation given the same uniform number chooses
alike.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import InputError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
MAX_TEMPERATURE = 100.0
# Logits from each of which the highest is taken first, where few of many are wanted.
_ROWS = 64


class Sampler:
    """Picks tokens, the same for the same seed (NumPy's PCG64, one draw a token).

    `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 keep every token. First the `top_k` most probable tokens are
    kept, then the fewest of these whose shares sum to `top_p` (nucleus sampling, Holtzman et al. 2020).
    Raises InputError.
    """

    def __init__(self, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0) -> None:
        if not (_is_number(temperature) and 0 <= temperature <= MAX_TEMPERATURE):
            raise InputError(f"the temperature {temperature!r} is not a number from 0 to {MAX_TEMPERATURE:g}")
        if type(top_k) is not int or top_k < 0:
            raise InputError(f"top-k {top_k!r} is not a whole number from 0 (every token)")
        if not (_is_number(top_p) and 0 < top_p <= 1):
            raise InputError(f"top-p {top_p!r} is not a number above 0 and at most 1")
        if type(seed) is not int or seed < 0:
            raise InputError(f"the seed {seed!r} is not a whole number from 0")
        self.temperature, self.top_k, self.top_p = float(temperature), top_k, float(top_p)
        self._random = np.random.Generator(np.random.PCG64(seed))

    def pick(self, logits: Floats) -> int:
        """An id, 0 to V - 1, for `logits` float32 [V]; minus infinity is never picked. Raises InputError."""
        if not self.temperature:
            _check(logits)
            return int(logits.argmax())  # the lowest id of several
        ids, weights = shares(logits, self.temperature, self.top_k, self.top_p)
        found = choose(weights, float(self._random.random()))
        return found if ids is None else int(ids[found])


def shares(
    logits: Floats, temperature: float, top_k: int = 0, top_p: float = 1.0
) -> tuple[NDArray[np.intp] | None, Doubles]:
    """The ids that are kept, ascending (None: all of them), and what each is worth, float64, not normalised.

    Of tokens with equal logits those with the lowest ids are kept. The nucleus is summed by descending logit. Raises
    InputError.
    """
    highest = _check(logits)
    ids = _best(logits, top_k) if 0 < top_k < len(logits) else None
    if top_p < 1:
        kept = logits if ids is None else logits[ids]
        # Which of two equal logits comes first doesn't matter to the sums.
        ordered = np.sort(kept)[::-1]
        sums = _worth(ordered, highest, temperature).cumsum()
        count = min(int(sums.searchsorted(top_p * sums[-1])) + 1, len(ordered))
        nucleus = _first(kept, ordered[count - 1], count)
        ids = nucleus if ids is None else ids[nucleus]
    return ids, _worth(logits if ids is None else logits[ids], highest, temperature)


def choose(weights: Doubles, uniform: float) -> int:
    """The first place at which the sum of `weights` exceeds `uniform` (0 to below 1) of the whole."""
    sums = weights.cumsum()
    found = int(sums.searchsorted(uniform * sums[-1], side="right"))
    # The product may round up to the whole sum: then it is the last of any weight.
    return found if found < len(sums) else int(np.flatnonzero(weights)[-1])


def _worth(logits: Floats, highest: float, temperature: float) -> Doubles:
    weights = logits.astype(np.float64)
    weights -= highest
    with np.errstate(over="ignore"):  # a temperature near 0: all others are worth nothing
        weights /= temperature
        return np.exp(weights, out=weights)


def _best(logits: Floats, count: int) -> NDArray[np.intp]:
    """The ids of the `count` highest, ascending; of equals those with the lowest ids."""
    rows = min(_ROWS, len(logits) // (2 * count))
    if rows < 2:
        return _first(logits, np.partition(logits, len(logits) - count)[-count], count)
    # The maxima of columns are quick, and `count` of them are as high as the lowest of the `count` highest of them.
    maxima = logits[: len(logits) - len(logits) % rows].reshape(rows, -1).max(0)
    near = (logits >= np.partition(maxima, len(maxima) - count)[-count]).nonzero()[0]
    values = logits[near]
    found: NDArray[np.intp] = near[_first(values, np.partition(values, len(values) - count)[-count], count)]
    return found


def _first(logits: Floats, least: np.float32, count: int) -> NDArray[np.intp]:
    """As `_best`, where `least` is the lowest of the `count` highest."""
    ids = (logits >= least).nonzero()[0]
    if len(ids) > count:
        equal = (logits[ids] == least).nonzero()[0]
        ids = np.delete(ids, equal[len(equal) - (len(ids) - count) :])
    return ids


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check(logits: Floats) -> float:
    """The highest."""
    if logits.ndim != 1 or not logits.size:
        raise InputError(f"logits of the shape {list(logits.shape)}, not [V]")
    highest = float(logits.max())
    if not math.isfinite(highest):  # not a number spreads to the maximum
        raise InputError("the logits have a value that is not a number, or none that is finite")
    return highest
