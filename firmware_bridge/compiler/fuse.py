"""Unary chains: whatever is a function of one int8 tensor, element by element, becomes one table of 256 bytes."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.firmware_bridge.semantics.run import evaluate

UNARY: Final = frozenset(
    {"TANH", "LOGISTIC", "GELU", "RELU", "RELU6", "RELU_N1_TO_1", "NEG", "RSQRT", "QUANTIZE", "DEQUANTIZE"}
)
BINARY: Final = frozenset({"ADD", "SUB", "MUL", "SQUARED_DIFFERENCE", "MINIMUM", "MAXIMUM"})
# Arguments that a function is kept of: the first, from which all else comes, and the nearest.
_KEPT: Final = 4
# Every int8, in order: what tables are evaluated on. A table in C is indexed by the byte's bits instead.
_EVERY: Final = np.arange(-128, 128, dtype=np.int8)


@dataclass(frozen=True, eq=False)
class Node:
    """An operator that is left, or (kind ``TABLE``) a function of the int8 tensor `inputs[0]`.

    `inputs` are those that are there. `operator` is the last of a chain. `table` is int8 [256] by the byte's bits: of
    a ``TABLE`` what it computes; of another operator what its result, on the grid of the operator's own output, goes
    through before it is written to `outputs[0]`. `source` are the places of the operators that went into it.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operator: Operator
    source: tuple[int, ...]
    table: NDArray[np.int8] | None = None


@dataclass(frozen=True, eq=False)
class _Origin:
    """A tensor's values for every int8 of some earlier tensor, in order, and the operators between them."""

    values: NDArray[Any]
    source: tuple[int, ...]


# By the tensor that is the function's argument, earliest first.
_Origins = Mapping[int, _Origin]


def fuse(graph: Graph, rounding: Rounding) -> tuple[Node, ...]:
    """The operators of a folded graph in order, with chains and fused tables as nodes."""
    origins = _all_origins(graph, rounding)
    # A chain may begin at its root, which exists in any case, or nearer, at a tensor that another operator reads.
    exists = {number for node in _demanded(graph, origins, ()) for number in (*node.inputs, *node.outputs)}
    nodes = _demanded(graph, origins, exists | set(graph.outputs))
    return tuple(_into_products(graph, nodes))


def present(op: Operator) -> tuple[int, ...]:
    """The inputs that are there."""
    return tuple(number for number in op.inputs if number is not None)


def is_uniform(values: NDArray[Any]) -> bool:
    """Whether a constant has one value everywhere, so that it acts as a scalar."""
    return bool((values == values.flat[0]).all())


def _all_origins(graph: Graph, rounding: Rounding) -> dict[int, _Origins]:
    found: dict[int, _Origins] = {}
    for op in graph.operators:
        if op.kind in UNARY | BINARY:
            mine = _origins(op, graph, found, rounding)
            if mine:
                root, *nearer = mine
                found[op.outputs[0]] = {start: mine[start] for start in (root, *nearer[1 - _KEPT :])}
    return found


def _origins(op: Operator, graph: Graph, found: Mapping[int, _Origins], rounding: Rounding) -> _Origins:
    """What the result of `op` is a function of: what all its inputs that are not scalar constants are functions of."""
    (y,) = (graph.tensors[number] for number in op.outputs)
    scalars: dict[int, NDArray[Any]] = {}
    ways: list[dict[int, _Origin]] = []
    for number in present(op):
        tensor = graph.tensors[number]
        if tensor.data is not None and is_uniform(tensor.data):
            scalars[number] = tensor.data.reshape(-1)[:1]
        elif tensor.data is not None or tensor.elements != y.elements:
            return {}
        else:
            itself = {number: _Origin(_EVERY, ())} if tensor.type == np.int8 else {}
            ways.append({**found.get(number, {}), **itself})
    inputs = [number for number in present(op) if number not in scalars]
    mine: dict[int, _Origin] = {}
    for start in ways[0]:
        if all(start in way for way in ways):
            reached = [way[start] for way in ways]
            values = {**scalars, **{n: way.values for n, way in zip(inputs, reached, strict=True)}}
            source = sorted({op.place}.union(*(r.source for r in reached)))
            mine[start] = _Origin(evaluate(op, graph, values, rounding), tuple(source))
    return mine


def _demanded(graph: Graph, origins: Mapping[int, _Origins], exists: Collection[int]) -> list[Node]:
    """What is needed to compute the outputs, with tables from the nearest tensor in `exists`, or from the root."""
    needed = set(graph.outputs)
    nodes: list[Node] = []
    for op in reversed(graph.operators):
        if not needed.intersection(op.outputs):
            continue
        (number, *_) = op.outputs
        ways = origins.get(number, {})
        if ways and graph.tensors[number].type == np.int8:
            root, *nearer = ways
            start = next((way for way in reversed(nearer) if way in exists), root)
            table = np.roll(ways[start].values, 128)
            nodes.append(Node("TABLE", (start,), op.outputs, op, ways[start].source, table))
            needed.add(start)
        else:
            nodes.append(Node(op.kind, present(op), op.outputs, op, (op.place,)))
            needed.update(present(op))
    return nodes[::-1]


def _into_products(graph: Graph, nodes: list[Node]) -> list[Node]:
    """A table that is the only reader of an int8 FULLY_CONNECTED or BATCH_MATMUL moves into it."""
    readers = Counter(number for node in nodes for number in node.inputs)
    readers.update(graph.outputs)
    made = {node.outputs[0]: place for place, node in enumerate(nodes)}
    left: list[Node | None] = list(nodes)
    for place, node in enumerate(nodes):
        if node.kind != "TABLE" or node.inputs[0] not in made:
            continue
        before = made[node.inputs[0]]
        product = left[before]
        if product is None or product.kind not in ("FULLY_CONNECTED", "BATCH_MATMUL") or product.table is not None:
            continue
        if readers[product.outputs[0]] == 1:
            source = product.source + node.source
            left[before] = replace(product, outputs=node.outputs, source=source, table=node.table)
            left[place] = None
    return [node for node in left if node is not None]
