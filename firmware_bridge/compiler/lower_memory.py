"""Where tensors live: storages, and constants that are stored once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.fuse import is_uniform
from tasuki.firmware_bridge.compiler.ir import Graph, Tensor
from tasuki.firmware_bridge.compiler.program import Place
from tasuki.firmware_bridge.compiler.views import View, broadcast, dense
from tasuki.sdk.errors import ModelUnsupported


@dataclass(eq=False)
class Storage:
    """Memory for one or more tensors; becomes a buffer. `place` is settled when everything is lowered."""

    number: int
    name: str
    type: np.dtype[Any]
    elements: int
    place: Place = "arena"
    data: NDArray[Any] | None = None

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.elements * self.type.itemsize


@dataclass(eq=False)
class Memory:
    """The storages so far, and where each tensor that has been computed is."""

    graph: Graph
    storages: list[Storage] = field(default_factory=list)
    views: dict[int, View] = field(default_factory=dict)
    _constants: dict[tuple[str, str, tuple[int, ...], bytes], int] = field(default_factory=dict)

    def tensor(self, number: int) -> Tensor:
        """The tensor of that number."""
        return self.graph.tensors[number]

    def new(self, name: str, kind: np.dtype[Any], elements: int, place: Place = "arena") -> int:
        """A fresh storage."""
        self.storages.append(Storage(len(self.storages), name, kind, elements, place))
        return len(self.storages) - 1

    def constant(self, name: str, data: NDArray[Any], place: Place = "model") -> int:
        """The storage of a constant; equal constants have one."""
        array = np.ascontiguousarray(data)
        key = (place, array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            number = self.new(name, array.dtype, array.size, place)
            self.storages[number].data = array
            self._constants[key] = number
        return self._constants[key]

    def view(self, number: int) -> View:
        """Where the tensor is: a constant, or computed before."""
        if number not in self.views:
            tensor = self.tensor(number)
            self.views[number] = dense(self.constant(tensor.name, constant(tensor)), tensor.shape)
        return self.views[number]

    def operand(self, number: int, shape: Sequence[int]) -> View:
        """The tensor broadcast to `shape`; a constant with one value everywhere is a scalar."""
        tensor, view = self.tensor(number), self.view(number)
        if tensor.data is not None and is_uniform(tensor.data):
            view = dense(view.storage, (1,) * min(1, len(shape)))
        return broadcast(view, shape)

    def made(self, number: int) -> View:
        """Where the tensor is to be written: a place that was chosen for it, or a storage of its own."""
        if number not in self.views:
            tensor = self.tensor(number)
            self.views[number] = dense(self.new(tensor.name, tensor.type, tensor.elements), tensor.shape)
        return self.views[number]


def constant(tensor: Tensor) -> NDArray[Any]:
    """The values of a constant. Raises ModelUnsupported for another tensor."""
    if tensor.data is None:
        raise ModelUnsupported(f"tensor {tensor.number}, {tensor.name!r}, must be a constant")
    return tensor.data
