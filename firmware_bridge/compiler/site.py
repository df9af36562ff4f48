"""One operator under check: its tensors, and how to say what is wrong with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.advice import advice
from tasuki.firmware_bridge.compiler.ir import Graph, Operator, Quantization, Tensor
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.sdk.errors import ModelUnsupported

INT8: Final = np.dtype(np.int8)
INT16: Final = np.dtype(np.int16)
INT32: Final = np.dtype(np.int32)
INT64: Final = np.dtype(np.int64)
FLOAT32: Final = np.dtype(np.float32)
BOOL: Final = np.dtype(np.bool_)
# What the accumulators of every kernel hold.
_INT32_MAX: Final = 2**31 - 1
# Fused activations, and the largest real magnitude that each clamps to.
_ACTIVATIONS: Final = {"NONE": 0.0, "RELU": 0.0, "RELU6": 6.0, "RELU_N1_TO_1": 1.0}


@dataclass(frozen=True, eq=False)
class Site:
    """One operator of a graph; `file` stands in messages."""

    graph: Graph
    operator: Operator
    file: str
    rounding: Rounding = "tflm"

    def fail(self, what: str, tensor: Tensor | None = None) -> NoReturn:
        """Refuse the operator because of `tensor`, or of its first output. Raises ModelUnsupported."""
        if tensor is None and self.operator.outputs:
            tensor = self.graph.tensors[self.operator.outputs[0]]
        named = f", tensor {tensor.name!r}" if tensor else ""
        where = f"{self.file}: {self.graph.name}, operator {self.operator.place} ({self.operator.kind}){named}"
        raise ModelUnsupported(f"{where}: {what}")

    def arity(self, inputs: int, outputs: int = 1, optional: int = 0) -> tuple[Tensor, ...]:
        """The input tensors that must be there. The last `optional` of `inputs` may be absent."""
        given = self.operator.inputs
        if not inputs - optional <= len(given) <= inputs or len(self.operator.outputs) != outputs:
            self.fail(
                f"{len(given)} inputs and {len(self.operator.outputs)} outputs; {inputs} and {outputs} are wanted"
            )
        wanted = given[: inputs - optional]
        return tuple(self._tensor(number) for number in wanted)

    def _tensor(self, number: int | None) -> Tensor:
        if number is None:
            self.fail("an input that must be there is absent")
        return self.graph.tensors[number]

    def optional(self, place: int) -> Tensor | None:
        """The input at `place`, or None if it is absent."""
        given = self.operator.inputs
        number = given[place] if place < len(given) else None
        return None if number is None else self.graph.tensors[number]

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The output tensors."""
        return tuple(self.graph.tensors[number] for number in self.operator.outputs)

    @property
    def output(self) -> Tensor:
        """The only output."""
        return self.outputs[0]

    def option(self, name: str) -> Any:
        """A builtin option."""
        return self.operator.options[name]

    # Types

    def type(self, tensor: Tensor, *types: np.dtype[Any]) -> None:
        """Refuse `tensor` unless it has one of `types`."""
        if tensor.type not in types:
            names = " or ".join(t.name for t in types)
            hint = f"; {advice('float')}" if tensor.type == FLOAT32 else ""
            self.fail(f"type {tensor.type.name}; {names} is supported{hint}", tensor)

    def same_type(self, *tensors: Tensor) -> None:
        """Refuse tensors of different types."""
        for tensor in tensors[1:]:
            if tensor.type != tensors[0].type:
                self.fail(f"type {tensor.type.name} beside {tensors[0].type.name}", tensor)

    # Grids

    def grid(self, tensor: Tensor) -> tuple[float, int]:
        """Scale and zero point of a tensor that must have one of each."""
        found = tensor.quantization
        if found is None:
            self.fail(f"{tensor.type.name} without a scale; {advice('float')}", tensor)
        if len(found.scale) != 1:
            self.fail(f"{len(found.scale)} scales; per-channel scales are for the weights of FULLY_CONNECTED", tensor)
        zero = int(found.zero[0])
        if tensor.type == INT16 and zero != 0:
            self.fail(f"zero point {zero}; int16 needs 0", tensor)
        return float(found.scale[0]), zero

    def fixed_grid(self, tensor: Tensor, scale: float, zero: int) -> None:
        """Refuse any grid but this one."""
        if self.grid(tensor) != (scale, zero):
            found = self.grid(tensor)
            self.fail(f"scale {found[0]:g}, zero point {found[1]}; the kernel gives 1/{1 / scale:g} and {zero}", tensor)

    def same_grid(self, *tensors: Tensor) -> None:
        """Refuse tensors that are not on the grid of the first, where quantised; a move changes no value."""
        for tensor in tensors[1:]:
            if not _same(tensor.quantization, tensors[0].quantization) and tensor.type in (INT8, INT16):
                self.fail(f"not on the grid of {tensors[0].name!r}; put a QUANTIZE between them", tensor)
        for tensor in tensors:
            if tensor.type == INT16 and tensor.quantization is not None:
                self.grid(tensor)

    # Constants

    def ints(self, tensor: Tensor, what: str) -> tuple[int, ...]:
        """The values of a constant of integers."""
        self.type(tensor, INT32, INT64)
        if tensor.data is None:
            self.fail(f"{what} is computed; it must be a constant", tensor)
        if tensor.elements > 64:
            self.fail(f"{what} has {tensor.elements} values", tensor)
        return tuple(int(n) for n in tensor.data.reshape(-1))

    def constant(self, tensor: Tensor, what: str) -> NDArray[Any]:
        """The values of a constant."""
        if tensor.data is None:
            self.fail(f"{what} are computed; they must be constants", tensor)
        return tensor.data

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front."""
        if not -rank <= axis < rank:
            self.fail(f"axis {axis} of {rank}")
        return axis % rank

    # Shapes and ranges

    def shape(self, wanted: Sequence[int], tensor: Tensor | None = None) -> None:
        """Refuse an output (the only one, if none is given) of another shape."""
        tensor = tensor or self.output
        if tensor.shape != tuple(wanted):
            self.fail(f"shape {tensor.shape}; the inputs make it {tuple(wanted)}", tensor)

    def broadcast(self, *tensors: Tensor) -> None:
        """Refuse an output that is not what the shapes of `tensors` broadcast to."""
        try:
            wanted = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
        except ValueError:
            shapes = ", ".join(str(tensor.shape) for tensor in tensors)
            self.fail(f"shapes {shapes} do not broadcast")
        self.shape(wanted)

    def activation(self) -> None:
        """Refuse a fused activation that the kernels don't have, or whose bounds are no int32 on the output's grid."""
        name = self.option("activation")
        if name not in _ACTIVATIONS:
            self.fail(f"fused {name}; put it behind, or use RELU, RELU6 or RELU_N1_TO_1")
        scale, _ = self.grid(self.output)
        if _ACTIVATIONS[name] / scale > 2**30:
            self.fail(f"fused {name} on a scale of {scale:g}; enlarge it", self.output)

    def requantised(self, accumulator: int, scale: float) -> None:
        """Refuse a sum that can leave int32, as it is or times `scale` on its way to the output.

        `accumulator` bounds the sum's magnitude; a scale of 1 or more shifts it to the left first.
        """
        if accumulator > _INT32_MAX:
            self.fail(f"its sum can reach {accumulator:,}, more than int32 holds; make it shorter")
        shift = max(0, math.frexp(scale)[1])
        if accumulator << shift > _INT32_MAX:
            self.fail(f"its sum can reach {accumulator:,}, times {scale:g} more than int32 holds; enlarge the scale")
        if math.frexp(scale)[1] < -31:
            self.fail(f"its result is 0 always: steps of {scale:g} of the output's scale")


def span(tensor: Tensor, zero: int) -> int:
    """The largest magnitude of q - zero for a quantised tensor."""
    limits = np.iinfo(tensor.type)
    return max(int(limits.max) - zero, zero - int(limits.min))


def _same(a: Quantization | None, b: Quantization | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a.scale, b.scale) and np.array_equal(a.zero, b.zero)
