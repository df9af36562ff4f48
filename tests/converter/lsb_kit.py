"""Small graphs in three interpreters: the quantiser's simulation, LiteRT and TensorFlow Lite Micro, step by step."""

import importlib
from typing import Any

import numpy as np
from need import need
from numpy.typing import NDArray

from tasuki.converter import execute
from tasuki.converter.compile import Compiled
from tasuki.converter.graph import Graph
from tasuki.converter.quantise import Plan, integers, on_grid

Ids = NDArray[np.int32]


def simulate(graph: Graph, plan: Plan, ids: Ids) -> dict[str, NDArray[Any]]:
    """The integers of each output of `graph` for `ids` int32 [n, tokens], as the calibration computes them."""
    constants = {}
    for name, value in plan.constants.items():
        grid = plan.grids.get(name)
        if grid is None:
            constants[name] = value
        elif len(grid.scale) > 1:
            shape = (-1, *[1] * (value.ndim - 1))
            constants[name] = (value * grid.scale.reshape(shape)).astype(np.float32)
        else:
            constants[name] = ((value.astype(np.float64) - grid.zero) * grid.scale[0]).astype(np.float32)

    def hook(node: Any, y: Any) -> Any:
        grid = plan.grids.get(node.output)
        return y if grid is None else on_grid(np.asarray(y), grid)

    values = execute.run(graph, {"ids": ids}, constants, hook)
    return {name: integers(np.asarray(y), plan.grids[graph.outputs[name]]) for name, y in values.items()}


def litert(model: bytes, ids: Ids) -> list[NDArray[Any]]:
    """Raw outputs of the first signature, each [n, ...]."""
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_content=model)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    rows = []
    for row in ids:
        interpreter.set_tensor(entry["index"], row[None])
        interpreter.invoke()
        rows.append([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()])
    return [np.stack(column) for column in zip(*rows, strict=True)]


def micro(model: bytes, ids: Ids, arena: int = 1 << 18) -> list[NDArray[Any]]:
    """The same of TensorFlow Lite Micro."""
    chip = need("tflite_micro", "dev").runtime.Interpreter.from_bytes(model, arena_size=arena)
    rows = []
    for row in ids:
        chip.set_input(row[None], 0)
        chip.invoke()
        rows.append([np.array(chip.get_output(n)) for n in range(_outputs(model))])
    return [np.stack(column) for column in zip(*rows, strict=True)]


def _outputs(model: bytes) -> int:
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    return int(schema.Model.GetRootAsModel(model, 0).Subgraphs(0).OutputsLength())


def apart(graph: Graph, made: Compiled, ids: Ids) -> dict[str, tuple[int, int]]:
    """The largest distance, in steps, from the simulation to LiteRT and to TFLM, by output."""
    wanted = simulate(graph, made.plan, ids)
    found = {}
    for number, name in enumerate(graph.outputs):
        truth = wanted[name].astype(np.int64).reshape(len(ids), -1)
        found[name] = tuple(
            int(np.abs(raw[number].astype(np.int64).reshape(len(ids), -1) - truth).max())
            for raw in (litert(made.model, ids), micro(made.model, ids))
        )
    return found  # type: ignore[return-value]
