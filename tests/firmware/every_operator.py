"""Each operator that the compiler takes, once in every form that matters: a maker puts it into a graph.

`BOTH` run in TensorFlow Lite Micro and in LiteRT's reference kernels, `LITERT` and `MICRO` in one of them alone.
"""

from collections.abc import Callable

import numpy as np
from firmware.graph_kit import Builder
from numpy.typing import NDArray

INT8 = {"scale": 0.05, "zero": 3}
WIDE = {"scale": 1e-3, "zero": 0}


def _x(g: Builder, *shape: int, kind: str = "int8") -> int:
    return g.input(shape, kind, **(INT8 if kind == "int8" else WIDE))


def _weights(*shape: int) -> NDArray[np.int8]:
    return np.random.default_rng(1).integers(-127, 128, shape, np.int8)


def fully_connected(g: Builder) -> int:
    w = g.constant(_weights(5, 8), scale=np.linspace(0.001, 0.004, 5))
    bias = g.constant(np.arange(5, dtype=np.int32) * 300, scale=0.05 * np.linspace(0.001, 0.004, 5))
    return g.op("FULLY_CONNECTED", [_x(g, 1, 4, 8), w, bias], (1, 4, 5), scale=0.03, zero=-3, activation="RELU",
                keep_num_dims=True)  # fmt: skip


def fully_connected_whole(g: Builder) -> int:
    w = g.constant(_weights(5, 8), scale=0.002)
    return g.op("FULLY_CONNECTED", [_x(g, 2, 2, 8), w, None], (4, 5), scale=0.03, zero=-3)


def fully_connected_wide(g: Builder) -> int:
    w = g.constant(_weights(5, 8), scale=np.linspace(0.001, 0.004, 5))
    bias = g.constant(np.arange(5, dtype=np.int64) * 300, scale=1e-3 * np.linspace(0.001, 0.004, 5))
    return g.op("FULLY_CONNECTED", [_x(g, 3, 8, kind="int16"), w, bias], (3, 5), "int16", scale=2e-3)


def batch_matmul(g: Builder) -> int:
    return g.op("BATCH_MATMUL", [_x(g, 2, 3, 4), _x(g, 2, 4, 5)], (2, 3, 5), scale=0.2, zero=4)


def batch_matmul_turned(g: Builder) -> int:
    return g.op("BATCH_MATMUL", [_x(g, 2, 4, 3), _x(g, 2, 5, 4)], (2, 3, 5), scale=0.2, zero=4, adj_x=True, adj_y=True)


def batch_matmul_wide(g: Builder) -> int:
    return g.op("BATCH_MATMUL", [_x(g, 2, 3, 4, kind="int16"), _x(g, 2, 4, 5, kind="int16")], (2, 3, 5), "int16",
                scale=0.02)  # fmt: skip


def softmax(g: Builder) -> int:
    return g.op("SOFTMAX", [_x(g, 2, 3, 7)], (2, 3, 7), scale=1 / 256, zero=-128)


def softmax_wide(g: Builder) -> int:
    return g.op("SOFTMAX", [_x(g, 3, 7, kind="int16")], (3, 7), "int16", scale=1 / 32768)


def add(g: Builder) -> int:
    return g.op("ADD", [_x(g, 2, 3, 4), _x(g, 3, 1)], (2, 3, 4), scale=0.08, zero=-9, activation="RELU6")


def add_wide(g: Builder) -> int:
    return g.op("ADD", [_x(g, 2, 4, kind="int16"), _x(g, 2, 4, kind="int16")], (2, 4), "int16", scale=2e-3)


def sub(g: Builder) -> int:
    return g.op("SUB", [_x(g, 2, 4), _x(g, 1, 4)], (2, 4), scale=0.08, zero=-9)


def sub_wide(g: Builder) -> int:
    return g.op("SUB", [_x(g, 2, 4, kind="int16"), _x(g, 2, 4, kind="int16")], (2, 4), "int16", scale=2e-3)


def mul(g: Builder) -> int:
    return g.op("MUL", [_x(g, 2, 4), g.constant(np.int8(77), scale=0.01, zero=-128)], (2, 4), scale=0.08, zero=-9)


def mul_wide(g: Builder) -> int:
    return g.op("MUL", [_x(g, 2, 4, kind="int16"), _x(g, 4, kind="int16")], (2, 4), "int16", scale=2e-2)


def minimum(g: Builder) -> int:
    return g.op("MINIMUM", [_x(g, 2, 4), _x(g, 4)], (2, 4), **INT8)


def maximum(g: Builder) -> int:
    return g.op("MAXIMUM", [_x(g, 2, 4), _x(g, 2, 1)], (2, 4), **INT8)


def mean(g: Builder) -> int:
    return g.op("MEAN", [_x(g, 2, 3, 5), g.ints(2)], (2, 3, 1), scale=0.03, zero=1, keep_dims=True)


def mean_middle(g: Builder) -> int:
    return g.op("MEAN", [_x(g, 2, 3, 5), g.ints(1)], (2, 5), scale=0.03, zero=1)


def mean_wide(g: Builder) -> int:
    return g.op("MEAN", [_x(g, 2, 3, 5, kind="int16"), g.ints(1)], (2, 5), "int16", scale=1e-3)


def sum_(g: Builder) -> int:
    return g.op("SUM", [_x(g, 2, 3, 5), g.ints(1)], (2, 5), scale=0.15, zero=1)


def reduce_max(g: Builder) -> int:
    return g.op("REDUCE_MAX", [_x(g, 2, 3, 5), g.ints(1)], (2, 5), **INT8)


def squared_difference(g: Builder) -> int:
    return g.op("SQUARED_DIFFERENCE", [_x(g, 2, 4), _x(g, 2, 1)], (2, 4), scale=0.4, zero=-128)


def rsqrt(g: Builder) -> int:
    x = g.input((2, 4), "int8", scale=0.02, zero=-128)
    return g.op("RSQRT", [x], (2, 4), scale=0.03, zero=-128)


def neg(g: Builder) -> int:
    x = g.input((2, 4), "float32")
    return g.op("NEG", [x], (2, 4), "float32")


def tanh(g: Builder) -> int:
    return g.op("TANH", [_x(g, 2, 4)], (2, 4), scale=1 / 128)


def tanh_wide(g: Builder) -> int:
    return g.op("TANH", [_x(g, 2, 4, kind="int16")], (2, 4), "int16", scale=1 / 32768)


def logistic(g: Builder) -> int:
    return g.op("LOGISTIC", [_x(g, 2, 4)], (2, 4), scale=1 / 256, zero=-128)


def logistic_wide(g: Builder) -> int:
    return g.op("LOGISTIC", [_x(g, 2, 4, kind="int16")], (2, 4), "int16", scale=1 / 32768)


def relu(g: Builder) -> int:
    return g.op("RELU", [_x(g, 2, 4)], (2, 4), scale=0.03, zero=-128)


def relu6(g: Builder) -> int:
    return g.op("RELU6", [_x(g, 2, 4)], (2, 4), **INT8)


def gather(g: Builder) -> int:
    table = g.constant(_weights(6, 3), **INT8)
    return g.op("GATHER", [table, g.input((1, 4), "int32")], (1, 4, 3), **INT8, axis=0)


def embedding_lookup(g: Builder) -> int:
    table = g.constant(_weights(6, 3), **INT8)
    return g.op("EMBEDDING_LOOKUP", [g.input((4,), "int32"), table], (4, 3), **INT8)


def reshape(g: Builder) -> int:
    return g.op("RESHAPE", [_x(g, 2, 6), g.ints(3, 4)], (3, 4), **INT8, new_shape=[3, 4])


def transpose(g: Builder) -> int:
    return g.op("TRANSPOSE", [_x(g, 2, 3, 4), g.ints(2, 0, 1)], (4, 2, 3), **INT8)


def concatenation(g: Builder) -> int:
    return g.op("CONCATENATION", [_x(g, 2, 3), _x(g, 2, 4)], (2, 7), **INT8, axis=1)


def slice_(g: Builder) -> int:
    return g.op("SLICE", [_x(g, 3, 5), g.ints(1, 2), g.ints(2, -1)], (2, 3), **INT8)


def strided_slice(g: Builder) -> int:
    return g.op("STRIDED_SLICE", [_x(g, 3, 5), g.ints(0, 4), g.ints(1, 0), g.ints(1, -2)], (2,),
                **INT8, shrink_axis_mask=1)  # fmt: skip


def split(g: Builder) -> int:
    x = _x(g, 2, 6)
    parts = [g.tensor((2, 3), "int8", **INT8) for _ in range(2)]
    g.add("SPLIT", [g.constant(np.int32(1)), x], parts, num_splits=2)
    g.output(parts[1])
    return parts[0]


def pad(g: Builder) -> int:
    return g.op("PAD", [_x(g, 2, 3), g.constant(np.array([[1, 0], [0, 2]], np.int32))], (3, 5),
                **INT8)  # fmt: skip


def padv2(g: Builder) -> int:
    value = g.constant(np.int8(9), **INT8)
    return g.op("PADV2", [_x(g, 2, 3), g.constant(np.array([[1, 0], [0, 2]], np.int32)), value], (3, 5),
                **INT8)  # fmt: skip


def quantize(g: Builder) -> int:
    return g.op("QUANTIZE", [_x(g, 2, 3)], (2, 3), scale=0.07, zero=-20)


def quantize_float(g: Builder) -> int:
    return g.op("QUANTIZE", [g.input((2, 3), "float32")], (2, 3), scale=0.01, zero=-20)


def quantize_to_wide(g: Builder) -> int:
    return g.op("QUANTIZE", [_x(g, 2, 3)], (2, 3), "int16", scale=0.001, version=2)


def quantize_to_narrow(g: Builder) -> int:
    return g.op("QUANTIZE", [_x(g, 2, 3, kind="int16")], (2, 3), scale=0.2, zero=4)


def dequantize(g: Builder) -> int:
    return g.op("DEQUANTIZE", [_x(g, 2, 3)], (2, 3), "float32")


def dequantize_wide(g: Builder) -> int:
    return g.op("DEQUANTIZE", [_x(g, 2, 3, kind="int16")], (2, 3), "float32")


def arg_max(g: Builder) -> int:
    return g.op("ARG_MAX", [_x(g, 3, 5), g.constant(np.int32(1))], (3,), "int32", output_type="int32")


def arg_min(g: Builder) -> int:
    return g.op("ARG_MIN", [_x(g, 3, 5), g.constant(np.int32(1))], (3,), "int32", output_type="int32")


def select_v2(g: Builder) -> int:
    return g.op("SELECT_V2", [g.input((2, 1), "bool"), _x(g, 2, 3), _x(g, 3)], (2, 3), **INT8)


def cast(g: Builder) -> int:
    return g.op("CAST", [g.input((2, 3), "int32")], (2, 3), "float32", in_data_type="int32", out_data_type="float32")


def dynamic_update_slice(g: Builder) -> int:
    return g.op("DYNAMIC_UPDATE_SLICE", [_x(g, 4, 3), _x(g, 1, 3), g.input((2,), "int32")], (4, 3),
                **INT8)  # fmt: skip


def gelu(g: Builder) -> int:
    return g.op("GELU", [_x(g, 2, 4)], (2, 4), scale=0.05, zero=-100, approximate=True)


def relu_n1_to_1(g: Builder) -> int:
    return g.op("RELU_N1_TO_1", [_x(g, 2, 4)], (2, 4), scale=0.05, zero=3)


def reshape_ids(g: Builder) -> int:
    return g.op("RESHAPE", [g.input((2, 6), "int32"), g.ints(3, 4)], (3, 4), "int32")


def transpose_float(g: Builder) -> int:
    return g.op("TRANSPOSE", [g.input((2, 3), "float32"), g.ints(1, 0)], (3, 2), "float32")


def concatenation_ids(g: Builder) -> int:
    return g.op("CONCATENATION", [g.input((2, 3), "int32"), g.input((1, 3), "int32")], (3, 3), "int32", axis=0)


def slice_ids(g: Builder) -> int:
    return g.op("SLICE", [g.input((3, 5), "int32"), g.ints(1, 0), g.ints(2, 4)], (2, 4), "int32")


def strided_slice_bool(g: Builder) -> int:
    x = g.input((3, 5), "bool")
    return g.op("STRIDED_SLICE", [x, g.ints(0, 0), g.ints(3, 5), g.ints(2, 1)], (2, 5), "bool")


def split_float(g: Builder) -> int:
    parts = [g.tensor((1, 6), "float32") for _ in range(2)]
    g.add("SPLIT", [g.constant(np.int32(0)), g.input((2, 6), "float32")], parts, num_splits=2)
    g.output(parts[1])
    return parts[0]


def pad_wide(g: Builder) -> int:
    widths = g.constant(np.array([[1, 0], [0, 2]], np.int32))
    return g.op("PAD", [_x(g, 2, 3, kind="int16"), widths], (3, 5), "int16", **WIDE)


def gather_float(g: Builder) -> int:
    table = g.constant(np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32))
    return g.op("GATHER", [table, g.input((4,), "int32")], (4, 3), "float32", axis=0)


def gather_columns(g: Builder) -> int:
    return g.op("GATHER", [_x(g, 3, 5), g.input((4,), "int32")], (3, 4), **INT8, axis=1)


def select_float(g: Builder) -> int:
    operands = [g.input((2, 3), "bool"), g.input((2, 3), "float32"), g.input((3,), "float32")]
    return g.op("SELECT_V2", operands, (2, 3), "float32")


def dynamic_update_slice_ids(g: Builder) -> int:
    operands = [g.input((4, 3), "int32"), g.input((2, 1), "int32"), g.input((2,), "int32")]
    return g.op("DYNAMIC_UPDATE_SLICE", operands, (4, 3), "int32")


def minimum_wide(g: Builder) -> int:
    return g.op("MINIMUM", [_x(g, 2, 4, kind="int16"), _x(g, 4, kind="int16")], (2, 4), "int16", **WIDE)


def relu_wide(g: Builder) -> int:
    return g.op("RELU", [_x(g, 2, 4, kind="int16")], (2, 4), "int16", scale=2e-3)


def sum_wide(g: Builder) -> int:
    return g.op("SUM", [_x(g, 2, 3, 5, kind="int16"), g.ints(1)], (2, 5), "int16", scale=3e-3)


def cast_bool(g: Builder) -> int:
    return g.op("CAST", [g.input((4, 5), "bool")], (4, 5), "int32", in_data_type="bool", out_data_type="int32")


def cast_narrow(g: Builder) -> int:
    return g.op("CAST", [g.input((2, 3), "int16")], (2, 3), "int8", in_data_type="int16", out_data_type="int8")


def rsqrt_wide(g: Builder) -> int:
    # Of a number that is not positive there is none, and of small ones LiteRT gives others.
    positive = g.op("MAXIMUM", [_x(g, 2, 4, kind="int16"), g.constant(np.array([1000], np.int16), **WIDE)], (2, 4),
                    "int16", **WIDE)  # fmt: skip
    return g.op("RSQRT", [positive], (2, 4), "int16", scale=1e-3)


def add_ids(g: Builder) -> int:
    return g.op("ADD", [g.input((1,), "int32"), g.ints(0, 1, 2)], (3,), "int32", pot_scale_int16=False)


def minimum_ids(g: Builder) -> int:
    return g.op("MINIMUM", [g.input((1, 6), "int32"), g.ints(2)], (1, 6), "int32")


def maximum_ids(g: Builder) -> int:
    return g.op("MAXIMUM", [g.input((1, 6), "int32"), g.ints(1)], (1, 6), "int32")


def quantize_to_int32(g: Builder) -> int:
    return g.op("QUANTIZE", [_x(g, 2, 3)], (2, 3), "int32", scale=0.001)


def quantize_from_int32(g: Builder) -> int:
    return g.op("QUANTIZE", [g.input((4, 5), "int32", 0.02)], (4, 5), scale=0.03, zero=5)


def quantize_float_to_wide(g: Builder) -> int:
    return g.op("QUANTIZE", [g.input((2, 3), "float32")], (2, 3), "int16", scale=1e-4)


BOTH: list[Callable[[Builder], int]] = [
    fully_connected, fully_connected_whole, fully_connected_wide, batch_matmul, batch_matmul_turned, batch_matmul_wide,
    softmax, softmax_wide, add, add_wide, sub, sub_wide, mul, mul_wide, minimum, maximum, mean, mean_middle, mean_wide,
    reduce_max, squared_difference, rsqrt, neg, tanh, tanh_wide, logistic, logistic_wide, relu, relu6, gather,
    embedding_lookup, reshape, transpose, concatenation, slice_, strided_slice, split, pad, padv2, quantize,
    quantize_float, quantize_to_wide, quantize_to_narrow, dequantize, dequantize_wide, arg_max, arg_min, select_v2,
    cast, dynamic_update_slice, reshape_ids, transpose_float, concatenation_ids, slice_ids, strided_slice_bool,
    split_float, pad_wide, gather_float, gather_columns, select_float, dynamic_update_slice_ids, minimum_wide,
    relu_wide, rsqrt_wide, add_ids, minimum_ids, maximum_ids, cast_bool, cast_narrow, quantize_from_int32,
    quantize_float_to_wide,
]  # fmt: skip
LITERT: list[Callable[[Builder], int]] = [gelu, relu_n1_to_1]
MICRO: list[Callable[[Builder], int]] = [quantize_to_int32, sum_wide]
