"""Layouts that spare a copy: a tensor is written where, and in the order in which, its only reader wants it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasuki.firmware_bridge.compiler.fuse import Node
from tasuki.firmware_bridge.compiler.lower_memory import Memory, constant
from tasuki.firmware_bridge.compiler.views import View, is_dense, permuted, reshaped, sliced


def choose(memory: Memory, nodes: Sequence[Node]) -> None:
    """Set the views of tensors that are not to get a storage of their own, before they are computed.

    A product that is only transposed is written transposed; what is only concatenated is written into the whole. An
    operator that moves data and finds its output's view set copies only if its input did not follow.
    """
    readers = Counter(number for node in nodes for number in node.inputs if number is not None)
    readers.update(memory.graph.outputs)
    layout = _Layout(memory, readers, {number: node for node in nodes for number in node.outputs})
    for node in reversed(nodes):
        if node.kind == "TRANSPOSE":
            layout.transpose(node)
        elif node.kind == "RESHAPE":
            layout.reshape(node)
        elif node.kind == "CONCATENATION":
            layout.concatenation(node)


@dataclass(frozen=True)
class _Layout:
    memory: Memory
    readers: Mapping[int, int]
    producers: Mapping[int, Node]

    def transpose(self, node: Node) -> None:
        number, (output,) = node.inputs[0], node.outputs
        if output in self.memory.views or self._comes_from_product(number):
            order = transposition(self.memory, node)
            self._settle(number, permuted(self.memory.made(output), np.argsort(order).tolist()))

    def reshape(self, node: Node) -> None:
        number, (output,) = node.inputs[0], node.outputs
        if output in self.memory.views:
            view = reshaped(self.memory.views[output], self.memory.tensor(number).shape)
            if view is not None:
                self._settle(number, view)

    def concatenation(self, node: Node) -> None:
        for number, view in parts(self.memory, node):
            self._settle(number, view)

    def _comes_from_product(self, number: int) -> bool:
        producer = self.producers.get(number)
        return producer is not None and producer.kind == "BATCH_MATMUL" and self.readers[number] == 1

    def _settle(self, number: int, view: View) -> None:
        """Put the tensor at `view` if it is computed, read once, and whatever writes it can write so."""
        producer = self.producers.get(number)
        if producer is None or self.readers[number] != 1 or number in self.memory.views:
            return
        if producer.kind in ("SLICE", "STRIDED_SLICE", "SPLIT"):
            return
        if is_dense(view) or producer.kind in ("BATCH_MATMUL", "TRANSPOSE", "RESHAPE"):
            self.memory.views[number] = view


def transposition(memory: Memory, node: Node) -> list[int]:
    """The order of axes of a TRANSPOSE, a constant."""
    return [int(axis) for axis in constant(memory.tensor(node.inputs[1])).reshape(-1)]


def parts(memory: Memory, node: Node) -> list[tuple[int, View]]:
    """The inputs of a CONCATENATION, and where each goes in the output."""
    (output,) = node.outputs
    whole = memory.made(output)
    axis = int(node.operator.options["axis"]) % len(whole.shape)
    found: list[tuple[int, View]] = []
    begin = [0] * len(whole.shape)
    for number in node.inputs:
        shape = memory.tensor(number).shape
        found.append((number, sliced(whole, begin, shape)))
        begin[axis] += shape[axis]
    return found
