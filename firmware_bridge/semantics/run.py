"""A graph, or one operator of it, in NumPy, to the bit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Graph, Operator
from tasuki.firmware_bridge.semantics import convert, elementwise, matmul, moving, reduce, softmax, unary
from tasuki.firmware_bridge.semantics.fixed_point import Rounding

_One = Callable[[Operator, Graph, Mapping[int, NDArray[Any]], Rounding], NDArray[Any]]
_KERNELS: Final[Mapping[str, _One]] = {
    **dict.fromkeys(("ADD", "SUB", "MUL", "SQUARED_DIFFERENCE"), elementwise.binary),
    **dict.fromkeys(("MINIMUM", "MAXIMUM"), elementwise.extremum),
    **dict.fromkeys(("TANH", "LOGISTIC", "GELU", "RSQRT", "NEG", "RELU", "RELU6", "RELU_N1_TO_1"), unary.unary),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX"), reduce.reduce),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), reduce.arg),
    **dict.fromkeys(
        ("RESHAPE", "TRANSPOSE", "CONCATENATION", "SLICE", "STRIDED_SLICE", "PAD", "PADV2", "GATHER",
         "EMBEDDING_LOOKUP", "DYNAMIC_UPDATE_SLICE"),
        moving.move,
    ),
    "SELECT_V2": elementwise.select,
    "FULLY_CONNECTED": matmul.fully_connected,
    "BATCH_MATMUL": matmul.batch_matmul,
    "SOFTMAX": softmax.softmax,
    "QUANTIZE": convert.quantize,
    "DEQUANTIZE": convert.dequantize,
    "CAST": convert.cast,
}  # fmt: skip
# SPLIT has several outputs.
OPERATORS: Final = frozenset({*_KERNELS, "SPLIT"})


def evaluate_all(
    op: Operator, graph: Graph, values: Mapping[int, NDArray[Any]], rounding: Rounding = "tflm",
) -> list[NDArray[Any]]:  # fmt: skip
    """The outputs of `op` for `values` of its inputs by tensor number; constants need not be among them.

    Functions of one value, and operators with two operands that broadcast, take inputs of any shape. Raises ValueError
    for an operator that is not in `OPERATORS`, and for an id that GATHER or EMBEDDING_LOOKUP does not have.
    """
    known = dict(values)
    for number in op.inputs:
        if number is not None and number not in known:
            data = graph.tensors[number].data
            if data is None:
                raise ValueError(f"tensor {number} ({graph.tensors[number].name}) has no value")
            known[number] = data
    if op.kind == "SPLIT":
        return moving.split(op, graph, known, rounding)
    if op.kind not in _KERNELS:
        raise ValueError(f"operator {op.kind}")
    return [np.asarray(_KERNELS[op.kind](op, graph, known, rounding))]


def evaluate(
    op: Operator, graph: Graph, values: Mapping[int, NDArray[Any]], rounding: Rounding = "tflm",
) -> NDArray[Any]:  # fmt: skip
    """The first, or only, of `evaluate_all`."""
    return evaluate_all(op, graph, values, rounding)[0]


def run(graph: Graph, inputs: Sequence[NDArray[Any]], rounding: Rounding = "tflm") -> list[NDArray[Any]]:
    """The graph's outputs for its `inputs`, which have the tensors' shapes and types.

    ``tflm`` gives what TensorFlow Lite Micro computes, ``single`` what LiteRT's reference kernels do. Raises ValueError
    for inputs that do not fit.
    """
    if len(inputs) != len(graph.inputs):
        raise ValueError(f"the graph has {len(graph.inputs)} inputs, not {len(inputs)}")
    values: dict[int, NDArray[Any]] = {t.number: t.data for t in graph.tensors if t.data is not None}
    for number, data in zip(graph.inputs, inputs, strict=True):
        tensor = graph.tensors[number]
        if data.shape != tensor.shape or data.dtype != tensor.type:
            raise ValueError(f"{tensor.name} is {tensor.type} {tensor.shape}, not {data.dtype} {data.shape}")
        values[number] = data
    for op in graph.operators:
        values.update(zip(op.outputs, evaluate_all(op, graph, values, rounding), strict=True))
    return [values[number] for number in graph.outputs]
