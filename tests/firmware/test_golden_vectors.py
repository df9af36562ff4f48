"""Golden vectors: always the same, inside every table, and cheap in flash."""

import numpy as np
from firmware import graph_kit

from tasuki.firmware_bridge.compiler import reader
from tasuki.firmware_bridge.compiler.ir import Graph
from tasuki.firmware_bridge.emit import vectors


def _graph() -> Graph:
    """Ids look up a table of 7 rows, and through RESHAPE one of 5; `big` and `other` are large; `plain` is a count."""
    g = graph_kit.Builder()
    rng = np.random.default_rng(0)
    ids = g.input((1, 4), "int32")
    seven = g.constant(rng.integers(-128, 128, (7, 8)).astype(np.int8), scale=0.1, zero=0)
    five = g.constant(rng.integers(-128, 128, (5, 8)).astype(np.int8), scale=0.1, zero=0)
    first = g.op("GATHER", [seven, ids], (1, 4, 8), "int8", scale=0.1, zero=0)
    flat = g.op("RESHAPE", [ids, g.ints(4)], (4,), "int32")
    second = g.op("GATHER", [five, flat], (4, 8), "int8", scale=0.1, zero=0)
    g.output(g.op("ADD", [first, second], (1, 4, 8), "int8", scale=0.2, zero=0))
    big, other = (g.input((40, 50), "int8", scale=0.1, zero=0) for _ in range(2))
    g.output(g.op("ADD", [big, other], (40, 50), "int8", scale=0.2, zero=0))
    plain = g.input((3,), "int32")
    g.output(g.op("CAST", [plain], (3,), "float32"))
    return reader.read(g.build(), "test")[0]


def test_ids_are_in_the_smallest_table_that_they_reach() -> None:
    graph = _graph()
    assert vectors.bound(graph, graph.inputs[0]) == 5
    assert vectors.bound(graph, graph.inputs[3]) is None
    rng = np.random.default_rng(1)
    drawn = np.concatenate([vectors.random_inputs(graph, rng)[0].ravel() for _ in range(50)])
    assert set(drawn.tolist()) == set(range(5))


def test_the_same_seed_gives_the_same_vectors() -> None:
    graph = _graph()
    first, second, other = (vectors.make(graph, "tflm", 2, seed) for seed in (3, 3, 4))
    for one, same, new in zip(first, second, other, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.inputs, same.inputs, strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(one.outputs, same.outputs, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(one.inputs, new.inputs, strict=True))
    assert not np.array_equal(first[0].inputs[0], first[1].inputs[0])


def test_large_inputs_are_equal_so_that_they_stand_in_flash_once() -> None:
    first, second = vectors.make(_graph(), "tflm", 2, 0)
    large = [first.inputs[1], first.inputs[2], second.inputs[1], second.inputs[2]]
    assert all(np.array_equal(large[0], array) for array in large)
    assert len(np.unique(large[0])) > 200


def test_outputs_are_those_of_the_interpreter() -> None:
    g = graph_kit.Builder()
    x = g.input((1, 4), "int8", scale=0.05, zero=3)
    g.output(g.op("TANH", [x], (1, 4), "int8", scale=1 / 128, zero=0))
    data = g.build()
    for vector in vectors.make(reader.read(data, "test")[0], "tflm", 3, 0):
        assert np.array_equal(vector.outputs[0], graph_kit.tflm(data, vector.inputs)[0])


def test_each_type_has_its_range() -> None:
    g = graph_kit.Builder()
    condition = g.input((200,), "bool")
    a, b = (g.input((200,), "int16", scale=0.1, zero=0) for _ in range(2))
    real = g.input((200,), "float32")
    g.output(g.op("SELECT_V2", [condition, a, b], (200,), "int16", scale=0.1, zero=0))
    g.output(g.op("QUANTIZE", [real], (200,), "int8", scale=0.05, zero=0))
    graph = reader.read(g.build(), "test")[0]
    flags, wide, _, floats = vectors.random_inputs(graph, np.random.default_rng(0))
    assert set(flags.tolist()) == {True, False}
    assert wide.min() < -30000
    assert wide.max() > 30000
    assert floats.dtype == np.float32
    assert 0.8 < floats.std() < 1.2
