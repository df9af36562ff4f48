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
        _check(logits)
        if not self.temperature:
            return int(logits.argmax())  # the lowest id of several
        return choose(shares(logits, self.temperature, self.top_k, self.top_p), float(self._random.random()))


def shares(logits: Floats, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Doubles:
    """What each token is worth, float64 [V], not normalised: 0 for those that are not kept.

    Of tokens with equal logits those with the lowest ids are kept. The nucleus is summed by descending logit.
    """
    with np.errstate(over="ignore"):  # a temperature near 0: all others are worth nothing
        weights: Doubles = np.exp((logits.astype(np.float64) - float(logits.max())) / temperature)
    if top_k or top_p < 1:
        # By logit and not by weight: small differences can vanish in the exponential.
        order = np.argsort(-logits, kind="stable")[: top_k or None]
        if top_p < 1:
            sums = weights[order].cumsum()
            order = order[: int(np.searchsorted(sums, top_p * sums[-1])) + 1]
        kept = np.zeros_like(weights)
        kept[order] = weights[order]
        weights = kept
    return weights


def choose(weights: Doubles, uniform: float) -> int:
    """The first id at which the sum of `weights`, by ascending id, exceeds `uniform` (0 to below 1) of the whole."""
    sums = weights.cumsum()
    found = int(np.searchsorted(sums, uniform * sums[-1], side="right"))
    # The product may round up to the whole sum: then it is the last token of any weight.
    return found if found < len(sums) else int(np.flatnonzero(weights)[-1])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check(logits: Floats) -> None:
    if logits.ndim != 1 or not logits.size:
        raise InputError(f"logits of the shape {list(logits.shape)}, not [V]")
    highest = logits.max()
    if not np.isfinite(highest):  # not a number spreads to the maximum
        raise InputError("the logits have a value that is not a number, or none that is finite")
