"""Whole models: every output has the interpreters' bits."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from firmware import random_graphs
from firmware.graph_kit import ORACLES, ROUNDINGS, Builder, litert_reference, tflm
from firmware.kernel_kit import structs

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge.compiler import reader
from tasuki.firmware_bridge.compiler.ir import Graph, Operator
from tasuki.firmware_bridge.semantics import convert, elementwise, matmul, reduce, rsqrt, softmax, unary
from tasuki.firmware_bridge.semantics.run import OPERATORS, evaluate, run

Make = Callable[[int, firmware_models.Shape], bytes]
MODELS = [firmware_models.dyt, firmware_models.layernorm, firmware_models.rmsnorm]


def _same(data: bytes, shape: firmware_models.Shape, texts: int) -> None:
    graph = reader.read(data, "model")[0]
    for one in firmware_models.ids(0, shape, texts):
        inputs = [one]
        for mine, theirs in zip(run(graph, inputs), tflm(data, inputs), strict=True):
            assert np.array_equal(mine, theirs)
        for mine, theirs in zip(run(graph, inputs, "single"), litert_reference(data, inputs), strict=True):
            assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("seed", range(3))
def test_small_transformers(make: Make, seed: int) -> None:
    _same(make(seed, firmware_models.SMALL), firmware_models.SMALL, texts=8)


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_transformers_of_the_reference_size(make: Make) -> None:
    _same(make(0, firmware_models.REFERENCE), firmware_models.REFERENCE, texts=16)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    data = random_graphs.graph(seed)
    graph, inputs = reader.read(data, "random")[0], random_graphs.inputs(data, seed)
    for rounding in ROUNDINGS:
        for mine, theirs in zip(run(graph, inputs, rounding), ORACLES[rounding](data, inputs), strict=True):
            assert np.array_equal(mine, theirs)


PARAMS = [
    (elementwise.AddParams, ("tsk_add_s8_t", "tsk_add_s16_t", "tsk_squared_difference_s8_t")),
    (elementwise.MulParams, ("tsk_mul_s8_t", "tsk_mul_s16_t")),
    (matmul.MatmulParams, ("tsk_matmul_s8_t", "tsk_matmul_s16_t")),
    (softmax.WideSoftmaxParams, ("tsk_softmax_s16_t",)),
    (unary.SigmoidParams, ("tsk_sigmoid_s16_t",)),
    (rsqrt.RsqrtParams, ("tsk_rsqrt_s16_t",)),
    (reduce.ReduceParams, ("tsk_reduce_s8_t", "tsk_reduce_s16_t", "tsk_reduce_u8_t")),
    (convert.RequantizeParams, ("tsk_requantize_t",)),
]


@pytest.mark.parametrize(("params", "names"), PARAMS)
def test_parameters_have_the_names_of_the_structs_in_c(params: type, names: tuple[str, ...]) -> None:
    for name in names:
        assert {field.name for field in fields(params)} <= {entry[0] for entry in structs()[name]._fields_}


def _graph() -> Graph:
    g = Builder()
    ids = g.input((3,), "int32", name="ids")
    table = g.constant(np.arange(8, dtype=np.int8).reshape(4, 2), 0.1, 0)
    g.output(g.op("TANH", [g.op("GATHER", [table, ids], (3, 2), "int8", 0.1, 0)], (3, 2), "int8", 1 / 128, 0))
    return reader.read(g.build(), "test")[0]


def test_inputs_that_do_not_fit_are_refused() -> None:
    graph = _graph()
    with pytest.raises(ValueError, match="1 inputs, not 0"):
        run(graph, [])
    with pytest.raises(ValueError, match=r"ids is int32 \(3,\), not int32 \(2,\)"):
        run(graph, [np.zeros(2, np.int32)])
    with pytest.raises(ValueError, match="not int64"):
        run(graph, [np.zeros(3, np.int64)])


@pytest.mark.parametrize("wrong", [-1, 4])
def test_an_id_outside_the_table_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match="ids must be 0 to 3"):
        run(_graph(), [np.array([0, wrong, 1], np.int32)])


def test_one_operator_on_any_shape_makes_a_table() -> None:
    graph = _graph()
    op = graph.operators[1]
    values = np.arange(-128, 128).astype(np.int8)
    table = evaluate(op, graph, {op.inputs[0] or 0: values})
    assert table.shape == (256,)
    assert np.array_equal(table, evaluate(op, graph, {op.inputs[0] or 0: values.reshape(4, 64)}).reshape(-1))


def test_what_is_not_known_is_refused() -> None:
    graph = _graph()
    assert "CONV_2D" not in OPERATORS
    with pytest.raises(ValueError, match="operator CONV_2D"):
        evaluate(Operator(0, "CONV_2D", (), (2,)), graph, {})
    with pytest.raises(ValueError, match="has no value"):
        evaluate(graph.operators[1], graph, {})
