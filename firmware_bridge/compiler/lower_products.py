"""FULLY_CONNECTED and BATCH_MATMUL."""

from math import prod
from typing import Any

import numpy as np

from tasuki.firmware_bridge.compiler.fuse import Node
from tasuki.firmware_bridge.compiler.lower_calls import ROWS, Call, joined
from tasuki.firmware_bridge.compiler.lower_context import Context
from tasuki.firmware_bridge.compiler.views import View, broadcast
from tasuki.firmware_bridge.semantics import matmul


def fc_scratch(wide: int) -> int:
    """The header's TSK_FC_S8_SCRATCH."""
    return 2 * ROWS * (-(-wide // 4) * 4)


def matmul_scratch(n: int, k: int) -> int:
    """The header's TSK_MATMUL_S8_SCRATCH."""
    return (k + 7) // 4 * 4 * (n + 2 * ROWS)


def fully_connected(context: Context, node: Node) -> None:
    """Rows of the input against the weights; the input's zero point goes into the bias."""
    x, weights, *rest = node.inputs
    bias = context.constant(rest[0]) if rest else None
    w = context.constant(weights)
    out, wide = prod(w.shape[:-1]), w.shape[-1]
    p = matmul.fully_connected_params(node.operator, context.graph, context.rounding)
    name = context.tensor(weights).name
    each, multiplier, shift, scale = _requantisation(p)
    params: dict[str, Any] = {
        "weights": context.model(name, w.reshape(out, wide)),
        "bias": None,
        "multiplier": None if multiplier is None else context.model(f"{name}_multiplier", multiplier),
        "shift": None if shift is None else context.model(f"{name}_shift", shift),
        "scale": None if scale is None else context.model(f"{name}_scale", scale),
    }
    if context.tensor(x).type == np.int8:
        params["bias"] = context.model(f"{name}_bias", matmul.folded_bias(w.reshape(out, wide), bias, p.in_zero))
        params |= {"lut": context.lut(node), "in": wide, "out": out, "channels": each, "out_zero": p.out_zero}
        kernel, scratch = "fc_s8", fc_scratch(wide)
    else:
        if bias is not None:
            params["bias"] = context.model(f"{name}_bias", bias.astype(np.int64))
        params |= {"in": wide, "out": out, "channels": each, "narrow": _narrow(node, bias)}
        kernel, scratch = "fc_s16", 0
    params |= {"min": p.min, "max": p.max}
    context.rows(kernel, params, node, context.memory.view(x), (wide, out), scratch=scratch)


def batch_matmul(context: Context, node: Node) -> None:
    """Two activations; batches and transpositions are strides."""
    a, b = (context.memory.view(number) for number in node.inputs)
    a = _swapped(a) if node.operator.options.get("adj_x") else a
    b = _swapped(b) if node.operator.options.get("adj_y") else b
    y = context.memory.made(node.outputs[0])
    (m, k), n = a.shape[-2:], b.shape[-1]
    batch = y.shape[:-2]
    p = matmul.matmul_params(node.operator, context.graph, context.rounding)
    size = context.tensor(node.inputs[0]).type.itemsize
    parts = [(_outer(view, batch), size, _block(view)) for view in (a, b, y)]
    outer, (left, right, write) = joined(batch, parts)
    if len(outer) > 3:
        # More batch axes than the kernel and one loop have: the operands are repeated in memory.
        a, b = (context.dense(broadcast(view, (*batch, *view.shape[-2:])), node) for view in (a, b))
        outer, (left, right, write) = joined(batch, [(_outer(view, batch), size, _block(view)) for view in (a, b, y)])
    zero = (0, 0)
    params = {
        "m": m, "n": n, "k": k, "batch": (1, 1), "a_batch": zero, "b_batch": zero, "y_batch": zero,
        **{f"{name}_{axis}": view.strides[place] for name, view in zip("aby", (a, b, y), strict=True)
           for axis, place in (("row", -2), ("column", -1))},
        **vars(p), "lut": context.lut(node),
    }  # fmt: skip
    kernel, scratch = ("matmul_s8", matmul_scratch(n, k)) if size == 1 else ("matmul_s16", 0)
    rows = outer[0] if outer else 1
    context.calls.append(
        Call(kernel, params, outer, (left, right), (write,), "batch", rows, (), scratch, (), node.source)
    )


def _requantisation(p: matmul.FullyConnectedParams) -> tuple[int, Any, Any, Any]:
    """Whether there is one for each channel, and the arrays; equal ones for all channels are one."""
    arrays: list[Any] = [p.multiplier, p.shift, p.scale]
    if all(array is None or (array == array[0]).all() for array in arrays):
        first = [None if array is None else array[:1] for array in arrays]
        return 0, first[0], first[1], first[2]
    return p.channels, p.multiplier, p.shift, p.scale


def _narrow(node: Node, bias: Any) -> int:
    if bias is None:
        return int(node.operator.options.get("quantized_bias_type") == "INT32")
    return int(bias.dtype == np.int32)


def _swapped(view: View) -> View:
    (*shape, m, n), (*strides, rows, columns) = view.shape, view.strides
    return View(view.storage, view.offset, (*shape, n, m), (*strides, columns, rows))


def _outer(view: View, batch: tuple[int, ...]) -> View:
    """The batch axes alone, repeated to `batch`."""
    return broadcast(View(view.storage, view.offset, view.shape[:-2], view.strides[:-2]), batch)


def _block(view: View) -> tuple[tuple[int, int], ...]:
    return tuple(zip(view.shape[-2:], view.strides[-2:], strict=True))
