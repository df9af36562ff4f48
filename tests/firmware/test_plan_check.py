"""The checker of memory plans: sound plans pass, and every kind of damage is found and named."""

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from firmware import host_kit
from firmware import program_kit as kit
from firmware.program_kit import ROWS, TILE, WIDTH
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.firmware_bridge.compiler import kernel_access, plan_check
from tasuki.firmware_bridge.compiler.program import Loop, Operand, Plan, Program, Step
from tasuki.firmware_bridge.emit import header


def _fails(program: Program, plan: Plan, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        plan_check.check(program, plan)


def test_a_sound_plan_passes() -> None:
    plan_check.check(kit.program(), kit.plan())


def test_every_kernel_of_the_header_is_known() -> None:
    assert set(kernel_access._KERNELS) == set(header.kernels())


def test_pointers_are_as_many_as_in_the_header() -> None:
    values = {"shape": (1,) * 6, "x_stride": (0,) * 6, "y_stride": (0,) * 6, "update": (1,) * 6, "batch": (1, 1)}
    for name, kernel in header.kernels().items():
        params = {f.name: values.get(f.name, (1, 1) if f.array else 1) for f in kernel.fields}
        found = kernel_access.access(name, params, 1)
        assert (len(found.reads), len(found.writes)) == (len(kernel.reads), len(kernel.writes)), name
        assert set(found.constants) >= {f.name for f in kernel.fields if f.pointer}, name
        assert (found.scratch > 0) == kernel.scratch, name


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_a_plan_passes_exactly_if_nothing_collides(first: int, tile: int, scratch: int) -> None:
    plan = Plan({2: 16 * first, 3: 16 * tile}, 16 * scratch, 448)
    ends = {"u": (16 * first, ROWS * WIDTH), "tile": (16 * tile, TILE * WIDTH), "scratch": (16 * scratch, 144)}
    apart = all(
        a + n <= b or b + m <= a
        for one, (a, n) in ends.items() for other, (b, m) in ends.items() if one < other
    )  # fmt: skip
    if apart:
        plan_check.check(kit.program(), plan)
    else:
        _fails(kit.program(), plan, r"share byte|overwritten|nobody has written")


def test_a_place_that_is_free_may_be_taken() -> None:
    """A later tensor stands where an earlier one was, once that has been read for the last time."""
    a, b, c = Operand(2), Operand(4), Operand(5)
    base = kit.program()
    more = (kit.buffer(4, "arena", 96), kit.buffer(5, "arena", 96))
    program = replace(base, buffers=(*base.buffers, *more))
    chain = (
        kit.lut(Operand(0), a, ROWS), kit.lut(a, b, ROWS), kit.lut(b, c, ROWS), kit.lut(c, Operand(1), ROWS)
    )  # fmt: skip
    program = kit.with_steps(program, *chain)
    plan_check.check(program, Plan({2: 0, 3: 0, 4: 96, 5: 0}, 0, 192))
    program = kit.with_steps(program, *chain[:3], kit.add(a, c, Operand(1), ROWS))
    _fails(program, Plan({2: 0, 3: 0, 4: 96, 5: 0}, 0, 192), "buffer 5 has overwritten it")


def test_rows_take_the_place_of_rows() -> None:
    """In a loop, rows of one tensor go where the same rows of another were, after these are read."""
    base = kit.program()
    program = replace(base, buffers=(*base.buffers, kit.buffer(4, "arena", 96)))
    old, new, tile = Operand(2, row=WIDTH), Operand(4, row=WIDTH), Operand(3)
    good = (kit.fc(old, tile, TILE), kit.lut(tile, new, TILE), kit.lut(new, Operand(1, row=WIDTH), TILE))
    start = kit.lut(Operand(0), Operand(2), ROWS)
    plan = Plan({2: 0, 3: 96, 4: 0}, 176, 320)
    plan_check.check(kit.with_steps(program, start, Loop(ROWS, TILE, good)), plan)
    late = (*good, kit.add(old, new, tile, TILE))
    _fails(kit.with_steps(program, start, Loop(ROWS, TILE, late)), plan, "step 1.3 .* buffer 4 has overwritten it")


def test_what_an_earlier_turn_left_is_not_taken_for_this_turns() -> None:
    base, tile = kit.program(), Operand(3)
    whole = Operand(2, row=WIDTH)
    steps = (kit.add(whole, tile, Operand(1, row=WIDTH), TILE), kit.fc(whole, tile, TILE))
    start = (kit.lut(Operand(0), Operand(2), ROWS), kit.fc(Operand(2), tile, TILE))
    program = kit.with_steps(base, *start, Loop(ROWS, TILE, steps))
    _fails(program, kit.plan(), "at row 6 reads byte 0 of buffer 3 .*: of another turn")


def test_in_place_is_only_where_the_kernel_and_the_step_say_so() -> None:
    base = kit.program()
    u = Operand(2)
    start, end = kit.lut(Operand(0), u, ROWS), kit.lut(u, Operand(1), ROWS)
    plan_check.check(kit.with_steps(base, start, kit.lut(u, u, ROWS, ((0, 0),)), end), kit.plan())
    _fails(kit.with_steps(base, start, kit.lut(u, u, ROWS), end), kit.plan(), "read 0 and write 0 share byte")
    claimed = replace(kit.fc(u, u, ROWS), overlap=((0, 0),))
    _fails(kit.with_steps(base, start, claimed, end), kit.plan(), "does not work in place for read 0")
    shifted = kit.lut(Operand(2, offset=WIDTH), u, ROWS - 1, ((0, 0),))
    _fails(kit.with_steps(base, start, shifted, end), kit.plan(), "share byte 12")


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (kit.lut(Operand(2), Operand(1), ROWS), "reads byte 0 of buffer 2 .*nobody has written it"),
        (kit.lut(Operand(0), Operand(1), ROWS + 1), "byte 96 is outside buffer 0, which has 96"),
        (kit.lut(Operand(0), Operand(1, offset=-12), ROWS), "byte -12 is outside buffer 1"),
        (kit.lut(Operand(0), Operand(0), ROWS), "share byte"),
        (kit.lut(Operand(0), Operand(10), ROWS), "writes into buffer 10 .*which is model"),
        (kit.lut(Operand(9), Operand(1), ROWS), "no buffer 9"),
        (kit.lut(Operand(0), Operand(1), ROWS - 1), "output 1: nobody writes byte 84"),
        (replace(kit.fc(Operand(0), Operand(1), ROWS), scratch=128), "scratch of 128 bytes, and the kernel takes 144"),
        (
            Step("lut_s8", {"columns": WIDTH, "lut": Operand(13)}, (Operand(0),), (Operand(1),), ROWS),
            "lut takes 256 bytes from byte 0 of buffer 13, which has 1",
        ),
        (Step("lut_s8", {"columns": WIDTH, "lut": Operand(2)}, (Operand(0),), (Operand(1),), ROWS), "no constant"),
        (Step("fft", {}, (), ()), "nothing is known"),
        (
            Step("dequantize", {"columns": 3, "from": 1, "zero": 0, "scale": 1.0}, (Operand(0),), (Operand(1),), 1),
            "byte 0 of buffer 1 is not aligned to 4",
        ),
        (kit.lut(Operand(2, row=1), Operand(1), ROWS), "nobody has written"),
        (
            Step("lut_s8", {"columns": WIDTH, "lut": Operand(14, row=1)}, (Operand(0),), (Operand(1),), ROWS),
            "lut is buffer 14, which is no constant",
        ),
        (
            Step("lut_s8", {"columns": WIDTH, "lut": Operand(14, offset=-1)}, (Operand(0),), (Operand(1),), ROWS),
            "lut takes 256 bytes from byte -1 of buffer 14",
        ),
        (
            Step("gather", {"count": 8, "row_bytes": WIDTH, "outer": 1}, (Operand(0), Operand(2, 2)), (Operand(1),), 2),
            "byte 2 of buffer 2 is not aligned to 4",
        ),
        (
            replace(kit.lut(Operand(0), Operand(1), ROWS), reads=(Operand(0), Operand(0))),
            "the kernel has 1 reads and 1 writes",
        ),
        (kit.product(y_row=0), "write 0 writes a byte twice"),
    ],
)  # fmt: skip
def test_damage_is_named(step: Step, match: str) -> None:
    _fails(kit.with_steps(kit.program(), step), kit.plan(), match)


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        (Plan({2: 0}, 176, 320), "buffer 3 has no place"),
        (Plan({2: 8, 3: 112}, 192, 336), "begins at byte 8, which 16 does not divide"),
        (Plan({2: 0, 3: 96}, 176, 160), "not inside an arena of 160"),
        (Plan({2: 0, 3: 96}, 176, 319), "scratch at bytes 176 to 320 of an arena of 319"),
        (Plan({2: 0, 3: 96}, 184, 336), "scratch at bytes 184"),
        (Plan({2: -16, 3: 96}, 176, 320), "not inside"),
    ],
)
def test_a_plan_that_can_not_be_is_named(plan: Plan, match: str) -> None:
    _fails(kit.program(), plan, match)


def test_buffers_that_can_not_be_are_named() -> None:
    base = kit.program()
    twice = replace(base, buffers=(*base.buffers, base.buffers[3]))
    _fails(twice, kit.plan(), "two buffers have the same number")
    for data in (None, np.zeros(2, np.int8)):
        other = tuple(replace(b, data=data) if b.number == 13 else b for b in base.buffers)
        _fails(replace(base, buffers=other), kit.plan(), "buffer 13 is a constant of 1 bytes, and has other data")


def test_scratch_does_not_share_one_byte() -> None:
    """With the last byte of a buffer before it, and the first byte of one behind."""
    base = kit.program()
    program = replace(base, buffers=(*base.buffers, kit.buffer(4, "arena", 97)))
    last, first = Operand(4, offset=97 - WIDTH), Operand(4)
    for place, at, scratch in ((last, 0, 96), (first, 144, 0)):
        steps = kit.lut(Operand(0), place, 1), replace(kit.fc(place, Operand(1), 1), scratch=145)
        plan = Plan({2: 0, 3: 0, 4: at}, scratch, 256)
        _fails(kit.with_steps(program, *steps), plan, "scratch and buffer 4 share bytes")


def test_scratch_spoils_what_was_there() -> None:
    spoiling = kit.fc(Operand(0), Operand(1), ROWS)
    steps = kit.lut(Operand(0), Operand(2), ROWS), spoiling, kit.lut(Operand(2), Operand(1), ROWS)
    _fails(kit.with_steps(kit.program(), *steps), Plan({2: 0, 3: 0}, 80, 224), "reads byte 80 of buffer 2 .*nobody has")


def test_what_is_written_in_part_must_be_there() -> None:
    """DYNAMIC_UPDATE_SLICE leaves the rest of its output as it was."""
    params = {"size": 1, "dimensions": 2, "shape": (ROWS, WIDTH, 1, 1, 1, 1), "update": (1, WIDTH, 1, 1, 1, 1)}
    starts = kit.lut(Operand(0), Operand(2), ROWS)
    step = Step("update_slice", params, (Operand(0), Operand(2)), (Operand(1),))
    _fails(kit.with_steps(kit.program(), starts, step), kit.plan(), "reads byte 0 of buffer 1 .*nobody has written it")
    plan_check.check(kit.with_steps(kit.program(), starts, kit.lut(Operand(0), Operand(1), ROWS), step), kit.plan())


def test_the_last_turn_has_fewer_rows() -> None:
    base = kit.program()
    loop = Loop(ROWS, TILE, (kit.lut(Operand(0, row=WIDTH), Operand(1, row=WIDTH), TILE),))
    plan_check.check(kit.with_steps(base, loop), kit.plan())
    _fails(kit.with_steps(base, replace(loop, rows=ROWS + 1)), kit.plan(), "at row 6.* byte 96 is outside buffer 0")
    odd = Loop(ROWS, TILE, (kit.lut(Operand(0), Operand(1), TILE + 1),))
    _fails(kit.with_steps(base, odd), kit.plan(), "not a multiple of the tile")
    _fails(kit.with_steps(base, Loop(0, TILE, ())), kit.plan(), "loop 0 has 0 rows")
    _fails(kit.with_steps(base, Loop(ROWS, 0, ())), kit.plan(), "loop 0 has 8 rows in tiles of 0")


def test_strides_of_a_product_are_followed() -> None:
    """Heads interleaved in rows: the second head's columns are read, and no byte beyond them."""
    params = {
        "m": 4, "n": 3, "k": 2, "batch": (2, 1), "a_batch": (2, 0), "b_batch": (6, 0), "y_batch": (3, 0), "a_row": 4,
        "a_column": 1, "b_row": 3, "b_column": 1, "y_row": 6, "y_column": 1,
    }  # fmt: skip
    found = kernel_access.access("matmul_s8", params, None)
    assert sorted(found.reads[0].bytes()) == list(range(16))
    assert sorted(found.reads[1].bytes()) == list(range(12))
    assert sorted(found.writes[0].bytes()) == list(range(24))
    assert found.reads[0].bytes()[8:12].tolist() == [2, 3, 6, 7]


def test_scratch_is_what_the_header_says() -> None:
    source = b"""#include "tsk_kernels.h"
int fc(int in);
int fc(int in) { return TSK_FC_S8_SCRATCH(in); }
int matmul(int n, int k);
int matmul(int n, int k) { return TSK_MATMUL_S8_SCRATCH(n, k); }
"""
    macros = ctypes.CDLL(str(host_kit.compile_c({"x.c": source}, "shared")))
    once = {"batch": (1, 1), **{f"{x}_{word}": (0, 0) for x in "aby" for word in ("batch",)}}
    strides = {f"{x}_{word}": 0 for x in "aby" for word in ("row", "column")}
    for n in range(1, 20):
        dense = kernel_access.access("fc_s8", {"in": n, "out": 1, "channels": 0}, 1)
        assert dense.scratch == macros.fc(n)
        for k in range(1, 20):
            product = kernel_access.access("matmul_s8", {"m": 1, "n": n, "k": k, **once, **strides}, None)
            assert product.scratch == macros.matmul(n, k)


def test_spans_have_every_byte_of_wide_elements() -> None:
    shape = {"size": 4, "shape": (1, 1, 1, 1, 2, 3), "x_stride": (0, 0, 0, 0, -3, 1), "y_stride": (0, 0, 0, 0, 1, 2)}
    found = kernel_access.access("copy", shape, None)
    assert found.reads[0].first.tolist() == [0, 4, 8, -12, -8, -4]
    assert np.array_equal(found.writes[0].bytes()[:8], [0, 1, 2, 3, 8, 9, 10, 11])


SIX = (1, 1, 1, 1)
TOUCHED = [
    # Kernel, parameters, rows; bytes of each read and write, and of constants
    ("fc_s8", {"in": 5, "out": 3, "channels": 1}, 2, (10,), (6,),
     {"weights": 15, "bias": 12, "multiplier": 12, "shift": 3, "scale": 24, "lut": 256}),
    ("fc_s8", {"in": 5, "out": 3, "channels": 0}, 2, (10,), (6,), {"multiplier": 4, "shift": 1, "scale": 8}),
    ("fc_s16", {"in": 5, "out": 3, "channels": 0}, 2, (20,), (12,), {"bias": 24}),
    ("softmax_s8", {"columns": 5}, 2, (10,), (10,), {"exponents": 1024}),
    ("softmax_s16", {"columns": 5}, 2, (20,), (20,), {"exp_lut": 1026, "reciprocal_lut": 1026}),
    ("lut_s8", {"columns": 5}, 2, (10,), (10,), {"lut": 256}),
    ("lut_s16", {"columns": 5}, 2, (20,), (20,), {"lut": 1026}),
    ("reduce_s8", {"count": 3, "inner": 5}, 2, (30,), (10,), {}),
    ("reduce_s16", {"count": 3, "inner": 5}, 2, (60,), (20,), {}),
    ("arg_s8", {"count": 3, "inner": 5}, 2, (30,), (40,), {}),
    ("gather", {"count": 7, "row_bytes": 3, "outer": 2}, 4, (42, 16), (24,), {}),
    ("update_slice", {"size": 4, "dimensions": 2, "shape": (5, 6, *SIX), "update": (2, 3, *SIX)}, None, (24, 8), (120,),
     {}),
    ("fill", {"size": 8, "count": 3}, None, (), (24,), {}),
    ("cast", {"columns": 3, "from": 0, "to": 2}, 2, (6,), (12,), {}),
    ("cast", {"columns": 3, "from": 3, "to": 1}, 2, (24,), (6,), {}),
    ("dequantize", {"columns": 3, "from": 2}, 2, (12,), (24,), {}),
    ("quantize", {"columns": 3, "to": 1}, 2, (24,), (6,), {}),
    ("cast", {"columns": 3, "from": 1, "to": 4}, 2, (6,), (24,), {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "params", "rows", "reads", "writes", "constants"),
    TOUCHED,
    ids=[f"{n}: {touched[0]}" for n, touched in enumerate(TOUCHED)],
)
def test_every_byte_that_the_header_says_is_touched(
    kernel: str, params: dict[str, Any], rows: int | None, reads: Sequence[int], writes: Sequence[int],
    constants: dict[str, int],
) -> None:  # fmt: skip
    found = kernel_access.access(kernel, params, rows)
    for spans, sizes in ((found.reads, reads), (found.writes, writes)):
        assert [sorted(span.bytes()) for span in spans] == [list(range(size)) for size in sizes]
    assert {name: found.constants[name] for name in constants} == constants


def test_in_place_is_only_with_an_operand_of_the_same_elements() -> None:
    dense, one = {"row": 3, "column": 1}, {"row": 0, "column": 0}
    names = {"condition": dense, "a": one, "b": dense}
    params = {f"{name}_{axis}": stride for name, strides in names.items() for axis, stride in strides.items()}
    assert kernel_access.access("select", {"columns": 3, "size": 4, **params}, 2).in_place == ((2, 0),)
    assert kernel_access.access("select", {"columns": 3, "size": 1, **params}, 2).in_place == ((0, 0), (2, 0))
    assert kernel_access.access("cast", {"columns": 3, "from": 1, "to": 4}, 2).in_place == ()
    assert kernel_access.access("cast", {"columns": 3, "from": 3, "to": 4}, 2).in_place == ((0, 0),)
