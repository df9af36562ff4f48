"""The reader of `.tflite` files: what it reads, what it refuses, and that nothing in a file can do it harm."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from firmware.graph_kit import Builder, pack, small
from firmware.random_graphs import graph as random_graph

from tasuki.firmware_bridge.compiler import options, reader
from tasuki.firmware_bridge.compiler.ir import TYPES, Graph
from tasuki.sdk.errors import ModelCorrupt, ModelUnsupported


def read(data: bytes) -> Graph:
    (graph,) = reader.read(data, "lamp")
    return graph


# What is read


def test_everything_that_the_graph_says_is_read() -> None:
    graph = read(small().build())
    assert graph.name == "main"
    assert [o.kind for o in graph.operators] == ["FULLY_CONNECTED", "TANH", "RESHAPE"]
    assert graph.operators[0].options["activation"] == "RELU"
    assert graph.operators[0].options["keep_num_dims"] is True
    assert graph.operators[2].options["new_shape"] == ()
    x, w, b = graph.tensors[:3]
    assert (x.name, x.type, x.shape, x.data) == ("x", np.dtype(np.int8), (1, 2, 4), None)
    assert x.quantization is not None
    assert (x.quantization.scale.tolist(), x.quantization.zero.tolist()) == ([np.float32(0.05)], [3])
    assert w.data is not None
    assert w.data.tolist() == np.arange(-12, 12).reshape(6, 4).tolist()
    assert w.quantization is not None
    assert (len(w.quantization.scale), w.quantization.axis, w.elements) == (6, 0, 24)
    assert b.data is not None
    assert b.data.dtype == np.int32
    assert graph.inputs == (x.number,)
    assert [graph.tensors[n].name for n in graph.outputs] == ["out"]


def test_an_absent_input_is_none() -> None:
    g = Builder()
    w = g.constant(np.ones((3, 4), np.int8), scale=0.01)
    g.output(g.op("FULLY_CONNECTED", [g.input((1, 4), "int8", 0.1), w, None], (1, 3), scale=0.1))
    assert read(g.build()).operators[0].inputs[2] is None


def test_options_that_the_file_leaves_out_have_the_schema_s_defaults() -> None:
    g = small()
    g.operators[0].builtinOptions, g.operators[0].builtinOptionsType = None, 0
    assert read(g.build()).operators[0].options == {
        "activation": "NONE", "weights_format": 0, "keep_num_dims": False, "asymmetric_quantize_inputs": False,
        "quantized_bias_type": "FLOAT32",
    }  # fmt: skip


def test_the_options_that_the_schema_writes_are_those_that_are_read() -> None:
    g = Builder()
    x = g.input((4, 6), "int8", scale=0.1)
    g.output(
        g.op("STRIDED_SLICE", [x, g.ints(0, 0), g.ints(4, 6), g.ints(1, 1)], (6,), scale=0.1, begin_mask=1, end_mask=2,
             ellipsis_mask=4, new_axis_mask=8, shrink_axis_mask=16, offset=True),
        g.op("SOFTMAX", [x], (4, 6), scale=1 / 256, zero=-128, beta=0.5),
        g.op("GATHER", [x, g.ints(0)], (1, 6), scale=0.1, axis=1, batch_dims=2),
        g.op("CAST", [x], (4, 6), "float32", in_data_type="int8", out_data_type="float32"),
        g.op("BATCH_MATMUL", [x, x], (4, 4), scale=0.1, adj_x=False, adj_y=True),
        g.op("ADD", [x, x], (4, 6), scale=0.1, activation="RELU_N1_TO_1"),
    )  # fmt: skip
    wanted: list[dict[str, object]] = [
        {"begin_mask": 1, "end_mask": 2, "ellipsis_mask": 4, "new_axis_mask": 8, "shrink_axis_mask": 16,
         "offset": True},
        {"beta": 0.5}, {"axis": 1, "batch_dims": 2}, {"in_data_type": "INT8", "out_data_type": "FLOAT32"},
        {"adj_x": False, "adj_y": True}, {"activation": "RELU_N1_TO_1", "pot_scale_int16": False},
    ]  # fmt: skip
    assert [o.options for o in read(g.build()).operators] == wanted


@pytest.mark.parametrize("seed", range(20))
def test_the_schema_s_own_reader_reads_the_same(seed: int) -> None:
    data = random_graph(seed)
    graph, model = read(data), schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    (wanted,) = model.subgraphs
    assert [graph.inputs, graph.outputs] == [tuple(wanted.inputs), tuple(wanted.outputs)]
    for mine, theirs in zip(graph.operators, wanted.operators, strict=True):
        assert options.KINDS[model.operatorCodes[theirs.opcodeIndex].builtinCode] == mine.kind
        assert [-1 if n is None else n for n in mine.inputs] == list(theirs.inputs)
        assert list(mine.outputs) == list(theirs.outputs)
    for tensor, other in zip(graph.tensors, wanted.tensors, strict=True):
        assert tensor.name == other.name.decode()
        assert tensor.shape == tuple(other.shape if other.shape is not None else ())
        assert tensor.type == TYPES[options.TENSOR_TYPES[other.type]]
        content = model.buffers[other.buffer].data
        assert (b"" if tensor.data is None else tensor.data.tobytes()) == bytes(content if content is not None else b"")
        if tensor.quantization is not None:
            assert tensor.quantization.scale.tolist() == other.quantization.scale.tolist()
            assert tensor.quantization.zero.tolist() == other.quantization.zeroPoint.tolist()


def test_a_signature_names_the_graph_and_what_follows_is_ignored() -> None:
    data = small("classify").build()
    assert read(data).name == "classify"
    assert read(data + b"PK\x05\x06" + bytes(40)).name == "classify"


def test_signatures_of_one_subgraph_make_one_graph() -> None:
    model = small("decode").model()
    second = small("prefill").model()
    model.signatureDefs += second.signatureDefs
    assert [g.name for g in reader.read(pack(model), "lamp")] == ["decode"]
    model.subgraphs.append(model.subgraphs[0])
    model.signatureDefs[1].subgraphIndex = 1
    assert [g.name for g in reader.read(pack(model), "lamp")] == ["decode", "prefill"]


def test_bool_constants_are_bool() -> None:
    g = Builder()
    condition = g.constant(np.array([True, False, True]))
    x = g.input((3,), "int8", scale=0.1)
    g.output(g.op("SELECT_V2", [condition, x, x], (3,), scale=0.1))
    g.buffers[1].data = np.array([2, 0, 1], np.uint8)
    data = read(g.build()).tensors[condition].data
    assert data is not None
    assert (data.dtype, data.tolist()) == (np.bool_, [True, False, True])


def _most_signatures(model: Any) -> None:
    model.signatureDefs *= 16


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [4096, 4096]),
        lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [1] * 6),
        lambda m: setattr(m.subgraphs[0].operators[0], "inputs", [0] * 255),
        lambda m: setattr(m.buffers[1], "offset", 1),
        lambda m: setattr(m.buffers[1], "size", 1),
        _most_signatures,
    ],
    ids=["values", "dimensions", "operands", "offset", "size", "signatures"],
)
def test_the_most_that_there_may_be_is_read(change: Callable[[Any], None]) -> None:
    model = small("classify").model()
    change(model)
    assert [o.kind for o in read(pack(model)).operators] == ["FULLY_CONNECTED", "TANH", "RESHAPE"]


def test_operators_of_old_files_have_one_byte() -> None:
    model = small().model()
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0
    assert [o.kind for o in read(pack(model)).operators] == ["FULLY_CONNECTED", "TANH", "RESHAPE"]


def test_one_scale_has_no_axis() -> None:
    model = small().model()
    model.subgraphs[0].tensors[0].quantization.quantizedDimension = 2
    grid = read(pack(model)).tensors[0].quantization
    assert grid is not None
    assert grid.axis == 0


@pytest.mark.parametrize("zero", [2**31, -(2**31) - 1])
def test_zero_points_are_int32(zero: int) -> None:
    g = small()
    g.tensor((4,), "int64", scale=0.1, zero=zero)
    with pytest.raises(ModelCorrupt, match="a zero point outside int64"):
        read(g.build())


# What is refused, and with what words


def _tensor(name: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].tensors[0], name, value)


def _grid(name: str, value: Any, tensor: int = 1) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].tensors[tensor].quantization, name, value)


def _operator(name: str, value: Any, place: int = 0) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].operators[place], name, value)


def _graph(name: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0], name, value)


def _code(number: int, custom: str | None = None) -> Callable[[Any], None]:
    def damage(model: Any) -> None:
        model.operatorCodes[0].builtinCode = number
        model.operatorCodes[0].deprecatedBuiltinCode = min(number, 127)
        model.operatorCodes[0].customCode = custom

    return damage


def _sparse(model: Any) -> None:
    model.subgraphs[0].tensors[1].sparsity = schema.SparsityParametersT()


def _wrong_options(model: Any) -> None:
    model.subgraphs[0].operators[0].builtinOptions = schema.AddOptionsT()
    model.subgraphs[0].operators[0].builtinOptionsType = schema.BuiltinOptions.AddOptions


def _unknown_activation(model: Any) -> None:
    model.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = 77


def _swap(model: Any) -> None:
    model.subgraphs[0].operators.reverse()


def _twice(model: Any) -> None:
    model.subgraphs[0].operators.append(model.subgraphs[0].operators[0])


def _custom_grid(model: Any) -> None:
    quantization = model.subgraphs[0].tensors[1].quantization
    quantization.detailsType = schema.QuantizationDetails.CustomQuantization
    quantization.details = schema.CustomQuantizationT()


def _intermediates(model: Any) -> None:
    model.subgraphs[0].operators[0].intermediates = [0]


def _variant(model: Any) -> None:
    model.subgraphs[0].tensors[0].variantTensors = [schema.VariantSubTypeT()]


def _one_key(model: Any) -> None:
    model.subgraphs.append(model.subgraphs[0])
    model.signatureDefs.append(small("classify").model().signatureDefs[0])
    model.signatureDefs[1].subgraphIndex = 1


def _unknown_operator_without_output(model: Any) -> None:
    _code(schema.BuiltinOperator.CONV_2D)(model)
    model.subgraphs[0].operators[0].outputs = [7]


CORRUPT: list[tuple[Callable[[Any], None], str]] = [
    (_tensor("shape", [1, -2, 4]), "shape"),
    (_tensor("shapeSignature", [1, 2, 5]), "signature"),
    (_tensor("type", 99), "type 99"),
    (_tensor("buffer", 77), "buffer 77"),
    (lambda m: setattr(m.subgraphs[0].tensors[0], "buffer", len(m.buffers)), r"buffer (\d+) of \1"),
    (_tensor("buffer", 1), "8 elements|bytes of data"),
    (lambda m: setattr(m.buffers[1], "data", np.zeros(23, np.uint8)), "23 bytes of data"),
    (_grid("scale", np.array([0.1, 0.2], np.float32)), "2 scales and 6 zero points"),
    (_grid("zeroPoint", np.zeros(2, np.int64)), "6 scales and 2 zero points"),
    (_grid("zeroPoint", None), "6 scales and 0 zero points"),
    (_grid("quantizedDimension", 1), "axis 1"),
    (_grid("quantizedDimension", -1), "axis -1"),
    (_grid("quantizedDimension", 9), "axis 9"),
    (_grid("scale", np.array([np.nan] * 6, np.float32)), "not a positive number"),
    (_grid("scale", np.array([0.0] * 6, np.float32)), "not a positive number"),
    (_grid("scale", np.array([np.inf] * 6, np.float32)), "not a positive number"),
    (_grid("scale", np.array([-1.0] * 6, np.float32)), "not a positive number"),
    (_grid("zeroPoint", np.array([128]), 0), "zero point outside int8"),
    (_grid("zeroPoint", np.array([-129]), 0), "zero point outside int8"),
    (_operator("opcodeIndex", 50), "operator code 50"),
    (_operator("opcodeIndex", 3), "operator code 3 of 3"),
    (_operator("inputs", [0, 99, 2]), "tensor 99"),
    (_operator("inputs", [0, 7, 2]), "tensor 7 of 7"),
    (_operator("inputs", [0, -2, 2]), "tensor -2"),
    (_operator("outputs", [-1]), "tensor -1"),
    (_operator("outputs", [0]), "has a value already"),
    (_operator("outputs", [1]), "has a value already"),
    (_wrong_options, "AddOptions"),
    (_unknown_activation, "activation 77"),
    (_operator("builtinOptionsType", 250), "unknown options"),
    (_swap, "before anything has written it"),
    (_twice, "has a value already"),
    (_graph("inputs", [0, 0]), "one tensor twice"),
    (_graph("inputs", [-1]), "tensor -1"),
    (_graph("inputs", [1]), "an input that is a constant"),
    (_graph("outputs", [99]), "tensor 99"),
    (_graph("outputs", [7]), "tensor 7 of 7"),
    (_graph("inputs", []), "before anything has written it"),
    (_graph("operators", []), "an output that nothing writes"),
    (lambda m: setattr(m.signatureDefs[0], "subgraphIndex", 3), "subgraph 3 of 1"),
    (lambda m: setattr(m.signatureDefs[0], "subgraphIndex", 1), "subgraph 1 of 1"),
    (_one_key, "two signatures with one key"),
    (lambda m: setattr(m.signatureDefs[0], "signatureKey", None), "no key"),
    (lambda m: setattr(m, "subgraphs", []), "no subgraph"),
    (_code(1000), "operator 1000"),
]
UNSUPPORTED: list[tuple[Callable[[Any], None], str]] = [
    (lambda m: setattr(m, "version", 4), "version 4"),
    (_tensor("shape", [1, -1, 4]), "dynamic shape"),
    (_tensor("shapeSignature", [-1, 2, 4]), "fixed input shapes"),
    (_tensor("shape", [1, 0, 4]), "no values"),
    (_tensor("shape", [1] * 7), "7 dimensions"),
    (_tensor("shape", [4096, 4096, 2]), "at most"),
    (_tensor("type", schema.TensorType.STRING), "STRING; tokenise outside"),
    (_tensor("type", schema.TensorType.COMPLEX64), "COMPLEX64"),
    (_tensor("type", schema.TensorType.FLOAT16), "quantise fully"),
    (_tensor("type", schema.TensorType.UINT8), "int8 instead of uint8"),
    (_tensor("isVariable", True), "variable"),
    (_tensor("externalBuffer", 1), "another file"),
    (_sparse, "sparse"),
    (_custom_grid, "custom quantisation"),
    (_intermediates, "intermediate"),
    (_operator("mutatingVariableInputs", [True]), "changes its inputs"),
    (lambda m: setattr(m.buffers[1], "offset", 1000), "behind the flatbuffer"),
    (lambda m: setattr(m.buffers[1], "offset", 2), "behind the flatbuffer"),
    (lambda m: setattr(m.buffers[1], "size", 2), "behind the flatbuffer"),
    (_variant, "a variant tensor"),
    (_operator("inputs", [0] * 256), "256 inputs and 1 outputs"),
    (lambda m: m.signatureDefs.extend(m.signatureDefs * 16), "17 signatures; at most 16"),
    (_unknown_operator_without_output, r"CONV_2D; .*\(operator 0\)"),
    (_code(schema.BuiltinOperator.CONV_2D), r"CONV_2D; express it as FULLY_CONNECTED.*output 'y'"),
    (_code(schema.BuiltinOperator.WHILE), "WHILE; unroll"),
    (_code(schema.BuiltinOperator.CUSTOM, "FlexErf"), "custom operator 'FlexErf'"),
]


@pytest.mark.parametrize(("damage", "words"), CORRUPT, ids=[words for _, words in CORRUPT])
def test_damage_is_named(damage: Callable[[Any], None], words: str) -> None:
    model = small("classify").model()
    damage(model)
    with pytest.raises(ModelCorrupt, match=words) as caught:
        reader.read(pack(model), "lamp")
    assert str(caught.value).startswith("lamp: ")


@pytest.mark.parametrize(("damage", "words"), UNSUPPORTED, ids=[words for _, words in UNSUPPORTED])
def test_what_cannot_be_compiled_is_named(damage: Callable[[Any], None], words: str) -> None:
    model = small("classify").model()
    damage(model)
    with pytest.raises(ModelUnsupported, match=words) as caught:
        reader.read(pack(model), "lamp")
    assert str(caught.value).startswith("lamp: ")


def test_every_operator_that_is_not_known_is_named_with_what_would_do() -> None:
    unknown = {
        name for name, n in vars(schema.BuiltinOperator).items() if isinstance(n, int) and name not in options.OPERATORS
    }
    for name in unknown:
        model = small().model()
        _code(getattr(schema.BuiltinOperator, name), "x")(model)
        with pytest.raises(ModelUnsupported, match="; .* \\(operator 0, output 'y'\\)"):
            reader.read(pack(model), "lamp")


def test_names_can_not_leave_their_line() -> None:
    model = small().model()
    model.subgraphs[0].tensors[0].name = "x */ \n#include\x00" + "a" * 1000
    name = read(pack(model)).tensors[0].name
    assert name.startswith("x */ ?#include?a")
    assert len(name) == 256


def test_not_a_flatbuffer() -> None:
    for data in (b"", b"TFL3", b"\x00" * 100, b"PK\x03\x04" + bytes(100)):
        with pytest.raises(ModelCorrupt, match="TFL3"):
            reader.read(data, "lamp")
