"""Types, shapes, grids and ranges of every operator: what passes here can be compiled, and can't overflow."""

from collections.abc import Callable, Mapping
from typing import Final

from tasuki.firmware_bridge.compiler import rules_arithmetic, rules_dense, rules_moves, rules_reduce, rules_unary
from tasuki.firmware_bridge.compiler.ir import Graph
from tasuki.firmware_bridge.compiler.site import Site
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.sdk.errors import ModelUnsupported

RULES: Final[Mapping[str, Callable[[Site], None]]] = {
    "FULLY_CONNECTED": rules_dense.fully_connected, "BATCH_MATMUL": rules_dense.batch_matmul,
    "SOFTMAX": rules_dense.softmax,
    "ADD": rules_arithmetic.addition, "SUB": rules_arithmetic.addition, "MUL": rules_arithmetic.mul,
    "MINIMUM": rules_arithmetic.extremum, "MAXIMUM": rules_arithmetic.extremum,
    "SQUARED_DIFFERENCE": rules_arithmetic.squared_difference,
    "MEAN": rules_reduce.total, "SUM": rules_reduce.total, "REDUCE_MAX": rules_reduce.reduce_max,
    "ARG_MAX": rules_reduce.arg, "ARG_MIN": rules_reduce.arg,
    "TANH": rules_unary.tanh, "LOGISTIC": rules_unary.logistic, "RELU": rules_unary.relu, "RELU6": rules_unary.relu6,
    "RELU_N1_TO_1": rules_unary.relu_n1_to_1, "GELU": rules_unary.gelu, "RSQRT": rules_unary.rsqrt,
    "NEG": rules_unary.neg, "QUANTIZE": rules_unary.quantize, "DEQUANTIZE": rules_unary.dequantize,
    "CAST": rules_unary.cast,
    "RESHAPE": rules_moves.reshape, "TRANSPOSE": rules_moves.transpose, "CONCATENATION": rules_moves.concatenation,
    "SLICE": rules_moves.slice_, "STRIDED_SLICE": rules_moves.strided_slice, "SPLIT": rules_moves.split,
    "PAD": rules_moves.pad, "PADV2": rules_moves.pad, "GATHER": rules_moves.gather,
    "EMBEDDING_LOOKUP": rules_moves.embedding_lookup, "SELECT_V2": rules_moves.select,
    "DYNAMIC_UPDATE_SLICE": rules_moves.dynamic_update_slice,
}  # fmt: skip


def check(graph: Graph, file: str = "the model", rounding: Rounding = "tflm") -> None:
    """Raises ModelUnsupported for the first operator that can't be compiled with this `rounding`; it names `file`,
    operator and tensor, and says what would do."""
    for operator in graph.operators:
        RULES[operator.kind](Site(graph, operator, file, rounding))
    written = {number for operator in graph.operators for number in operator.outputs}
    for number in graph.outputs:
        if number not in written:
            name = graph.tensors[number].name
            raise ModelUnsupported(
                f"{file}: {graph.name}, output {name!r}: an input or a constant, nothing computes it"
            )
    if not graph.outputs:
        raise ModelUnsupported(f"{file}: {graph.name}: no outputs")
