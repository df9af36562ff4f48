"""Small quantised `.tflite` graphs (`Builder` says how), and the two interpreters that judge them.

TensorFlow Lite Micro has no GELU and no RELU_N1_TO_1 as operators of their own (as a fused activation it has the
latter), LiteRT no SUM on int16; everything else that the compiler takes runs in both.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from ai_edge_litert import interpreter
from ai_edge_litert import schema_py_generated as schema
from need import need
from numpy.typing import NDArray

from tasuki.benchmarks.tflite_builder import TYPES, Builder, pack
from tasuki.firmware_bridge.semantics.fixed_point import Rounding

__all__ = ["ORACLES", "ROUNDINGS", "Builder", "Micro", "litert_reference", "pack", "random_inputs", "small", "tflm"]

ROUNDINGS: Final[tuple[Rounding, ...]] = ("tflm", "single")


def small(signature: str | None = None) -> Builder:
    """A dense layer with bias and RELU, a TANH and a reshape."""
    g = Builder(signature)
    x = g.input((1, 2, 4), "int8", scale=0.05, zero=3, name="x")
    w = g.constant(np.arange(-12, 12, dtype=np.int8).reshape(6, 4), scale=np.linspace(0.001, 0.002, 6), name="w")
    b = g.constant(np.arange(6, dtype=np.int32), scale=0.05 * np.linspace(0.001, 0.002, 6), name="b")
    y = g.op("FULLY_CONNECTED", [x, w, b], (1, 2, 6), scale=0.02, zero=-3, name="y", activation="RELU",
             keep_num_dims=True)  # fmt: skip
    t = g.op("TANH", [y], (1, 2, 6), scale=1 / 128, name="t")
    g.output(g.op("RESHAPE", [t, g.ints(2, 6)], (2, 6), scale=1 / 128, name="out"))
    return g


class Micro:
    """TensorFlow Lite Micro's interpreter of one model. Raises RuntimeError where it refuses the model."""

    def __init__(self, data: bytes) -> None:
        runtime = need("tflite_micro", "dev").runtime
        self._interpreter = runtime.Interpreter.from_bytes(data, arena_size=1 << 22)
        self._outputs = schema.Model.GetRootAsModel(data, 0).Subgraphs(0).OutputsLength()

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, in the model's order. Its planner may reuse an input's memory: all are set before each run."""
        for place, values in enumerate(inputs):
            self._interpreter.set_input(values, place)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_output(place)) for place in range(self._outputs)]


def tflm(data: bytes, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs of one run of `Micro`."""
    return Micro(data).run(inputs)


def litert_reference(data: bytes, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs of LiteRT's reference kernels, no delegate.

    Every tensor has memory of its own: where LiteRT shares it, one that is read again behind a RESHAPE can be lost.
    """
    kind = interpreter.OpResolverType.BUILTIN_REF
    host = interpreter.Interpreter(
        model_content=data, experimental_op_resolver_type=kind, num_threads=1, experimental_preserve_all_tensors=True
    )
    host.allocate_tensors()
    for entry, value in zip(host.get_input_details(), inputs, strict=True):
        host.set_tensor(entry["index"], value)
    host.invoke()
    return [np.array(host.get_tensor(entry["index"])) for entry in host.get_output_details()]


# The interpreter that each rounding follows.
ORACLES: Final = {"tflm": tflm, "single": litert_reference}


def random_inputs(data: bytes, rng: np.random.Generator, ids: int = 4) -> list[NDArray[Any]]:
    """Inputs for the first subgraph: whole ranges of int8 and int16, int32 and int64 below `ids`, float32 of ±1."""
    graph = schema.Model.GetRootAsModel(data, 0).Subgraphs(0)
    made: list[NDArray[Any]] = []
    names = {number: name for name, number in TYPES.items()}
    for place in range(graph.InputsLength()):
        tensor = graph.Tensors(graph.Inputs(place))
        shape = tuple(int(tensor.Shape(n)) for n in range(tensor.ShapeLength()))
        made.append(_random(names[tensor.Type()], shape, rng, ids))
    return made


def _random(kind: str, shape: tuple[int, ...], rng: np.random.Generator, ids: int) -> NDArray[Any]:
    if kind == "float32":
        return rng.uniform(-1, 1, shape).astype(np.float32)
    if kind == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if kind in ("int32", "int64"):
        return rng.integers(0, ids, shape, kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max + 1, shape, kind)
