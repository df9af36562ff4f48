"""What every lowering of an operator works with: tensors' places, and calls as they come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.fuse import Node
from tasuki.firmware_bridge.compiler.ir import Graph, Tensor
from tasuki.firmware_bridge.compiler.lower_calls import DIMENSIONS, Access, Call, finish, joined, turn
from tasuki.firmware_bridge.compiler.lower_memory import Memory, constant
from tasuki.firmware_bridge.compiler.program import Operand
from tasuki.firmware_bridge.compiler.views import View, broadcast, dense, is_dense
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.sdk.errors import ModelUnsupported

# The header's tsk_type_t: TSK_BOOL, TSK_S8, TSK_S16, TSK_S32, TSK_F32.
TYPES: Final = {np.dtype(name): number for number, name in enumerate(("bool", "int8", "int16", "int32", "float32"))}


@dataclass(eq=False)
class Context:
    """The calls so far, in order, and the storages of the graph's outputs when all is lowered.

    `dequantized` has what each float32 that DEQUANTIZE gives was before, and with which parameters.
    """

    graph: Graph
    memory: Memory
    rounding: Rounding
    calls: list[Call] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    dequantized: dict[int, tuple[View, dict[str, Any]]] = field(default_factory=dict)

    def tensor(self, number: int) -> Tensor:
        """The tensor of that number."""
        return self.graph.tensors[number]

    def constant(self, number: int) -> NDArray[Any]:
        """The values of a tensor that must be a constant."""
        return constant(self.tensor(number))

    def lut(self, node: Node) -> Operand | None:
        """The node's table, if it has one."""
        return None if node.table is None else self.table("table", node.table)

    def table(self, name: str, data: NDArray[Any]) -> Operand:
        """A constant that the compiler made."""
        return Operand(self.memory.constant(name, data, "table"))

    def model(self, name: str, data: NDArray[Any]) -> Operand:
        """A constant that comes from the model."""
        return Operand(self.memory.constant(name, data))

    def dense(self, view: View, node: Node, shape: Sequence[int] | None = None) -> View:
        """The view, copied if it is not dense; then with another shape if there is one."""
        if not is_dense(view):
            storage = self.memory.storages[view.storage]
            copied = dense(self.memory.new(f"{storage.name}_copy", storage.type, prod(view.shape)), view.shape)
            self.copy(view, copied, node)
            view = copied
        return dense(view.storage, view.shape if shape is None else shape, view.offset)

    def copy(self, x: View, y: View, node: Node) -> None:
        """Elements from view to view of one shape."""
        size = self.memory.storages[x.storage].type.itemsize
        outer, (read, write) = joined(x.shape, [(x, size, ()), (y, size, ())])
        if len(outer) > DIMENSIONS:
            raise unsupported(node, self.graph, f"moves data along {len(outer)} axes; {DIMENSIONS} is the most")
        empty = (0,) * DIMENSIONS
        params = {"size": size, "shape": empty, "x_stride": empty, "y_stride": empty}
        rows = outer[0] if outer else 1
        self.calls.append(Call("copy", params, outer, (read,), (write,), "copy", rows, source=node.source))

    def rows(
        self, kernel: str, params: Mapping[str, Any], node: Node, x: View, block: tuple[int, int], *,
        in_place: bool = False, scratch: int = 0, leading: Sequence[Access] = (),
    ) -> None:  # fmt: skip
        """A kernel over dense rows of `block[0]` elements of `x` that gives rows of `block[1]`.

        `leading` are reads that the rows do not walk, before `x` among the kernel's pointers.
        """
        x, y = self.dense(x, node), self.memory.made(node.outputs[0])
        count = prod(x.shape) // block[0]
        sizes = [self.memory.storages[view.storage].type.itemsize for view in (x, y)]
        flat = [View(v.storage, v.offset, (count,), (width,)) for v, width in zip((x, y), block, strict=True)]
        outer, (read, write) = joined(
            (count,), [(v, size, ((width, 1),)) for v, size, width in zip(flat, sizes, block, strict=True)]
        )
        still = tuple(replace(access, steps=(0,) * len(outer)) for access in leading)
        self.calls.append(
            Call(
                kernel, params, outer, (*still, read), (write,), "rows", count, ("",) * len(still) + (None,), scratch,
                ((0, 0),) if in_place else (), node.source,
            )
        )  # fmt: skip

    def grid(
        self, kernel: str, params: Mapping[str, Any], node: Node, inputs: Sequence[tuple[str | None, View]], *,
        in_place: bool = True,
    ) -> None:  # fmt: skip
        """An elementwise kernel; each input has the name of its strides among the parameters, or None."""
        y = self.memory.made(node.outputs[0])
        # What a kernel can't stride over is repeated in memory first.
        views = [view if name is not None else self.dense(view, node, y.shape) for name, view in inputs]
        call = self._grid(kernel, params, node, [name for name, _ in inputs], views, y, in_place)
        if not _possible(call):
            views = [self.dense(broadcast(view, y.shape), node) for view in views]
            call = self._grid(kernel, params, node, [name for name, _ in inputs], views, y, in_place)
        self.calls.append(call)

    def _grid(
        self, kernel: str, params: Mapping[str, Any], node: Node, names: Sequence[str | None], views: Sequence[View],
        y: View, in_place: bool,
    ) -> Call:  # fmt: skip
        parts = [(view, self.memory.storages[view.storage].type.itemsize, ()) for view in (*views, y)]
        outer, (*reads, write) = joined(y.shape, parts)
        same = [i for i, read in enumerate(reads) if read.steps == write.steps and read.size == write.size]
        overlap = tuple((i, 0) for i in same) if in_place else ()
        strides = {f"{name}_{axis}": 0 for name in names if name for axis in ("row", "column")}
        return Call(
            kernel, {"columns": 0, **strides, **params}, outer, tuple(reads), (write,), "grid", prod(y.shape[:-1]),
            tuple(names), 0, overlap, node.source,
        )  # fmt: skip


def _possible(call: Call) -> bool:
    """Whether the kernel can do it, at most in a loop over the outermost axis."""
    if finish(call) is not None:
        return True
    inside = turn(call, call.outer[0])
    return inside is not None and finish(inside.call) is not None


def unsupported(node: Node, graph: Graph, why: str) -> ModelUnsupported:
    """The error for an operator that no kernel can do."""
    tensor = graph.tensors[node.outputs[0]]
    return ModelUnsupported(f"{node.kind} (tensor {tensor.number}, {tensor.name!r}) {why}")
