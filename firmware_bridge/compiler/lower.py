"""From a checked graph to a program of kernel calls: folded, fused, free of copies where it can be, and in loops."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tasuki.firmware_bridge.compiler import (
    lower_elementwise,
    lower_layout,
    lower_moves,
    lower_order,
    lower_products,
    lower_rows,
    regions,
    regions_cuts,
)
from tasuki.firmware_bridge.compiler.folding import fold
from tasuki.firmware_bridge.compiler.fuse import BINARY, Node, fuse
from tasuki.firmware_bridge.compiler.fuse_broadcast import shrink
from tasuki.firmware_bridge.compiler.ir import Graph, Tensor
from tasuki.firmware_bridge.compiler.lower_context import Context, unsupported
from tasuki.firmware_bridge.compiler.lower_memory import Memory
from tasuki.firmware_bridge.compiler.lower_notes import loop_notes, notes
from tasuki.firmware_bridge.compiler.lower_steps import Steps
from tasuki.firmware_bridge.compiler.plan import plan
from tasuki.firmware_bridge.compiler.program import Port, Program
from tasuki.firmware_bridge.compiler.regions_segments import Segment
from tasuki.firmware_bridge.compiler.views import dense
from tasuki.firmware_bridge.semantics import grids
from tasuki.firmware_bridge.semantics.fixed_point import Rounding

_LOWERINGS: Final[Mapping[str, Callable[[Context, Node], None]]] = {
    "TABLE": lower_elementwise.table,
    **dict.fromkeys(BINARY, lower_elementwise.binary),
    **dict.fromkeys(("TANH", "LOGISTIC"), lower_elementwise.sigmoid),
    "RSQRT": lower_elementwise.reciprocal_root,
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1"), lower_elementwise.relu),
    "SELECT_V2": lower_elementwise.select,
    "CAST": lower_elementwise.cast,
    "QUANTIZE": lower_elementwise.quantize,
    "DEQUANTIZE": lower_elementwise.dequantize,
    "NEG": lower_elementwise.negate,
    "FULLY_CONNECTED": lower_products.fully_connected,
    "BATCH_MATMUL": lower_products.batch_matmul,
    "SOFTMAX": lower_rows.softmax,
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX"), lower_rows.reduction),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), lower_rows.arg),
    **dict.fromkeys(("GATHER", "EMBEDDING_LOOKUP"), lower_rows.gather),
    "RESHAPE": lower_moves.reshape,
    "TRANSPOSE": lower_moves.transpose,
    "SLICE": lower_moves.slice_,
    "STRIDED_SLICE": lower_moves.strided_slice,
    "SPLIT": lower_moves.split,
    "CONCATENATION": lower_moves.concatenation,
    **dict.fromkeys(("PAD", "PADV2"), lower_moves.pad),
    "DYNAMIC_UPDATE_SLICE": lower_moves.update_slice,
}


def lower(graph: Graph, name: str, rounding: Rounding) -> Program:
    """The program of a checked graph; `name` becomes part of its C names.

    Raises ModelUnsupported, with the operator and the tensor, for what no kernel can do.
    """
    folded = fold(graph, rounding)
    shrunk = shrink(folded)
    nodes = fuse(shrunk, rounding)
    context = _lowered(shrunk, nodes, rounding)
    calls = lower_order.late(lower_order.alive(context.calls, context.outputs))
    ways = regions_cuts.cut(regions.regions(calls), context.memory.storages)
    remarks = notes(graph, shrunk, nodes, calls)
    different = ways[:1] if ways[0] == ways[1] else ways
    programs = [_program(context, way, name, (*remarks, *loop_notes(way))) for way in different]
    return programs[0] if len(programs) == 1 else min(programs, key=lambda program: plan(program).arena)


def _lowered(graph: Graph, nodes: Sequence[Node], rounding: Rounding) -> Context:
    """Every node as calls, inputs before and outputs after."""
    context = Context(graph, Memory(graph), rounding)
    for number in graph.inputs:
        tensor = graph.tensors[number]
        storage = context.memory.new(tensor.name, tensor.type, tensor.elements, "input")
        context.memory.views[number] = dense(storage, tensor.shape)
    lower_layout.choose(context.memory, nodes)
    for node in nodes:
        if node.kind not in _LOWERINGS:
            raise unsupported(node, graph, "is no operator that kernels exist for")
        _LOWERINGS[node.kind](context, node)
    context.outputs.extend(lower_moves.output(context, number) for number in graph.outputs)
    return context


def _program(context: Context, way: Sequence[Segment], name: str, remarks: tuple[str, ...]) -> Program:
    steps = Steps(context.memory.storages)
    graph = context.graph
    inputs = [context.memory.views[number].storage for number in graph.inputs]
    ends = [
        tuple(_port(graph.tensors[n], steps.buffer(storage)) for n, storage in zip(numbers, storages, strict=True))
        for numbers, storages in ((graph.inputs, inputs), (graph.outputs, context.outputs))
    ]
    for segment in way:
        steps.add(segment)
    buffers, body, shared = tuple(steps.buffers), tuple(steps.body), tuple(steps.shared)
    return Program(name, context.rounding, buffers, body, ends[0], ends[1], remarks, shared)


def _port(tensor: Tensor, buffer: int) -> Port:
    if tensor.quantization is None or tensor.type.kind == "f":
        return Port(buffer, tensor.name, tensor.type, tensor.shape)
    return Port(buffer, tensor.name, tensor.type, tensor.shape, grids.scale(tensor), grids.zero(tensor))
