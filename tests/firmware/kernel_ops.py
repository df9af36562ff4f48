"""One operator as a kernel call, and what the interpreters say of the same operator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from firmware.graph_kit import ORACLES, Builder
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler import reader
from tasuki.firmware_bridge.compiler.ir import Graph, Operator


def read(g: Builder) -> tuple[Graph, Operator]:
    """The graph of a builder, and its first operator."""
    graph = reader.read(g.build(), "test")[0]
    return graph, graph.operators[0]


def expect(g: Builder, rounding: str, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The first output of the interpreter that `rounding` follows."""
    return ORACLES[rounding](g.build(), inputs)[0]


def same(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Asserts equal types, sizes and bits."""
    assert found.dtype == wanted.dtype
    assert found.size == wanted.size
    bits = f"u{found.itemsize}"
    wrong = np.flatnonzero(found.reshape(-1).view(bits) != wanted.reshape(-1).view(bits))
    where = [(int(n), found.flat[n], wanted.flat[n]) for n in wrong[:5]]
    assert not wrong.size, f"{wrong.size} of {found.size} differ: {where}"


def integers(rng: np.random.Generator, shape: Sequence[int], kind: str = "int8") -> NDArray[Any]:
    """Over the whole type, a quarter of them its two ends."""
    limits = np.iinfo(kind)
    made = rng.integers(limits.min, limits.max + 1, shape, kind)
    ends = rng.choice(np.array([limits.min, limits.max], kind), shape)
    return np.where(rng.random(shape) < 0.25, ends, made)
