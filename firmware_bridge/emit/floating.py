"""What a build computes in floating point. `test_floating.py` compares it with what the linker takes from libgcc."""

from collections.abc import Iterable
from typing import Final

# Kernels between floats and integers, in binary32.
SINGLE: Final = frozenset({"cast", "quantize", "dequantize"})
# Kernels that scale in binary64, as LiteRT does, where the rounding is `single`.
DOUBLE: Final = frozenset({"fc_s8", "fc_s16", "matmul_s8"})


def words(kernels: Iterable[str], rounding: str, name: str, task: str) -> str:
    """A sentence on the model `name`, which calls `kernels`, and on the functions that its `task` has beside."""
    used = frozenset(kernels)
    parts = []
    if rounding == "single" and used & DOUBLE:
        parts.append(f"`tsk_{name}_invoke` scales products in binary64, as LiteRT does")
    if used & SINGLE:
        parts.append(f"`tsk_{name}_invoke` converts between floats and integers in binary32")
    invoke = " and ".join(parts) or f"`tsk_{name}_invoke` computes in integers alone"
    beside = {
        "classify": f"`tsk_{name}_classify` computes the confidence in binary32",
        "causal": f"`tsk_{name}_generate` chooses tokens in binary64",
    }
    said = "; ".join([invoke, *([beside[task]] if task in beside else [])])
    if not parts and task not in beside:
        return f"{said}."
    return f"{said}. Where the processor has no unit for that, the compiler's own library does it; libm is not needed."
