"""From float graphs and calibration inputs to one flatbuffer that holds integers only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import execute, flatbuffer
from tasuki.converter.graph import Graph
from tasuki.converter.quantise import Options, Plan, calibrate
from tasuki.sdk.errors import ConversionError

# What TensorFlow Lite Micro has in int8 and int16 of the operators that this converter knows.
MICRO: Final = frozenset({
    "ADD", "BATCH_MATMUL", "CONCATENATION", "FULLY_CONNECTED", "GATHER", "LOGISTIC", "MEAN", "MINIMUM", "MUL", "QUANTIZE",
    "RESHAPE", "RSQRT", "SLICE", "SOFTMAX", "SUB", "TANH", "TRANSPOSE",
})  # fmt: skip


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

    Calibration walks through `measured` (else the first graph) with `feeds`; tensors of the same name in the other graphs
    get the same integers. Raises ConversionError.
    """
    first = next(iter(graphs.values()))
    plan = calibrate(measured or first, feeds, real, options, progress)
    sections = [plan.section(name, graph) for name, graph in graphs.items()]
    return Compiled(
        flatbuffer.write(sections),
        {name: number for number, name in enumerate(first.outputs)},
        operators(graphs),
        plan,
        first.multiply_accumulates(execute.shapes(first)),
    )


def operators(graphs: Mapping[str, Graph]) -> tuple[str, ...]:
    """What the graphs need of a runtime."""
    return tuple(sorted({node.operator for graph in graphs.values() for node in graph.nodes}))


def check_micro(graphs: Mapping[str, Graph]) -> None:
    """Raises ConversionError if TensorFlow Lite Micro lacks an operator."""
    for graph in graphs.values():
        for node in graph.nodes:
            if node.operator not in MICRO:
                raise ConversionError(
                    f"TensorFlow Lite Micro has no {node.operator} ({node.output}); it has {', '.join(sorted(MICRO))}"
                )
