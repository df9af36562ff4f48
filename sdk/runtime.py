"""The seam to the interpreter: LiteRT, or tflite-runtime where only that is installed."""

import ctypes
import importlib
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import ArtifactCorrupt, InputError, MissingExtra

Floats = NDArray[np.float32]
RUNTIMES: Final = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
MAX_THREADS: Final = 64


class Mapped(os.PathLike[str]):
    """An open file that begins with the model, for the runtime to map into memory.

    Its path leads to the open file itself and not to a name, so what is later put in the file's place is not read.
    The file stays open as long as this value lives. Needs Linux's /proc.
    """

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is open for reading, and from now on this value's to close."""
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def __fspath__(self) -> str:
        return f"/proc/self/fd/{self._descriptor}"


# The flatbuffer's bytes, or a file that begins with them.
Model: TypeAlias = bytes | os.PathLike[str]


class Outputs(NamedTuple):
    """Which of the model's outputs are the features, by ascending depth, and which the base logits."""

    features: tuple[int, ...]
    logits: int


@dataclass(frozen=True)
class Options:
    """How the interpreter runs: 1 to 64 threads, and the path of a delegate's shared library.

    The library is what both runtimes call an external delegate, and its code runs in this process with all its rights:
    take none from the network. None stands for the built-in kernels. Raises InputError.
    """

    threads: int = 1
    delegate: str | Path | None = None

    def __post_init__(self) -> None:
        if type(self.threads) is not int or not 1 <= self.threads <= MAX_THREADS:
            raise InputError(f"threads is {self.threads!r}, and it must be 1 to {MAX_THREADS}")
        if self.delegate is not None and not (isinstance(self.delegate, (str, Path)) and str(self.delegate)):
            raise InputError(f"the delegate is {self.delegate!r}, and it must be the path of a shared library")


def open_interpreter(model: Model, options: Options = Options()) -> tuple[str, Any]:
    """Name of the runtime and an interpreter of `model`, its tensors not allocated yet.

    Keep `model` as long as the interpreter, which reads it in place. Raises MissingExtra without a runtime,
    ArtifactCorrupt if it can't read the model, InputError if the delegate can't be loaded or does not take the model.
    """
    name, interpreter = load_interpreter()
    source: dict[str, Any] = {"model_content": model} if isinstance(model, bytes) else {"model_path": os.fspath(model)}
    if options.delegate is not None:
        # First without: what fails from here on is the delegate's fault, not the model's.
        _opened(name, interpreter, source, options.threads)
        return name, _delegated(name, interpreter, source, options.threads, str(options.delegate))
    return name, _opened(name, interpreter, source, options.threads)


def load_interpreter() -> tuple[str, Any]:
    """Name and class of the installed interpreter. Raises MissingExtra if there is none."""
    for module in RUNTIMES:
        try:
            return module.partition(".")[0], importlib.import_module(module).Interpreter
        except ModuleNotFoundError:
            continue
    raise MissingExtra("no TFLite runtime: pip install ai-edge-litert, or pip install 'tasuki[tflite-runtime]'")


def _opened(name: str, interpreter: Any, source: Mapping[str, Any], threads: int) -> Any:
    try:
        return interpreter(**source, num_threads=threads)
    except (ValueError, RuntimeError) as error:
        raise ArtifactCorrupt(f"{name} can't load the model: {error}") from None


def _delegated(name: str, interpreter: Any, source: Mapping[str, Any], threads: int, library: str) -> Any:
    # Beside the class in both runtimes.
    load = importlib.import_module(f"{name}.interpreter").load_delegate
    try:
        # Looked at first: on a library that is none, the runtimes' own loader leaves a broken object behind.
        found = ctypes.CDLL(library)
        _ = found.tflite_plugin_create_delegate, found.tflite_plugin_destroy_delegate
        return interpreter(**source, num_threads=threads, experimental_delegates=[load(library)])
    except (OSError, AttributeError, ValueError, RuntimeError) as error:
        words = " ".join(str(error).split())
        raise InputError(f"the delegate {library} can't be used by {name}: {words}") from None


class Body:
    """The frozen body: ids in, features and base logits out. Not thread-safe: an interpreter has one set of buffers.

    Outputs are int8 or int16, which are dequantised, or float32. Raises ArtifactCorrupt, MissingExtra, InputError.
    """

    def __init__(self, model: Model, outputs: Outputs, options: Options = Options()) -> None:
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
            self.features = tuple(Output(details[output]) for output in outputs.features)
            self.logits = Output(details[outputs.logits])
            self._logits = self.logits.index
        except (ValueError, RuntimeError, IndexError) as error:
            raise ArtifactCorrupt(f"{self.runtime} can't load the model: {error}") from None
        # Bound once: `answer` is what every text waits for.
        self._set, self._invoke = self._interpreter.set_tensor, self._interpreter.invoke
        self._get = self._interpreter.get_tensor

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of features of each depth."""
        return tuple(output.width for output in self.features)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of all features and of base logits."""
        return sum(self.widths), self.logits.width

    def run(self, ids: NDArray[np.int32]) -> tuple[Floats, Floats]:
        """Features float32 [d], of all depths in their order, and base logits float32 [C] of `ids` int32 [tokens].

        Raises ArtifactCorrupt if the model can't be run on them.
        """
        logits = self.logits.real(self.answer(ids[None])[0])
        features = np.concatenate(
            [output.real(raw) for output, raw in zip(self.features, self.raw_features(), strict=True)]
        )
        return features, logits

    def answer(self, ids: NDArray[np.int32]) -> NDArray[Any]:
        """The base logits as the model gives them, [1, C] on the grid of `logits`, of `ids` int32 [1, tokens].

        Raises ArtifactCorrupt if the model can't be run on them.
        """
        try:
            self._set(self._ids, ids)
            self._invoke()
            found: NDArray[Any] = self._get(self._logits)
        except (ValueError, RuntimeError) as error:
            raise ArtifactCorrupt(f"{self.runtime} can't run the model: {error}") from None
        return found

    def raw_features(self) -> tuple[NDArray[Any], ...]:
        """The features of the ids that `answer` was last given, [width] of each depth on its own grid."""
        get, features = self._get, self.features
        if len(features) == 1:
            return (get(features[0].index)[0],)
        return tuple([get(output.index)[0] for output in features])


class Output:
    """One output [1, width]: its tensor's `index`, `width`, `dtype` (int8, int16 or float32), and its grid.

    ``real = scale (q - zero)``; `scale` is 1 and `zero` 0 where it is float32. Raises ValueError for another output.
    """

    def __init__(self, detail: Mapping[str, Any]) -> None:
        name, shape = detail["name"], detail["shape"]
        if len(shape) != 2 or shape[0] != 1:
            raise ValueError(f"output {name} is not of the shape [1, width]")
        self.index: int = detail["index"]
        self.width = int(shape[1])
        self.dtype = np.dtype(detail["dtype"])
        self.scale, self.zero = np.float32(1), np.float32(0)
        if self.dtype == np.float32:
            return
        scale, zero = detail["quantization"]
        if self.dtype not in (np.int8, np.int16) or not 0 < scale < np.inf:
            raise ValueError(f"output {name} is neither int8 nor int16 with a scale, nor float32")
        self.scale, self.zero = np.float32(scale), np.float32(zero)

    def real(self, raw: NDArray[Any]) -> Floats:
        """Values float32 of `raw` of this output, of any shape. Raises ArtifactCorrupt for one that is not finite."""
        if self.dtype != np.float32:
            return np.asarray((raw.astype(np.float32) - self.zero) * self.scale, np.float32)
        if not np.isfinite(raw).all():
            raise ArtifactCorrupt("the model gives a value that is not finite")
        return np.asarray(raw, np.float32)
