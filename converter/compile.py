"""From float graphs and calibration inputs to one flatbuffer that holds integers only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import execute, flatbuffer
from tasuki.converter.graph import Graph, Node
from tasuki.converter.quantise import Options, Plan, calibrate
from tasuki.sdk.errors import ConversionError

# What TensorFlow Lite Micro has in int8 of the operators that this converter knows, and of these in int16.
MICRO: Final = frozenset({
    "ADD", "BATCH_MATMUL", "CONCATENATION", "FULLY_CONNECTED", "GATHER", "LOGISTIC", "MEAN", "MINIMUM", "MUL",
    "QUANTIZE", "REDUCE_MAX", "RELU", "RESHAPE", "RSQRT", "SLICE", "SOFTMAX", "SUB", "TANH", "TRANSPOSE",
})  # fmt: skip
MICRO_WIDE: Final = MICRO - {"GATHER", "REDUCE_MAX"}


@dataclass(frozen=True)
class Compiled:
    """The flatbuffer. `outputs` numbers the outputs of the first graph by name; `operators` are sorted, each once."""

    model: bytes
    outputs: dict[str, int]
    operators: tuple[str, ...]
    plan: Plan
    multiply_accumulates: int


def compile_graphs(
    graphs: Mapping[str, Graph],
    feeds: Mapping[str, NDArray[Any]],
    real: NDArray[np.bool_],
    options: Options = Options(),  # noqa: B008  (frozen)
    progress: Callable[[int, int], None] = lambda done, total: None,
    measured: Graph | None = None,
) -> Compiled:
    """One subgraph for each of `graphs`, by signature name; they share what is the same.

    Calibration walks through `measured` (else the first graph) with `feeds`; tensors of the same name in the other
    graphs get the same integers. Raises ConversionError.
    """
    first = next(iter(graphs.values()))
    plan = calibrate(measured or first, feeds, real, options, progress)
    for graph in graphs.values():
        plan.complete(graph)
    sections = [plan.section(name, graph) for name, graph in graphs.items()]
    model = flatbuffer.write(sections)
    return Compiled(
        model,
        {name: number for number, name in enumerate(first.outputs)},
        flatbuffer.operators(model),
        plan,
        first.multiply_accumulates(execute.shapes(first)),
    )


def operators(graphs: Mapping[str, Graph]) -> tuple[str, ...]:
    """What the graphs need of a runtime."""
    return tuple(sorted({node.operator for graph in graphs.values() for node in graph.nodes}))


def check_micro(graphs: Mapping[str, Graph], options: Options = Options()) -> None:  # noqa: B008  (frozen)
    """Raises ConversionError if TensorFlow Lite Micro lacks an operator, in the type that it will have."""
    for graph in graphs.values():
        for node in graph.nodes:
            wide = options.wide or node.output in graph.wide
            # Ids stay int32 whatever the options.
            known = MICRO_WIDE if wide and not _on_ids(graph, node) else MICRO
            if node.operator not in known:
                kind = "int16 " if wide and node.operator in MICRO else ""
                raise ConversionError(
                    f"TensorFlow Lite Micro has no {kind}{node.operator} ({node.output}); "
                    f"it has {', '.join(sorted(known))}"
                )


def _on_ids(graph: Graph, node: Node) -> bool:
    """Whether the result is int32: the table of a GATHER decides, else the first operand."""
    name = node.inputs[0]
    if name in graph.constants:
        return graph.constants[name].dtype == np.int32
    before = next((other for other in graph.nodes if other.output == name), None)
    return name in graph.inputs if before is None else _on_ids(graph, before)
