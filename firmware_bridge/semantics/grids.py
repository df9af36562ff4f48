"""Scales, zero points and limits of tensors, and the limits that a fused activation sets."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator, Tensor
from tasuki.firmware_bridge.semantics.fixed_point import Integers, round_away


def scale(tensor: Tensor) -> float:
    """The one scale; a float32 value. Raises ValueError if the tensor is not quantised."""
    return float(_quantization(tensor).scale[0])


def zero(tensor: Tensor) -> int:
    """The one zero point. Raises ValueError if the tensor is not quantised."""
    return int(_quantization(tensor).zero[0])


def centred(tensor: Tensor, values: NDArray[Any]) -> Integers:
    """`values` minus the zero point."""
    return values.astype(np.int64) - zero(tensor)


def limits(kind: np.dtype[Any]) -> tuple[int, int]:
    """The least and the largest integer of the type."""
    bounds = np.iinfo(kind)
    return int(bounds.min), int(bounds.max)


def saturate(values: Integers, kind: np.dtype[Any], bounds: tuple[int, int] | None = None) -> NDArray[Any]:
    """`values` held to `bounds`, or to those of the type."""
    return np.clip(values, *(bounds or limits(kind))).astype(kind)


def activation_limits(activation: str, tensor: Tensor) -> tuple[int, int]:
    """Where the fused `activation` clamps on the grid of `tensor`. Raises ValueError for an unknown one."""
    low, high = limits(tensor.type)
    match activation:
        case "NONE":
            return low, high
        case "RELU":
            return max(low, place(tensor, 0.0)), high
        case "RELU6":
            return max(low, place(tensor, 0.0)), min(high, place(tensor, 6.0))
        case "RELU_N1_TO_1":
            return max(low, place(tensor, -1.0)), min(high, place(tensor, 1.0))
    raise ValueError(f"activation {activation}")


def place(tensor: Tensor, real: float) -> int:
    """The integer nearest to `real` on the grid of `tensor`, not held to its type."""
    return zero(tensor) + int(round_away(np.float32(real) / np.float32(scale(tensor))))


def tensors(op: Operator, graph: Graph) -> tuple[list[Tensor], list[Tensor]]:
    """The operator's inputs that are there, and its outputs."""
    return [graph.tensors[n] for n in op.inputs if n is not None], [graph.tensors[n] for n in op.outputs]


def _quantization(tensor: Tensor) -> Any:
    if tensor.quantization is None:
        raise ValueError(f"tensor {tensor.number} ({tensor.name}) is not quantised")
    return tensor.quantization
