"""Steps of a program as calls of kernels, and the constants that they take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasuki.firmware_bridge.compiler.ir import Graph, Tensor
from tasuki.firmware_bridge.compiler.program import Buffer, Loop, Operand, Step
from tasuki.firmware_bridge.emit import naming
from tasuki.firmware_bridge.emit.c_form import Array, Call, Place, Struct
from tasuki.firmware_bridge.emit.header import Field, Kernel, kernels
from tasuki.firmware_bridge.emit.literals import C_TYPES, number, shape_text
from tasuki.sdk.errors import ModelUnsupported


class Constants:
    """Collects arrays and structs, each once, while functions are made."""

    def __init__(self, names: naming.Names) -> None:
        self._names = names
        self.arrays: dict[tuple[str, bytes, bool], Array] = {}
        self.structs: dict[tuple[str, tuple[tuple[str, str], ...]], Struct] = {}

    def array(self, buffer: Buffer) -> str:
        """The name of the array that holds a constant."""
        data = buffer.data
        if data is None:
            raise ValueError(f"buffer {buffer.number} is a constant without data")
        if data.dtype.kind == "f" and not np.isfinite(data).all():
            raise ModelUnsupported(f"the constant {buffer.name} has values that are not finite: quantise without them")
        kind = C_TYPES[data.dtype]
        key = (kind, data.tobytes(), buffer.place == "model")
        if key not in self.arrays:
            name = self._names.take(f"{naming.identifier(buffer.name, 'data')}_{buffer.number}")
            about = f"{kind} {shape_text(data.shape)}: {naming.comment(buffer.name)}"
            self.arrays[key] = Array(name, kind, data.ravel(), buffer.place == "model", about)
        return self.arrays[key].name

    def struct(self, kernel: Kernel, fields: tuple[tuple[str, str], ...]) -> str:
        """The name of the struct with these fields."""
        key = (kernel.struct, fields)
        if key not in self.structs:
            number = sum(kind == kernel.struct for kind, _ in self.structs)
            name = self._names.take(f"{kernel.struct.removeprefix('tsk_').removesuffix('_t')}_{number}")
            self.structs[key] = Struct(name, kernel.struct, fields)
        return self.structs[key].name


@dataclass(frozen=True, eq=False)
class Calls:
    """Makes the calls of one function. `ports` are the parameters' names by buffer."""

    constants: Constants
    buffers: Mapping[int, Buffer]
    places: Mapping[int, Place]
    ports: Mapping[int, str]
    scratch: int

    def call(self, step: Step, loop: Loop, origin: str) -> Call:
        """One step as a call. Raises ValueError if it is not as the header says."""
        kernel = kernels()[step.kernel]
        names = {field.name for field in kernel.fields}
        if set(step.params) != names:
            raise ValueError(f"tsk_{step.kernel}: its step has other fields: {sorted(names ^ set(step.params))}")
        if (len(step.reads), len(step.writes)) != (len(kernel.reads), len(kernel.writes)):
            raise ValueError(f"tsk_{step.kernel} has other pointers than its step")
        if (step.rows is None) == kernel.rows or (step.scratch > 0) != kernel.scratch:
            raise ValueError(f"tsk_{step.kernel}: its step is wrong about rows or scratch")
        fields = tuple((f.name, self._field(f, step.params[f.name])) for f in kernel.fields)
        turns = loop.rows > loop.tile
        pointers = [
            self._pointer(operand, kind, turns)
            for operand, kind in zip((*step.reads, *step.writes), (*kernel.reads, *kernel.writes), strict=True)
        ]
        arguments = [f"&{self.constants.struct(kernel, fields)}", *pointers]
        if step.rows is not None:
            arguments.append(_rows(step.rows, loop))
        if kernel.scratch:
            arguments.append(f"at(arena, {self.scratch})")
        return Call(step.kernel, tuple(arguments), origin, kernel.status)

    def _field(self, field: Field, value: Any) -> str:
        if field.array:
            return f"{{{', '.join(number(item, field.type) for item in value)}}}"
        if not field.pointer:
            return number(value, field.type)
        return "NULL" if value is None else self._pointer(value, field.type, False)

    def _pointer(self, operand: Operand, kind: str, turns: bool) -> str:
        buffer = self.buffers[operand.buffer]
        if buffer.place == "arena":
            terms = [self.places[buffer.number].name, *_terms(operand, 1, turns)]
            return f"at(arena, {' + '.join(terms)})"
        name = self.ports[buffer.number] if buffer.number in self.ports else self.constants.array(buffer)
        text = " + ".join([name, *_terms(operand, buffer.type.itemsize, turns)])
        if kind in ("void", C_TYPES[buffer.type]):
            return text
        return f"({'' if buffer.place == 'output' else 'const '}void *)({text})"


def _terms(operand: Operand, size: int, turns: bool) -> list[str]:
    if operand.offset % size or operand.row % size:
        raise ValueError(f"an operand at byte {operand.offset}, {operand.row} a row, is not on an element of {size}")
    terms = [str(operand.offset // size)] if operand.offset else []
    return [*terms, f"row * {operand.row // size}"] if operand.row and turns else terms


def _rows(rows: int, loop: Loop) -> str:
    """The number of rows: known, unless the loop's last turn has fewer."""
    if loop.rows % loop.tile == 0 or loop.rows < loop.tile:
        return str(rows if loop.rows >= loop.tile else rows * loop.rows // loop.tile)
    return "rows" if rows == loop.tile else f"rows * {rows // loop.tile}"


def origin(graph: Graph, step: Step) -> str:
    """What a step came from: the operators by place and kind, and the tensor that the last one makes."""
    if not step.source:
        return "made by the compiler"
    by_place = {operator.place: operator for operator in graph.operators}
    found = [by_place[place] for place in step.source]
    tensors: dict[int, Tensor] = {tensor.number: tensor for tensor in graph.tensors}
    last = tensors[max(found, key=lambda operator: operator.place).outputs[0]]
    kinds = ", ".join(f"{operator.place} {operator.kind}" for operator in found)
    return naming.comment(f"{kinds}: {last.type.name} {shape_text(last.shape)} {last.name}")
