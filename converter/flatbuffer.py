"""A quantised graph as a TFLite flatbuffer. Same graph, same bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from tasuki.converter.graph import Graph, Node

_TYPES: Final = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
}
# Versions as TFLite's own converter writes them, by the type of the activation.
_VERSIONS: Final = {
    "FULLY_CONNECTED": (4, 7), "BATCH_MATMUL": (2, 3), "ADD": (2, 3), "SUB": (2, 3), "MUL": (2, 4), "TANH": (2, 3),
    "LOGISTIC": (2, 3), "SOFTMAX": (2, 3), "GATHER": (2, 4), "TRANSPOSE": (2, 4), "MEAN": (2, 3),
    "CONCATENATION": (2, 3), "SLICE": (2, 4), "QUANTIZE": (2, 2), "RSQRT": (2, 3), "RESHAPE": (1, 1),
    "MINIMUM": (2, 2),
}  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """``real = scale (q - zero)``. `scale` is float32 [1], or [channels] for the rows of a weight."""

    scale: NDArray[np.float32]
    zero: int
    type: np.dtype[Any]


@dataclass(frozen=True)
class Section:
    """One subgraph to write: its signature's name, the graph, shape and type of every activation, grids, constants."""

    name: str
    graph: Graph
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, np.dtype[Any]]
    grids: Mapping[str, Grid]
    constants: Mapping[str, NDArray[Any]]


def write(sections: Sequence[Section]) -> bytes:
    """The model; constants with the same bytes are stored once, also between subgraphs."""
    model = schema.ModelT()
    model.version = 3
    model.description = "tasuki"
    model.buffers = [schema.BufferT()]
    model.operatorCodes = []
    writer = _Writer(model)
    model.subgraphs = [writer.subgraph(section) for section in sections]
    model.signatureDefs = [_signature(section, index, model.subgraphs[index]) for index, section in enumerate(sections)]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Writer:
    def __init__(self, model: Any) -> None:
        self.model = model
        self.buffers: dict[bytes, int] = {}
        self.codes: dict[tuple[str, int], int] = {}

    def subgraph(self, section: Section) -> Any:
        self.section = section
        self.numbers: dict[str, int] = {}
        self.sub = schema.SubGraphT()
        self.sub.name = section.name
        self.sub.tensors, self.sub.operators = [], []
        graph = section.graph
        self.sub.inputs = [self.tensor(name, section.shapes[name], section.types[name]) for name in graph.inputs]
        for node in graph.nodes:
            self.sub.operators.append(self.operator(node))
        self.sub.outputs = [self.numbers[tensor] for tensor in graph.outputs.values()]
        return self.sub

    def tensor(self, name: str, shape: Sequence[int], kind: np.dtype[Any], data: NDArray[Any] | None = None) -> int:
        if name in self.numbers:
            return self.numbers[name]
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), _TYPES[kind]
        tensor.buffer = self.buffer(data) if data is not None else 0
        grid = self.section.grids.get(name)
        if grid is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = grid.scale.astype(np.float32)
            tensor.quantization.zeroPoint = np.full(grid.scale.shape, grid.zero, np.int64)
        self.sub.tensors.append(tensor)
        self.numbers[name] = len(self.sub.tensors) - 1
        return self.numbers[name]

    def buffer(self, data: NDArray[Any]) -> int:
        raw = np.ascontiguousarray(data).tobytes()
        if raw not in self.buffers:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(raw, np.uint8)
            self.model.buffers.append(buffer)
            self.buffers[raw] = len(self.model.buffers) - 1
        return self.buffers[raw]

    def argument(self, name: str, values: Sequence[int]) -> int:
        """A small int32 constant that an operator takes as an input."""
        data = np.array(values, np.int32)
        return self.tensor(name, data.shape, data.dtype, data)

    def operand(self, name: str) -> int:
        if name in self.section.constants:
            data = self.section.constants[name]
            return self.tensor(name, data.shape, data.dtype, data)
        return self.numbers[name]

    def operator(self, node: Node) -> Any:
        section, how = self.section, node.attributes
        kind = section.types[node.output]
        operator = schema.OperatorT()
        inputs = [self.operand(name) for name in node.inputs]
        shape = list(section.shapes[node.output])
        match node.operator:
            case "RESHAPE":
                inputs.append(self.argument(f"shape.{shape}", shape))
            case "TRANSPOSE":
                inputs.append(self.argument(f"order.{how['order']}", how["order"]))
            case "MEAN":
                inputs.append(self.argument(f"axis.{how['axis']}", [how["axis"]]))
            case "SLICE":
                inputs.append(self.argument(f"begin.{how['begin']}", how["begin"]))
                inputs.append(self.argument(f"size.{shape}", shape))
        operator.inputs = inputs
        operator.outputs = [self.tensor(node.output, shape, kind)]
        operator.opcodeIndex = self.code(node.operator, _VERSIONS[node.operator][kind == np.int16])
        _options(operator, node, shape)
        return operator

    def code(self, name: str, version: int) -> int:
        if (name, version) not in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            self.model.operatorCodes.append(code)
            self.codes[name, version] = len(self.model.operatorCodes) - 1
        return self.codes[name, version]


def _options(operator: Any, node: Node, shape: Sequence[int]) -> None:
    """Fill in the builtin options."""
    how, kinds = node.attributes, schema.BuiltinOptions
    match node.operator:
        case "FULLY_CONNECTED":
            options, kind = schema.FullyConnectedOptionsT(), kinds.FullyConnectedOptions
            activations = schema.ActivationFunctionType
            options.fusedActivationFunction = activations.RELU if how.get("relu") else activations.NONE
        case "BATCH_MATMUL":
            options, kind = schema.BatchMatMulOptionsT(), kinds.BatchMatMulOptions
            options.adjX, options.adjY = how.get("adj_x", False), how.get("adj_y", False)
        case "ADD":
            options, kind = schema.AddOptionsT(), kinds.AddOptions
            options.potScaleInt16 = False
        case "SUB":
            options, kind = schema.SubOptionsT(), kinds.SubOptions
            options.potScaleInt16 = False
        case "MUL":
            options, kind = schema.MulOptionsT(), kinds.MulOptions
        case "SOFTMAX":
            options, kind = schema.SoftmaxOptionsT(), kinds.SoftmaxOptions
            options.beta = 1.0
        case "RESHAPE":
            options, kind = schema.ReshapeOptionsT(), kinds.ReshapeOptions
            options.newShape = list(shape)
        case "TRANSPOSE":
            options, kind = schema.TransposeOptionsT(), kinds.TransposeOptions
        case "GATHER":
            options, kind = schema.GatherOptionsT(), kinds.GatherOptions
        case "MEAN":
            options, kind = schema.ReducerOptionsT(), kinds.ReducerOptions
        case "CONCATENATION":
            options, kind = schema.ConcatenationOptionsT(), kinds.ConcatenationOptions
            options.axis = how["axis"]
        case "SLICE":
            options, kind = schema.SliceOptionsT(), kinds.SliceOptions
        case "QUANTIZE":
            options, kind = schema.QuantizeOptionsT(), kinds.QuantizeOptions
        case "MINIMUM":
            options, kind = schema.MaximumMinimumOptionsT(), kinds.MaximumMinimumOptions
        case _:
            return
    operator.builtinOptions, operator.builtinOptionsType = options, kind


def _signature(section: Section, index: int, subgraph: Any) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey = section.name
    signature.subgraphIndex = index

    def entry(name: str, number: int) -> Any:
        found = schema.TensorMapT()
        found.name, found.tensorIndex = name, number
        return found

    signature.inputs = [entry(n, i) for n, i in zip(section.graph.inputs, subgraph.inputs, strict=True)]
    signature.outputs = [entry(n, i) for n, i in zip(section.graph.outputs, subgraph.outputs, strict=True)]
    return signature
