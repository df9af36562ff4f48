"""The checks of every operator: what passes runs in the interpreters, what is refused says where and what would do."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from firmware import every_operator, random_graphs
from firmware.graph_kit import Builder, tflm
from hypothesis import given, settings

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge.compiler import check, options, reader
from tasuki.firmware_bridge.compiler.ir import Graph
from tasuki.sdk.errors import ModelUnsupported

Make = Callable[[Builder], int]


def graph_of(make: Make) -> Graph:
    g = Builder()
    g.output(make(g))
    (graph,) = reader.read(g.build(), "lamp")
    return graph


def test_there_is_a_rule_for_every_operator_that_the_reader_knows() -> None:
    assert set(check.RULES) == options.OPERATORS


@pytest.mark.parametrize(
    "make",
    [*every_operator.BOTH, *every_operator.LITERT, *every_operator.MICRO, every_operator.sum_],
    ids=lambda make: make.__name__,
)
def test_what_the_interpreters_run_passes(make: Make) -> None:
    check.check(graph_of(make))


@pytest.mark.parametrize("name", firmware_models.MODELS)
def test_transformers_pass(name: str) -> None:
    for graph in reader.read(firmware_models.MODELS[name](3, firmware_models.SMALL), name):
        check.check(graph)


@settings(max_examples=60, deadline=None)
@given(random_graphs.seeds)
def test_random_graphs_pass_and_run(seed: int) -> None:
    data = random_graphs.graph(seed)
    assert random_graphs.graph(seed) == data
    (graph,) = reader.read(data, "random")
    check.check(graph)
    assert 1 <= len(graph.operators) <= 40
    found = tflm(data, random_graphs.inputs(data, seed))
    assert [value.shape for value in found] == [graph.tensors[n].shape for n in graph.outputs]


WIDE = {
    "FULLY_CONNECTED", "BATCH_MATMUL", "SOFTMAX", "ADD", "SUB", "MUL", "TANH", "LOGISTIC", "RELU", "RELU6", "RSQRT",
    "QUANTIZE", "RESHAPE", "TRANSPOSE", "CONCATENATION", "SLICE", "SELECT_V2", "DYNAMIC_UPDATE_SLICE",
}  # fmt: skip


def test_random_graphs_have_every_operator_of_tflm_and_most_on_int16() -> None:
    narrow, wide = set(options.OPERATORS - {"GELU", "RELU_N1_TO_1"}), set(WIDE)
    for seed in range(1000):
        (graph,) = reader.read(random_graphs.graph(seed), "random")
        narrow -= {operator.kind for operator in graph.operators}
        wide -= {o.kind for o in graph.operators if graph.tensors[o.outputs[0]].type == np.int16}
        if not narrow | wide:
            break
    assert (narrow, wide) == (set(), set())


# What is refused


def _x(g: Builder, *shape: int, kind: str = "int8", scale: float | None = 0.05, zero: int = 0) -> int:
    return g.input(shape, kind, scale, zero)


def _fc(
    weights: Any = None, shape: Sequence[int] = (1, 3), scale: Any = 0.01, weights_zero: int = 0, axis: int = 0,
    bias: Any = None, bias_scale: Any = 0.0005, bias_zero: int = 0, out: float = 0.1, kind: str = "int8", **more: Any,
) -> Make:  # fmt: skip
    def make(g: Builder) -> int:
        data = np.ones((3, 4), np.int8) if weights is None else weights
        w = g.constant(data, scale, weights_zero, axis=axis)
        b = None if bias is None else g.constant(bias, bias_scale, bias_zero)
        return g.op("FULLY_CONNECTED", [_x(g, 1, 4, kind=kind), w, b], shape, kind, out, **more)

    return make


def _unary(
    kind: str, scale: float | None = 0.05, zero: int = 0, out: float | None = 0.05, out_zero: int = 0,
    source: str = "int8", target: str = "int8", shape: Sequence[int] = (2, 3), **more: Any,
) -> Make:  # fmt: skip
    return lambda g: g.op(
        kind, [_x(g, 2, 3, kind=source, scale=scale, zero=zero)], shape, target, out, out_zero, **more
    )


def _binary(
    kind: str, a: Sequence[int] = (2, 3), b: Sequence[int] = (2, 3), shape: Sequence[int] = (2, 3), scale: float = 0.05,
    out: float = 0.05, kinds: Sequence[str] = ("int8", "int8", "int8"), zero: int = 0, **more: Any,
) -> Make:  # fmt: skip
    def make(g: Builder) -> int:
        first, second = _x(g, *a, kind=kinds[0]), _x(g, *b, kind=kinds[1], scale=scale, zero=zero)
        return g.op(kind, [first, second], shape, kinds[2], out, **more)

    return make


def _move(kind: str, arguments: Sequence[Any], shape: Sequence[int], out: float = 0.05, **more: Any) -> Make:
    def make(g: Builder) -> int:
        rest = [g.constant(np.asarray(value, np.int32)) for value in arguments]
        return g.op(kind, [_x(g, 2, 3), *rest], shape, scale=out, **more)

    return make


def _computed(kind: str, *shapes: Sequence[int], shape: Sequence[int] = (2, 3), **more: Any) -> Make:
    def make(g: Builder) -> int:
        rest = [g.input(s, "int32") for s in shapes]
        return g.op(kind, [_x(g, 2, 3), *rest], shape, scale=0.05, **more)

    return make


def _float_dense(g: Builder) -> int:
    w = g.constant(np.ones((3, 4), np.float32))
    return g.op("FULLY_CONNECTED", [g.input((1, 4), "float32"), w, None], (1, 3), "float32")


def _computed_weights(g: Builder) -> int:
    return g.op("FULLY_CONNECTED", [_x(g, 1, 4), _x(g, 3, 4), None], (1, 3), scale=0.1)


def _per_channel_activation(g: Builder) -> int:
    return g.op("TANH", [g.constant(np.ones((2, 3), np.int8), [0.1, 0.2])], (2, 3), scale=1 / 128)


def _gather(ids: Any = None, shape: Sequence[int] = (2, 3), kind: str = "int32", **more: Any) -> Make:
    def make(g: Builder) -> int:
        table = g.constant(np.ones((5, 3), np.int8), 0.05)
        number = g.input((2,), kind) if ids is None else g.constant(np.asarray(ids, np.int32))
        return g.op("GATHER", [table, number], shape, scale=0.05, **more)

    return make


def _update(update: Sequence[int] = (1, 3), start: str = "int32", starts: int = 2) -> Make:
    def make(g: Builder) -> int:
        return g.op(
            "DYNAMIC_UPDATE_SLICE", [_x(g, 2, 3), _x(g, *update), g.input((starts,), start)], (2, 3), scale=0.05
        )

    return make


def _select(condition: str = "bool", other: float = 0.05) -> Make:
    return lambda g: g.op("SELECT_V2", [g.input((2, 3), condition), _x(g, 2, 3), _x(g, 2, 3, scale=other)], (2, 3),
                          scale=0.05)  # fmt: skip


def _split(parts: int, outputs: int, shape: Sequence[int]) -> Make:
    def make(g: Builder) -> int:
        made = [g.tensor(shape, "int8", 0.05) for _ in range(outputs)]
        g.add("SPLIT", [g.constant(np.int32(1)), _x(g, 2, 3)], made, num_splits=parts)
        return made[0]

    return make


def _too_many(g: Builder) -> int:
    return g.op("TANH", [_x(g, 2, 3), _x(g, 2, 3)], (2, 3), scale=1 / 128)


def _absent(g: Builder) -> int:
    return g.op("ADD", [_x(g, 2, 3), None], (2, 3), scale=0.05)


def _long_dense(g: Builder) -> int:
    w = g.constant(np.full((1, 70_000), 127, np.int8), 0.01)
    return g.op("FULLY_CONNECTED", [_x(g, 1, 70_000, zero=127), w, None], (1, 1), scale=1e4)


REFUSED: list[tuple[Make, str]] = [
    # Arity and types
    (_too_many, "2 inputs and 1 outputs; 1 and 1"),
    (_absent, "absent"),
    (_float_dense, "float32; int8 or int16 is supported; quantise fully"),
    (_unary("GELU", source="int16", target="int16"), "int16; int8 is supported"),
    (_binary("ADD", kinds=("int8", "int16", "int8")), "int16 beside int8"),
    (_binary("ADD", kinds=("int8", "int8", "int16")), "int16 beside int8"),
    (_binary("SUB", kinds=("int32",) * 3), "type int32; int8 or int16"),
    (_binary("MUL", kinds=("int32",) * 3), "type int32; int8 or int16"),
    (_binary("MINIMUM", kinds=("int32", "int32", "int8")), "int8 beside int32"),
    (_binary("SQUARED_DIFFERENCE", kinds=("int16",) * 3), "type int16; int8"),
    (_unary("RSQRT", target="int16"), "int16 beside int8"),
    (_unary("NEG"), "type int8; float32"),
    (
        _unary("CAST", source="float32", scale=None, out=None, in_data_type="float32", out_data_type="int8"),
        "float32 to int8; use QUANTIZE",
    ),
    (_unary("CAST", target="bool", out=None, in_data_type="int8", out_data_type="bool"), "type bool"),
    (_unary("DEQUANTIZE"), "type int8; float32"),
    (_unary("QUANTIZE", source="float32", scale=None, target="int32"), "type int32; int8 or int16"),
    # Grids
    (_unary("RELU", scale=None), "int8 without a scale; quantise fully"),
    (_unary("RELU", out=None), "int8 without a scale"),
    (_per_channel_activation, "2 scales; per-channel scales are for the weights"),
    (_unary("RELU", source="int16", target="int16", zero=5), "zero point 5; int16 needs 0"),
    (_unary("TANH"), "the kernel gives 1/128 and 0"),
    (_unary("TANH", out=1 / 128, out_zero=1), "the kernel gives 1/128 and 0"),
    (_unary("TANH", source="int16", target="int16", out=1 / 128), "the kernel gives 1/32768 and 0"),
    (_unary("LOGISTIC", out=1 / 256), "the kernel gives 1/256 and -128"),
    (_unary("SOFTMAX", out=1 / 256), "the kernel gives 1/256 and -128"),
    (_unary("TANH", scale=20.0, out=1 / 128), "out of the kernel's range"),
    (_unary("RSQRT", zero=-127), "-128 for a reciprocal square root"),
    (_unary("RSQRT", source="int16", target="int16", zero=1), "zero point 1; int16 needs 0"),
    (_unary("RELU6", scale=0.02, out=0.02), "do not reach 6; use RELU"),
    (_unary("RELU6", out=0.06), "put a QUANTIZE between"),
    (_binary("MINIMUM", scale=0.06), "put a QUANTIZE between"),
    (_move("RESHAPE", [(3, 2)], (3, 2), out=0.06), "put a QUANTIZE between"),
    (_select(other=0.06), "put a QUANTIZE between"),
    # Weights
    (_fc(weights_zero=1), "weights with a zero point"),
    (_fc(scale=None), "weights without a scale"),
    (_fc(scale=[0.1] * 4, axis=1), "a scale for each input"),
    (_fc(weights_format=1), "shuffled"),
    (_fc(weights=np.ones((3, 2, 2), np.int8)), "weights of shape"),
    (_fc(weights=np.ones((3, 5), np.int8)), "rows of 5"),
    (_fc(shape=(1, 4)), r"shape \(1, 4\); the inputs make it \(1, 3\)"),
    (_fc(shape=(1, 1, 3)), r"the inputs make it \(1, 3\)"),
    (_computed_weights, "weights are computed"),
    (_fc(bias=np.ones(4, np.int32)), "bias of shape"),
    (_fc(bias=np.ones(3, np.int64)), "int64; int32"),
    (_fc(bias=np.ones(3, np.int32), bias_zero=4), "bias with a zero point"),
    (_fc(bias=np.ones(3, np.int32), bias_scale=None), "bias without a scale"),
    (_fc(bias=np.ones(3, np.int32), bias_scale=0.5), "not that of input times weights"),
    # Activations
    (_fc(activation="TANH"), "fused TANH; put it behind"),
    (_binary("ADD", activation="SIGN_BIT"), "fused SIGN_BIT"),
    (_binary("ADD", kinds=("int32",) * 3, activation="RELU"), "fused RELU on int32"),
    (_binary("MUL", activation="TANH"), "fused TANH"),
    (_fc(activation="RELU6", weights=np.zeros((3, 4), np.int8), out=1e-9), "fused RELU6 on a scale of 1e-09"),
    # Ranges
    (_long_dense, "more than int32 holds; make it shorter"),
    (_fc(bias=np.full(3, 2**31 - 2, np.int32), out=10.0), "more than int32 holds"),
    (_fc(bias=np.full(3, 2**20, np.int32), out=1e-7, bias_scale=0.0005), "enlarge the scale"),
    (_fc(out=1e9), "0 always"),
    (_fc(bias=np.full(3, 2**50, np.int64), kind="int16", out=10.0), "more than the kernel holds"),
    (_fc(bias=np.full(3, -(2**63), np.int64), kind="int16", out=10.0), "more than the kernel holds"),
    (_binary("ADD", out=1e-9), "enlarge it"),
    (_binary("SUB", kinds=("int16",) * 3, out=1e-9), "enlarge it"),
    (_binary("SQUARED_DIFFERENCE", out=1e-9), "enlarge it"),
    (_binary("MUL", out=1e-9), "enlarge the scale"),
    (_binary("BATCH_MATMUL", (2, 3), (3, 2), (2, 2), out=1e-9), "enlarge the scale"),
    (_binary("BATCH_MATMUL", (2, 3), (3, 2), (2, 2), kinds=("int16",) * 3, out=1e-6), "enlarge the scale"),
    (_unary("RELU", out=1e-9), "enlarge the scale"),
    (_unary("QUANTIZE", out=1e-9), "enlarge the scale"),
    (_unary("RSQRT", source="int16", target="int16", out=1e-9), "steps of the output; choose the scale"),
    (_unary("RSQRT", source="int16", target="int16", out=1e5), "steps of the output; choose the scale"),
    (_unary("QUANTIZE", source="int32", out=0.01), "it can leave int32"),
    (_unary("QUANTIZE", source="int32", zero=4, out=1.0), "int32 needs 0"),
    (_unary("SOFTMAX", scale=1e-9, out=1 / 256, out_zero=-128), "below what the kernel resolves"),
    (_unary("SOFTMAX", out=1 / 256, out_zero=-128, beta=-1.0), "beta"),
    (_unary("SOFTMAX", out=1 / 256, out_zero=-128, beta=float("nan")), "beta"),
    (lambda g: g.op("SOFTMAX", [_x(g, 1, 512)], (1, 512), scale=1 / 256, zero=-128), "at most 511"),
    (lambda g: g.op("SOFTMAX", [_x(g, 1, 5000, kind="int16")], (1, 5000), "int16", 1 / 32768), "at most 4,096"),
    (_binary("ADD", kinds=("int16",) * 3, pot_scale_int16=True), "pot_scale_int16"),
    (_move("SUM", [[1]], (2,), out=1e-9), "enlarge the scale"),
    (_move("MEAN", [[1]], (2,), out=1e-9), "enlarge the scale"),
    # Shapes
    (_binary("ADD", b=(2, 4)), r"do not broadcast"),
    (_binary("ADD", a=(1, 3), b=(1, 3)), r"the inputs make it \(1, 3\)"),
    (_binary("BATCH_MATMUL", (2, 3), (2, 3), (2, 2)), "3 columns meet 2 rows"),
    (_binary("BATCH_MATMUL", (2, 2, 3), (3, 3, 2), (2, 2, 2)), "do not broadcast"),
    (_binary("BATCH_MATMUL", (1, 1, 1, 2, 3), (3, 2), (1, 1, 1, 2, 2)), "2 to 4 dimensions"),
    (_binary("BATCH_MATMUL", (2, 3), (3, 2), (2, 3)), "the inputs make it"),
    (_unary("TANH", out=1 / 128, shape=(3, 2)), "the inputs make it"),
    (_move("RESHAPE", [(7,)], (7,)), "has not the values"),
    (_move("RESHAPE", [(2, 3)], (3, 2)), "the operand makes it"),
    (_move("RESHAPE", [(-1, -1)], (3, 2)), "the operand makes it"),
    (_move("TRANSPOSE", [(0, 0)], (2, 2)), r"order \(0, 0\)"),
    (_move("TRANSPOSE", [(1, 0)], (2, 3)), "the inputs make it"),
    (_move("MEAN", [[5]], (2,)), "axis 5 of 2"),
    (_move("MEAN", [[1]], (2, 3)), "the inputs make it"),
    (lambda g: g.op("MEAN", [_x(g, 2, 3, 4), g.ints(0, 2)], (3,), scale=0.05), "use TRANSPOSE before"),
    (lambda g: g.op("ARG_MAX", [_x(g, 2, 3), g.ints(0, 1)], (), "int32"), "one axis"),
    (lambda g: g.op("ARG_MAX", [_x(g, 2, 3), g.ints(1)], (2,), "int64"), "type int64; int32"),
    (lambda g: g.op("CONCATENATION", [_x(g, 2, 3), _x(g, 3, 3)], (2, 6), scale=0.05, axis=1), "along axis 1"),
    (lambda g: g.op("CONCATENATION", [_x(g, 2, 3)], (2, 3), scale=0.05, axis=2), "axis 2 of 2"),
    (lambda g: g.op("CONCATENATION", [_x(g, 2, 3)], (2, 3), scale=0.05, activation="RELU"), "fused RELU"),
    (_move("SLICE", [(0, 2), (2, 2)], (2, 2)), "leave shape"),
    (_move("SLICE", [(0, -1), (2, 2)], (2, 2)), "leave shape"),
    (_move("SLICE", [(0,), (2,)], (2, 3)), "2 dimensions"),
    (_move("STRIDED_SLICE", [(0, 0), (2, 3), (1, 0)], (2, 3)), "stride 0"),
    (_move("STRIDED_SLICE", [(0, 0), (2, 3), (1, 1)], (2, 3), ellipsis_mask=1), "ellipsis_mask"),
    (_move("STRIDED_SLICE", [(0, 2), (2, 1), (1, 1)], (2, 1)), "leave nothing"),
    (_move("STRIDED_SLICE", [(5, 0), (6, 3), (1, 1)], (3,), shrink_axis_mask=1), "index 5 of 2"),
    (_move("STRIDED_SLICE", [(0,), (2,), (1,)], (2, 3)), "ranges of 1"),
    (_move("PAD", [[[1, 0], [0, -1]]], (3, 2)), "paddings"),
    (_move("PAD", [[[1, 0]]], (3, 3)), "paddings"),
    (_split(2, 2, (2, 1)), "2 parts of 3"),
    (_split(3, 2, (2, 1)), "3 parts of 3 in 2 outputs"),
    # Constants that are computed
    (_computed("RESHAPE", (2,)), "shape is computed"),
    (_computed("TRANSPOSE", (2,)), "order is computed"),
    (_computed("MEAN", (1,), shape=(2,)), "axis is computed"),
    (_computed("SLICE", (2,), (2,)), "begin is computed"),
    (_computed("STRIDED_SLICE", (2,), (2,), (2,)), "begin is computed"),
    (_computed("PAD", (2, 2)), "paddings is computed"),
    # Tables and ids
    (_gather(ids=(0, 5)), "ids from 0 to 5 in a table of 5"),
    (_gather(ids=(-1, 2)), "ids from -1 to 2"),
    (_gather(kind="int64"), "int64; int32"),
    (_gather(batch_dims=1), "batch_dims 1"),
    (_gather(axis=-3), "axis -3 of 2"),
    (_gather(shape=(2, 4)), "the inputs make it"),
    (lambda g: g.op("EMBEDDING_LOOKUP", [g.input((1, 2), "int32"), _x(g, 5, 3)], (1, 2, 3), scale=0.05), "a list"),
    (_update((3, 3)), "larger than"),
    (_update(start="int64"), "int64; int32"),
    (_update(starts=1), "starts of shape"),
    (_select("int8"), "type int8; bool"),
    # Outputs
    (lambda g: _x(g, 2, 3), "nothing computes it"),
    (lambda g: g.constant(np.ones(3, np.int8), 0.1), "nothing computes it"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=[f"{n}: {words}" for n, (_, words) in enumerate(REFUSED)])
def test_refused(make: Make, words: str) -> None:
    graph = graph_of(make)
    with pytest.raises(ModelUnsupported, match=words) as caught:
        check.check(graph, "lamp.tflite")
    message = str(caught.value)
    assert message.startswith("lamp.tflite: main, ")
    if graph.operators:
        assert f"operator 0 ({graph.operators[0].kind})" in message
        assert "tensor '" in message


def test_sums_that_only_one_rounding_has() -> None:
    wide, near = graph_of(every_operator.sum_wide), graph_of(_move("SUM", [[1]], (2,), out=0.05 * 2**-21))
    for graph, words in ((wide, "no SUM on int16.*use MEAN and MUL, or rounding tflm"), (near, "enlarge the scale")):
        check.check(graph)
        with pytest.raises(ModelUnsupported, match=words):
            check.check(graph, "lamp.tflite", "single")


def test_no_outputs() -> None:
    (graph,) = reader.read(Builder().build(), "lamp")
    with pytest.raises(ModelUnsupported, match="no outputs"):
        check.check(graph)


# Random graphs whose scales are wrong by up to 2^30: the interpreters must survive what the checks let pass.
WILD = """
import sys
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from firmware import random_graphs
from firmware.graph_kit import litert_reference, pack, tflm
from tasuki.firmware_bridge.compiler import check, reader
from tasuki.sdk.errors import ModelUnsupported
passed = 0
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    rng = np.random.default_rng(seed)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(random_graphs.graph(seed), 0))
    grids = [t.quantization for t in model.subgraphs[0].tensors if t.quantization is not None]
    for grid in rng.choice(np.array(grids, object), 2) if grids else ():
        grid.scale = (grid.scale * 2.0 ** rng.uniform(-30, 30)).astype(np.float32)
    data = pack(model)
    try:
        for graph in reader.read(data, "wild"):
            check.check(graph)
    except ModelUnsupported:
        continue
    inputs = random_graphs.inputs(data, seed)
    print(seed, file=sys.stderr, flush=True)
    tflm(data, inputs)
    litert_reference(data, inputs)
    passed += 1
print(passed)
"""


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 1000, 200))
def test_what_passes_makes_no_interpreter_refuse_or_abort(start: int) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", WILD, str(start), str(start + 200)]
    path = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=path)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) >= 30
