"""A model as a list of TFLite operators over named tensors: what every architecture is lowered to.

One definition serves training, calibration, simulation of the integers and the flatbuffer. Operators have TFLite's
names and semantics. The first axis of an activation is the batch or, where tokens are flattened, batch times tokens;
shapes in attributes use -1 for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Where the tokens of an activation are, so that padding can be left out of statistics.
ROWS = "rows"  # [batch * tokens, width]
HEADS = "heads"  # [batch, heads, tokens, width]
SCORES = "scores"  # [batch, heads, tokens, tokens]
WHOLE = "whole"  # no tokens, or all of them count


@dataclass(frozen=True)
class Node:
    """One operator: `inputs` and `output` name tensors, `attributes` are TFLite's builtin options."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """Nodes in the order of execution. `inputs` gives the shape of each int32 input with batch 1.

    `layout` says where an activation's tokens are; `wide` names the tensors that get int16 though the rest is int8;
    `cached` maps an input that holds earlier values of a tensor to that tensor.
    `blind` names those whose first token nobody reads; `outputs` maps the artifact's name of an output to the tensor.
    `skip_first` is on while tensors are added that belong into `blind`.
    """

    inputs: dict[str, tuple[int, ...]]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    layout: dict[str, str] = field(default_factory=dict)
    wide: set[str] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    cached: dict[str, str] = field(default_factory=dict)
    skip_first: bool = False
    outputs: dict[str, str] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Name a constant, float32 or int32; the same name twice must be the same array."""
        kept = self.constants.setdefault(name, value)
        if kept is not value and not np.array_equal(kept, value):
            raise ValueError(f"two constants are called {name}")
        return name

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        layout: str | None = None,
        wide: bool = False,
        **attributes: Any,
    ) -> str:
        """Append a node; the layout is that of the first input unless given. Returns the output's name."""
        if output in self.layout or output in self.constants or output in self.inputs:
            raise ValueError(f"two tensors are called {output}")
        self.nodes.append(Node(operator, tuple(inputs), output, attributes))
        self.layout[output] = layout or self.layout.get(inputs[0], WHOLE)
        if wide:
            self.wide.add(output)
        if self.skip_first:
            self.blind.add(output)
        return output

    def dense(
        self, x: str, weight: Floats, bias: Floats | None, output: str, relu: bool = False, wide: bool = False,
        layout: str | None = None,
    ) -> str:  # fmt: skip
        """``x W^T + b`` with `weight` [out, in]."""
        inputs = [x, self.constant(f"{output}.weight", weight)]
        if bias is not None:
            inputs.append(self.constant(f"{output}.bias", bias))
        return self.add("FULLY_CONNECTED", inputs, output, layout, wide, relu=relu)

    def reshape(self, x: str, shape: Sequence[int], output: str, layout: str | None = None) -> str:
        """The same values in another shape; -1 stands for the batch."""
        return self.add("RESHAPE", [x], output, layout, x in self.wide, shape=tuple(shape))

    def transpose(self, x: str, order: Sequence[int], output: str, layout: str | None = None) -> str:
        """Axes in another order."""
        return self.add("TRANSPOSE", [x], output, layout, x in self.wide, order=tuple(order))

    def users(self) -> dict[str, list[Node]]:
        """Which nodes read each tensor."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                found.setdefault(name, []).append(node)
        return found

    def multiply_accumulates(self, shapes: dict[str, tuple[int, ...]]) -> int:
        """Multiply-accumulates of one inference, of the matrix products alone; `shapes` with batch 1."""
        total = 0
        for node in self.nodes:
            if node.operator == "FULLY_CONNECTED":
                total += int(np.prod(shapes[node.output])) * self.constants[node.inputs[1]].shape[1]
            elif node.operator == "BATCH_MATMUL":
                inner = shapes[node.inputs[0]][-2 if node.attributes.get("adj_x") else -1]
                total += int(np.prod(shapes[node.output])) * inner
        return total
