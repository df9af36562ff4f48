"""What the schema says about each operator that the compiler knows: its options by name, slot, form and default.

The numbers are those of TensorFlow Lite's schema (fields are only ever appended to it).
"""

from typing import Any, Final

from ai_edge_litert import schema_py_generated as schema

from tasuki.firmware_bridge.compiler.tables import Table

# (the name here, the slot, the form of `struct`, or "activation", "type" or "ints", and the default)
_Field = tuple[str, int, str, Any]
_ACTIVATION: Final[_Field] = ("activation", 0, "activation", 0)
_POT: Final[_Field] = ("pot_scale_int16", 1, "?", True)
_KEEP: Final[_Field] = ("keep_dims", 0, "?", False)
_OUTPUT: Final[_Field] = ("output_type", 0, "type", 0)

# By operator: the class of its options, None where it has none, and their fields.
_OPTIONS: Final[dict[str, tuple[str | None, tuple[_Field, ...]]]] = {
    "FULLY_CONNECTED": ("FullyConnectedOptions", (
        _ACTIVATION, ("weights_format", 1, "b", 0), ("keep_num_dims", 2, "?", False),
        ("asymmetric_quantize_inputs", 3, "?", False), ("quantized_bias_type", 4, "type", 0))),
    "BATCH_MATMUL": ("BatchMatMulOptions", (("adj_x", 0, "?", False), ("adj_y", 1, "?", False))),
    "SOFTMAX": ("SoftmaxOptions", (("beta", 0, "f", 0.0),)),
    "ADD": ("AddOptions", (_ACTIVATION, _POT)),
    "SUB": ("SubOptions", (_ACTIVATION, _POT)),
    "MUL": ("MulOptions", (_ACTIVATION,)),
    "MINIMUM": ("MaximumMinimumOptions", ()),
    "MAXIMUM": ("MaximumMinimumOptions", ()),
    "SQUARED_DIFFERENCE": ("SquaredDifferenceOptions", ()),
    "MEAN": ("ReducerOptions", (_KEEP,)),
    "SUM": ("ReducerOptions", (_KEEP,)),
    "REDUCE_MAX": ("ReducerOptions", (_KEEP,)),
    "RSQRT": (None, ()),
    "NEG": ("NegOptions", ()),
    "TANH": (None, ()),
    "LOGISTIC": (None, ()),
    "GELU": ("GeluOptions", (("approximate", 0, "?", False),)),
    "RELU": (None, ()),
    "RELU6": (None, ()),
    "RELU_N1_TO_1": (None, ()),
    "GATHER": ("GatherOptions", (("axis", 0, "i", 0), ("batch_dims", 1, "i", 0))),
    "EMBEDDING_LOOKUP": (None, ()),
    "RESHAPE": ("ReshapeOptions", (("new_shape", 0, "ints", ()),)),
    "TRANSPOSE": ("TransposeOptions", ()),
    "CONCATENATION": ("ConcatenationOptions", (("axis", 0, "i", 0), ("activation", 1, "activation", 0))),
    "SLICE": ("SliceOptions", ()),
    "STRIDED_SLICE": ("StridedSliceOptions", (
        ("begin_mask", 0, "i", 0), ("end_mask", 1, "i", 0), ("ellipsis_mask", 2, "i", 0), ("new_axis_mask", 3, "i", 0),
        ("shrink_axis_mask", 4, "i", 0), ("offset", 5, "?", False))),
    "SPLIT": ("SplitOptions", (("num_splits", 0, "i", 0),)),
    "PAD": ("PadOptions", ()),
    "PADV2": ("PadV2Options", ()),
    "QUANTIZE": ("QuantizeOptions", ()),
    "DEQUANTIZE": ("DequantizeOptions", ()),
    "ARG_MAX": ("ArgMaxOptions", (_OUTPUT,)),
    "ARG_MIN": ("ArgMinOptions", (_OUTPUT,)),
    "SELECT_V2": ("SelectV2Options", ()),
    "CAST": ("CastOptions", (("in_data_type", 0, "type", 0), ("out_data_type", 1, "type", 0))),
    "DYNAMIC_UPDATE_SLICE": ("DynamicUpdateSliceOptions", ()),
}  # fmt: skip
# The operators that the compiler knows, by the schema's names.
OPERATORS: Final = frozenset(_OPTIONS)


def names(enumeration: type) -> dict[int, str]:
    """The names of one of the schema's enumerations by their numbers."""
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


KINDS: Final = names(schema.BuiltinOperator)
TENSOR_TYPES: Final = names(schema.TensorType)
_ACTIVATIONS: Final = names(schema.ActivationFunctionType)
_CLASSES: Final = names(schema.BuiltinOptions)


def read(kind: str, operator: Table) -> dict[str, Any]:
    """The options of an operator of `OPERATORS`, with defaults for what the file leaves out.

    Raises ModelCorrupt if they belong to another operator, or name an activation or a type that the schema has not.
    """
    wanted, fields = _OPTIONS[kind]
    found = operator.number(3, "B")
    if found and _CLASSES.get(found) != wanted:
        theirs = _CLASSES.get(found, f"unknown options ({found})")
        raise operator.file.corrupt(operator.where, f"{kind} has {theirs}")
    table = operator.table(4, "options") if found else None
    return {name: _value(table, slot, form, default) for name, slot, form, default in fields}


def _value(table: Table | None, slot: int, form: str, default: Any) -> Any:
    if form == "ints":
        return table.numbers(slot, "numbers") if table else default
    if form not in ("activation", "type"):
        return table.number(slot, form, default) if table else default
    known = _ACTIVATIONS if form == "activation" else TENSOR_TYPES
    number = table.number(slot, "b", default) if table else default
    if number not in known:
        assert table is not None  # noqa: S101  (the default is known)
        raise table.file.corrupt(table.where, f"unknown {form} {number}")
    return known[number]
