"""Patterns of operators that TFLite's converter makes of one Keras layer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.converter.tflite_file import File, Operation


@dataclass(frozen=True)
class Norm:
    """LayerNormalization of the tensor `x` over its last axis."""

    x: int
    epsilon: float
    gain: NDArray[Any] | None
    offset: NDArray[Any] | None


def source(file: File, number: int) -> int:
    """The ids, where `number` is the ids with negative ones wrapped around, or cast to float and back."""
    operation = file.made.get(number)
    if operation is None:
        return number
    if operation.name == "CAST":
        return source(file, operation.inputs[0])
    if operation.name in ("SELECT", "SELECT_V2"):
        condition = file.made.get(operation.inputs[0])
        if condition is not None and condition.name == "LESS" and _scalar(file, condition.inputs[1]) == 0:
            return source(file, operation.inputs[2])
    return number


def reads(file: File, operation: Operation) -> tuple[int, ...]:
    """The activations that the operation reads once a pattern is taken as one; neither masks nor ids are among them."""
    if (norm := layer_norm(file, operation)) is not None:
        return (norm.x,)
    if (square := mean_square(file, operation)) is not None:
        return (square[0],)
    if (mean := masked_mean(file, operation)) is not None:
        return (mean[0],)
    if operation.name in ("SELECT_V2", "SELECT"):
        return operation.inputs[1:2]
    return () if operation.name == "GATHER" else operation.inputs


def _zeros(file: File, operation: Operation) -> bool:
    """Whether padding is set to zero, as before a masked average."""
    return _scalar(file, operation.inputs[2]) == 0


def layer_norm(file: File, operation: Operation) -> Norm | None:
    """The norm whose last operator this is: ``x g + (offset - mean g)``, ``g = gain / sqrt(variance + epsilon)``."""
    if operation.name != "ADD":
        return None
    for first, second in (operation.inputs, operation.inputs[::-1]):
        product, other = file.made.get(first), file.made.get(second)
        if product is None or other is None or product.name != "MUL":
            continue
        offset = None
        if other.name in ("ADD", "SUB"):
            parts = [i for i in other.inputs if i in file.constants]
            rest = [i for i in other.inputs if i not in file.constants]
            if len(parts) != 1 or len(rest) != 1 or (other.name == "SUB" and other.inputs[0] not in file.constants):
                continue
            offset = file.constants[parts[0]]
            negative = other.name == "SUB"
            other = file.made.get(rest[0])
            if other is None or other.name != "MUL":
                continue
        else:
            negative = False
        for x, g in (product.inputs, product.inputs[::-1]):
            found = _shift(file, other, g, negative)
            scale = _scale(file, g)
            if found is not None and scale is not None and found == x == scale[0]:
                return Norm(x, scale[1], scale[2], offset)
    return None


def _shift(file: File, operation: Operation, g: int, negative: bool) -> int | None:
    """The x of ``-mean(x) g``, or of ``mean(x) g`` if the sign is `negative` already."""
    if operation.name != "MUL" or g not in operation.inputs:
        return None
    other = operation.inputs[1 - operation.inputs.index(g)]
    made = file.made.get(other)
    if made is not None and made.name == "NEG" and not negative:
        made = file.made.get(made.inputs[0])
    elif not negative:
        return None
    return made.inputs[0] if made is not None and _over_last(file, made) else None


def _scale(file: File, g: int) -> tuple[int, float, NDArray[Any] | None] | None:
    """x, epsilon and gain of ``gain / sqrt(variance(x) + epsilon)``."""
    made, gain = file.made.get(g), None
    if made is not None and made.name == "MUL":
        parts = [i for i in made.inputs if i in file.constants]
        rest = [i for i in made.inputs if i not in file.constants]
        if len(parts) != 1 or len(rest) != 1:
            return None
        gain, made = file.constants[parts[0]], file.made.get(rest[0])
    inside = _root(file, made)
    if inside is None:
        return None
    square, epsilon = inside
    if square.name != "SQUARED_DIFFERENCE":
        return None
    x, mean = square.inputs
    made = file.made.get(mean)
    return (x, epsilon, gain) if made is not None and _over_last(file, made) and made.inputs[0] == x else None


def mean_square(file: File, operation: Operation) -> tuple[int, float] | None:
    """x and epsilon of ``1 / sqrt(mean(x^2) + epsilon)``."""
    inside = _root(file, operation)
    if inside is None:
        return None
    square, epsilon = inside
    if square.name == "SQUARE" or (square.name == "MUL" and square.inputs[0] == square.inputs[1]):
        return square.inputs[0], epsilon
    return None


def _root(file: File, operation: Operation | None) -> tuple[Operation, float] | None:
    """The operation under the mean, and epsilon, of ``RSQRT(ADD(MEAN(.), epsilon))``."""
    if operation is None or operation.name != "RSQRT":
        return None
    add = file.made.get(operation.inputs[0])
    if add is None or add.name != "ADD":
        return None
    for mean, small in (add.inputs, add.inputs[::-1]):
        made, epsilon = file.made.get(mean), _scalar(file, small)
        if made is not None and epsilon is not None and _over_last(file, made):
            inner = file.made.get(made.inputs[0])
            return None if inner is None else (inner, epsilon)
    return None


def _over_last(file: File, operation: Operation) -> bool:
    """Whether this is the mean over the last axis, which stays."""
    if operation.name != "MEAN" or not operation.options["keepDims"]:
        return False
    axes = file.constants[operation.inputs[1]].ravel().tolist()
    return axes in ([-1], [len(file.shapes[operation.inputs[0]]) - 1])


def not_padding(file: File, operation: Operation) -> bool:
    """Whether this is ``ids != 0``."""
    return (
        operation.name == "NOT_EQUAL"
        and source(file, operation.inputs[0]) == file.input
        and _scalar(file, operation.inputs[1]) == 0
    )


def masked_mean(file: File, operation: Operation) -> tuple[int, int] | None:
    """x [1, tokens, width] and the mask [1, tokens] of ``sum(where(mask, x, 0)) / sum(mask)``."""
    if operation.name != "DIV":
        return None
    top, bottom = (file.made.get(i) for i in operation.inputs)
    if top is None or bottom is None or top.name != "SUM" or bottom.name != "SUM":
        return None
    if any(file.constants[part.inputs[1]].ravel().tolist() != [1] for part in (top, bottom)):
        return None
    chosen, cast = file.made.get(top.inputs[0]), file.made.get(bottom.inputs[0])
    if chosen is None or cast is None or cast.name != "CAST" or chosen.name not in ("SELECT_V2", "SELECT", "MUL"):
        return None
    mask = _root_mask(file, cast.inputs[0])
    if chosen.name == "MUL":
        x, same = chosen.inputs if chosen.inputs[1] == cast.output else chosen.inputs[::-1]
        return (x, mask) if same == cast.output and mask is not None else None
    if mask is None or not _zeros(file, chosen) or _root_mask(file, chosen.inputs[0]) != mask:
        return None
    return chosen.inputs[1], mask


def same_mask(file: File, number: int) -> int:
    """The mask of which `number` is a copy: some layers combine a mask with itself."""
    made = file.made.get(number)
    while made is not None and made.name in ("LOGICAL_OR", "LOGICAL_AND"):
        first, second = (same_mask(file, i) for i in made.inputs)
        if first != second:
            break
        number = first
        made = file.made.get(number)
    return number


def _root_mask(file: File, number: int) -> int | None:
    """The mask [1, tokens] that `number` is another shape of."""
    number = same_mask(file, number)
    made = file.made.get(number)
    while made is not None and made.name in ("RESHAPE", "CAST"):
        number = same_mask(file, made.inputs[0])
        made = file.made.get(number)
    return number if made is not None and not_padding(file, made) else None


def slice_begin(file: File, operation: Operation) -> tuple[int, ...] | None:
    """Where a slice starts; None if it has strides, or masks that are not those of an index or a plain range."""
    begin = file.constants.get(operation.inputs[1])
    if begin is None:
        return None
    found = [int(n) for n in begin]
    if operation.name == "STRIDED_SLICE":
        how, steps = operation.options, file.constants.get(operation.inputs[3])
        if steps is None or (steps != 1).any() or how["ellipsisMask"] or how["newAxisMask"]:
            return None
        shape = file.shapes[operation.inputs[0]]
        found = [0 if how["beginMask"] >> n & 1 else b % shape[n] for n, b in enumerate(found)]
    return tuple(found)


def slice_size(file: File, operation: Operation) -> list[int]:
    """The size of a slice before axes that are one index are taken out."""
    left = iter(file.shapes[operation.output])
    taken = operation.options["shrinkAxisMask"]
    return [1 if taken >> n & 1 else next(left) for n in range(len(file.shapes[operation.inputs[0]]))]


def _scalar(file: File, number: int) -> float | None:
    value = file.constants.get(number)
    return float(np.ravel(value)[0]) if value is not None and value.size == 1 else None
