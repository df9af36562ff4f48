"""Range estimators: from samples of a tensor to the interval that its integers cover."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tasuki.converter.graph import Floats

_PERCENTILES = (99.9, 99.99, 99.999)
_BINS = 2048
_MOST = 1 << 21


def thin(samples: Floats) -> Floats:
    """At most 2^21 of the values, evenly spaced: enough for every estimator, and bounded."""
    flat = samples.ravel()
    return flat[:: max(1, -(-flat.size // _MOST))]


def candidates(samples: Floats, levels: int) -> Iterator[tuple[str, float, float]]:
    """Name, low and high of each estimator's interval for `levels` steps."""
    flat = thin(samples)
    low, high = float(flat.min()), float(flat.max())
    yield "minmax", low, high
    for percent in _PERCENTILES:
        a, b = np.percentile(flat, [100 - percent, percent])
        yield f"percentile {percent}", float(a), float(b)
    yield ("mse", *least_square(flat, levels))
    yield ("entropy", *least_divergence(flat, levels))


def least_square(flat: Floats, levels: int) -> tuple[float, float]:
    """The interval with the least squared rounding and clipping error, by coordinate search on a histogram."""
    counts, edges = np.histogram(flat, _BINS)
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
    counts, edges = np.histogram(flat, _BINS)
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
