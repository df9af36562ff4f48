"""The nearest supported form of what is not supported."""

from typing import Final

_CONTROL: Final = "unroll it: the compiler takes one graph without branches or calls"
_CONVOLUTION: Final = "express it as FULLY_CONNECTED or BATCH_MATMUL; the compiler is for transformers"
_RESHAPE: Final = "use RESHAPE with a constant shape"
_FLOAT: Final = "quantise fully: TFLITE_BUILTINS_INT8 with a representative data set"

_ADVICE: Final = {
    # Operators
    "CUSTOM": "use builtin operators only (no SELECT_TF_OPS)",
    "STABLEHLO_COMPOSITE": "convert so that composites are lowered to builtin operators",
    "EXPAND_DIMS": _RESHAPE, "SQUEEZE": _RESHAPE, "SHAPE": "give the shape as a constant",
    "PACK": "use CONCATENATION after RESHAPE", "UNPACK": "use SPLIT, then RESHAPE", "SPLIT_V": "use SPLIT or SLICE",
    "SELECT": "use SELECT_V2", "WHERE": "use SELECT_V2", "PRELU": "use RELU", "LEAKY_RELU": "use RELU",
    "HARD_SWISH": "use LOGISTIC and MUL", "ELU": "use RELU or GELU", "ABS": "use RELU of x and of -x, and ADD",
    "DIV": "use MUL by the reciprocal, or RSQRT", "POW": "use MUL", "SQUARE": "use MUL of x with itself",
    "SQRT": "use RSQRT and MUL", "EXP": "use SOFTMAX or LOGISTIC", "LOG": "keep it out of the model",
    "LOG_SOFTMAX": "use SOFTMAX, or the logits", "L2_NORMALIZATION": "use MUL, SUM, RSQRT and MUL",
    "SIN": "use a constant table and GATHER", "COS": "use a constant table and GATHER",
    "TILE": "let ADD or MUL broadcast", "BROADCAST_TO": "let ADD or MUL broadcast", "FILL": "use a constant",
    "ZEROS_LIKE": "use a constant", "RANGE": "use a constant", "ONE_HOT": "use GATHER of a constant table",
    "GATHER_ND": "use GATHER along the first axis", "SCATTER_ND": "use DYNAMIC_UPDATE_SLICE", "ADD_N": "use ADD",
    "REDUCE_MIN": "use REDUCE_MAX of -x", "REDUCE_PROD": "use MUL",
    "CUMSUM": "use BATCH_MATMUL with a triangle of ones",
    "TOPK_V2": "use ARG_MAX, or sort outside the model", "MIRROR_PAD": "use PAD or PADV2",
    "CONV_2D": _CONVOLUTION, "DEPTHWISE_CONV_2D": _CONVOLUTION, "TRANSPOSE_CONV": _CONVOLUTION,
    "MAX_POOL_2D": "use REDUCE_MAX", "AVERAGE_POOL_2D": "use MEAN", "LSTM": _CONTROL, "RNN": _CONTROL,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _CONTROL, "UNIDIRECTIONAL_SEQUENCE_RNN": _CONTROL, "SVDF": _CONTROL,
    "IF": _CONTROL, "WHILE": _CONTROL, "CALL": _CONTROL, "CALL_ONCE": _CONTROL,
    "VAR_HANDLE": "keep state outside, as an input and an output",
    "READ_VARIABLE": "keep state outside, as an input and an output",
    "ASSIGN_VARIABLE": "keep state outside, as an input and an output",
    # Types
    "FLOAT16": _FLOAT, "BFLOAT16": _FLOAT, "FLOAT64": _FLOAT, "INT4": "use int8 weights", "UINT4": "use int8 weights",
    "INT2": "use int8 weights", "UINT8": "convert with int8 instead of uint8 (inference_input_type=tf.int8)",
    "UINT16": "use int16", "UINT32": "use int32", "UINT64": "use int32",
    "STRING": "tokenise outside the model and give ids as int32",
    "COMPLEX64": "use real numbers", "COMPLEX128": "use real numbers", "RESOURCE": _CONTROL, "VARIANT": _CONTROL,
    # Parts of operators
    "intermediates": "use operators without inner state",
    "float": _FLOAT,
}  # fmt: skip


def advice(what: str) -> str:
    """What would do instead of the operator, type or form `what`."""
    return _ADVICE.get(what, "there is no form of it that the compiler takes; keep it outside the model")
