"""What adding one labelled example costs beside one inference: CPU time, without its features, fsync and refit."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasuki.sdk import Device, artifact
from tasuki.sdk.classifier import Classifier
from tasuki.sdk.runtime import load_interpreter

_BLOCK: Final = 100
_WARM_UP: Final = 3


def run(file: Path, blocks: int = 40, seed: int = 0) -> dict[str, Any]:
    """Medians over blocks of 100 calls that take turns: learning, only the features, and the bare inference.

    `learn_example_ratio` is (learning - features) / inference while the cache has room, `learn_full_ratio` when every
    example has to make room.
    """
    parts = artifact.load(file)
    classifier, invoke = Classifier(parts), _bare(parts)
    rng = np.random.default_rng(seed)
    words = [piece for piece in parts.vocabulary if piece.isalpha()] or ["turn", "on", "off", "the", "light"]
    texts = [" ".join(rng.choice(words, 6)) + f" {number}" for number in range(2 * _BLOCK * (blocks + _WARM_UP))]
    labels = [str(label) for label in rng.choice(parts.labels, len(texts))]
    with tempfile.TemporaryDirectory(prefix="tasuki-learn-") as work:
        half = len(texts) // 2
        with Device.open(file, Path(work) / "room") as device:
            room = _rounds(device, classifier, invoke, texts[:half], labels, forget=True)
        with Device.open(file, Path(work) / "full") as device:
            for text, label in zip(texts[half : half + device.status()["capacity"]], labels, strict=False):
                device.learn(text, label, durable=False)
            full = _rounds(device, classifier, invoke, texts[:half], labels, forget=False)
    return {
        "learn_example_ratio": (room["learn"] - room["features"]) / room["invoke"],
        "learn_full_ratio": (full["learn"] - full["features"]) / full["invoke"],
        "learn_microseconds": room,
        "learn_full_microseconds": full,
    }


def _rounds(
    device: Device, classifier: Classifier, invoke: Callable[[], Any], texts: Sequence[str], labels: Sequence[str],
    forget: bool,
) -> dict[str, float]:  # fmt: skip
    """Microseconds of CPU of one call of each side."""
    spent: dict[str, list[float]] = {"learn": [], "features": [], "invoke": []}
    for number, start in enumerate(range(0, len(texts) - _BLOCK + 1, _BLOCK)):
        if forget and number % 9 == 8:
            device.forget(everything=True)
        block = list(zip(texts[start : start + _BLOCK], labels[start : start + _BLOCK], strict=True))

        def learn(block: list[tuple[str, str]] = block) -> None:
            for text, label in block:
                device.learn(text, label, durable=False)

        def features(block: list[tuple[str, str]] = block) -> None:
            for text, _ in block:
                classifier.run(text)

        def bare() -> None:
            for _ in range(_BLOCK):
                invoke()

        for name, action in (("features", features), ("learn", learn), ("invoke", bare)):
            began = time.thread_time_ns()
            action()
            if number >= _WARM_UP:
                spent[name].append((time.thread_time_ns() - began) / 1e3 / _BLOCK)
    return {name: float(np.median(taken)) for name, taken in spent.items()}


def _bare(parts: artifact.Artifact) -> Callable[[], Any]:
    _, interpreter = load_interpreter()
    made = interpreter(model_content=parts.model, num_threads=1)
    made.allocate_tensors()
    invoke: Callable[[], Any] = made.invoke
    made.set_tensor(made.get_input_details()[0]["index"], np.zeros((1, parts.tokens), np.int32))
    return invoke
