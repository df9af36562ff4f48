"""The typed intermediate representation: one subgraph of a `.tflite`, read and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Element types by the schema's names, and what NumPy calls them.
TYPES: Final = {
    "BOOL": np.dtype(np.bool_), "INT8": np.dtype(np.int8), "INT16": np.dtype(np.int16), "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64), "FLOAT32": np.dtype(np.float32),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Quantization:
    """``real = scale (q - zero)``. `scale` is float32 and `zero` int32, [1], or [channels] along `axis`."""

    scale: NDArray[np.float32]
    zero: NDArray[np.int32]
    axis: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """`number` is its place in the subgraph's list. `data` is there for constants, of `type` and `shape`."""

    number: int
    name: str
    type: np.dtype[Any]
    shape: tuple[int, ...]
    quantization: Quantization | None = None
    data: NDArray[Any] | None = None

    @property
    def elements(self) -> int:
        """How many values; 1 for a scalar."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Operator:
    """One operator: `kind` is the schema's name (``FULLY_CONNECTED``), `inputs` and `outputs` are tensors' numbers.

    An optional input that is absent is None. `options` has the builtin options by snake-case name: ``activation``
    (``NONE``, ``RELU``, ``RELU6``, ``RELU_N1_TO_1``), ``keep_dims``, ``adj_x``, ``adj_y``, ``axis``, ``beta``, masks.
    """

    place: int
    kind: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Graph:
    """One subgraph, its operators in order of execution. `name` is its signature's, or ``main``."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
