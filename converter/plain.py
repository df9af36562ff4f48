"""The plain conversion: what TensorFlow Lite's own converter makes of a float model, as the line to beat.

The model is a function of TensorFlow or a graph; it is frozen (no variables: the converter fails on READ_VARIABLE), and
converted at batch 1 with its ids as int32. `edge` quantises the float file with ai-edge-quantizer instead.
"""

import importlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasuki.converter import execute
from tasuki.converter.graph import Floats, Graph
from tasuki.sdk.errors import ConversionError, MissingExtra
from tasuki.sdk.runtime import load_interpreter

Values = Mapping[str, Any]
# `weights`: dynamic range, int8 weights and float activations. `int16`: int16 activations, int8 weights.
Kind = Literal["float", "weights", "int8", "int16"]
_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Function:
    """A float model: `call` maps tensors by input name to tensors by output name.

    `inputs` gives shape (batch 1) and type, int32 or float32, of each input.
    """

    inputs: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
    call: Callable[[Values], Mapping[str, tf.Tensor]]


def of_graph(graph: Graph) -> Function:
    """A graph as a function; inputs that hold earlier values (a cache) are float32, all others int32."""
    return Function(
        {name: (shape, np.dtype(np.float32 if name in graph.cached else np.int32))
         for name, shape in graph.inputs.items()},
        lambda values: execute.run(graph, values),
    )  # fmt: skip


def convert(function: Function, kind: Kind, feeds: Mapping[str, NDArray[Any]] | None = None) -> bytes:
    """The TFLite model that the plain converter makes.

    `feeds` [n, ...] is the representative data of the static kinds, one example a row: calibration text, never that of
    a test. Their outputs and caches are integers too. Raises ConversionError if the converter refuses.
    """
    signature = {
        _plain(name): tf.TensorSpec(shape, kind_, _plain(name)) for name, (shape, kind_) in function.inputs.items()
    }
    back = {_plain(name): name for name in function.inputs}

    def call(**values: tf.Tensor) -> dict[str, tf.Tensor]:
        found = function.call({back[name]: value for name, value in values.items()})
        return dict(found)

    concrete = tf.function(call, autograph=False).get_concrete_function(**signature)
    made = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    if kind != "float":
        made.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind in ("int8", "int16"):
        if feeds is None:
            raise ValueError("a static conversion needs representative data")
        made.representative_dataset = lambda: _examples(function, feeds)
        sets = tf.lite.OpsSet
        wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        made.target_spec.supported_ops = [sets.TFLITE_BUILTINS_INT8 if kind == "int8" else wide]
        made.inference_input_type = made.inference_output_type = tf.int8 if kind == "int8" else tf.int16
    try:
        with warnings.catch_warnings():
            # It calibrates with TensorFlow's own interpreter, which is deprecated.
            warnings.simplefilter("ignore")
            return bytes(made.convert())
    except Exception as error:  # the converter raises its own ConverterError, RuntimeError and ValueError
        raise ConversionError(f"the plain TFLite converter refuses {kind}: {_first_line(error)}") from None


def edge(model: bytes, function: Function, feeds: Mapping[str, NDArray[Any]]) -> bytes:
    """The float `model` of `convert` quantised statically to int8 by ai-edge-quantizer, calibrated on `feeds`.

    What its policy does not quantise stays float between DEQUANTIZE and QUANTIZE. Raises MissingExtra, ConversionError.
    """
    try:
        quantizer = importlib.import_module("ai_edge_quantizer.quantizer")
        recipe = importlib.import_module("ai_edge_quantizer.recipe")
    except ModuleNotFoundError:
        raise MissingExtra("ai-edge-quantizer is not installed: pip install 'tasuki[oracle]'") from None
    examples = [{_plain(name): value for name, value in one.items()} for one in _rows(function, feeds)]
    try:
        # It prints its progress and a summary.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            made = quantizer.Quantizer(bytearray(model), recipe.static_wi8_ai8())
            return bytes(made.quantize(made.calibrate({_SIGNATURE: examples})).quantized_model)
    except (RuntimeError, ValueError) as error:
        raise ConversionError(f"ai-edge-quantizer refuses the model: {_first_line(error)}") from None


class Run:
    """A model of `convert` or `edge` in the installed runtime: floats in and out, whatever its own types.

    Not thread-safe: an interpreter has one set of buffers.
    """

    def __init__(self, model: bytes, function: Function) -> None:
        _, interpreter = load_interpreter()
        # The interpreter reads the flatbuffer in place.
        self._model = model
        self._function = function
        self._runner = interpreter(model_content=model, num_threads=1).get_signature_runner(_SIGNATURE)
        self._inputs, self._outputs = self._runner.get_input_details(), self._runner.get_output_details()

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
        """Outputs float32 [n, ...] by name of `feeds` [n, ...], one row after the other."""
        found: dict[str, list[Floats]] = {}
        for row in _rows(self._function, feeds):
            for name, value in self.one(row).items():
                found.setdefault(name, []).append(value)
        return {name: np.concatenate(values) for name, values in found.items()}

    def one(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
        """Outputs float32 [1, ...] of one example, with batch 1 as the function has its inputs."""
        given = {_plain(name): _whole(value, self._inputs[_plain(name)]) for name, value in inputs.items()}
        return {name: _real(value, self._outputs[name]) for name, value in self._runner(**given).items()}


def _rows(function: Function, feeds: Mapping[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
    """One example after the other, with batch 1."""
    for number in range(len(next(iter(feeds.values())))):
        yield {
            name: np.asarray(feeds[name][number], kind).reshape(shape)
            for name, (shape, kind) in function.inputs.items()
        }


def _examples(function: Function, feeds: Mapping[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
    for row in _rows(function, feeds):
        yield {_plain(name): value for name, value in row.items()}


def _plain(name: str) -> str:
    """TensorFlow takes Python's names only."""
    return name.replace(".", "_")


def _whole(value: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    if value.dtype != np.float32 or detail["dtype"] is np.float32:
        return value
    scale, zero = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    return np.asarray(np.clip(np.rint(value / scale) + zero, limits.min, limits.max), detail["dtype"])


def _real(value: NDArray[Any], detail: Mapping[str, Any]) -> Floats:
    if value.dtype == np.float32:
        return value
    scale, zero = detail["quantization"]
    return np.asarray((value.astype(np.float32) - np.float32(zero)) * np.float32(scale), np.float32)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
