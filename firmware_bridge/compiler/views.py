"""Views of memory: a shape and strides over a storage, so that moving data is free where the reader can stride."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

Strides = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """Elements of the storage `storage`: the one at index i is at ``offset + sum(i * strides)``, all in elements."""

    storage: int
    offset: int
    shape: tuple[int, ...]
    strides: Strides


def dense_strides(shape: Sequence[int]) -> Strides:
    """Strides in elements of a row-major array."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def dense(storage: int, shape: Sequence[int], offset: int = 0) -> View:
    """A row-major array that begins at `offset`."""
    return View(storage, offset, tuple(shape), dense_strides(shape))


def is_dense(view: View) -> bool:
    """Whether it is row-major without gaps; strides along axes of one element do not matter."""
    return all(
        size == 1 or stride == step
        for size, stride, step in zip(view.shape, view.strides, dense_strides(view.shape), strict=True)
    )


def permuted(view: View, order: Sequence[int]) -> View:
    """Axis i of the result is axis ``order[i]`` of the view."""
    return replace(
        view, shape=tuple(view.shape[axis] for axis in order), strides=tuple(view.strides[axis] for axis in order)
    )


def sliced(view: View, begin: Sequence[int], size: Sequence[int], step: Sequence[int] | None = None) -> View:
    """`size` elements of each axis from `begin`, every `step`-th; a step may be negative."""
    steps = step or (1,) * len(begin)
    return View(
        view.storage,
        view.offset + sum(b * s for b, s in zip(begin, view.strides, strict=True)),
        tuple(size),
        tuple(s * k for s, k in zip(view.strides, steps, strict=True)),
    )


def broadcast(view: View, shape: Sequence[int]) -> View:
    """The view repeated (stride 0) until it has `shape`, by NumPy's rules."""
    new = len(shape) - len(view.shape)
    strides = tuple(0 if size == 1 else stride for size, stride in zip(view.shape, view.strides, strict=True))
    return replace(view, shape=tuple(shape), strides=(0,) * new + strides)


def reshaped(view: View, shape: Sequence[int]) -> View | None:
    """The same elements in the same order with another shape, or None where no strides can say that."""
    groups = merged(view.shape, (view.strides,))
    sizes = [size for size, _ in groups] or [1]
    steps = [step for _, (step,) in groups] or [1]
    strides: list[int] = []
    # Each group of the old axes must fall into whole new axes, innermost first.
    left = sizes.pop()
    step = steps.pop()
    for size in reversed(shape):
        if size == 1:
            strides.append(0)
            continue
        if left == 1:
            if not sizes:
                return None
            left, step = sizes.pop(), steps.pop()
        if left % size:
            return None
        strides.append(step)
        step, left = step * size, left // size
    return replace(view, shape=tuple(shape), strides=tuple(reversed(strides)))


def merged(shape: Sequence[int], strides: Sequence[Strides]) -> list[tuple[int, Strides]]:
    """Axes (size, stride of each operand), outermost first, with as few axes as the strides allow.

    Axes of one element go; neighbours that all operands walk with one stride become one axis.
    """
    found: list[tuple[int, Strides]] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        steps = tuple(operand[axis] for operand in strides)
        if found and all(outer == size * inner for outer, inner in zip(found[-1][1], steps, strict=True)):
            found[-1] = (found[-1][0] * size, steps)
        else:
            found.append((size, steps))
    return found
