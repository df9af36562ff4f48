"""Operators over dense rows: SOFTMAX, MEAN, SUM, REDUCE_MAX, ARG_MAX, ARG_MIN, GATHER, EMBEDDING_LOOKUP."""

from math import prod
from typing import Final

import numpy as np

from tasuki.firmware_bridge.compiler.fuse import Node
from tasuki.firmware_bridge.compiler.lower_calls import Access, Call
from tasuki.firmware_bridge.compiler.lower_context import Context, unsupported
from tasuki.firmware_bridge.semantics import grids, reduce
from tasuki.firmware_bridge.semantics.softmax import softmax_exponents, wide_softmax_params

_KINDS: Final = {"MEAN": 0, "SUM": 1, "REDUCE_MAX": 2}


def softmax(context: Context, node: Node) -> None:
    """Over the last axis; its exponentials, or the tables between which they are interpolated, are constants."""
    x = context.tensor(node.inputs[0])
    columns = x.shape[-1]
    if x.type == np.int8:
        exponents = softmax_exponents(grids.scale(x), float(node.operator.options["beta"]))
        params = {"columns": columns, "exponents": context.table("exponents", exponents)}
        kernel = "softmax_s8"
    else:
        p = wide_softmax_params(node.operator, context.graph, context.rounding)
        params = {
            "columns": columns, "multiplier": p.multiplier, "shift": p.shift,
            "exp_lut": context.table("exp", p.exp_lut), "reciprocal_lut": context.table("reciprocal", p.reciprocal_lut),
        }  # fmt: skip
        kernel = "softmax_s16"
    context.rows(kernel, params, node, context.memory.view(x.number), (columns, columns), in_place=True)


def reduction(context: Context, node: Node) -> None:
    """MEAN, SUM and REDUCE_MAX over neighbouring axes."""
    x = context.tensor(node.inputs[0])
    count, inner = _middle(context, node, x.shape)
    if node.kind == "REDUCE_MAX":
        low, high = grids.limits(x.type)
        grid = {"in_zero": 0, "out_zero": 0, "multiplier": 0, "shift": 0, "min": low, "max": high}
    else:
        grid = vars(reduce.reduce_params(node.operator, context.graph, count, context.rounding))
    params = {"count": count, "inner": inner, **grid, "kind": _KINDS[node.kind]}
    unsigned = reduce.is_unsigned(node.operator, context.graph, context.rounding)
    kernel = "reduce_u8" if unsigned else "reduce_s8" if x.type == np.int8 else "reduce_s16"
    context.rows(kernel, params, node, context.memory.view(x.number), (count * inner, inner))


def arg(context: Context, node: Node) -> None:
    """ARG_MAX and ARG_MIN over one axis."""
    x = context.tensor(node.inputs[0])
    count, inner = _middle(context, node, x.shape)
    params = {"count": count, "inner": inner, "minimum": int(node.kind == "ARG_MIN")}
    context.rows("arg_s8", params, node, context.memory.view(x.number), (count * inner, inner))


def _middle(context: Context, node: Node, shape: tuple[int, ...]) -> tuple[int, int]:
    """Values that become one, and values behind each: the axes are neighbours, so the input is [rows][count][inner]."""
    axes = reduce.axes(node.operator, {node.inputs[1]: context.constant(node.inputs[1])}, len(shape))
    if axes and axes[-1] - axes[0] + 1 != len(axes):
        raise unsupported(node, context.graph, f"reduces axes {axes}; they must be neighbours: use TRANSPOSE before")
    return prod(shape[axis] for axis in axes), prod(shape[axes[-1] + 1 :]) if axes else 1


def gather(context: Context, node: Node) -> None:
    """Rows of a table, which stays where it is."""
    table, ids = node.inputs[0], node.inputs[1]
    axis = 0
    if node.kind == "EMBEDDING_LOOKUP":
        table, ids = ids, table
    else:
        if node.operator.options.get("batch_dims", 0):
            raise unsupported(node, context.graph, "has batch_dims; gather without them")
        axis = int(node.operator.options.get("axis", 0))
    data = context.tensor(table)
    axis %= len(data.shape)
    view = context.dense(context.memory.view(table), node)
    size = data.type.itemsize
    outer, count, inner = prod(data.shape[:axis]), data.shape[axis], prod(data.shape[axis + 1 :])
    params = {"count": count, "row_bytes": inner * size, "outer": outer}
    whole = Access(view.storage, view.offset * size, (), ((data.elements, size),), size)
    if outer == 1:
        context.rows("gather", params, node, context.memory.view(ids), (1, inner), leading=(whole,))
        return
    # Along another axis one id gives values that do not lie together.
    places, y = context.dense(context.memory.view(ids), node), context.memory.made(node.outputs[0])
    chosen = context.tensor(ids)
    reads = (whole, Access(places.storage, places.offset * 4, (), ((chosen.elements, 4),), 4))
    write = Access(y.storage, y.offset * size, (), ((prod(y.shape), size),), size)
    context.calls.append(
        Call("gather", params, (), reads, (write,), "once", 1, source=node.source, fixed_rows=chosen.elements)
    )
