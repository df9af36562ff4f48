"""The golden vectors of a model as C data: what goes in, what must come out, and what is compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tasuki.firmware_bridge.emit.c_form import Array, Function
from tasuki.firmware_bridge.emit.literals import C_TYPES, shape_text
from tasuki.firmware_bridge.emit.vectors import Vector


@dataclass(frozen=True)
class Memory:
    """Where an output goes before it is compared."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class Case:
    """One call, and the pairs of memory and array that must be equal after it."""

    function: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compared: tuple[tuple[str, str], ...]


def form(functions: Sequence[Function], vectors: Sequence[Sequence[Vector]]) -> dict[str, Any]:
    """What the template of the self-test takes: `arrays`, `outputs`, `cases`, and `largest`, whose arena is.

    Equal arrays stand there once.
    """
    arrays: dict[tuple[str, bytes], Array] = {}

    def constant(data: NDArray[Any], name: str, comment: str) -> str:
        kind = C_TYPES[data.dtype]
        key = kind, data.tobytes()
        if key not in arrays:
            arrays[key] = Array(name, kind, data.ravel(), False, f"{kind} {shape_text(data.shape)}: {comment}")
        return arrays[key].name

    memory: dict[str, Memory] = {}
    cases = []
    for place, (function, each) in enumerate(zip(functions, vectors, strict=True)):
        outputs = [Memory(f"found_{place}_{i}", p.type, p.count) for i, p in enumerate(function.outputs)]
        memory.update({output.name: output for output in outputs})
        for number, vector in enumerate(each):
            inputs = tuple(
                constant(data, f"input_{place}_{number}_{i}", f"{parameter.name} of vector {number}")
                for i, (parameter, data) in enumerate(zip(function.inputs, vector.inputs, strict=True))
            )
            wanted = [
                constant(data, f"wanted_{place}_{number}_{i}", f"{parameter.name} of vector {number}")
                for i, (parameter, data) in enumerate(zip(function.outputs, vector.outputs, strict=True))
            ]
            names = tuple(output.name for output in outputs)
            cases.append(Case(function.name, inputs, names, tuple(zip(names, wanted, strict=True))))
    largest = max(functions, key=lambda function: function.arena).macro
    return {"arrays": tuple(arrays.values()), "outputs": tuple(memory.values()), "cases": cases, "largest": largest}
