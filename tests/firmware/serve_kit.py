"""Images of the serial application, for this machine and for the boards, and what the SDK says to the same lines."""

import functools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from firmware.graph_kit import Micro
from firmware.text_kit import fresh_folder
from numpy.typing import NDArray

from tasuki.firmware_bridge import build, text
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.target import boards, image, measure, qemu
from tasuki.firmware_bridge.target.boards import PORTS
from tasuki.firmware_bridge.target.image import Image
from tasuki.firmware_bridge.text import serial
from tasuki.sdk import artifact, confidence
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.features import Grid
from tasuki.sdk.generate import TextModel
from tasuki.sdk.runtime import Output
from tasuki.sdk.sampling import Sampler
from tasuki.sdk.scorer import Scorer
from tasuki.sdk.text_stream import TextStream
from tasuki.sdk.tokenizer import Tokenizer

_FLAGS = (
    "-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic", "-O1", "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all", *(f"-I{path}" for path in (image.RUNTIME / "include", image.RUNTIME / "src", PORTS)),
)  # fmt: skip


@functools.cache
def generated(data: bytes, learned: text.Learned | None = None) -> Generated:
    """The C of an artifact."""
    return build.generate(data, learned=learned)


@functools.cache
def linked(made: Generated, board: str = "host", main: bytes | None = None) -> Image:
    """The image with `main`, the serial application if None."""
    application = main or text.application(made.name)
    return measure.link(made, boards.get(board), application, fresh_folder() / "image.elf")


@functools.cache
def checked(made: Generated) -> Image:
    """The serial application for this machine with the sanitizers of addresses and undefined behaviour."""
    folder = fresh_folder()
    for name, content in {**made.files, "main.c": text.application(made.name)}.items():
        (folder / name).write_bytes(content)
    out = folder / "image.elf"
    subprocess.run(["cc", *_FLAGS, f"-I{folder}", *folder.glob("*.c"), *_checked_runtime(), "-o", out], check=True)
    return Image(boards.get("host"), out, None, None)


@functools.cache
def _checked_runtime() -> tuple[Path, ...]:
    """The runtime and the port, compiled with the sanitizers."""
    folder = fresh_folder()
    sources = [*image.runtime_sources(), boards.get("host").port / "port.c"]
    subprocess.run(["cc", *_FLAGS, "-c", *sources], check=True, cwd=folder)
    return tuple(folder.glob("*.o"))


@contextmanager
def serving(made: Image, timeout: float = 60.0) -> Iterator[qemu.Line]:
    """The serial line of an image that is ready."""
    with qemu.running(made.board, made.path, timeout) as line:
        serial.greet(line)
        yield line


class Classifying:
    """What TFLM followed by the SDK's adapter says, to bytes as they come over the line."""

    def __init__(self, data: bytes, learned: text.Learned | None = None) -> None:
        self.parts = parts = artifact.parse(data)
        self._micro = Micro(bytes(parts.model))
        self._tokenizer = Tokenizer(parts.vocabulary, parts.tokens)
        outputs = _outputs(parts)
        self._grids = Grid((outputs[parts.outputs.logits],)), Grid([outputs[place] for place in parts.outputs.features])
        if learned is None:
            self.labels, self._floor = parts.labels, confidence.table_floor(parts.conformal, 0.1)
            self._score = Scorer(*self._grids, parts.temperature)
        else:
            self.labels, self._floor = learned.head.labels, learned.floor
            self._score = Scorer(*self._grids, learned.temperature, learned.head, learned.gate)

    def run(self, line: bytes) -> list[NDArray[Any]]:
        """The model's outputs."""
        ids = np.zeros((1, self.parts.tokens), np.int32)
        pieces = self._tokenizer.pieces(line)
        ids[0, : len(pieces)] = pieces
        return self._micro.run([ids])

    def says(self, line: bytes) -> tuple[str, float, bool] | None:
        """Label, confidence and whether it is sure; None for a blank line."""
        if not line.removesuffix(b"\r").decode("latin-1").strip(" \t\n\r\v\f\x1c\x1d\x1e\x1f"):
            return None
        found = self.run(line)
        features = tuple(found[place].reshape(-1) for place in self.parts.outputs.features)
        best, share, second = self._score.score((found[self.parts.outputs.logits], features))
        return self.labels[best], share, share >= self._floor > second


class Writing:
    """What TFLM followed by the SDK's sampler and text stream writes."""

    def __init__(self, parts: Artifact, model: TextModel) -> None:
        self._parts, self._model = parts, model
        self._micro = Micro(bytes(parts.model))
        self._grid = _outputs(parts)[parts.outputs.logits]

    def write(self, prompt: str, most: int, sampler: Sampler) -> tuple[str, list[int], str]:
        """Text, tokens, and why it ended; the caches are the model's inputs from the third on."""
        model, cache = self._model, self._parts.manifest["cache"]
        shape = (1, cache["heads"], cache["context"], cache["width"])
        caches = [np.zeros(shape, np.int8) for _ in range(2 * cache["layers"])]
        stream, made, position = TextStream(model.tokenizer), list[int](), 0
        written, reason = "", None
        for token in [*model.first, *model.ids(prompt)]:
            logits = self._step(caches, token, position)
            position += 1
        while reason is None:
            token = sampler.pick(self._grid.real(logits[0]))
            if token in model.stops:
                reason = "stop"
                break
            made.append(token)
            written += stream.push(token)
            if len(made) == most or position == cache["context"]:
                reason = "length" if len(made) == most else "context"
                break
            logits = self._step(caches, token, position)
            position += 1
        return written + stream.end(), made, reason

    def _step(self, caches: list[NDArray[np.int8]], token: int, position: int) -> NDArray[np.int8]:
        inputs = [np.array([[token]], np.int32), np.array([position], np.int32), *caches]
        found = self._micro.run(inputs)
        for cache, new in zip(caches, found, strict=False):
            cache[:, :, position : position + 1] = new
        logits: NDArray[np.int8] = found[self._parts.outputs.logits]
        return logits


def _outputs(parts: Artifact) -> list[Output]:
    from tasuki.sdk.runtime import open_interpreter

    _, interpreter = open_interpreter(parts.model)
    interpreter.allocate_tensors()
    about = {parts.outputs.logits, *parts.outputs.features}
    return [Output(d) if n in about else None for n, d in enumerate(interpreter.get_output_details())]  # type: ignore[misc]
