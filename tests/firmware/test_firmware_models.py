"""The seeded transformers: the reference models' operators and shapes, the same bytes, outputs that spread."""

from collections import Counter

import numpy as np
import pytest
from firmware.graph_kit import litert_reference, tflm

from tasuki.benchmarks import firmware_models
from tasuki.benchmarks.firmware_models import MODELS, REFERENCE, SMALL
from tasuki.firmware_bridge.compiler import check, reader
from tasuki.firmware_bridge.compiler.ir import Graph

DYT = {
    "FULLY_CONNECTED": 12, "RESHAPE": 8, "TRANSPOSE": 8, "MUL": 7, "ADD": 5, "TANH": 5, "BATCH_MATMUL": 4,
    "SOFTMAX": 2, "GATHER": 1, "MEAN": 1, "DEQUANTIZE": 1,
}  # fmt: skip
LAYERNORM = {
    "FULLY_CONNECTED": 12, "RESHAPE": 8, "TRANSPOSE": 8, "MUL": 17, "ADD": 15, "BATCH_MATMUL": 4, "SOFTMAX": 2,
    "GATHER": 1, "MEAN": 11, "DEQUANTIZE": 6, "NEG": 5, "QUANTIZE": 5, "SQUARED_DIFFERENCE": 5, "RSQRT": 5,
}  # fmt: skip


def read(data: bytes) -> Graph:
    (graph,) = reader.read(data, "model")
    check.check(graph)
    return graph


def macs(graph: Graph) -> int:
    """Multiply-accumulates of the dense layers and of attention."""
    total = 0
    for operator in graph.operators:
        inputs = [graph.tensors[n] for n in operator.inputs if n is not None]
        output = graph.tensors[operator.outputs[0]]
        if operator.kind in ("FULLY_CONNECTED", "BATCH_MATMUL"):
            total += output.elements * inputs[0].shape[-1]
    return total


@pytest.mark.parametrize(("name", "operators"), [("dyt", DYT), ("layernorm", LAYERNORM)])
def test_twins_have_the_reference_models_operators_and_size(name: str, operators: dict[str, int]) -> None:
    data = MODELS[name](0, REFERENCE)
    graph = read(data)
    assert Counter(o.kind for o in graph.operators) == operators
    assert macs(graph) == 13_107_200
    assert 680_000 < len(data) < 710_000
    (ids,), (out,) = ([graph.tensors[n] for n in numbers] for numbers in (graph.inputs, graph.outputs))
    assert (ids.type, ids.shape, out.type, out.shape) == (np.int32, (1, 32), np.float32, (1, 128))


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_same_bytes(name: str) -> None:
    assert MODELS[name](5, SMALL) == MODELS[name](5, SMALL)
    assert MODELS[name](5, SMALL) != MODELS[name](6, SMALL)


@pytest.mark.parametrize("shape", [SMALL, REFERENCE], ids=["small", "reference"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_spread_and_interpreters_are_near(name: str, shape: firmware_models.Shape) -> None:
    data = MODELS[name](0, shape)
    ids = firmware_models.ids(1, shape, 3)
    outputs = np.concatenate([tflm(data, [row])[0] for row in ids])
    graph = read(data)
    (before,) = (o.inputs[0] for o in graph.operators if o.outputs == graph.outputs)
    assert before is not None
    grid = graph.tensors[before].quantization
    assert grid is not None
    steps = outputs / grid.scale[0] + grid.zero[0]
    assert steps.std() > 15
    assert np.mean((steps <= -128) | (steps >= 127)) < 0.05
    assert np.mean(outputs[0] == outputs[1]) < 0.2
    reference = np.concatenate([litert_reference(data, [row])[0] for row in ids])
    assert np.abs(outputs - reference).max() / grid.scale[0] < 20
