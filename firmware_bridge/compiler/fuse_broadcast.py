"""Compute before repeating: an elementwise result that is the same along an axis is computed once along that axis.

LayerNormalization with equal gains is full of them: ``rsqrt(variance) * gain`` is one number a row, not one an element.
"""

from dataclasses import replace

import numpy as np

from tasuki.firmware_bridge.compiler.fuse import BINARY, UNARY, is_uniform, present
from tasuki.firmware_bridge.compiler.ir import Graph, Tensor


def shrink(graph: Graph) -> Graph:
    """The graph with tensors at the least shape that broadcasts to theirs, where all who read them do broadcast."""
    tensors = list(graph.tensors)
    whole = _read_whole(graph)
    for op in graph.operators:
        (number, *_) = op.outputs
        if op.kind not in UNARY | BINARY or number in whole:
            continue
        shapes = [_least_shape(tensors[n], len(tensors[number].shape)) for n in present(op)]
        tensors[number] = replace(tensors[number], shape=np.broadcast_shapes(*shapes))
    return replace(graph, tensors=tuple(tensors))


def _least_shape(tensor: Tensor, rank: int) -> tuple[int, ...]:
    if tensor.data is not None and is_uniform(tensor.data):
        return (1,) * rank
    return (1,) * (rank - len(tensor.shape)) + tensor.shape


def _read_whole(graph: Graph) -> set[int]:
    """Tensors with a reader that does not broadcast: other than a binary operator, or a unary one whose readers do."""
    whole = set(graph.outputs)
    for op in reversed(graph.operators):
        if op.kind not in BINARY and (op.kind not in UNARY or op.outputs[0] in whole):
            whole.update(present(op))
    return whole
