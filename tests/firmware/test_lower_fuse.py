"""Folding, tables for unary chains, and computing before repeating: what is left, and that it gives the same bits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from firmware import executor
from firmware.graph_kit import Builder, litert_reference, random_inputs, tflm
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.fuse import fuse
from tasuki.firmware_bridge.compiler.lower import lower
from tasuki.firmware_bridge.compiler.plan import plan
from tasuki.firmware_bridge.compiler.program import Program
from tasuki.firmware_bridge.compiler.reader import read
from tasuki.sdk.errors import ModelUnsupported

TANH = {"scale": 1 / 128, "zero": 0}
LOGISTIC = {"scale": 1 / 256, "zero": -128}


def _same_bits(data: bytes, inputs: Sequence[NDArray[Any]] | None = None) -> Program:
    """Runs the program against TensorFlow Lite Micro, and returns it."""
    program = lower(read(data, "test")[0], "test", "tflm")
    given = random_inputs(data, np.random.default_rng(0)) if inputs is None else inputs
    for got, want in zip(executor.execute(program, plan(program), given), tflm(data, given), strict=True):
        np.testing.assert_array_equal(got, want)
    return program


def _scalar(g: Builder, value: int, shape: tuple[int, ...] = ()) -> int:
    return g.constant(np.full(shape, value, np.int8), scale=0.01, zero=-5)


def _dense(g: Builder, x: int, wide: int, out: int, rows: int = 3, seed: int = 1) -> int:
    weights = np.random.default_rng(seed).integers(-127, 128, (out, wide)).astype(np.int8)
    w = g.constant(weights, scale=0.01)
    return g.op("FULLY_CONNECTED", [x, w, None], (rows, out), scale=0.05, zero=4)


def test_a_chain_is_one_table() -> None:
    g = Builder()
    x = g.input((4, 9), "int8", scale=0.05, zero=3)
    y = g.op("MUL", [x, _scalar(g, 90)], (4, 9), scale=0.04, zero=-3)
    y = g.op("ADD", [_scalar(g, 40, (9,)), y], (4, 9), scale=0.06, zero=1)
    y = g.op("TANH", [y], (4, 9), **TANH)
    g.output(g.op("QUANTIZE", [y], (4, 9), scale=0.02, zero=9))
    program = _same_bits(g.build(), [np.arange(-128, -92, dtype=np.int8).reshape(4, 9)])
    assert executor.kernels(program) == ["lut_s8"]
    assert program.body[0].source == (0, 1, 2, 3)


def test_a_product_with_a_function_of_itself_is_one_table() -> None:
    g = Builder()
    x = g.input((2, 128), "int8", scale=0.05, zero=3)
    gate = g.op("LOGISTIC", [x], (2, 128), **LOGISTIC)
    g.output(g.op("MUL", [x, gate], (2, 128), scale=0.03, zero=-100))
    every = np.arange(-128, 128, dtype=np.int8).reshape(2, 128)
    assert executor.kernels(_same_bits(g.build(), [every])) == ["lut_s8"]


def test_a_float_between_grids_goes_into_the_table() -> None:
    g = Builder()
    x = g.input((2, 128), "int8", scale=0.05, zero=3)
    y = g.op("DEQUANTIZE", [x], (2, 128), "float32")
    y = g.op("NEG", [y], (2, 128), "float32")
    g.output(g.op("QUANTIZE", [y], (2, 128), scale=0.05, zero=-2))
    every = np.arange(-128, 128, dtype=np.int8).reshape(2, 128)
    assert executor.kernels(_same_bits(g.build(), [every])) == ["lut_s8"]


def test_a_float_that_is_wanted_is_made_as_well() -> None:
    g = Builder()
    x = g.input((3, 5), "int8", scale=0.05, zero=3)
    middle = g.op("DEQUANTIZE", [x], (3, 5), "float32")
    y = g.op("NEG", [middle], (3, 5), "float32")
    g.output(y, g.op("QUANTIZE", [y], (3, 5), scale=0.05, zero=-2))
    assert sorted(executor.kernels(_same_bits(g.build()))) == ["dequantize", "lut_s8"]


def test_a_negation_of_other_floats_is_refused() -> None:
    g = Builder()
    g.output(g.op("NEG", [g.input((3,), "float32")], (3,), "float32"))
    with pytest.raises(ModelUnsupported, match=r"NEG \(tensor 1, 't1'\) .* DEQUANTIZE"):
        lower(read(g.build(), "test")[0], "test", "tflm")


def test_a_tensor_between_that_somebody_reads_is_made_and_begins_the_next_table() -> None:
    g = Builder()
    x = g.input((3, 8), "int8", scale=0.05, zero=3)
    middle = g.op("TANH", [x], (3, 8), **TANH)
    g.output(_dense(g, middle, 8, 4), g.op("MUL", [middle, _scalar(g, 70)], (3, 8), scale=0.01, zero=0))
    program = _same_bits(g.build())
    assert sorted(executor.kernels(program)) == ["fc_s8", "lut_s8", "lut_s8"]


def test_two_functions_of_one_tensor_are_two_tables_and_equal_tables_are_stored_once() -> None:
    g = Builder()
    x = g.input((3, 8), "int8", scale=0.05, zero=3)
    a, b, c = (
        g.op(kind, [x], (3, 8), **grid) for kind, grid in (("TANH", TANH), ("LOGISTIC", LOGISTIC), ("TANH", TANH))
    )
    g.output(a, b, c)
    program = _same_bits(g.build())
    assert executor.kernels(program) == ["lut_s8"] * 3
    assert sum(buffer.place == "table" for buffer in program.buffers) == 2


def test_a_function_of_two_tensors_is_no_table() -> None:
    g = Builder()
    x, y = (g.input((3, 8), "int8", scale=0.05, zero=zero) for zero in (3, 4))
    g.output(g.op("ADD", [g.op("TANH", [x], (3, 8), **TANH), y], (3, 8), scale=0.06, zero=1))
    assert executor.kernels(_same_bits(g.build())) == ["lut_s8", "add_s8"]


def test_a_constant_that_is_not_equal_everywhere_is_no_table() -> None:
    g = Builder()
    x = g.input((3, 8), "int8", scale=0.05, zero=3)
    row = g.constant(np.arange(8, dtype=np.int8), scale=0.02, zero=0)
    g.output(g.op("MUL", [x, row], (3, 8), scale=0.06, zero=1))
    assert executor.kernels(_same_bits(g.build())) == ["mul_s8"]


@pytest.mark.parametrize("readers", [1, 2])
def test_a_table_moves_into_the_product_it_alone_reads(readers: int) -> None:
    g = Builder()
    x = g.input((3, 8), "int8", scale=0.05, zero=3)
    y = _dense(g, x, 8, 6)
    g.output(g.op("TANH", [y], (3, 6), **TANH), *([y] if readers == 2 else []))
    program = _same_bits(g.build())
    assert executor.kernels(program) == (["fc_s8"] if readers == 1 else ["fc_s8", "lut_s8"])
    assert (program.body[0].params["lut"] is None) == (readers == 2)


def test_gelu_is_a_table_in_the_product_for_either_rounding() -> None:
    """TensorFlow Lite Micro has no GELU."""
    g = Builder()
    x = g.input((3, 8), "int8", scale=0.05, zero=3)
    g.output(g.op("GELU", [_dense(g, x, 8, 6)], (3, 6), scale=0.04, zero=-120))
    data = g.build()
    program = lower(read(data, "test")[0], "test", "single")
    inputs = random_inputs(data, np.random.default_rng(0))
    (got,), (want,) = executor.execute(program, plan(program), inputs), litert_reference(data, inputs)
    assert executor.kernels(program) == ["fc_s8"]
    np.testing.assert_array_equal(got, want)


def test_constants_are_folded_and_the_dead_is_left_out() -> None:
    g = Builder()
    x = g.input((2, 4), "int8", scale=0.05, zero=3)
    ids, table = g.constant(np.array([2, 0], np.int32)), g.constant(np.eye(4, dtype=np.int8), scale=0.1, zero=1)
    rows = g.op("GATHER", [table, ids], (2, 4), scale=0.1, zero=1, axis=0)
    g.op("TANH", [x], (2, 4), **TANH)
    g.output(g.op("ADD", [x, rows], (2, 4), scale=0.11, zero=0))
    assert executor.kernels(_same_bits(g.build())) == ["add_s8"]


def test_a_constant_id_that_the_table_does_not_have_is_refused() -> None:
    g = Builder()
    ids, table = g.constant(np.array([4], np.int32)), g.constant(np.eye(4, dtype=np.int8), scale=0.1, zero=1)
    g.output(g.op("GATHER", [table, ids], (1, 4), scale=0.1, zero=1, axis=0))
    with pytest.raises(ModelUnsupported, match=r"GATHER \(tensor 2\) of constants: ids must be 0 to 3, not 4"):
        lower(read(g.build(), "test")[0], "test", "tflm")


def test_an_output_that_is_an_input_or_a_constant_or_twice_there_is_copied() -> None:
    g = Builder()
    x = g.input((2, 4), "int8", scale=0.05, zero=3)
    y = g.op("TANH", [x], (2, 4), **TANH)
    g.output(x, y, g.op("RESHAPE", [y, g.ints(8)], (8,), **TANH), g.constant(np.arange(5, dtype=np.int8), scale=0.1))
    data = g.build()
    program = lower(read(data, "test")[0], "test", "tflm")
    inputs = random_inputs(data, np.random.default_rng(0))
    got = executor.execute(program, plan(program), inputs)
    assert executor.kernels(program).count("copy") == 3
    assert [a.shape for a in got] == [(2, 4), (2, 4), (8,), (5,)]
    np.testing.assert_array_equal(got[0], inputs[0])
    np.testing.assert_array_equal(got[1].ravel(), got[2])
    np.testing.assert_array_equal(got[3], np.arange(5))


def test_what_is_equal_along_an_axis_is_computed_once() -> None:
    """RMSNorm's ``x * (rsqrt(mean) * gain)`` with equal gains: the inner product is one number a row."""
    g = Builder()
    x = g.input((1, 4, 8), "int8", scale=0.05, zero=3)
    mean = g.op("MEAN", [x, g.ints(2)], (1, 4, 1), scale=0.02, zero=-128, keep_dims=True)
    root = g.op("RSQRT", [mean], (1, 4, 1), scale=0.1, zero=-128)
    gain = g.constant(np.full((1, 1, 8), 100, np.int8), scale=0.01)
    factor = g.op("MUL", [root, gain], (1, 4, 8), scale=0.08, zero=-128)
    g.output(g.op("MUL", [x, factor], (1, 4, 8), scale=0.5, zero=-7))
    program = _same_bits(g.build())
    assert executor.kernels(program) == ["reduce_s8", "lut_s8", "mul_s8"]
    assert "1 result computed once instead of along a whole axis" in program.notes


def test_what_is_equal_along_an_axis_is_whole_where_a_product_reads_it() -> None:
    g = Builder()
    x = g.input((3, 1), "int8", scale=0.05, zero=3)
    y = g.op("MUL", [x, _scalar(g, 100, (8,))], (3, 8), scale=0.08, zero=-128)
    g.output(_dense(g, y, 8, 4))
    assert executor.kernels(_same_bits(g.build())) == ["mul_s8", "fc_s8"]


def test_sources_are_the_operators_places() -> None:
    g = Builder()
    x = g.input((3, 8), "int8", scale=0.05, zero=3)
    y = g.op("TANH", [_dense(g, x, 8, 6)], (3, 6), **TANH)
    g.output(y, g.op("ADD", [y, y], (3, 6), scale=0.02, zero=0))
    nodes = fuse(read(g.build(), "test")[0], "tflm")
    assert [(node.kind, node.source) for node in nodes] == [("FULLY_CONNECTED", (0, 1)), ("TABLE", (2,))]
