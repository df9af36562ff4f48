"""Which coefficients of a table are kept: the largest, or some that a seed draws."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import InputError

MAX_SEED: Final = (1 << 32) - 1
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


def top(values: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Bool like `values`: the `count` largest in magnitude that are not 0; of equals, the first in row order.

    What is left out has at most ``1 - count / size`` of the squared length (a contraction: Stich, Cordonnier and Jaggi,
    "Sparsified SGD with memory", NeurIPS 2018).
    """
    sizes = np.abs(values).ravel()
    kept = np.zeros(sizes.size, np.bool_)
    kept[np.argsort(-sizes, kind="stable")[:count]] = True
    return (kept & (sizes > 0)).reshape(values.shape)


def draw(rows: NDArray[np.intp], columns: int, count: int, seed: int) -> NDArray[np.intp]:
    """`count` of `columns` for each of the row numbers `rows`: ascending indices, [len(rows), count].

    Every set of `count` columns is as likely as any other. Kept values times ``columns / count`` are an unbiased
    estimate of the row (random-k: Konečný and Richtárik 2018). A column is drawn if its key is among the `count`
    smallest of the row; the key of number ``i = row * columns + column`` is SplitMix64 of ``seed * 2^32 + i`` (Steele,
    Lea and Flood 2014), a bijection, so no two keys are equal. Raises InputError where a number is out of range.
    """
    if not (1 <= count <= columns and 0 <= seed <= MAX_SEED):
        raise InputError(f"{count} of {columns} columns by the seed {seed}: the seed must be 0 to 2^32 - 1")
    key = rows.astype(np.uint64)[:, None] * np.uint64(columns) + np.arange(columns, dtype=np.uint64)
    key += np.uint64(seed << 32)
    key += _GOLDEN
    key = (key ^ (key >> np.uint64(30))) * _FIRST
    key = (key ^ (key >> np.uint64(27))) * _SECOND
    key ^= key >> np.uint64(31)
    return np.sort(np.argsort(key, 1)[:, :count], 1)
