"""Constant folding and dead code: what can be known when the model is compiled is not computed on the chip."""

from dataclasses import replace

from tasuki.firmware_bridge.compiler.ir import Graph, Operator
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.firmware_bridge.semantics.run import evaluate_all
from tasuki.sdk.errors import ModelUnsupported


def fold(graph: Graph, rounding: Rounding) -> Graph:
    """The graph without operators whose inputs are all constants, and without those that nobody reads.

    Tensors keep their numbers; outputs of folded operators are constants, with the bits that the operator gives. Raises
    ModelUnsupported for what can't be computed, as an id that a constant GATHER does not have.
    """
    tensors = list(graph.tensors)
    values = {tensor.number: tensor.data for tensor in tensors if tensor.data is not None}
    left: list[Operator] = []
    for op in graph.operators:
        if not all(number in values for number in op.inputs if number is not None):
            left.append(op)
            continue
        try:
            found = evaluate_all(op, graph, values, rounding)
        except ValueError as error:
            raise ModelUnsupported(f"{op.kind} (tensor {op.outputs[0]}) of constants: {error}") from error
        for number, value in zip(op.outputs, found, strict=True):
            values[number] = value
            tensors[number] = replace(tensors[number], data=value)
    needed = set(graph.outputs)
    alive: list[Operator] = []
    for op in reversed(left):
        if needed.intersection(op.outputs):
            alive.append(op)
            needed.update(number for number in op.inputs if number is not None)
    return replace(graph, tensors=tuple(tensors), operators=tuple(reversed(alive)))
