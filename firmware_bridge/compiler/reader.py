"""A `.tflite` as graphs. The file is hostile until it is read: damage is ModelCorrupt, what can't be compiled
ModelUnsupported, and nothing else is ever raised."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler import options
from tasuki.firmware_bridge.compiler.advice import advice
from tasuki.firmware_bridge.compiler.ir import TYPES, Graph, Operator, Quantization, Tensor
from tasuki.firmware_bridge.compiler.tables import File, Table
from tasuki.sdk.errors import ModelCorrupt, ModelUnsupported

_DIMENSIONS: Final = 6
# More values than any activation of a microcontroller's model has.
_LARGEST: Final = 1 << 24
_ARITY: Final = 256
# Tensors, operators and operator codes of a subgraph, and signatures.
_MOST: Final = 8192
_SIGNATURES: Final = 16


def read(data: bytes, name: str) -> tuple[Graph, ...]:
    """The graphs that signatures use, each once and under the name of its first signature; the first graph, as
    ``main``, if there are no signatures. What follows the flatbuffer in `data` is ignored. `name` is for messages.

    Raises ModelCorrupt and ModelUnsupported.
    """
    file = File(data, name)
    model = file.root(b"TFL3")
    version = model.number(0, "I")
    if version != 3:
        raise ModelUnsupported(f"{name}: version {version} of the format; 3 is the one that there is")
    subgraphs = model.count(2, "subgraph")
    if subgraphs == 0:
        raise file.corrupt("model", "has no subgraph")
    return tuple(_Reader(model, number, graph).graph for number, graph in _chosen(model, subgraphs).items())


def _chosen(model: Table, subgraphs: int) -> dict[int, str]:
    """The numbers of the subgraphs to read, with their names."""
    chosen: dict[int, str] = {}
    for signature in _entries(model, 7, "signature", _SIGNATURES):
        number = signature.number(4, "I")
        if number >= subgraphs:
            raise model.file.corrupt(signature.where, f"is for subgraph {number} of {subgraphs}")
        key = signature.text(2, "key")
        if not key:
            raise model.file.corrupt(signature.where, "has no key")
        chosen.setdefault(number, key)
    if len(set(chosen.values())) < len(chosen):
        raise model.file.corrupt("model", "has two signatures with one key")
    return chosen or {0: "main"}


def _entries(table: Table, slot: int, name: str, most: int) -> list[Table]:
    """The tables of a vector that has at most so many."""
    count = table.count(slot, name)
    if count > most:
        raise ModelUnsupported(f"{table.file.name}: {count:,} {name}s; at most {most:,} are supported")
    return table.entries(slot, name)


class _Reader:
    """One subgraph of a model."""

    def __init__(self, model: Table, number: int, name: str) -> None:
        self.model, self.file = model, model.file
        self.name = name
        self.table = model.entry(2, "subgraph", number)
        self.kinds = [self.kind(code) for code in _entries(model, 1, "operator code", _MOST)]
        tensors = _entries(self.table, 0, "tensor", _MOST)
        self.tensors = tuple(self.tensor(n, table) for n, table in enumerate(tensors))
        operators = _entries(self.table, 3, "operator", _MOST)
        self.operators = tuple(self.operator(n, table) for n, table in enumerate(operators))
        self.inputs = self.ends(1, "inputs")
        self.outputs = self.ends(2, "outputs")
        self.order()
        self.graph = Graph(self.name, self.tensors, self.operators, self.inputs, self.outputs)

    def kind(self, code: Table) -> str | ModelUnsupported:
        """The name of an operator, or why it can't be used: that matters only if the subgraph has one."""
        number = max(code.number(0, "b"), code.number(3, "i"))
        kind = options.KINDS.get(number)
        if kind is None:
            raise self.file.corrupt(code.where, f"is operator {number}, which the schema has not")
        if kind == "CUSTOM":
            kind = f"the custom operator {code.text(1, 'name')!r}"
            return ModelUnsupported(f"{self.file.name}: {kind}; {advice('CUSTOM')}")
        if kind not in options.OPERATORS:
            return ModelUnsupported(f"{self.file.name}: {kind}; {advice(kind)}")
        return kind

    # Tensors

    def tensor(self, number: int, table: Table) -> Tensor:
        name = table.text(3, "name") or f"tensor_{number}"
        where = f"{self.file.name}: tensor {number} ({name})"
        kind = options.TENSOR_TYPES.get(table.number(1, "b"))
        if kind is None:
            raise ModelCorrupt(f"{where}: type {table.number(1, 'b')}, which the schema has not")
        if kind not in TYPES:
            raise ModelUnsupported(f"{where}: type {kind}; {advice(kind)}")
        if table.number(5, "?"):
            raise ModelUnsupported(f"{where}: a variable; keep state outside, as an input and an output")
        if table.has(6):
            raise ModelUnsupported(f"{where}: sparse; convert without sparsity")
        if table.count(9, "variant"):
            raise ModelUnsupported(f"{where}: a variant tensor; {advice('VARIANT')}")
        if table.number(10, "I"):
            raise ModelUnsupported(f"{where}: its data is in another file; put it into this one")
        shape = self.shape(table, where)
        data = self.data(table, TYPES[kind], shape, where)
        if data is None and np.prod(shape, dtype=np.float64) > _LARGEST:
            raise ModelUnsupported(f"{where}: shape {shape}; an activation has at most {_LARGEST:,} values")
        grid = None if kind in ("FLOAT32", "BOOL") else self.quantization(table, TYPES[kind], shape, where)
        return Tensor(number, name, TYPES[kind], shape, grid, data)

    def shape(self, table: Table, where: str) -> tuple[int, ...]:
        shape, signature = table.numbers(0, "shape"), table.numbers(7, "shape signature")
        if -1 in shape or -1 in signature:
            raise ModelUnsupported(f"{where}: dynamic shape {signature or shape}; convert with fixed input shapes")
        if any(n < 0 for n in shape) or (signature and signature != shape):
            raise ModelCorrupt(f"{where}: shape {shape}, signature {signature}")
        if 0 in shape:
            raise ModelUnsupported(f"{where}: shape {shape} has no values; every dimension must be 1 or more")
        if len(shape) > _DIMENSIONS:
            raise ModelUnsupported(f"{where}: {len(shape)} dimensions; at most {_DIMENSIONS} are supported")
        return shape

    def data(self, table: Table, kind: np.dtype[Any], shape: tuple[int, ...], where: str) -> NDArray[Any] | None:
        """The constant's values, or None if it is not a constant."""
        number = table.number(2, "I")
        if number >= self.model.count(4, "buffer"):
            raise ModelCorrupt(f"{where}: buffer {number} of {self.model.count(4, 'buffer')}")
        buffer = self.model.entry(4, "buffer", number)
        if buffer.number(1, "Q") > 1 or buffer.number(2, "Q") > 1:
            raise ModelUnsupported(f"{where}: its data is behind the flatbuffer; files below 2 GB have it inside")
        raw = buffer.array(0, "data", "u1")
        if raw is None or len(raw) == 0:
            return None
        wanted = int(np.prod([float(n) for n in shape])) * kind.itemsize
        if len(raw) != wanted:
            raise ModelCorrupt(f"{where}: {len(raw)} bytes of data for shape {shape}, which takes {wanted}")
        values: NDArray[Any] = raw != 0 if kind == np.bool_ else np.frombuffer(raw.tobytes(), kind.newbyteorder("<"))
        return values.astype(kind, copy=False).reshape(shape)

    def quantization(
        self, table: Table, kind: np.dtype[Any], shape: tuple[int, ...], where: str
    ) -> Quantization | None:
        grid = table.table(4, "quantization")
        if grid is None:
            return None
        if grid.number(4, "B"):
            raise ModelUnsupported(f"{where}: custom quantisation; only scales and zero points are supported")
        scale, zero = grid.array(2, "scale", "<f4"), grid.array(3, "zero point", "<i8")
        axis = grid.number(6, "i")
        if scale is None or len(scale) == 0:
            return None
        count = len(scale)
        if zero is None or len(zero) != count:
            raise ModelCorrupt(f"{where}: {count} scales and {0 if zero is None else len(zero)} zero points")
        if count > 1 and not (0 <= axis < len(shape) and shape[axis] == count):
            raise ModelCorrupt(f"{where}: {count} scales along axis {axis} of shape {shape}")
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ModelCorrupt(f"{where}: a scale that is not a positive number")
        limits = np.iinfo(kind)
        if (zero < max(limits.min, -(2**31))).any() or (zero > min(limits.max, 2**31 - 1)).any():
            raise ModelCorrupt(f"{where}: a zero point outside {kind.name}")
        return Quantization(scale.astype(np.float32), zero.astype(np.int32), axis if count > 1 else 0)

    # Operators

    def operator(self, place: int, table: Table) -> Operator:
        code = table.number(0, "I")
        if code >= len(self.kinds):
            raise self.file.corrupt(table.where, f"has operator code {code} of {len(self.kinds)}")
        kind = self.kinds[code]
        if isinstance(kind, ModelUnsupported):
            where = self.outputs_of(table)
            raise ModelUnsupported(f"{kind} (operator {place}{where})")
        inputs = tuple(None if n == -1 else n for n in table.numbers(1, "inputs"))
        outputs = table.numbers(2, "outputs")
        where = f"{self.file.name}: operator {place} ({kind})"
        if len(inputs) + len(outputs) > _ARITY:
            raise ModelUnsupported(f"{where}: {len(inputs)} inputs and {len(outputs)} outputs")
        for number in (*inputs, *outputs):
            if number is not None and not 0 <= number < len(self.tensors):
                raise ModelCorrupt(f"{where}: tensor {number} of {len(self.tensors)}")
        if table.count(8, "intermediates"):
            raise ModelUnsupported(f"{where}: intermediate tensors; {advice('intermediates')}")
        if any(table.numbers(7, "mutating inputs", "u1")):
            raise ModelUnsupported(f"{where}: changes its inputs; keep state outside, as an input and an output")
        return Operator(place, kind, inputs, outputs, options.read(kind, table))

    def outputs_of(self, table: Table) -> str:
        """The name of an operator's first output, for a message."""
        numbers = table.numbers(2, "outputs")
        known = bool(numbers) and 0 <= numbers[0] < len(self.tensors)
        return f", output {self.tensors[numbers[0]].name!r}" if known else ""

    def ends(self, slot: int, name: str) -> tuple[int, ...]:
        """The subgraph's inputs or outputs."""
        numbers = self.table.numbers(slot, name)
        for number in numbers:
            if not 0 <= number < len(self.tensors):
                raise self.file.corrupt(self.table.where, f"{name}: tensor {number} of {len(self.tensors)}")
        if len(set(numbers)) < len(numbers):
            raise self.file.corrupt(self.table.where, f"{name}: one tensor twice")
        return numbers

    def order(self) -> None:
        """Every tensor is written once, before it is read; constants and inputs are never written."""
        ready = {tensor.number for tensor in self.tensors if tensor.data is not None}
        for number in self.inputs:
            if number in ready:
                raise ModelCorrupt(f"{self.where(number)}: an input that is a constant")
        ready.update(self.inputs)
        for operator in self.operators:
            what = f"operator {operator.place} ({operator.kind})"
            for wanted in operator.inputs:
                if wanted is not None and wanted not in ready:
                    raise ModelCorrupt(f"{self.where(wanted)}: {what} reads it before anything has written it")
            for written in operator.outputs:
                if written in ready:
                    raise ModelCorrupt(f"{self.where(written)}: {what} writes it, but it has a value already")
                ready.add(written)
        for number in self.outputs:
            if number not in ready:
                raise ModelCorrupt(f"{self.where(number)}: an output that nothing writes")

    def where(self, number: int) -> str:
        return f"{self.file.name}: tensor {number} ({self.tensors[number].name})"
