"""Operators that work element by element, and changes of type."""

from typing import Any

import numpy as np

from tasuki.firmware_bridge.compiler.fuse import Node
from tasuki.firmware_bridge.compiler.lower_context import TYPES, Context, unsupported
from tasuki.firmware_bridge.compiler.views import View
from tasuki.firmware_bridge.semantics import convert, elementwise, grids, rsqrt, unary


def table(context: Context, node: Node) -> None:
    """A function of one int8."""
    context.grid("lut_s8", {"lut": context.lut(node)}, node, [(None, context.memory.view(node.inputs[0]))])


def binary(context: Context, node: Node) -> None:
    """ADD, SUB, MUL, SQUARED_DIFFERENCE, MINIMUM and MAXIMUM."""
    y = context.tensor(node.outputs[0])
    params: dict[str, Any]
    if node.kind == "MUL":
        params, kernel = vars(elementwise.mul_params(node.operator, context.graph, context.rounding)), "mul"
    elif node.kind in ("MINIMUM", "MAXIMUM"):
        params, kernel = {"maximum": int(node.kind == "MAXIMUM")}, "extremum"
    elif y.type == np.int32:
        params, kernel = {}, "add"
    else:
        params = vars(elementwise.add_params(node.operator, context.graph))
        kernel = "squared_difference" if node.kind == "SQUARED_DIFFERENCE" else "add"
    inputs = [(name, context.memory.operand(n, y.shape)) for name, n in zip("ab", node.inputs, strict=True)]
    context.grid(f"{kernel}_s{8 * y.type.itemsize}", params, node, inputs)


def sigmoid(context: Context, node: Node) -> None:
    """TANH and LOGISTIC on int16; int8 is a table."""
    params = vars(unary.sigmoid_params(node.operator, context.graph))
    context.grid("sigmoid_s16", params, node, [(None, context.memory.view(node.inputs[0]))])


def reciprocal_root(context: Context, node: Node) -> None:
    """RSQRT on int16: a table of LiteRT's, fixed point of TensorFlow Lite Micro's; int8 is a table of all values."""
    x, y = context.tensor(node.inputs[0]), context.tensor(node.outputs[0])
    inputs = [(None, context.memory.view(x.number))]
    if context.rounding == "single":
        context.grid("lut_s16", {"lut": context.table("rsqrt", rsqrt.wide_table(x, y))}, node, inputs)
    else:
        context.grid("rsqrt_s16", vars(rsqrt.rsqrt_params(x, y, context.rounding)), node, inputs)


def relu(context: Context, node: Node) -> None:
    """RELU, RELU6 and RELU_N1_TO_1 on int16: a requantisation with other limits."""
    x, y = context.tensor(node.inputs[0]), context.tensor(node.outputs[0])
    p = unary.relu_params(node.operator, context.graph, context.rounding)
    params = {"from": TYPES[x.type], "to": TYPES[y.type], **vars(p)}
    context.grid("requantize", params, node, [(None, context.memory.view(x.number))])


def select(context: Context, node: Node) -> None:
    """SELECT_V2."""
    y = context.tensor(node.outputs[0])
    names = ("condition", "a", "b")
    inputs = [(name, context.memory.operand(n, y.shape)) for name, n in zip(names, node.inputs, strict=True)]
    context.grid("select", {"size": y.type.itemsize}, node, inputs)


def cast(context: Context, node: Node) -> None:
    """CAST."""
    x, y = context.tensor(node.inputs[0]), context.tensor(node.outputs[0])
    params = {"from": TYPES[x.type], "to": TYPES[y.type]}
    context.grid("cast", params, node, [(None, context.memory.view(x.number))])


def quantize(context: Context, node: Node) -> None:
    """QUANTIZE: from float32, or between integers of which one is not int8."""
    x, y = context.tensor(node.inputs[0]), context.tensor(node.outputs[0])
    view = context.memory.view(x.number)
    if x.type == np.float32:
        params = {"to": TYPES[y.type], "zero": grids.zero(y), "scale": grids.scale(y)}
        context.grid("quantize", params, node, [(None, view)], in_place=False)
        return
    low, high = grids.limits(y.type)
    p = vars(convert.requantize_params(node.operator, context.graph))
    params = {"from": TYPES[x.type], "to": TYPES[y.type], **p, "min": low, "max": high}
    context.grid("requantize", params, node, [(None, view)])


def dequantize(context: Context, node: Node) -> None:
    """DEQUANTIZE to float32."""
    x = context.tensor(node.inputs[0])
    params = {"from": TYPES[x.type], "zero": grids.zero(x), "scale": grids.scale(x)}
    _dequantized(context, node, context.memory.view(x.number), params)


def negate(context: Context, node: Node) -> None:
    """NEG of what DEQUANTIZE gives: the same with a negative scale, which is exact."""
    number = node.inputs[0]
    if number not in context.dequantized:
        raise unsupported(node, context.graph, "is of a float32 that DEQUANTIZE does not give; use MUL on int8")
    view, params = context.dequantized[number]
    _dequantized(context, node, view, {**params, "scale": -params["scale"]})


def _dequantized(context: Context, node: Node, view: View, params: dict[str, Any]) -> None:
    context.dequantized[node.outputs[0]] = view, params
    context.grid("dequantize", params, node, [(None, view)], in_place=False)
