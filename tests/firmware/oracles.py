"""The NumPy reference against the two interpreters that it must equal to the bit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from firmware.graph_kit import ORACLES, ROUNDINGS, Builder
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler import reader
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.firmware_bridge.semantics.run import run


def agree(g: Builder, inputs: Sequence[NDArray[Any]], roundings: Sequence[Rounding] = ROUNDINGS) -> int:
    """Asserts that every output has the same type, shape and bits; how many values were compared."""
    data = g.build()
    graph = reader.read(data, "test")[0]
    makers = {number: op.kind for op in graph.operators for number in op.outputs}
    count = 0
    for rounding in roundings:
        wanted = ORACLES[rounding](data, inputs)
        found = run(graph, inputs, rounding)
        for number, mine, theirs in zip(graph.outputs, found, wanted, strict=True):
            kind = makers[number]
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), (kind, rounding)
            wrong = np.flatnonzero(mine.reshape(-1) != theirs.reshape(-1))
            where = [(int(n), mine.flat[n], theirs.flat[n]) for n in wrong[:5]]
            assert not wrong.size, f"{kind}, {rounding}: {wrong.size} of {mine.size} differ: {where}"
            count += mine.size
    return count


def scale(rng: np.random.Generator, low: float = 1e-4, high: float = 2.0) -> float:
    """A float32 between the two, uniform in its logarithm."""
    return float(np.float32(np.exp(rng.uniform(np.log(low), np.log(high)))))


def zero(rng: np.random.Generator) -> int:
    """A zero point of int8; the ends of the range more often than the rest."""
    return int(rng.choice([-128, 0, 127, int(rng.integers(-128, 128))]))


def whole(kind: str = "int8") -> NDArray[Any]:
    """Every value of the type, in order."""
    limits = np.iinfo(kind)
    return np.arange(limits.min, limits.max + 1).astype(kind)
