"""RSQRT on int16, and sums and minima of int32 ids: each goes to its kernel, and to the interpreters' bits."""

import numpy as np
import pytest
from firmware import executor, graph_kit
from firmware.graph_kit import Builder

from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.compiler.lower import lower
from tasuki.firmware_bridge.compiler.reader import read
from tasuki.firmware_bridge.emit import vectors
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.sdk.errors import ModelUnsupported


def _norm() -> bytes:
    """RMSNorm as the converter writes it: the sum of squares is a product, in int16."""
    g = Builder()
    x = g.input((6, 1, 8), "int16", 1e-4)
    power = g.op("BATCH_MATMUL", [x, x], (6, 1, 1), "int16", 3e-3, adj_y=True)
    epsilon = g.constant(np.full((1, 1, 1), 2, np.int16), 1e-3)
    sum_ = g.op("ADD", [power, epsilon], (6, 1, 1), "int16", 3e-3, pot_scale_int16=False)
    root = g.op("RSQRT", [sum_], (6, 1, 1), "int16", 3e-4)
    g.output(g.op("MUL", [x, root], (6, 1, 8), "int16", 5e-5))
    return g.build()


@pytest.mark.parametrize(("rounding", "kernel"), [("tflm", "rsqrt_s16"), ("single", "lut_s16")])
def test_a_norm_on_int16(rounding: Rounding, kernel: str) -> None:
    data = _norm()
    assert kernel in executor.kernels(lower(read(data, "norm")[0], "norm", rounding))
    x = np.random.default_rng(2).normal(0, 2000, (6, 1, 8)).astype(np.int16)
    x[0] = 0
    oracle = graph_kit.tflm if rounding == "tflm" else graph_kit.litert_reference
    np.testing.assert_array_equal(executor.outputs(data, [x], rounding)[0], oracle(data, [x])[0])


def _positions(rows: int, *offsets: int) -> bytes:
    """Rows of a table at a position and `offsets` from there."""
    g = Builder()
    added = [g.ints(*offsets), g.input((1,), "int32")]
    places = g.op("ADD", added, (len(offsets),), "int32", pot_scale_int16=False)
    table = g.constant(np.arange(2 * rows, dtype=np.int8).reshape(rows, 2), 0.1)
    g.output(g.op("GATHER", [table, places], (len(offsets), 2), "int8", 0.1, axis=0))
    return g.build()


def test_positions_look_a_table_up() -> None:
    data = _positions(7, 0, 1, 2, 3)
    graph = read(data, "places")[0]
    assert vectors.bound(graph, graph.inputs[0]) == 4
    for position in range(4):
        inputs = [np.array([position], np.int32)]
        np.testing.assert_array_equal(executor.outputs(data, inputs)[0], graph_kit.tflm(data, inputs)[0])
    assert build.generate(data).arena_bytes >= 16


def test_the_first_ids_alone_count() -> None:
    g = Builder()
    least = g.op("MINIMUM", [g.input((1, 6), "int32"), g.constant(np.ones(1, np.int32))], (1, 6), "int32")
    table = g.constant(np.array([-128, 0], np.int8), 0.1)
    g.output(g.op("GATHER", [table, least], (1, 6), "int8", 0.1, axis=0))
    data, ids = g.build(), [np.array([[5, 0, 1, 2**31 - 1, 0, 2]], np.int32)]
    (found,) = executor.outputs(data, ids)
    np.testing.assert_array_equal(found, graph_kit.tflm(data, ids)[0])
    assert found.tolist() == [[0, -128, 0, 0, -128, 0]]


@pytest.mark.parametrize("offsets", [(0, 9), (-3, 0)])
def test_ids_that_no_input_keeps_in_the_table_are_refused(offsets: tuple[int, ...]) -> None:
    with pytest.raises(ModelUnsupported, match="ids that it has not"):
        build.generate(_positions(4, *offsets))
