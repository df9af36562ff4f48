"""Kernels that move elements, against NumPy's views, and the interpreters' GATHER and DYNAMIC_UPDATE_SLICE."""

from typing import Any, TypeAlias

import numpy as np
import pytest
from firmware.graph_kit import Builder
from firmware.kernel_kit import At, call
from firmware.kernel_ops import expect, same
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

_TYPES = (np.int8, np.int16, np.int32, np.int64)
E_INDEX = -2
# An element's type, a shape, an order of its axes, a slice of each, and the axis that is joined.
Drawn: TypeAlias = tuple[int, tuple[int, ...], tuple[int, ...], tuple[slice, ...], int]


def copy(target: NDArray[Any], target_base: NDArray[Any], source: NDArray[Any], source_base: NDArray[Any]) -> None:
    """tsk_copy from one view into another of the same shape; a base is the whole memory that its view looks at."""
    size = source.itemsize
    lead = 6 - source.ndim

    def strides(view: NDArray[Any]) -> tuple[int, ...]:
        return (*(0 for _ in range(lead)), *(stride // size for stride in view.strides))

    def first(view: NDArray[Any], base: NDArray[Any]) -> At:
        return At(base, (view.ctypes.data - base.ctypes.data) // size)

    shape = (*(1 for _ in range(lead)), *source.shape)
    params = {"size": size, "shape": shape, "x_stride": strides(source), "y_stride": strides(target)}
    call("copy", params, [first(source, source_base)], [first(target, target_base)])


def _memory(kind: type, size: int, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(-100, 100, size).astype(kind)


@st.composite
def views(draw: st.DrawFn) -> Drawn:
    """What `check_copy` takes."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=5)))
    order = tuple(draw(st.permutations(range(len(shape)))))
    cuts = []
    for size in shape:
        start, step = draw(st.integers(0, size - 1)), draw(st.sampled_from([1, 1, 2, -1, -2]))
        cuts.append(slice(start, None, step))
    return draw(st.integers(0, 3)), shape, order, tuple(cuts), draw(st.integers(0, len(shape) - 1))


@settings(deadline=None)  # the first example waits for the compiler
@given(views())
def test_copy_is_numpys_assignment(drawn: Drawn) -> None:
    check_copy(drawn)


def check_copy(drawn: Drawn) -> None:
    """Copies a sliced and transposed view into a part of longer memory."""
    kind, shape, order, cuts, axis = drawn
    base = _memory(_TYPES[kind], int(np.prod(shape)))
    source = base.reshape(shape)[cuts].transpose(order)
    # The target is a part of something longer along one axis, as in CONCATENATION.
    longer = list(source.shape)
    longer[axis] += 3
    room = np.full(int(np.prod(longer)), 99, base.dtype)
    wanted = room.copy()
    place = (*(slice(None) for _ in range(axis)), slice(2, 2 + source.shape[axis]))
    wanted.reshape(longer)[place] = source
    copy(room.reshape(longer)[place], room, source, base)
    same(room, wanted)


@pytest.mark.parametrize("kind", _TYPES)
def test_copy_repeats_and_takes_one(kind: type) -> None:
    base = _memory(kind, 5)
    room = np.zeros(60, kind)
    copy(room.reshape(4, 3, 5), room, np.broadcast_to(base, (4, 3, 5)), base)
    same(room, np.tile(base, 12))
    one = np.zeros(1, kind)
    copy(one, one, base[3:4], base)
    assert one[0] == base[3]


@pytest.mark.parametrize("kind", _TYPES)
@pytest.mark.parametrize("value", [0, -1, 3, -128])
def test_fill(kind: type, value: int) -> None:
    y = np.full(11, 55, kind)
    call("fill", {"size": y.itemsize, "count": 9, "value": value}, [], [At(y, 1)])
    assert y.tolist() == [55, *[value] * 9, 55]


@pytest.mark.parametrize("outer", [1, 3])
@pytest.mark.parametrize("row_bytes", [1, 5, 128])
def test_gather(outer: int, row_bytes: int) -> None:
    table = _memory(np.int8, outer * 9 * row_bytes).reshape(outer, 9, row_bytes)
    ids = np.array([8, 0, 3, 3], np.int32)
    y = np.zeros((outer, 4, row_bytes), np.int8)
    params = {"count": 9, "row_bytes": row_bytes, "outer": outer}
    assert call("gather", params, [table, ids], [y], 4) == 0
    g = Builder()
    source = g.constant(table, 0.1)
    g.output(g.op("GATHER", [source, g.input((4,), "int32")], y.shape, "int8", 0.1, axis=1, batch_dims=0))
    same(y, expect(g, "tflm", [ids]))


@pytest.mark.parametrize("wrong", [-1, 9, 2**31 - 1, -(2**31)])
def test_gather_refuses_an_id_outside(wrong: int) -> None:
    table = _memory(np.int8, 36).reshape(9, 4)
    y = np.zeros((3, 4), np.int8)
    params = {"count": 9, "row_bytes": 4, "outer": 1}
    assert call("gather", params, [table, np.array([1, wrong, 2], np.int32)], [y], 3) == E_INDEX
    same(y, np.stack([table[1], np.zeros(4, np.int8), np.zeros(4, np.int8)]))


@pytest.mark.parametrize("start", [(0, 0, 0), (1, 2, 1), (-5, 3, 100), (2, -1, 0)])
@pytest.mark.parametrize("kind", [np.int8, np.float32])
def test_update_slice_clamps_its_start(start: tuple[int, ...], kind: type) -> None:
    shape, part = (3, 6, 4), (1, 2, 3)
    operand, update = _memory(kind, 72).reshape(shape), _memory(kind, 6, 1).reshape(part)
    name = np.dtype(kind).name
    grid = {} if kind is np.float32 else {"scale": 0.1}
    g = Builder()
    ends = [g.input(shape, name, **grid), g.input(part, name, **grid), g.input((3,), "int32")]
    g.output(g.op("DYNAMIC_UPDATE_SLICE", ends, shape, name, **grid))
    where = np.array(start, np.int32)
    y = operand.copy()
    six = {"shape": (*shape, 0, 0, 0), "update": (*part, 0, 0, 0)}
    call("update_slice", {"size": y.itemsize, "dimensions": 3, **six}, [update, where], [y])
    same(y, expect(g, "tflm", [operand, update, where]))


@pytest.mark.parametrize("kind", _TYPES)
@pytest.mark.parametrize("ways", range(4))
def test_select(kind: type, ways: int) -> None:
    rng = np.random.default_rng(ways)
    condition = rng.integers(0, 2, ((5, 7), (5, 1), (1, 7), (1, 1))[ways]).astype(np.uint8)
    a, b = _memory(kind, 35, 1).reshape(5, 7), _memory(kind, 7, 2)
    y = np.zeros((5, 7), kind)
    strides = ((7, 1), (1, 0), (0, 1), (0, 0))[ways]
    params = {
        "size": y.itemsize, "columns": 7, "condition_row": strides[0], "condition_column": strides[1],
        "a_row": 7, "a_column": 1, "b_row": 0, "b_column": 1,
    }  # fmt: skip
    wanted = np.where(condition, a, b)
    call("select", params, [condition, a, b], [y], 5)
    same(y, wanted)
    call("select", params, [condition, a, b], [a], 5)
    same(a, wanted)
