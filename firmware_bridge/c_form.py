"""The C that a program becomes, as data: arrays, structs of parameters, functions. Templates print it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge import naming, vectors
from tasuki.firmware_bridge.compiler.ir import Graph, Tensor
from tasuki.firmware_bridge.compiler.program import Buffer, Loop, Operand, Plan, Port, Program, Step
from tasuki.firmware_bridge.header import Field, Kernel, kernels
from tasuki.sdk.errors import ModelUnsupported

C_TYPES: Final = {
    np.dtype(np.bool_): "uint8_t", np.dtype(np.int8): "int8_t", np.dtype(np.uint8): "uint8_t",
    np.dtype(np.int16): "int16_t", np.dtype(np.int32): "int32_t", np.dtype(np.int64): "int64_t",
    np.dtype(np.float32): "float", np.dtype(np.float64): "double",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Array:
    """A constant array. `model` says that it comes from the model, and not from the compiler."""

    name: str
    type: str
    data: NDArray[Any]
    model: bool
    comment: str


@dataclass(frozen=True)
class Struct:
    """The constant parameters of calls: `fields` are pairs of a name and a C expression."""

    name: str
    type: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Call:
    """A call of a kernel. `status` says that it returns one."""

    kernel: str
    arguments: tuple[str, ...]
    comment: str
    status: bool


@dataclass(frozen=True)
class Block:
    """`calls`, for rows 0 to `rows`, `tile` at a time; a single turn if `tile` is `rows`."""

    calls: tuple[Call, ...]
    rows: int = 1
    tile: int = 1

    @property
    def counted(self) -> bool:
        """Whether the last turn has fewer rows, and a call must know."""
        return bool(self.rows % self.tile) and any("rows" in a.split() for c in self.calls for a in c.arguments)


@dataclass(frozen=True)
class Parameter:
    """An input or output of a function.

    `macro` begins the names of its constants in the header. `values` says type, shape and range, `tensor` what the
    model calls it.
    """

    name: str
    macro: str
    type: str
    count: int
    values: str
    tensor: str
    scale: float | None
    zero: int


@dataclass(frozen=True)
class Place:
    """Where a buffer is in the arena."""

    name: str
    offset: int
    comment: str


@dataclass(frozen=True)
class Function:
    """``tsk_<name>_invoke``. `macro` begins the names of its constants."""

    name: str
    macro: str
    arena: int
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    places: tuple[Place, ...]
    blocks: tuple[Block, ...]

    @property
    def status(self) -> bool:
        """Whether any call returns a status."""
        return any(call.status for block in self.blocks for call in block.calls)


@dataclass(frozen=True)
class Unit:
    """A C file: what stands in it, in order."""

    arrays: tuple[Array, ...]
    structs: tuple[Struct, ...]
    functions: tuple[Function, ...]

    @property
    def arena(self) -> bool:
        """Whether any call takes memory from the arena."""
        return any(a.startswith("at(") for f in self.functions for b in f.blocks for c in b.calls for a in c.arguments)


def unit(graphs: Sequence[Graph], programs: Sequence[Program], plans: Sequence[Plan]) -> Unit:
    """The C of `programs`, which `graphs` became; what is the same in two of them stands there once.

    Raises ModelUnsupported for a constant that C can't hold, and ValueError for a step that is not as the header says.
    """
    names, macros = naming.Names(), naming.Names()
    ports = [_ports(graph, program, macros) for graph, program in zip(graphs, programs, strict=True)]
    for name in sorted({parameter.name for pair in ports for side in pair for parameter in side}):
        names.take(name)
    writer = _Writer(names)
    functions = tuple(
        writer.function(graph, program, plan, inputs, outputs)
        for graph, program, plan, (inputs, outputs) in zip(graphs, programs, plans, ports, strict=True)
    )
    return Unit(tuple(writer.arrays.values()), tuple(writer.structs.values()), functions)


def shape_text(shape: Sequence[int]) -> str:
    """A shape as C writes it: ``[32][128]``; ``[1]`` for a scalar."""
    return "".join(f"[{n}]" for n in shape) or "[1]"


def _ports(graph: Graph, program: Program, macros: naming.Names) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...]]:
    """The parameters for the inputs and the outputs of a program."""
    names = naming.Names()

    def parameter(port: Port, rows: int | None, kind: str) -> Parameter:
        name = names.take(naming.identifier(port.name, kind))
        macro = macros.take(f"TSK_{program.name}_{name}".upper())
        count = int(np.prod(port.shape, dtype=np.int64))
        values = f"{port.type.name} {shape_text(port.shape)}" + (f", 0 to {rows - 1}" if rows else "")
        tensor = naming.comment(port.name)
        return Parameter(name, macro, C_TYPES[port.type], count, values, tensor, port.scale, port.zero)

    inputs = zip(program.inputs, graph.inputs, strict=True)
    return (
        tuple(parameter(port, vectors.bound(graph, number), "in") for port, number in inputs),
        tuple(parameter(port, None, "out") for port in program.outputs),
    )


class _Writer:
    """Collects arrays and structs, each once, while functions are made."""

    def __init__(self, names: naming.Names) -> None:
        self._names = names
        self.arrays: dict[tuple[str, bytes, bool], Array] = {}
        self.structs: dict[tuple[str, tuple[tuple[str, str], ...]], Struct] = {}

    def function(
        self, graph: Graph, program: Program, plan: Plan, inputs: tuple[Parameter, ...],
        outputs: tuple[Parameter, ...],
    ) -> Function:  # fmt: skip
        """The function of one program."""
        buffers = {buffer.number: buffer for buffer in program.buffers}
        places = {
            number: Place(
                self._names.take(f"at_{naming.identifier(buffers[number].name, 'buffer')}_{number}"), offset,
                f"{buffers[number].bytes} bytes: {naming.comment(buffers[number].name)}",
            )
            for number, offset in sorted(plan.offsets.items(), key=lambda item: (item[1], item[0]))
        }  # fmt: skip
        ports = zip((*program.inputs, *program.outputs), (*inputs, *outputs), strict=True)
        calls = _Calls(self, buffers, places, {port.buffer: p.name for port, p in ports}, plan.scratch)
        blocks: list[Block] = []
        for part in program.body:
            loop = part if isinstance(part, Loop) else Loop(1, 1, (part,))
            made = tuple(calls.call(step, loop, _origin(graph, step)) for step in loop.steps)
            if blocks and blocks[-1].rows == blocks[-1].tile and loop.rows == loop.tile:
                blocks[-1] = Block((*blocks[-1].calls, *made))
            else:
                blocks.append(Block(made, loop.rows, loop.tile))
        macro = f"TSK_{program.name}".upper()
        return Function(program.name, macro, plan.arena, inputs, outputs, tuple(places.values()), tuple(blocks))

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
            name = self._names.take(f"{naming.identifier(buffer.name, 'constant')}_{buffer.number}")
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
class _Calls:
    """Makes the calls of one function. `ports` are the parameters' names by buffer."""

    writer: _Writer
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
        arguments = [f"&{self.writer.struct(kernel, fields)}", *pointers]
        if step.rows is not None:
            arguments.append(_rows(step.rows, loop))
        if kernel.scratch:
            arguments.append(f"at(arena, {self.scratch})")
        return Call(step.kernel, tuple(arguments), origin, kernel.status)

    def _field(self, field: Field, value: Any) -> str:
        if field.array:
            return f"{{{', '.join(_number(item, field.type) for item in value)}}}"
        if not field.pointer:
            return _number(value, field.type)
        return "NULL" if value is None else self._pointer(value, field.type, False)

    def _pointer(self, operand: Operand, kind: str, turns: bool) -> str:
        buffer = self.buffers[operand.buffer]
        if buffer.place == "arena":
            terms = [self.places[buffer.number].name, *_terms(operand, 1, turns)]
            return f"at(arena, {' + '.join(terms)})"
        name = self.ports[buffer.number] if buffer.number in self.ports else self.writer.array(buffer)
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


def _origin(graph: Graph, step: Step) -> str:
    """What a step came from: the operators by place and kind, and the tensor that the last one makes."""
    if not step.source:
        return "made by the compiler"
    by_place = {operator.place: operator for operator in graph.operators}
    found = [by_place[place] for place in step.source]
    tensors: dict[int, Tensor] = {tensor.number: tensor for tensor in graph.tensors}
    last = tensors[max(found, key=lambda operator: operator.place).outputs[0]]
    kinds = ", ".join(f"{operator.place} {operator.kind}" for operator in found)
    return naming.comment(f"{kinds}: {last.type.name} {shape_text(last.shape)} {last.name}")


def _number(value: Any, kind: str) -> str:
    if kind in ("float", "double"):
        return exact(float(value), kind)
    return FORMATS[kind](int(value))


def exact(value: float, kind: str = "float") -> str:
    """A hexadecimal constant, which is exact."""
    return f"{float(np.float32(value)).hex()}f" if kind == "float" else float(value).hex()


def _int64(value: int) -> str:
    return "INT64_MIN" if value == -(1 << 63) else f"INT64_C({value})"


FORMATS: Final[Mapping[str, Callable[[int], str]]] = {
    "int8_t": str, "uint8_t": str, "int16_t": str, "int32_t": str, "int64_t": _int64
}  # fmt: skip


def lines(array: Array | NDArray[Any], width: int = 115) -> list[str]:
    """The values of an array as C, in lines of up to `width` columns and a comma."""
    data = array.data if isinstance(array, Array) else array.ravel()
    kind = C_TYPES[data.dtype]
    if kind in ("float", "double"):
        words = [exact(value, kind) for value in data.tolist()]
    elif kind == "int64_t":
        words = [_int64(value) for value in data.tolist()]
    else:
        words = [str(int(value)) for value in data.tolist()]
    each = max(1, (width + 1) // (max(map(len, words)) + 1))
    return [",".join(words[start : start + each]) + "," for start in range(0, len(words), each)]
