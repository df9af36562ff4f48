"""Operators that only move data: most become views, the others copies."""

from math import prod

from tasuki.firmware_bridge.compiler.fuse import Node
from tasuki.firmware_bridge.compiler.ir import Operator
from tasuki.firmware_bridge.compiler.lower_calls import DIMENSIONS, Access, Call
from tasuki.firmware_bridge.compiler.lower_context import Context, unsupported
from tasuki.firmware_bridge.compiler.lower_layout import parts, transposition
from tasuki.firmware_bridge.compiler.views import View, dense, is_dense, permuted, reshaped, sliced
from tasuki.firmware_bridge.semantics import grids, moving


def reshape(context: Context, node: Node) -> None:
    """A view, unless the strides can't say it."""
    view = _input(context, node)
    shape = context.tensor(node.outputs[0]).shape
    there = reshaped(view, shape)
    _moved(context, node, there or context.dense(view, node, shape))


def transpose(context: Context, node: Node) -> None:
    """A view with its axes in another order."""
    _moved(context, node, permuted(_input(context, node), transposition(context.memory, node)))


def slice_(context: Context, node: Node) -> None:
    """A view of a part."""
    view = _input(context, node)
    begin = [int(b) for b in context.constant(node.inputs[1]).reshape(-1)]
    _moved(context, node, sliced(view, begin, context.tensor(node.outputs[0]).shape))


def strided_slice(context: Context, node: Node) -> None:
    """A view of every n-th, perhaps backwards, perhaps with axes of one element dropped."""
    view = _input(context, node)
    begin, end, step = (context.constant(number) for number in node.inputs[1:])
    ranges = [
        range(*cut.indices(size))
        for cut, size in zip(moving.strided(node.operator, begin, end, step, view.shape), view.shape, strict=True)
    ]
    part = sliced(view, [r.start for r in ranges], [len(r) for r in ranges], [r.step for r in ranges])
    # Only axes of one element are dropped.
    kept = [axis for axis in range(len(ranges)) if not node.operator.options.get("shrink_axis_mask", 0) >> axis & 1]
    _moved(context, node, permuted(part, kept))


def split(context: Context, node: Node) -> None:
    """Views of equal parts."""
    view = context.memory.view(node.inputs[1])
    axis = int(context.constant(node.inputs[0]).reshape(-1)[0]) % len(view.shape)
    begin = [0] * len(view.shape)
    for number in node.outputs:
        context.memory.views[number] = sliced(view, begin, context.tensor(number).shape)
        begin[axis] += context.tensor(number).shape[axis]


def concatenation(context: Context, node: Node) -> None:
    """Inputs that were not written into the output are copied there."""
    for number, target in parts(context.memory, node):
        view = context.memory.view(number)
        if view != target:
            context.copy(view, target, node)


def pad(context: Context, node: Node) -> None:
    """The value everywhere, then the input inside."""
    view, (number,) = _input(context, node), node.outputs
    y = context.memory.made(number)
    tensor = context.tensor(number)
    if len(node.inputs) > 2:
        value = int(context.constant(node.inputs[2]).reshape(-1).view(f"i{tensor.type.itemsize}")[0])
    else:
        value = grids.zero(tensor) if tensor.quantization is not None else 0
    size = tensor.type.itemsize
    whole = Access(y.storage, y.offset * size, (), ((tensor.elements, size),), size)
    params = {"size": size, "count": tensor.elements, "value": value}
    context.calls.append(Call("fill", params, (), (), (whole,), "once", 1, source=node.source))
    before = [int(pair[0]) for pair in context.constant(node.inputs[1])]
    context.copy(view, sliced(y, before, view.shape), node)


def update_slice(context: Context, node: Node) -> None:
    """DYNAMIC_UPDATE_SLICE: the operand, then the update at places that are known when the model runs."""
    operand, update, start = (context.memory.view(number) for number in node.inputs)
    y = context.memory.made(node.outputs[0])
    if len(y.shape) > DIMENSIONS:
        raise unsupported(node, context.graph, f"has {len(y.shape)} axes; {DIMENSIONS} is the most")
    context.copy(operand, y, node)
    update, start = context.dense(update, node), context.dense(start, node)
    size = context.tensor(node.outputs[0]).type.itemsize
    fill = (1,) * (DIMENSIONS - len(y.shape))
    params = {"size": size, "dimensions": len(y.shape), "shape": y.shape + fill, "update": update.shape + fill}
    reads = tuple(
        Access(view.storage, view.offset * width, (), ((prod(view.shape), width),), width)
        for view, width in ((update, size), (start, 4))
    )
    write = Access(y.storage, y.offset * size, (), ((prod(y.shape), size),), size)
    context.calls.append(Call("update_slice", params, (), reads, (write,), "once", 1, source=node.source))


def output(context: Context, number: int) -> int:
    """The storage that becomes the caller's buffer for an output: the tensor's, if it is whole and alone, or a copy."""
    view, tensor = context.memory.view(number), context.tensor(number)
    storage = context.memory.storages[view.storage]
    if storage.place == "arena" and is_dense(view) and storage.elements == tensor.elements:
        storage.place = "output"
        return view.storage
    target = context.memory.new(tensor.name, tensor.type, tensor.elements, "output")
    made_up = Operator(-1, "COPY", (number,), (number,))
    context.copy(view, dense(target, view.shape), Node("COPY", (number,), (number,), made_up, ()))
    return target


def _moved(context: Context, node: Node, view: View) -> None:
    """The output is the view; where its place was chosen before and the view is elsewhere, a copy of it."""
    (number,) = node.outputs
    target = context.memory.views.setdefault(number, view)
    if target != view and not _same(target, view):
        context.copy(view, target, node)


def _same(a: View, b: View) -> bool:
    """Whether two views of one shape are the same elements; strides along axes of one element do not matter."""
    return (a.storage, a.offset) == (b.storage, b.offset) and all(
        size == 1 or x == y for size, x, y in zip(a.shape, a.strides, b.strides, strict=True)
    )


def _input(context: Context, node: Node) -> View:
    return context.memory.view(node.inputs[0])
