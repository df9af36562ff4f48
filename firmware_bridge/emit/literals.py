"""Values, types and shapes as C writes them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

C_TYPES: Final = {
    np.dtype(np.bool_): "uint8_t", np.dtype(np.int8): "int8_t", np.dtype(np.uint8): "uint8_t",
    np.dtype(np.int16): "int16_t", np.dtype(np.int32): "int32_t", np.dtype(np.int64): "int64_t",
    np.dtype(np.float32): "float", np.dtype(np.float64): "double",
}  # fmt: skip


def shape_text(shape: Sequence[int]) -> str:
    """A shape as C writes it: ``[32][128]``; ``[1]`` for a scalar."""
    return "".join(f"[{n}]" for n in shape) or "[1]"


def number(value: Any, kind: str) -> str:
    """A constant of the C type `kind`."""
    if kind in ("float", "double"):
        return exact(float(value), kind)
    return _FORMATS[kind](int(value))


def exact(value: float, kind: str = "float") -> str:
    """A hexadecimal constant, which is exact."""
    return f"{float(np.float32(value)).hex()}f" if kind == "float" else float(value).hex()


def decimal(value: float) -> str:
    """A float32 constant with the nine digits that make it exact; C++ before 17 has no hexadecimal ones."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _int64(value: int) -> str:
    return "INT64_MIN" if value == -(1 << 63) else f"INT64_C({value})"


_FORMATS: Final[Mapping[str, Callable[[int], str]]] = {
    "int8_t": str, "uint8_t": str, "int16_t": str, "int32_t": str, "int64_t": _int64
}  # fmt: skip


def lines(data: NDArray[Any], width: int = 115) -> list[str]:
    """The values of an array as C, in lines of up to `width` columns and a comma."""
    data = data.ravel()
    kind = C_TYPES[data.dtype]
    words = [number(value, kind) for value in data.tolist()]
    each = max(1, (width + 1) // (max(map(len, words)) + 1))
    return [",".join(words[start : start + each]) + "," for start in range(0, len(words), each)]
