"""Weights in int8, activations in float32: for boards with a floating-point unit that prefer it. No calibration.

The kernels are TFLite's hybrid ones: each row of activations gets a range of its own when it is there, and the product
is accumulated in integers. What is done so that the same file gives the same answers in old and new runtimes:

- Each row of a weight has a scale, but not as the tensor's quantisation: tflite-runtime 2.14 reads only the first of
  these, without a word, and newer runtimes ask for a version of the operator that it has not. The scales are a product
  with a constant after the layer.
- Tables of embeddings have a scale for each column, a product with a constant after the gather.
- Small and one-row weights (a norm's mean and variance) stay float32: rounding their inputs would cost more than it
  saves. So does everything else.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import execute, flatbuffer, rounding
from tasuki.converter.compile import Compiled
from tasuki.converter.flatbuffer import Grid, Section
from tasuki.converter.graph import Floats, Graph, Node
from tasuki.converter.quantise import INT8, Plan
from tasuki.sdk.errors import ConversionError

# The one value of `activations` in a manifest that this module makes.
ACTIVATIONS: Final = "float"
# Tiers that have microcontrollers: TensorFlow Lite Micro refuses float activations beside int8 weights.
_INTEGERS_ONLY: Final = ("mcu", "mcu-large")
# Below this TFLite's own converter leaves a weight alone, too.
_LEAST: Final = 1024
_FLOAT: Final = np.dtype(np.float32)
_ONE: Final = Grid(np.ones(1, np.float32), 0, INT8)


def check_tier(tier: str) -> None:
    """Raises ConversionError for a tier whose boards have no float kernels for this."""
    if tier in _INTEGERS_ONLY:
        raise ConversionError(
            f"tier {tier} takes integers only: TensorFlow Lite Micro has no FULLY_CONNECTED of float activations and "
            "int8 weights; leave out --weights-only, or choose the tier board or gateway"
        )


def compile_weights_only(graphs: Mapping[str, Graph]) -> Compiled:
    """One subgraph for each of `graphs`, by signature name; they share weights that are the same.

    The plan's types and grids are those of what was written; `estimators` is empty. Raises ConversionError if a weight
    is not finite, or a graph keeps values in integers (a cache).
    """
    first = next(iter(graphs.values()))
    shapes = execute.shapes(first)
    plan = Plan()
    sections = []
    for name, graph in graphs.items():
        if graph.cached:
            raise ConversionError(f"{name}: a cache holds integers, so its activations can't be float")
        sections.append(_section(name, graph, plan))
    model = flatbuffer.write(sections)
    return Compiled(
        model,
        {name: number for number, name in enumerate(first.outputs)},
        flatbuffer.operators(model),
        plan,
        first.multiply_accumulates(shapes),
    )


def _section(name: str, graph: Graph, plan: Plan) -> Section:
    shapes = execute.shapes(graph)
    made = Graph(dict(graph.inputs), outputs=dict(graph.outputs))
    writing = _Writing(graph, made, shapes, plan)
    for node in graph.nodes:
        writing.step(node)
    return Section(name, made, shapes, plan.types, plan.grids, plan.constants)


class _Writing:
    """From a float graph to one with int8 weights."""

    def __init__(self, graph: Graph, made: Graph, shapes: dict[str, tuple[int, ...]], plan: Plan) -> None:
        self.graph, self.made, self.shapes, self.plan = graph, made, shapes, plan
        plan.types.update(dict.fromkeys(graph.inputs, np.dtype(np.int32)))

    def step(self, node: Node) -> None:
        for name in node.inputs:
            value = self.graph.constants.get(name)
            if value is not None and value.dtype != np.int32 and not np.isfinite(value).all():
                raise ConversionError(f"{node.output}: {name} has values that are NaN or infinite")
        table = self.graph.constants.get(node.inputs[0])
        weight = self.graph.constants.get(node.inputs[1]) if node.operator == "FULLY_CONNECTED" else None
        if weight is not None and len(weight) > 1 and weight.size >= _LEAST:
            self.dense(node, weight)
        elif node.operator == "GATHER" and table is not None and table.dtype != np.int32 and table.size >= _LEAST:
            self.gather(node, table)
        else:
            self.keep(node)

    def keep(self, node: Node) -> None:
        kinds = [
            self.graph.constants[x].dtype if x in self.graph.constants else self.plan.types[x] for x in node.inputs
        ]
        kind = kinds[0] if node.operator == "GATHER" else next((k for k in kinds if k == _FLOAT), kinds[0])
        for name in node.inputs:
            if name in self.graph.constants:
                self.plan.constants[name] = self.graph.constants[name]
        self.put(node.operator, node.inputs, node.output, kind, **node.attributes)

    def put(self, operator: str, inputs: tuple[str, ...], output: str, kind: np.dtype[Any], **how: Any) -> str:
        self.made.nodes.append(Node(operator, inputs, output, how))
        self.plan.types[output] = kind
        return output

    def like(self, output: str, part: str) -> str:
        """A tensor on the way to `output`, with its shape."""
        self.shapes[f"{output}.{part}"] = self.shapes[output]
        return f"{output}.{part}"

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.plan.constants[name] = value
        return name

    def dense(self, node: Node, weight: Floats) -> None:
        name, output = node.inputs[1], node.output
        rounded = rounding.nearest(weight, None)
        self.plan.grids[name] = _ONE
        self.constant(name, rounded.weight)
        steps = [
            ("MUL", self.constant(f"{name}.scales", rounded.scale[None]), "scaled"),
            *([("ADD", self.constant(node.inputs[2], self.graph.constants[node.inputs[2]]), "moved")]
              if len(node.inputs) == 3 else []),
            *([("RELU", None, "cut")] if node.attributes.get("relu") else []),
        ]  # fmt: skip
        y = self.put("FULLY_CONNECTED", (node.inputs[0], name), self.like(output, "steps"), _FLOAT)
        for operator, other, part in steps[:-1]:
            y = self.put(operator, (y, other) if other else (y,), self.like(output, part), _FLOAT)
        operator, other, _ = steps[-1]
        self.put(operator, (y, other) if other else (y,), output, _FLOAT)

    def gather(self, node: Node, table: Floats) -> None:
        name, output = node.inputs[0], node.output
        columns = table.reshape(-1, table.shape[-1])
        rounded = rounding.nearest(np.ascontiguousarray(columns.T), None)
        self.plan.grids[name] = self.plan.grids[self.like(output, "steps")] = _ONE
        self.constant(name, np.ascontiguousarray(rounded.weight.T).reshape(table.shape))
        y = self.put("GATHER", node.inputs, self.like(output, "steps"), INT8)
        y = self.put("DEQUANTIZE", (y,), self.like(output, "float"), _FLOAT)
        self.put("MUL", (y, self.constant(f"{name}.scales", rounded.scale)), output, _FLOAT)
