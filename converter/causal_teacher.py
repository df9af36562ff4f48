"""What a causal teacher expects after each token of the training text: its most probable next tokens, kept on disk.

The teacher reads the student's tokens, each of which is one of its own, and only the student's vocabulary counts. Its
last layer learns the text's manner first (`causal_head`): a turn of its features, a bias and a temperature. What it
says about a third of the text comes from a last layer that learned from the other two, so it does not repeat what it
was told. Reading takes long, so what is read is kept at once: an interrupted reading goes on where it was.
"""

import hashlib
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasuki.converter import causal_head, execute, llama, pack
from tasuki.converter.causal_texts import Windows
from tasuki.converter.families import Checkpoint, LlamaConfig
from tasuki.converter.graph import Floats, Graph
from tasuki.converter.sources import cache_folder
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import ConversionError

# Raise it when a change of the code changes what comes out.
_VERSION: Final = 3
_BATCH: Final = 16
# Windows in one file of what was read so far.
_KEPT: Final = 128
_FOLDS: Final = 3


@dataclass(frozen=True)
class Expected:
    """Of the successor of each token of the training text: the most probable `ids` uint16 [n, tokens, top] and their
    shares `logs` (natural logarithms, float16, same shape).

    `plain` and `adapted` are the mean losses on the held-out text, in nats a token: the teacher's over the student's
    vocabulary, before and after its last layer learned from the whole training text.
    """

    ids: NDArray[np.uint16]
    logs: NDArray[np.float16]
    plain: float
    adapted: float


def study(
    teacher: Checkpoint,
    kept: NDArray[np.int32],
    train: Windows,
    held_out: Windows,
    top: int = 64,
    *,
    progress: Progress,
) -> Expected:
    """What `teacher` expects in `train`; windows are int32 [n, tokens + 1] of student's ids, the start token first.

    `kept` int32 [vocabulary] gives the teacher's id of each. From the cache if the same was studied before. Raises
    ConversionError if the teacher is no decoder.
    """
    key = hashlib.sha256(f"{_VERSION} {teacher.sha256} {top} {train.shape} {held_out.shape}".encode())
    for part in (kept, train, held_out):
        key.update(np.ascontiguousarray(part).tobytes())
    name = key.hexdigest()[:24]
    file = cache_folder() / "expected" / f"{name}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as arrays:
            return Expected(arrays["ids"], arrays["logs"], *map(float, arrays["losses"]))
    folder = file.with_name(f"{name}.read")
    found = _study(teacher, kept, train, held_out, min(top, len(kept)), folder, progress)
    content = io.BytesIO()
    np.savez(content, ids=found.ids, logs=found.logs, losses=np.array([found.plain, found.adapted]))
    pack.write(file, content.getvalue())
    shutil.rmtree(folder)
    return found


def _study(
    teacher: Checkpoint,
    kept: NDArray[np.int32],
    train: Windows,
    held_out: Windows,
    top: int,
    folder: Path,
    progress: Progress,
) -> Expected:
    both = np.concatenate([held_out, train])
    features, head = read(teacher, kept, both, lambda done, total: progress("teacher reads", done, total, ""), folder)
    heard, taught = features[: len(held_out)], features[len(held_out) :]
    progress("teacher's head", 0, _FOLDS + 1, "")
    plain = causal_head.loss(causal_head.first(head), heard, held_out)
    adapted = causal_head.loss(causal_head.fit(head, taught, train), heard, held_out)
    ids, logs = np.empty((*train[:, 1:].shape, top), np.uint16), np.empty((*train[:, 1:].shape, top), np.float16)
    fold = np.arange(len(train)) * _FOLDS // len(train)
    for number in range(_FOLDS):
        progress("teacher's head", number + 1, _FOLDS + 1, f"perplexity {np.exp(adapted):.1f}")
        others, mine = fold != number, fold == number
        learned = causal_head.fit(head, taught[others], train[others])
        ids[mine], logs[mine] = causal_head.most_probable(learned, taught[mine], top)
    progress("teacher's head", _FOLDS + 1, _FOLDS + 1, f"perplexity {np.exp(adapted):.1f}")
    return Expected(ids, logs, plain, adapted)


def read(
    teacher: Checkpoint,
    kept: NDArray[np.int32],
    windows: Windows,
    progress: Callable[[int, int], None],
    folder: Path,
) -> tuple[NDArray[np.float16], Floats]:
    """The teacher's features [n, tokens, width] of `windows`, and its last layer [vocabulary, width].

    What is read is kept in `folder`, which belongs to this teacher and these windows; what is there is not read again.
    """
    if not isinstance(teacher.config, LlamaConfig):
        raise ConversionError(f"{teacher.name} is no decoder: it can't teach a causal student")
    words = teacher.tensors["model.embed_tokens.weight"]
    head = words if teacher.config.tied else teacher.tensors["lm_head.weight"]
    # Only the student's words: fewer rows to gather from.
    config = replace(teacher.config, tied=False, vocabulary=len(kept))
    weights = {**teacher.tensors, "model.embed_tokens.weight": words[kept], "lm_head.weight": head[kept]}
    # The start token is the attention sink and has slot 0 of the cache.
    graph = _without_logits(llama.lower(config, weights, 1, 1))
    empty = {name: np.zeros(shape, np.float32) for name, shape in graph.inputs.items() if name in graph.cached}
    start = execute.run(graph, {"ids": windows[:1, :1], "position": np.zeros(1, np.int32), **empty})
    cache = {name: np.repeat(start[name].numpy(), _BATCH, 0) for name in empty}
    n, tokens = len(windows), windows.shape[1] - 1
    step = _compiled(_without_logits(llama.lower(config, weights, tokens - 1, 1)), cache)
    features = np.empty((n, tokens, config.width), np.float16)
    features[:, 0] = start["features"].numpy()
    for first in range(0, n, _KEPT):
        file = folder / f"{first:06}.npy"
        if not file.is_file():
            found = []
            for row in range(first, min(first + _KEPT, n), _BATCH):
                found.append(_features(step, windows[row : row + _BATCH, 1:-1]))
                progress(min(row + _BATCH, n), n)
            content = io.BytesIO()
            np.save(content, np.concatenate(found))
            pack.write(file, content.getvalue())
        features[first : first + _KEPT, 1:] = np.load(file, allow_pickle=False)
    return features, head[kept]


def _features(step: Any, ids: Windows) -> NDArray[np.float16]:
    filled = np.concatenate([ids, np.repeat(ids[-1:], _BATCH - len(ids), 0)])
    found = step(tf.constant(filled)).numpy().reshape(*filled.shape, -1)
    return np.asarray(found[: len(ids)], np.float16)


def _without_logits(graph: Graph) -> Graph:
    logits = graph.outputs.pop("logits")
    graph.nodes = [node for node in graph.nodes if node.output != logits]
    return graph


def _compiled(graph: Graph, cache: dict[str, Floats]) -> Any:
    # As arguments: what is traced as a constant, XLA keeps several times.
    constants = {name: tf.constant(value) for name, value in graph.constants.items()}

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def step(ids: tf.Tensor) -> tf.Tensor:
        return execute.run(graph, {"ids": ids, "position": np.ones(1, np.int32), **cache}, constants)["features"]

    return step
