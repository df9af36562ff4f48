"""Range estimators: from samples of a tensor to the interval that its integers cover."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tasuki.converter.graph import Floats

_PERCENTILES = (99.9, 99.99, 99.999)
_BINS = 2048
_MOST = 1 << 21


def thin(samples: Floats) -> Floats:
    """At most 2^21 of the values, evenly spaced over all channels: enough for every estimator, and bounded."""
    step = max(1, -(-samples.size // _MOST))
    while math.gcd(step, samples.shape[-1]) > 1:
        step += 1
    return samples.ravel()[::step]


def candidates(samples: Floats, levels: int) -> Iterator[tuple[str, float, float]]:
    """Name, low and high of each estimator's interval for `levels` steps."""
    flat = thin(samples)
    yield "minmax", float(samples.min()), float(samples.max())
    for percent in _PERCENTILES:
        a, b = np.percentile(flat, [100 - percent, percent])
        yield f"percentile {percent}", float(a), float(b)
    yield ("mse", *least_square(flat, levels))
    yield ("entropy", *least_divergence(flat, levels))


def least_square(flat: Floats, levels: int) -> tuple[float, float]:
    """The interval with the least squared rounding and clipping error, by coordinate search on a histogram."""
    if flat.min() == flat.max():
        return float(flat[0]), float(flat[0])
    # In float64 there is room for the bins between any two float32 numbers.
    counts, edges = np.histogram(flat.astype(np.float64), _BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    low, high = float(edges[0]), float(edges[-1])

    def loss(a: float, b: float) -> float:
        clipped = np.clip(centres, a, b)
        return float(counts @ (centres - clipped) ** 2) + float(counts.sum()) * ((b - a) / (levels - 1)) ** 2 / 12

    best = (loss(low, high), low, high)
    shrink = np.linspace(1.0, 0.2, 81)
    for _ in range(2):
        best = min((loss(best[1], high * s), best[1], high * s) for s in shrink if high * s > best[1])
        best = min((loss(low * s, best[2]), low * s, best[2]) for s in shrink if low * s < best[2])
    return best[1], best[2]


def least_divergence(flat: Floats, levels: int) -> tuple[float, float]:
    """The interval whose quantised histogram diverges least (Kullback and Leibler) from the true one (Migacz 2017)."""
    if flat.min() == flat.max():
        return float(flat[0]), float(flat[0])
    counts, edges = np.histogram(flat.astype(np.float64), _BINS)
    middle = int(np.argmin(np.abs((edges[:-1] + edges[1:]) / 2)))
    width = edges[1] - edges[0]
    found: list[tuple[float, float, float]] = []
    for share in np.linspace(0.3, 1.0, 36):
        a, b = int(middle * (1 - share)), middle + max(1, int((_BINS - middle) * share))
        part = counts[a:b].astype(np.float64)
        part[0] += counts[:a].sum()
        part[-1] += counts[b:].sum()
        found.append((_divergence(part, counts[a:b], levels), edges[0] + a * width, edges[0] + b * width))
    _, low, high = min(found)
    return float(low), float(high)


def _divergence(clipped: NDArray[np.float64], inside: NDArray[np.int64], levels: int) -> float:
    group = np.minimum(np.arange(len(inside)) * levels // len(inside), levels - 1)
    sums = np.bincount(group, inside, levels)
    filled = np.bincount(group, inside > 0, levels)
    mean = np.divide(sums, filled, out=np.zeros(levels), where=filled > 0)[group]
    p = clipped / clipped.sum()
    q = np.where(inside > 0, mean, 0.0)
    q = q / max(q.sum(), 1e-12)
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-9))))
