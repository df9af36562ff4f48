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
    "MINIMUM": (2, 2), "RELU": (2, 2), "REDUCE_MAX": (2, 3),
}  # fmt: skip
# The same for float activations; 1 where nothing is said.
_FLOAT_VERSIONS: Final = {"FULLY_CONNECTED": 6, "DEQUANTIZE": 2, "GELU": 2}


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
    """The model; constants with the same bytes are stored once, also between subgraphs.

    Sections of the same graph are signatures of one subgraph.
    """
    model = schema.ModelT()
    model.version = 3
    model.description = "tasuki"
    model.buffers = [schema.BufferT()]
    model.operatorCodes = []
    writer = _Writer(model)
    model.subgraphs, model.signatureDefs = [], []
    numbers: dict[int, int] = {}
    for section in sections:
        if id(section.graph) not in numbers:
            numbers[id(section.graph)] = len(model.subgraphs)
            model.subgraphs.append(writer.subgraph(section))
        number = numbers[id(section.graph)]
        model.signatureDefs.append(_signature(section, number, model.subgraphs[number]))
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def operators(model: bytes) -> tuple[str, ...]:
    """The operators in a flatbuffer, sorted."""
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    read = schema.Model.GetRootAsModel(model, 0)
    return tuple(sorted({names[read.OperatorCodes(n).BuiltinCode()] for n in range(read.OperatorCodesLength())}))


def _version(operator: str, kind: np.dtype[Any]) -> int:
    if kind == np.float32:
        return _FLOAT_VERSIONS.get(operator, 1)
    return _VERSIONS[operator][kind == np.int16]


class _Quantization:
    """A grid, as the schema's objects pack themselves.

    Those with a scale for each channel are large and between subgraphs the same, so they are written once; and their
    zero points, all 0, once for each number of channels. `packed` has the places of what is written.
    """

    def __init__(self, grid: Grid, packed: dict[tuple[str, int], int]) -> None:
        self.grid, self.packed = grid, packed

    def Pack(self, builder: Any) -> int:  # noqa: N802  (the schema's name)
        channels = len(self.grid.scale)
        mine, zeros = ("grid", id(self.grid)), ("zeros", channels)
        if mine in self.packed:
            return self.packed[mine]
        scale = builder.CreateNumpyVector(self.grid.scale.astype(np.float32))
        zero = self.packed.get(zeros)
        if zero is None:
            zero = builder.CreateNumpyVector(np.full(channels, self.grid.zero, np.int64))
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scale)
        schema.QuantizationParametersAddZeroPoint(builder, zero)
        place: int = schema.QuantizationParametersEnd(builder)
        if channels > 1:
            self.packed[mine], self.packed[zeros] = place, zero
        return place


class _Writer:
    def __init__(self, model: Any) -> None:
        self.model = model
        self.buffers: dict[bytes, int] = {}
        self.codes: dict[tuple[str, int], int] = {}
        self.packed: dict[tuple[str, int], int] = {}

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

    def tensor(
        self, name: str, shape: Sequence[int], kind: np.dtype[Any], data: NDArray[Any] | None = None,
        grid: Grid | None = None,
    ) -> int:  # fmt: skip
        if name in self.numbers:
            return self.numbers[name]
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), _TYPES[kind]
        tensor.buffer = self.buffer(data) if data is not None else 0
        grid = grid or self.section.grids.get(name)
        if grid is not None:
            tensor.quantization = _Quantization(grid, self.packed)
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

    def matched(self, name: str, number: int, like: str) -> int:
        """The tensor `name` on the grid of `like`: the kernels of some operators take one grid only."""
        section = self.section
        grids, shape = section.grids, section.shapes.get(name)
        if shape is None:
            shape = section.constants[name].shape
        mine, wanted = grids.get(name), grids.get(like)
        if mine is None or wanted is None or (mine.zero == wanted.zero and mine.scale[0] == wanted.scale[0]):
            return number
        made = self.tensor(f"{name}.for.{like}", shape, wanted.type, grid=wanted)
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = [number], [made]
        operator.opcodeIndex = self.code("QUANTIZE", _VERSIONS["QUANTIZE"][wanted.type == np.int16])
        operator.builtinOptions = schema.QuantizeOptionsT()
        operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
        self.sub.operators.append(operator)
        return made

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
            case "MEAN" | "REDUCE_MAX":
                inputs.append(self.argument(f"axis.{how['axis']}", [how["axis"]]))
            case "SLICE":
                inputs.append(self.argument(f"begin.{how['begin']}", how["begin"]))
                inputs.append(self.argument(f"size.{shape}", shape))
            case "CONCATENATION" if node.output in section.grids:
                inputs = [self.matched(name, self.operand(name), node.output) for name in node.inputs]
        operator.inputs = inputs
        operator.outputs = [self.tensor(node.output, shape, kind)]
        operator.opcodeIndex = self.code(node.operator, _version(node.operator, kind))
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
        case "GELU":
            options, kind = schema.GeluOptionsT(), kinds.GeluOptions
            options.approximate = how["approximate"]
        case "DEQUANTIZE":
            options, kind = schema.DequantizeOptionsT(), kinds.DequantizeOptions
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
        case "MEAN" | "REDUCE_MAX":
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
