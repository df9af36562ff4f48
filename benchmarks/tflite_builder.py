"""Quantised `.tflite` graphs made operator by operator through the schema's objects, without TensorFlow.

    g = Builder()
    x = g.input((1, 4, 8), "int8", scale=0.05, zero=3)
    w = g.constant(weights, scale=[...], zero=0)
    y = g.op("FULLY_CONNECTED", [x, w, None], (1, 4, 16), "int8", scale=0.1, zero=-3, activation="RELU")
    g.output(y)
    data = g.build()

Tensors are numbers. Same calls, same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike, NDArray

TYPES: Final = {
    "bool": schema.TensorType.BOOL, "int8": schema.TensorType.INT8, "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32, "int64": schema.TensorType.INT64, "float32": schema.TensorType.FLOAT32,
}  # fmt: skip
# Versions that both interpreters accept: where nothing is int16, and where something is.
_VERSIONS: Final = {
    "FULLY_CONNECTED": (4, 7), "BATCH_MATMUL": (2, 3), "ADD": (2, 3), "SUB": (2, 3), "MUL": (2, 4), "TANH": (2, 3),
    "LOGISTIC": (2, 3), "SOFTMAX": (2, 3), "GATHER": (2, 4), "TRANSPOSE": (2, 4), "MEAN": (2, 3), "SUM": (2, 3),
    "CONCATENATION": (2, 3), "SLICE": (2, 4), "STRIDED_SLICE": (2, 4), "SPLIT": (2, 4), "PAD": (2, 3),
    "QUANTIZE": (2, 2), "DEQUANTIZE": (2, 3), "RSQRT": (2, 3), "MINIMUM": (2, 4), "MAXIMUM": (2, 4), "RELU": (2, 2),
    "RELU6": (2, 2), "REDUCE_MAX": (2, 3), "ARG_MAX": (2, 2), "ARG_MIN": (2, 2), "SQUARED_DIFFERENCE": (2, 2),
    "GELU": (2, 2), "EMBEDDING_LOOKUP": (3, 3), "DYNAMIC_UPDATE_SLICE": (1, 1), "PADV2": (2, 3),
}  # fmt: skip
# The class of the options by operator, where it is not the operator's name in camel case.
_CLASSES: Final = {
    "MEAN": "Reducer", "SUM": "Reducer", "REDUCE_MAX": "Reducer", "MINIMUM": "MaximumMinimum",
    "MAXIMUM": "MaximumMinimum", "PADV2": "PadV2", "SELECT_V2": "SelectV2", "BATCH_MATMUL": "BatchMatMul",
}  # fmt: skip
# Operators whose options are not there: the schema has none.
_BARE: Final = {"TANH", "LOGISTIC", "RELU", "RELU6", "RELU_N1_TO_1", "RSQRT", "EMBEDDING_LOOKUP"}


@dataclass
class Builder:
    """One subgraph. `signature` is None for a model without signatures; `name` is the subgraph's."""

    signature: str | None = None
    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    codes: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def tensor(
        self, shape: Sequence[int], kind: str, scale: ArrayLike | None = None, zero: ArrayLike = 0, name: str = "",
        axis: int = 0, data: NDArray[Any] | None = None,
    ) -> int:  # fmt: skip
        """A tensor of `shape`; `scale` one number or one for each channel along `axis`, None for no quantisation."""
        made = schema.TensorT()
        made.name, made.shape, made.type = name or f"t{len(self.tensors)}", list(shape), TYPES[kind]
        made.buffer = 0
        if data is not None:
            made.buffer = len(self.buffers)
            self.buffers.append(schema.BufferT())
            self.buffers[-1].data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        if scale is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            zeros = np.broadcast_to(np.asarray(zero, np.int64), made.quantization.scale.shape)
            made.quantization.zeroPoint = np.ascontiguousarray(zeros)
            made.quantization.quantizedDimension = axis
        self.tensors.append(made)
        return len(self.tensors) - 1

    def input(self, shape: Sequence[int], kind: str, scale: float | None = None, zero: int = 0, name: str = "") -> int:
        """An input of the graph."""
        self.inputs.append(self.tensor(shape, kind, scale, zero, name))
        return self.inputs[-1]

    def constant(
        self, data: ArrayLike, scale: ArrayLike | None = None, zero: ArrayLike = 0, name: str = "", axis: int = 0
    ) -> int:
        """A constant of the array's own type and shape."""
        array = np.asarray(data)
        return self.tensor(array.shape, array.dtype.name, scale, zero, name, axis, array)

    def ints(self, *values: int) -> int:
        """A one-dimensional int32 constant: an axis, an order, a shape."""
        return self.constant(np.array(values, np.int32))

    def op(
        self, kind: str, inputs: Sequence[int | None], shape: Sequence[int], type_: str = "int8",
        scale: ArrayLike | None = None, zero: int = 0, name: str = "", **options: Any,
    ) -> int:  # fmt: skip
        """The operator `kind` with one output; returns the output. `options` as in the schema, in snake case."""
        output = self.tensor(shape, type_, scale, zero, name)
        self.add(kind, inputs, [output], **options)
        return output

    def add(self, kind: str, inputs: Sequence[int | None], outputs: Sequence[int], **options: Any) -> None:
        """The operator `kind` from tensors to tensors."""
        made = schema.OperatorT()
        made.inputs = [-1 if tensor is None else tensor for tensor in inputs]
        made.outputs = list(outputs)
        ends = [tensor for tensor in (*outputs[:1], *inputs[:1]) if tensor is not None]
        wide = any(self.tensors[tensor].type == schema.TensorType.INT16 for tensor in ends)
        version = options.pop("version", _VERSIONS.get(kind, (1, 1))[wide])
        made.opcodeIndex = self._code(kind, version)
        _fill(made, kind, options)
        self.operators.append(made)

    def output(self, *tensors: int) -> None:
        """Outputs of the graph."""
        self.outputs.extend(tensors)

    def build(self) -> bytes:
        """The flatbuffer."""
        return pack(self.model())

    def model(self) -> Any:
        """The model's object, for those who want to damage it before it is packed."""
        model = schema.ModelT()
        model.version, model.description = 3, "made for a test"
        model.buffers, model.operatorCodes = self.buffers, self.codes
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = self.inputs, self.outputs
        model.subgraphs = [graph]
        if self.signature is not None:
            model.signatureDefs = [self._signature(self.signature)]
        return model

    def _signature(self, key: str) -> Any:
        made = schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = key, 0
        made.inputs = [_entry(self.tensors[n].name, n) for n in self.inputs]
        made.outputs = [_entry(self.tensors[n].name, n) for n in self.outputs]
        return made

    def _code(self, kind: str, version: int) -> int:
        number = getattr(schema.BuiltinOperator, kind)
        for place, code in enumerate(self.codes):
            if (code.builtinCode, code.version) == (number, version):
                return place
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
        self.codes.append(code)
        return len(self.codes) - 1


def pack(model: Any) -> bytes:
    """A model's object as a flatbuffer."""
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _entry(name: str, number: int) -> Any:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, number
    return made


def _fill(operator: Any, kind: str, options: dict[str, Any]) -> None:
    """The builtin options; where nothing is said, what TFLite's converter writes."""
    if kind in _BARE:
        if options:
            raise ValueError(f"{kind} has no options")
        return
    stem = _CLASSES.get(kind) or "".join(part.capitalize() for part in kind.split("_"))
    made = getattr(schema, f"{stem}OptionsT")()
    for name, value in options.items():
        if name == "activation":
            made.fusedActivationFunction = getattr(schema.ActivationFunctionType, value)
            continue
        if name in ("output_type", "in_data_type", "out_data_type"):
            value = TYPES[value]
        field_name = name.split("_")[0] + "".join(part.capitalize() for part in name.split("_")[1:])
        if not hasattr(made, field_name):
            raise ValueError(f"{kind} has no option {name}")
        setattr(made, field_name, value)
    if kind == "SOFTMAX" and "beta" not in options:
        made.beta = 1.0
    if kind in ("ADD", "SUB") and "pot_scale_int16" not in options:
        made.potScaleInt16 = False
    operator.builtinOptions, operator.builtinOptionsType = made, getattr(schema.BuiltinOptions, f"{stem}Options")
