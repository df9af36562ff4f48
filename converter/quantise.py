"""A float student as one full-int8 flatbuffer: int8 weights and activations, int32 biases and ids, no float at all."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from tasuki.converter.student import Floats, StudentShape, forward
from tasuki.sdk.errors import ConversionError

_INTEGERS = (np.int8, np.int32)


@dataclass(frozen=True)
class Quantised:
    """The flatbuffer, which of its outputs is what, and the operators it needs (sorted, each once)."""

    model: bytes
    outputs: dict[str, int]
    operators: tuple[str, ...]


def quantise(shape: StudentShape, weights: dict[str, Floats], calibration: NDArray[np.int32]) -> Quantised:
    """Full-int8 post-training quantisation (Jacob et al. 2018) with `calibration` ids int32 [n, tokens].

    Raises ConversionError if anything but integers is left.
    """
    constants = {name: tf.constant(value) for name, value in weights.items()}

    @tf.function(input_signature=[tf.TensorSpec([1, shape.tokens], tf.int32, name="ids")])  # type: ignore[untyped-decorator]
    def body(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        features, logits = forward(shape, constants, ids)
        return {"features": features, "logits": logits}

    def representative() -> Iterable[list[NDArray[np.int32]]]:
        for row in calibration:
            yield [row[None]]

    converter = tf.lite.TFLiteConverter.from_concrete_functions([body.get_concrete_function()], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        # Ids are integers: they have no statistics to be given.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        model: bytes = converter.convert()
    return Quantised(model, _outputs(shape, weights, model, calibration[:8]), _operators(model))


def _interpreter(model: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _outputs(shape: StudentShape, weights: dict[str, Floats], model: bytes, ids: NDArray[np.int32]) -> dict[str, int]:
    """Find each output by comparing with the float student: converters may reorder them."""
    features, logits = forward(shape, {name: tf.constant(value) for name, value in weights.items()}, tf.constant(ids))
    wanted = {"features": features.numpy(), "logits": logits.numpy()}
    interpreter = _interpreter(model)
    details = interpreter.get_output_details()
    got: list[list[Floats]] = [[] for _ in details]
    for row in ids:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        for collected, detail in zip(got, details, strict=True):
            scale, zero = detail["quantization"]
            collected.append((interpreter.get_tensor(detail["index"])[0].astype(np.float32) - zero) * scale)
    found: dict[str, int] = {}
    for name, expected in wanted.items():
        for position, rows in enumerate(got):
            actual = np.stack(rows)
            if actual.shape == expected.shape and np.corrcoef(actual.ravel(), expected.ravel())[0, 1] > 0.9:
                found[name] = position
    if len(set(found.values())) != len(wanted):
        raise ConversionError("the int8 model does not give the student's features and logits: calibrate on more texts")
    return found


def _operators(model: bytes) -> tuple[str, ...]:
    """Operators of `model`. Raises ConversionError if a tensor is not an integer."""
    interpreter = _interpreter(model)
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] not in _INTEGERS:
            raise ConversionError(f"tensor {tensor['name']} is {np.dtype(tensor['dtype'])}, not an integer")
    # LiteRT's own list names each node; delegate nodes are how it runs them, not what the file holds.
    names = {op["op_name"] for op in interpreter._get_ops_details()}
    return tuple(sorted(names - {"DELEGATE"}))
