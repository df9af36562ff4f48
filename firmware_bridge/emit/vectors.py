"""Golden vectors: seeded inputs of a graph, and the outputs that the reference in `semantics` computes for them."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Tensor
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.firmware_bridge.semantics.run import run
from tasuki.sdk.errors import ModelUnsupported

# Operators that take rows of a table by number: which input is the table, and which has the numbers.
_LOOK_UPS: Final = {"GATHER": (0, 1), "EMBEDDING_LOOKUP": (1, 0)}
# What hands an input on as it is.
_HANDED_ON: Final = ("RESHAPE", "CAST", "SLICE", "STRIDED_SLICE")
# An integer input that looks nothing up: a position or a count.
_PLAIN_INTEGERS: Final = 4
# Inputs of more bytes, a key-value cache say, have the same values in all vectors, so that they take flash once.
_LARGE: Final = 1024


@dataclass(frozen=True, eq=False)
class Vector:
    """One run: the graph's inputs and its outputs, in their order, of their types and shapes."""

    inputs: tuple[NDArray[Any], ...]
    outputs: tuple[NDArray[Any], ...]


def make(graph: Graph, rounding: Rounding, count: int, seed: int) -> tuple[Vector, ...]:
    """`count` vectors of random inputs; the same for the same graph and seed. Large inputs of one type are equal.

    Raises ModelUnsupported for a model that makes ids of these inputs which one of its tables does not have.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        inputs = tuple(
            _random(graph, graph.tensors[number], np.random.default_rng(seed)) if array.nbytes > _LARGE else array
            for number, array in zip(graph.inputs, random_inputs(graph, rng), strict=True)
        )
        try:
            outputs = tuple(run(graph, inputs, rounding))
        except ValueError as error:
            raise ModelUnsupported(f"{graph.name}: a table is looked up by ids that it has not: {error}") from None
        found.append(Vector(inputs, outputs))
    return tuple(found)


def random_inputs(graph: Graph, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
    """One random array for each input: the whole range of int8 and int16, ids that are in every table they look up."""
    return tuple(_random(graph, graph.tensors[number], rng) for number in graph.inputs)


def bound(graph: Graph, number: int) -> int | None:
    """How many rows the smallest table has that the integer input `number` looks up, less what is added to it on the
    way; None if it looks nothing up."""
    reached, rows = {number: 0}, []
    for operator in graph.operators:
        if operator.kind in _HANDED_ON and operator.inputs[0] in reached:
            reached.update(dict.fromkeys(operator.outputs, reached[operator.inputs[0]]))
        if operator.kind == "ADD":
            before = [reached[n] for n in operator.inputs if n in reached]
            added = [graph.tensors[n].data for n in operator.inputs if n is not None and n not in reached]
            if before and added and added[0] is not None:
                reached[operator.outputs[0]] = before[0] + int(added[0].max())
        if operator.kind in _LOOK_UPS:
            table, ids = (operator.inputs[place] for place in _LOOK_UPS[operator.kind])
            if ids in reached and table is not None:
                axis = int(operator.options.get("axis", 0))
                rows.append(graph.tensors[table].shape[axis] - reached[ids])
    return max(1, min(rows)) if rows else None


def _random(graph: Graph, tensor: Tensor, rng: np.random.Generator) -> NDArray[Any]:
    if tensor.type.kind == "b":
        return rng.integers(0, 2, tensor.shape).astype(np.bool_)
    if tensor.type.kind == "f":
        return rng.standard_normal(tensor.shape).astype(tensor.type)
    if tensor.type.itemsize > 2:
        return rng.integers(0, bound(graph, tensor.number) or _PLAIN_INTEGERS, tensor.shape).astype(tensor.type)
    limits = np.iinfo(tensor.type)
    return rng.integers(limits.min, limits.max, tensor.shape, endpoint=True).astype(tensor.type)
