"""A float `.tflite` file with one subgraph, read into plain values."""

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from tasuki.sdk.errors import ConversionError

_TYPES: Final = {
    schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32, schema.TensorType.BOOL: np.bool_,
    schema.TensorType.INT64: np.int64,
}  # fmt: skip
_NAMES: Final = {n: name for name, n in vars(schema.BuiltinOperator).items() if isinstance(n, int)}


@dataclass(frozen=True)
class Operation:
    """An operator: `inputs` and `output` number tensors, -1 is an input that is left out."""

    name: str
    inputs: tuple[int, ...]
    output: int
    options: dict[str, Any]


@dataclass(frozen=True)
class File:
    """`operations` in their order; `made` gives the operation that makes a tensor."""

    operations: tuple[Operation, ...]
    made: dict[int, Operation]
    shapes: tuple[tuple[int, ...], ...]
    constants: dict[int, NDArray[Any]]
    names: tuple[str, ...]
    input: int
    output: int

    def label(self, number: int) -> str:
        """A name that is different for each tensor, with that of the layer in it."""
        return f"{self.names[number]}.{number}"


def read_file(model: bytes) -> File:
    """Raises ConversionError if the model has not one input int32 [1, tokens] and one output, or knows other types."""
    read = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    sub = read.subgraphs[0]
    if len(read.subgraphs) > 1:
        raise ConversionError(
            "the model has loops or branches (as of LSTM, GRU and cond); layers without are supported"
        )
    constants: dict[int, NDArray[Any]] = {}
    shapes: list[tuple[int, ...]] = []
    names: list[str] = []
    for number, tensor in enumerate(sub.tensors):
        shape = tuple(int(n) for n in tensor.shape) if tensor.shape is not None else ()
        data = read.buffers[tensor.buffer].data
        shapes.append(shape)
        names.append(_layer(tensor.name))
        if data is not None and len(data):
            if tensor.type not in _TYPES:
                raise ConversionError(f"{names[-1]}: a constant is neither float32 nor int32")
            constants[number] = np.frombuffer(bytes(data), _TYPES[tensor.type]).reshape(shape)
    if len(sub.inputs) != 1 or len(sub.outputs) != 1:
        raise ConversionError(
            f"the model has {len(sub.inputs)} inputs and {len(sub.outputs)} outputs; supported: token ids, one output"
        )
    codes = [_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in read.operatorCodes]
    operations = tuple(
        Operation(
            codes[found.opcodeIndex],
            tuple(int(i) for i in found.inputs),
            int(found.outputs[0]),
            dict(vars(found.builtinOptions)) if found.builtinOptions else {},
        )
        for found in sub.operators
    )
    entry = int(sub.inputs[0])
    if sub.tensors[entry].type != schema.TensorType.INT32 or len(shapes[entry]) != 2:
        raise ConversionError(
            f"the model's input is not ids int32 [batch, tokens], but has shape {list(shapes[entry])}"
        )
    made = {operation.output: operation for operation in operations}
    return File(operations, made, tuple(shapes), constants, tuple(names), entry, int(sub.outputs[0]))


def _layer(name: bytes | str | None) -> str:
    """The layer's part of a tensor's name: ``functional_1/dense_1/MatMul;...`` is ``dense_1/MatMul``."""
    words = name.decode("utf-8", "replace") if isinstance(name, bytes) else (name or "tensor")
    first = words.split(";")[0]
    return re.sub(r"^(functional|sequential|model)(_\d+)*/", "", first)
