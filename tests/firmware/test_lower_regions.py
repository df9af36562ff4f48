"""Loops over a few rows, or over heads: only what must be whole is whole, and the bits are the same."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from firmware import executor
from firmware.graph_kit import Builder, random_inputs, tflm
from numpy.typing import NDArray

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge.compiler import plan_check
from tasuki.firmware_bridge.compiler.lower import lower
from tasuki.firmware_bridge.compiler.plan import plan
from tasuki.firmware_bridge.compiler.program import Loop, Plan, Program
from tasuki.firmware_bridge.compiler.reader import read

GRID: dict[str, Any] = {"scale": 0.05, "zero": 3}


def _same_bits(data: bytes, inputs: Sequence[NDArray[Any]] | None = None) -> tuple[Program, Plan]:
    program = lower(read(data, "test")[0], "test", "tflm")
    where = plan(program)
    plan_check.check(program, where)
    given = random_inputs(data, np.random.default_rng(0)) if inputs is None else inputs
    for got, want in zip(executor.execute(program, where, given), tflm(data, given), strict=True):
        np.testing.assert_array_equal(got, want)
    return program, where


def _dense(g: Builder, x: int, wide: int, out: int, rows: int) -> int:
    rng = np.random.default_rng(wide + out)
    w = g.constant(rng.integers(-127, 128, (out, wide)).astype(np.int8), scale=0.002)
    return g.op("FULLY_CONNECTED", [x, w, None], (rows, out), **GRID)


def _feed_forward(rows: int, wide: int, inner: int) -> bytes:
    g = Builder()
    x = g.input((rows, wide), "int8", **GRID)
    y = g.op("RELU", [_dense(g, x, wide, inner, rows)], (rows, inner), **GRID)
    y = _dense(g, y, inner, wide, rows)
    g.output(g.op("SUB", [x, y], (rows, wide), scale=0.1, zero=1))
    return g.build()


@pytest.mark.parametrize("rows", [7, 12, 13, 32])
def test_the_hidden_state_is_never_whole(rows: int) -> None:
    program, where = _same_bits(_feed_forward(rows, 16, 200))
    (loop,) = (part for part in program.body if isinstance(part, Loop))
    assert (loop.rows, loop.tile) == (rows, 6)
    assert [step.kernel for step in loop.steps[:2]] == ["fc_s8", "fc_s8"]
    # A tile of the hidden state, scratch of the second product, and what leaves it.
    assert where.arena <= 6 * 200 + 2 * 6 * 200 + rows * 16 + 64


def test_few_rows_need_no_loop() -> None:
    program, _ = _same_bits(_feed_forward(6, 16, 64))
    assert executor.kernels(program) == ["fc_s8", "fc_s8", "add_s8"]


def test_rows_that_others_read_are_whole() -> None:
    g = Builder()
    x = g.input((16, 8), "int8", **GRID)
    hidden = _dense(g, x, 8, 64, 16)
    y = _dense(g, hidden, 64, 8, 16)
    mean = g.op("MEAN", [hidden, g.ints(0)], (64,), scale=0.01, zero=0)
    g.output(y, mean)
    program, _ = _same_bits(g.build())
    assert max(b.bytes for b in program.buffers if b.place == "arena") == 16 * 64


def test_heads_are_done_one_by_one_and_their_scores_are_of_one_head() -> None:
    shape = replace(firmware_models.SMALL, tokens=40, heads=4)
    data = firmware_models.dyt(3, shape)
    program, _ = _same_bits(data, list(firmware_models.ids(1, shape)))
    loops = [part for part in program.body if isinstance(part, Loop) and part.steps[0].kernel == "matmul_s8"]
    assert [(loop.rows, loop.tile) for loop in loops] == [(4, 1)] * 2
    assert [step.kernel for step in loops[0].steps] == ["matmul_s8", "softmax_s8", "matmul_s8"]
    scores = loops[0].steps[0].writes[0]
    assert (program.buffers[scores.buffer].bytes, scores.row) == (40 * 40, 0)


def test_a_head_takes_the_place_of_its_query() -> None:
    """Three projections, one residual and one head's scores are alive: the result needs no place of its own."""
    shape = replace(firmware_models.SMALL, tokens=40, heads=4)
    program, where = _same_bits(firmware_models.dyt(3, shape), list(firmware_models.ids(1, shape)))
    scratch = max(step.scratch for part in program.body if isinstance(part, Loop) for step in part.steps)
    assert where.arena <= 4 * 40 * 16 + 40 * 40 + scratch + 64


def test_a_decoder_joins_the_cache_of_one_head_at_a_time() -> None:
    """Keys and values of 63 tokens and the new ones: neither joined cache (4 heads, 64 tokens, 8) is ever whole."""
    g = Builder()
    query, *new = (g.input((1, 4, 1, 8), "int8", **GRID) for _ in range(3))
    caches = [g.input((1, 4, 63, 8), "int8", **GRID) for _ in range(2)]
    keys, values = (
        g.op("CONCATENATION", [cache, one], (1, 4, 64, 8), **GRID, axis=2)
        for cache, one in zip(caches, new, strict=True)
    )
    scores = g.op("BATCH_MATMUL", [query, keys], (1, 4, 1, 64), scale=0.1, adj_y=True)
    mask = g.input((1, 1, 1, 64), "int8", scale=0.1)
    scores = g.op("ADD", [scores, mask], (1, 4, 1, 64), scale=0.2)
    shares = g.op("SOFTMAX", [scores], (1, 4, 1, 64), scale=1 / 256, zero=-128)
    g.output(g.op("BATCH_MATMUL", [shares, values], (1, 4, 1, 8), **GRID))
    program, where = _same_bits(g.build())
    scratch = max(step.scratch for part in program.body if isinstance(part, Loop) for step in part.steps)
    assert where.arena <= 64 * 8 + 4 * 64 + scratch
    assert executor.kernels(program).count("copy") == 4


def test_a_residual_sum_is_in_place() -> None:
    g = Builder()
    x = g.op("RELU", [g.input((20, 16), "int8", **GRID)], (20, 16), **GRID)
    for _ in range(3):
        y = g.op("TANH", [x], (20, 16), scale=1 / 128)
        x = g.op("ADD", [x, _dense(g, y, 16, 16, 20)], (20, 16), **GRID)
    g.output(g.op("MEAN", [x, g.ints(0)], (16,), **GRID))
    program, where = _same_bits(g.build())
    scratch = max(step.scratch for part in program.body for step in (part.steps if isinstance(part, Loop) else (part,)))
    # One sum, and what is added to it: tiles of the table's and the product's results.
    assert where.arena <= 20 * 16 + 2 * 6 * 16 + scratch + 32
    assert program.shared


def test_rows_of_other_shapes_meet_if_their_parts_are_the_same() -> None:
    """A reshape to (rows, heads, width of a head) between row-wise operators does not end the loop."""
    g = Builder()
    x = g.input((12, 32), "int8", **GRID)
    y = g.op("RESHAPE", [_dense(g, x, 32, 64, 12), g.ints(12, 4, 16)], (12, 4, 16), **GRID)
    y = g.op("SOFTMAX", [y], (12, 4, 16), scale=1 / 256, zero=-128)
    y = g.op("RESHAPE", [y, g.ints(12, 64)], (12, 64), scale=1 / 256, zero=-128)
    g.output(_dense(g, y, 64, 8, 12))
    program, _ = _same_bits(g.build())
    assert executor.kernels(program) == ["[", "fc_s8", "softmax_s8", "fc_s8", "]"]
    assert program.body[0].steps[1].rows == 24


def test_reading_another_row_ends_the_loop() -> None:
    """Row r of the sum needs row 11 - r of the product, so the product must be whole before."""
    g = Builder()
    x = g.input((12, 16), "int8", **GRID)
    y = _dense(g, x, 16, 16, 12)
    z = g.op("STRIDED_SLICE", [y, g.ints(11, 0), g.ints(-13, 16), g.ints(-1, 1)], (12, 16), **GRID)
    g.output(_dense(g, g.op("ADD", [y, z], (12, 16), scale=0.1, zero=0), 16, 4, 12))
    program, _ = _same_bits(g.build())
    assert not any(
        isinstance(part, Loop) and {"fc_s8", "add_s8"} <= {s.kernel for s in part.steps[:2]} for part in program.body
    )


def test_a_wrong_plan_gives_wrong_bits() -> None:
    """The executor is a test: whatever two buffers of one step are laid over each other, the result differs."""
    data = _feed_forward(13, 16, 200)
    program, where = _same_bits(data)
    inputs = random_inputs(data, np.random.default_rng(0))
    right = executor.execute(program, where, inputs)
    assert len(where.offsets) > 1
    for number in where.offsets:
        for other, offset in where.offsets.items():
            if number < other:
                wrong = replace(where, offsets={**where.offsets, number: offset}, arena=2 * where.arena)
                got = executor.execute(program, wrong, inputs)
                assert not all(np.array_equal(a, b) for a, b in zip(got, right, strict=True))


def test_the_same_graph_gives_the_same_program() -> None:
    data = firmware_models.layernorm(1, firmware_models.SMALL)
    first, second = (lower(read(data, "test")[0], "test", "tflm") for _ in range(2))
    assert repr(first.body) == repr(second.body)
    assert plan(first) == plan(second)
    assert first.notes == second.notes
