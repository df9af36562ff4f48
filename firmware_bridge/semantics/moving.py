"""Operators that move values and do not change them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator
from tasuki.firmware_bridge.semantics import grids
from tasuki.firmware_bridge.semantics.elementwise import Values
from tasuki.firmware_bridge.semantics.fixed_point import Rounding


def move(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> NDArray[Any]:
    """Every operator of this file that has one output. Raises ValueError for an index outside its table."""
    ins, (y,) = grids.tensors(op, graph)
    x: list[NDArray[Any]] = [values[tensor.number] for tensor in ins]
    match op.kind:
        case "RESHAPE":
            return x[0].reshape(y.shape)
        case "TRANSPOSE":
            return np.transpose(x[0], tuple(int(axis) for axis in x[1]))
        case "CONCATENATION":
            return np.concatenate(x, int(op.options["axis"]))
        case "SLICE":
            ends = [b + n if n >= 0 else full for b, n, full in zip(x[1], x[2], x[0].shape, strict=True)]
            return np.asarray(x[0][tuple(slice(int(b), int(e)) for b, e in zip(x[1], ends, strict=True))])
        case "STRIDED_SLICE":
            return x[0][strided(op, x[1], x[2], x[3], x[0].shape)].reshape(y.shape)
        case "PAD" | "PADV2":
            fill = x[2].reshape(()) if len(x) > 2 else y.type.type(grids.zero(y) if y.quantization else 0)
            return np.pad(x[0], [(int(a), int(b)) for a, b in x[1]], constant_values=fill)
        case "GATHER":
            return _gather(x[0], x[1], int(op.options.get("axis", 0)), int(op.options.get("batch_dims", 0)))
        case "EMBEDDING_LOOKUP":
            return _gather(x[1], x[0], 0, 0)
        case "DYNAMIC_UPDATE_SLICE":
            return _update(x[0], x[1], x[2])
    raise ValueError(op.kind)


def split(op: Operator, graph: Graph, values: Values, rounding: Rounding) -> list[NDArray[Any]]:
    """SPLIT: the axis, the values; equal parts, one for each output."""
    axis, x = (values[tensor.number] for tensor in grids.tensors(op, graph)[0])
    return np.split(x, len(op.outputs), int(axis.reshape(-1)[0]))


def strided(
    op: Operator, begin: NDArray[Any], end: NDArray[Any], strides: NDArray[Any], shape: tuple[int, ...],
) -> tuple[slice, ...]:  # fmt: skip
    """The slices of STRIDED_SLICE; a dimension of the shrink mask gives one of length 1."""
    masks = {name: int(op.options.get(name, 0)) for name in ("begin_mask", "end_mask", "shrink_axis_mask")}
    slices = []
    for axis, (first, last, step) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True)):
        if masks["shrink_axis_mask"] >> axis & 1:
            place = first % shape[axis]
            slices.append(slice(place, place + 1))
            continue
        start = None if masks["begin_mask"] >> axis & 1 else first
        stop = None if masks["end_mask"] >> axis & 1 else last
        slices.append(slice(start, stop, step))
    return tuple(slices)


def _gather(table: NDArray[Any], ids: NDArray[Any], axis: int, batch: int) -> NDArray[Any]:
    axis %= table.ndim
    if ids.size and not 0 <= ids.min() <= ids.max() < table.shape[axis]:
        raise ValueError(f"ids must be 0 to {table.shape[axis] - 1}, not {ids.min()} to {ids.max()}")
    if batch == 0:
        return np.take(table, ids, axis)
    return np.stack([_gather(t, i, axis - 1, batch - 1) for t, i in zip(table, ids, strict=True)])


def _update(operand: NDArray[Any], update: NDArray[Any], start: NDArray[Any]) -> NDArray[Any]:
    changed: NDArray[Any] = operand.copy()
    places = [
        min(max(int(first), 0), whole - part)
        for first, whole, part in zip(start.reshape(-1), operand.shape, update.shape, strict=True)
    ]
    changed[tuple(slice(p, p + n) for p, n in zip(places, update.shape, strict=True))] = update
    return changed
