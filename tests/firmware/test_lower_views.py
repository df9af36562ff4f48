"""Views mean what NumPy means: the same elements at every index."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler import views
from tasuki.firmware_bridge.compiler.views import View

shapes = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)


def _elements(view: View) -> NDArray[np.int64]:
    """The places in the storage of all elements, by index."""
    places = np.full(view.shape, view.offset, np.int64)
    for axis, (size, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        places += (np.arange(size) * stride).reshape([-1 if axis == a else 1 for a in range(len(view.shape))])
    return places


def _whole(shape: tuple[int, ...]) -> tuple[View, NDArray[np.int64]]:
    return views.dense(0, shape), np.arange(np.prod(shape, dtype=int)).reshape(shape)


@st.composite
def moved(draw: st.DrawFn) -> tuple[View, NDArray[np.int64]]:
    """A view after some moves, and NumPy's array after the same."""
    view, array = _whole(draw(shapes))
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            order = draw(st.permutations(range(array.ndim)))
            view, array = views.permuted(view, order), array.transpose(order)
            continue
        cuts = []
        for size in array.shape:
            begin = draw(st.integers(0, size - 1))
            step = draw(st.sampled_from([1, 2, -1]))
            cuts.append(slice(begin, size if step > 0 else None, step))
        array = array[tuple(cuts)]
        view = views.sliced(view, [c.start for c in cuts], array.shape, [c.step for c in cuts])
    return view, array


@settings(deadline=None)
@given(moved())
def test_moves_are_those_of_numpy(pair: tuple[View, NDArray[np.int64]]) -> None:
    view, array = pair
    assert np.array_equal(_elements(view), array)


@settings(deadline=None)
@given(moved(), st.data())
def test_a_reshaped_view_has_the_elements_in_order(pair: tuple[View, NDArray[np.int64]], data: st.DataObject) -> None:
    view, array = pair
    factors = [f for size in array.shape for f in ((2, 2) if size == 4 else (size,))]
    factors = data.draw(st.permutations([*factors, 1]))
    cut = data.draw(st.integers(0, len(factors)))
    shape = (int(np.prod(factors[:cut])), *factors[cut:])
    found = views.reshaped(view, shape)
    if found is None:
        # No strides can say it: NumPy has to copy as well.
        assert not np.shares_memory(array.reshape(shape), array)
    else:
        assert np.array_equal(_elements(found), array.reshape(shape))


@settings(deadline=None)
@given(moved())
def test_a_view_can_be_flattened_where_it_is_dense(pair: tuple[View, NDArray[np.int64]]) -> None:
    view, array = pair
    flat = array.ravel()
    dense = bool((np.diff(flat) == 1).all())
    assert views.is_dense(view) == dense


@settings(deadline=None)
@given(moved(), shapes)
def test_broadcasting_is_that_of_numpy(pair: tuple[View, NDArray[np.int64]], front: tuple[int, ...]) -> None:
    view, array = pair
    shape = (*front, *(3 if size == 1 else size for size in array.shape))
    assert np.array_equal(_elements(views.broadcast(view, shape)), np.broadcast_to(array, shape))


@settings(deadline=None)
@given(moved(), st.data())
def test_merged_axes_walk_the_same_elements(pair: tuple[View, NDArray[np.int64]], data: st.DataObject) -> None:
    view, array = pair
    other = views.broadcast(views.dense(1, (1,) * len(view.shape)), view.shape)
    axes = views.merged(view.shape, [view.strides, other.strides, views.dense_strides(view.shape)])
    again = View(0, view.offset, tuple(n for n, _ in axes), tuple(s[0] for _, s in axes))
    assert _elements(again).ravel().tolist() == array.ravel().tolist()
    assert all(size > 1 for size, _ in axes)
    assert len(views.merged(view.shape, [views.dense_strides(view.shape)])) <= 1
