"""Moving data is free where strides can say it, and is copied where they can't; the bits are the same."""

import subprocess
from typing import Any

import numpy as np
import pytest
from firmware import executor, kernel_kit
from firmware.graph_kit import Builder, random_inputs, tflm

from tasuki.firmware_bridge.compiler import lower_calls, lower_products, plan_check
from tasuki.firmware_bridge.compiler.lower import lower
from tasuki.firmware_bridge.compiler.plan import plan
from tasuki.firmware_bridge.compiler.program import Program
from tasuki.firmware_bridge.compiler.reader import read

GRID: dict[str, Any] = {"scale": 0.05, "zero": 3}


def _same_bits(g: Builder, ids: int = 3) -> Program:
    data = g.build()
    program = lower(read(data, "test")[0], "test", "tflm")
    where = plan(program)
    plan_check.check(program, where)
    inputs = random_inputs(data, np.random.default_rng(0), ids)
    for got, want in zip(executor.execute(program, where, inputs), tflm(data, inputs), strict=True):
        np.testing.assert_array_equal(got, want)
    return program


def _kernels(program: Program) -> list[str]:
    return [kernel for kernel in executor.kernels(program) if kernel not in "[]"]


def _table(g: Builder, x: int, shape: tuple[int, ...]) -> int:
    """Something that computes, so that a tensor is neither input nor output."""
    return g.op("RELU", [x], shape, **GRID)


@pytest.mark.parametrize("adj_y", [False, True])
def test_attention_needs_no_transposed_copy(adj_y: bool) -> None:
    g = Builder()
    q, k, v = (g.input((5, 12), "int8", **GRID) for _ in range(3))

    def heads(x: int, order: tuple[int, ...]) -> int:
        y = g.op("RESHAPE", [x, g.ints(1, 5, 3, 4)], (1, 5, 3, 4), **GRID)
        return g.op("TRANSPOSE", [y, g.ints(*order)], tuple((1, 5, 3, 4)[i] for i in order), **GRID)

    keys = heads(k, (0, 2, 1, 3) if adj_y else (0, 2, 3, 1))
    scores = g.op("BATCH_MATMUL", [heads(q, (0, 2, 1, 3)), keys], (1, 3, 5, 5), scale=0.1, adj_y=adj_y)
    scores = g.op("SOFTMAX", [scores], (1, 3, 5, 5), scale=1 / 256, zero=-128)
    mixed = g.op("BATCH_MATMUL", [scores, heads(v, (0, 2, 1, 3))], (1, 3, 5, 4), **GRID)
    mixed = g.op("TRANSPOSE", [mixed, g.ints(0, 2, 1, 3)], (1, 5, 3, 4), **GRID)
    g.output(g.op("RESHAPE", [mixed, g.ints(5, 12)], (5, 12), **GRID))
    assert _kernels(_same_bits(g)) == ["matmul_s8", "softmax_s8", "matmul_s8"]


def test_a_transposition_that_a_dense_kernel_reads_is_copied() -> None:
    g = Builder()
    x = g.input((3, 5), "int8", **GRID)
    y = g.op("TRANSPOSE", [x, g.ints(1, 0)], (5, 3), **GRID)
    w = g.constant(np.arange(-6, 6, dtype=np.int8).reshape(4, 3), scale=0.1)
    g.output(g.op("FULLY_CONNECTED", [y, w, None], (5, 4), scale=0.2, zero=1))
    assert _kernels(_same_bits(g)) == ["copy", "fc_s8"]


def test_an_elementwise_kernel_strides_over_a_transposition() -> None:
    g = Builder()
    x, y = g.input((3, 5), "int8", **GRID), g.input((5, 3), "int8", **GRID)
    g.output(g.op("ADD", [g.op("TRANSPOSE", [x, g.ints(1, 0)], (5, 3), **GRID), y], (5, 3), scale=0.1, zero=1))
    assert _kernels(_same_bits(g)) == ["add_s8"]


def test_parts_are_read_where_they_are() -> None:
    g = Builder()
    x = g.input((4, 6), "int8", **GRID)
    a, b = g.tensor((4, 3), "int8", **GRID), g.tensor((4, 3), "int8", **GRID)
    g.add("SPLIT", [g.ints(1), x], [a, b], num_splits=2)
    c = g.op("SLICE", [x, g.ints(1, 2), g.ints(2, 3)], (2, 3), **GRID)
    d = g.op("STRIDED_SLICE", [x, g.ints(3, 5), g.ints(0, 0), g.ints(-2, -2)], (2, 3), **GRID)
    e = g.op("STRIDED_SLICE", [x, g.ints(1, 0), g.ints(2, 3), g.ints(1, 1)], (3,), **GRID, shrink_axis_mask=1)
    g.output(g.op("ADD", [a, b], (4, 3), scale=0.1), g.op("MUL", [c, d], (2, 3), scale=0.1))
    g.output(g.op("SUB", [c, e], (2, 3), scale=0.1))
    assert sorted(_kernels(_same_bits(g))) == ["add_s8", "add_s8", "mul_s8"]


@pytest.mark.parametrize(("axis", "copies"), [(0, 1), (1, 2)])
def test_what_is_joined_along_the_first_axis_is_written_there(axis: int, copies: int) -> None:
    """A graph's input has its own place, and so is always copied."""
    g = Builder()
    x, y = g.input((2, 3), "int8", **GRID), g.input((2, 3), "int8", **GRID)
    shape = (4, 3) if axis == 0 else (2, 6)
    g.output(g.op("CONCATENATION", [_table(g, x, (2, 3)), y], shape, **GRID, axis=axis))
    assert _kernels(_same_bits(g)).count("copy") == copies


def test_products_are_written_into_the_columns_of_what_joins_them() -> None:
    g = Builder()
    a, b = g.input((4, 6), "int8", **GRID), g.input((6, 3), "int8", **GRID)
    parts = [g.op("BATCH_MATMUL", [a, b], (4, 3), **GRID) for _ in range(2)]
    g.output(g.op("CONCATENATION", parts, (4, 6), **GRID, axis=1))
    assert _kernels(_same_bits(g)) == ["matmul_s8", "matmul_s8"]


def test_what_is_joined_twice_is_copied() -> None:
    g = Builder()
    y = _table(g, g.input((2, 3), "int8", **GRID), (2, 3))
    g.output(g.op("CONCATENATION", [y, y], (4, 3), **GRID, axis=0))
    assert _kernels(_same_bits(g)) == ["lut_s8", "copy", "copy"]


def test_padding_fills_and_copies() -> None:
    g = Builder()
    x = g.input((2, 3), "int8", **GRID)
    pads = g.constant(np.array([[1, 0], [2, 1]], np.int32))
    value = g.constant(np.array([-9], np.int8), **GRID)
    g.output(g.op("PAD", [x, pads], (3, 6), **GRID), g.op("PADV2", [x, pads, value], (3, 6), **GRID))
    assert _kernels(_same_bits(g)) == ["fill", "copy", "fill", "copy"]


def test_an_update_goes_into_a_copy() -> None:
    g = Builder()
    cache, new, at = g.input((4, 3), "int8", **GRID), g.input((1, 3), "int8", **GRID), g.input((2,), "int32")
    g.output(g.op("DYNAMIC_UPDATE_SLICE", [cache, new, at], (4, 3), **GRID))
    assert _kernels(_same_bits(g)) == ["copy", "update_slice"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rows_are_gathered_along_any_axis(axis: int) -> None:
    g = Builder()
    table = g.constant(np.arange(60, dtype=np.int8).reshape(3, 5, 4), **GRID)
    ids = g.input((2,), "int32")
    shape = tuple(2 if a == axis else n for a, n in enumerate((3, 5, 4)))
    g.output(_table(g, g.op("GATHER", [table, ids], shape, **GRID, axis=axis), shape))
    assert _kernels(_same_bits(g)) == ["gather", "lut_s8"]


def test_more_axes_than_a_kernel_has_are_a_loop_or_a_copy() -> None:
    g = Builder()
    x = g.input((2, 3, 4, 5), "int8", **GRID)
    a, b = g.input((3, 1, 5), "int8", **GRID), g.input((2, 1, 4, 1), "int8", **GRID)
    g.output(g.op("ADD", [x, a], (2, 3, 4, 5), scale=0.1), g.op("MUL", [x, b], (2, 3, 4, 5), scale=0.1))
    g.output(g.op("SUB", [a, b], (2, 3, 4, 5), scale=0.1))
    program = _same_bits(g)
    assert _kernels(program).count("copy") <= 4
    assert {"add_s8", "mul_s8"} <= set(_kernels(program))


def test_batches_that_broadcast_are_strides() -> None:
    g = Builder()
    a, b = g.input((2, 3, 4, 5), "int8", **GRID), g.input((3, 5, 2), "int8", **GRID)
    g.output(g.op("BATCH_MATMUL", [a, b], (2, 3, 4, 2), scale=0.2))
    assert _kernels(_same_bits(g)) == ["matmul_s8"]


def test_numbers_of_the_header_are_the_headers() -> None:
    """The compiler's copies of TSK_ROWS, TSK_MAX_DIMENSIONS and the sizes of scratch, asked of a C compiler."""
    asked = {"TSK_ROWS": lower_calls.ROWS, "TSK_MAX_DIMENSIONS": lower_calls.DIMENSIONS}
    asked |= {f"TSK_FC_S8_SCRATCH({n})": lower_products.fc_scratch(n) for n in (1, 4, 127, 128)}
    asked |= {
        f"TSK_MATMUL_S8_SCRATCH({n}, {k})": lower_products.matmul_scratch(n, k) for n in (1, 32) for k in (1, 8, 33)
    }
    lines = "".join(f"char is_{i}[({what}) == {value} ? 1 : -1];\n" for i, (what, value) in enumerate(asked.items()))
    command = ["gcc", "-std=c99", "-fsyntax-only", *kernel_kit.includes(), "-x", "c", "-"]
    subprocess.run(command, input=f'#include "tsk_kernels.h"\n{lines}', text=True, check=True)
