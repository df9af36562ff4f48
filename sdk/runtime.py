"""The seam to the interpreter: LiteRT, or tflite-runtime where only that is installed."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import ArtifactCorrupt, MissingExtra

Floats = NDArray[np.float32]
RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


def load_interpreter() -> tuple[str, Any]:
    """Name and class of the installed interpreter. Raises MissingExtra if there is none."""
    for module in RUNTIMES:
        try:
            return module.partition(".")[0], importlib.import_module(module).Interpreter
        except ModuleNotFoundError:
            continue
    raise MissingExtra("no TFLite runtime: pip install ai-edge-litert, or pip install 'tasuki[tflite-runtime]'")


class Body:
    """The frozen int8 body. Not thread-safe: an interpreter has one set of buffers."""

    def __init__(self, model: bytes, outputs: Mapping[str, int], threads: int = 1) -> None:
        self.runtime, interpreter = load_interpreter()
        # The interpreter reads the flatbuffer in place.
        self._model = model
        try:
            self._interpreter = interpreter(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
            (ids,) = self._interpreter.get_input_details()
            details = self._interpreter.get_output_details()
            self._ids: int = ids["index"]
            self.tokens = int(ids["shape"][1])
            self._features = _Output(details[outputs["features"]])
            self._logits = _Output(details[outputs["logits"]])
        except (ValueError, RuntimeError, IndexError) as error:
            raise ArtifactCorrupt(f"{self.runtime} can't load the model: {error}") from None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of features and of base logits."""
        return self._features.width, self._logits.width

    def run(self, ids: NDArray[np.int32]) -> tuple[Floats, Floats]:
        """Features float32 [d] and base logits float32 [C] of `ids` int32 [tokens]."""
        self._interpreter.set_tensor(self._ids, ids[None])
        self._interpreter.invoke()
        return self._features.read(self._interpreter), self._logits.read(self._interpreter)


class _Output:
    """One int8 output and how to turn it into float32."""

    def __init__(self, detail: Mapping[str, Any]) -> None:
        if detail["dtype"] is not np.int8:
            raise ValueError(f"output {detail['name']} is not int8")
        self._index: int = detail["index"]
        self.width = int(detail["shape"][-1])
        scale, zero = detail["quantization"]
        self._scale = np.float32(scale)
        self._zero = np.float32(zero)

    def read(self, interpreter: Any) -> Floats:
        raw = interpreter.get_tensor(self._index)[0].astype(np.float32)
        return np.asarray((raw - self._zero) * self._scale, np.float32)
