"""The seam to the interpreter: LiteRT, or tflite-runtime where only that is installed."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import ArtifactCorrupt, MissingExtra

Floats = NDArray[np.float32]
RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


@dataclass(frozen=True)
class Outputs:
    """Which of the model's outputs are the features, by ascending depth, and which the base logits."""

    features: tuple[int, ...]
    logits: int


@dataclass(frozen=True)
class Options:
    """How the interpreter runs: threads, and the path of a delegate's shared library (None: the built-in kernels)."""

    threads: int = 1
    delegate: str | None = None


def open_interpreter(model: bytes | Path, options: Options) -> tuple[str, Any]:
    """Name of the runtime and an interpreter of `model` (its bytes, or a file that the runtime maps into memory).

    Tensors are not allocated yet. Raises MissingExtra without a runtime, ArtifactCorrupt if it can't read the model.
    """
    name, interpreter = load_interpreter()
    source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    try:
        return name, interpreter(**source, num_threads=options.threads)
    except (ValueError, RuntimeError) as error:
        raise ArtifactCorrupt(f"{name} can't load the model: {error}") from None


def load_interpreter() -> tuple[str, Any]:
    """Name and class of the installed interpreter. Raises MissingExtra if there is none."""
    for module in RUNTIMES:
        try:
            return module.partition(".")[0], importlib.import_module(module).Interpreter
        except ModuleNotFoundError:
            continue
    raise MissingExtra("no TFLite runtime: pip install ai-edge-litert, or pip install 'tasuki[tflite-runtime]'")


class Body:
    """The frozen body: ids in, features and base logits out. Not thread-safe: an interpreter has one set of buffers.

    Outputs are int8 or int16, which are dequantised, or float32. Raises ArtifactCorrupt, MissingExtra.
    """

    def __init__(self, model: bytes | Path, outputs: Outputs, options: Options = Options()) -> None:
        self.runtime, self._interpreter = open_interpreter(model, options)
        # The interpreter reads the flatbuffer in place.
        self._model = model
        try:
            self._interpreter.allocate_tensors()
            (ids,) = self._interpreter.get_input_details()
            details = self._interpreter.get_output_details()
            if ids["dtype"] is not np.int32 or len(ids["shape"]) != 2 or ids["shape"][0] != 1:
                raise ValueError("the input is not int32 [1, tokens]")
            self._ids: int = ids["index"]
            self.tokens = int(ids["shape"][1])
            self._features = [_Output(details[output]) for output in outputs.features]
            self._logits = _Output(details[outputs.logits])
        except (ValueError, RuntimeError, IndexError) as error:
            raise ArtifactCorrupt(f"{self.runtime} can't load the model: {error}") from None

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of features of each depth."""
        return tuple(output.width for output in self._features)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of all features and of base logits."""
        return sum(self.widths), self._logits.width

    def run(self, ids: NDArray[np.int32]) -> tuple[Floats, Floats]:
        """Features float32 [d], of all depths in their order, and base logits float32 [C] of `ids` int32 [tokens].

        Raises ArtifactCorrupt if the model can't be run on them.
        """
        try:
            self._interpreter.set_tensor(self._ids, ids[None])
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ArtifactCorrupt(f"{self.runtime} can't run the model: {error}") from None
        features = np.concatenate([output.read(self._interpreter) for output in self._features])
        return features, self._logits.read(self._interpreter)


class _Output:
    """One output [1, width] and how to turn it into float32."""

    def __init__(self, detail: Mapping[str, Any]) -> None:
        name, shape = detail["name"], detail["shape"]
        if len(shape) != 2 or shape[0] != 1:
            raise ValueError(f"output {name} is not of the shape [1, width]")
        self._index: int = detail["index"]
        self.width = int(shape[1])
        self._float = detail["dtype"] is np.float32
        if self._float:
            return
        scale, zero = detail["quantization"]
        if detail["dtype"] not in (np.int8, np.int16) or not 0 < scale < np.inf:
            raise ValueError(f"output {name} is neither int8 nor int16 with a scale, nor float32")
        self._scale = np.float32(scale)
        self._zero = np.float32(zero)

    def read(self, interpreter: Any) -> Floats:
        raw = interpreter.get_tensor(self._index)[0].astype(np.float32)
        if not self._float:
            return np.asarray((raw - self._zero) * self._scale, np.float32)
        if not np.isfinite(raw).all():
            raise ArtifactCorrupt("the model gives a value that is not finite")
        return np.asarray(raw, np.float32)
