"""What a causal teacher expects: its features, its last layer, and that a long reading is kept."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasuki.converter import causal_head, causal_teacher, causal_toy, llama, pruned
from tasuki.converter import execute as execution
from tasuki.converter.causal_teacher import Expected
from tasuki.converter.causal_texts import windows
from tasuki.converter.families import LlamaConfig
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import ConversionError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TASUKI_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def small() -> pruned.Pruned:
    return pruned.prune(causal_toy.teacher(0).tokenizer, causal_toy.talk(0).train, 300, 0, [1])


def test_features_are_those_of_the_whole_teacher(small: pruned.Pruned, tmp_path: Path) -> None:
    teacher = causal_toy.teacher(0)
    assert isinstance(teacher.config, LlamaConfig)
    said = windows(small.load(), causal_toy.talk(0).train[:2], 10, 0, 3)
    features, head = causal_teacher.read(teacher, small.kept, said, lambda done, total: None, tmp_path)
    graph = llama.lower(teacher.config, teacher.tensors, 10, 1)
    cache = {name: np.zeros((3, *graph.inputs[name][1:]), np.float32) for name in graph.cached}
    ids = small.kept[said[:, :-1]]
    found = execution.run(graph, {"ids": ids, "position": np.zeros(1, np.int32), **cache})
    np.testing.assert_allclose(features.reshape(30, -1), found["features"], atol=5e-3)
    logits = found["logits"].numpy()[:, small.kept]
    np.testing.assert_allclose(features.reshape(30, -1).astype(np.float32) @ head.T, logits, atol=0.1)


def test_the_last_layer_learns_the_text() -> None:
    rng = np.random.default_rng(0)
    head = rng.standard_normal((20, 8)).astype(np.float32)
    features = rng.standard_normal((64, 40, 8)).astype(np.float16)
    windows = rng.choice(20, (64, 41), p=np.r_[0.62, np.full(19, 0.02)]).astype(np.int32)
    before = causal_head.loss(causal_head.first(head), features, windows)
    learned = causal_head.fit(head, features, windows)
    assert causal_head.loss(learned, features, windows) < before
    ids, logs = causal_head.most_probable(learned, features, 20)
    assert ids.shape == logs.shape == (64, 40, 20)
    np.testing.assert_allclose(np.exp(logs.astype(np.float32)).sum(-1), 1, atol=5e-3)


def studied(small: pruned.Pruned, progress: Progress) -> Expected:
    said = windows(small.load(), causal_toy.talk(0).train, 10, 0, 12)
    return causal_teacher.study(causal_toy.teacher(0), small.kept, said[:9], said[9:], 8, progress=progress)


def same(first: Expected, second: Expected) -> None:
    assert (first.plain, first.adapted) == (second.plain, second.adapted)
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(first.logs, second.logs)


def test_what_was_studied_is_kept(small: pruned.Pruned, own_cache: Path) -> None:
    told: list[tuple[str, int, int]] = []
    first = studied(small, lambda phase, done, total, note: told.append((phase, done, total)))
    assert ("teacher reads", 12, 12) in told
    assert told[-1] == ("teacher's head", 4, 4)
    told.clear()
    same(first, studied(small, lambda phase, done, total, note: told.append((phase, done, total))))
    assert not told
    assert [path.suffix for path in (own_cache / "expected").iterdir()] == [".npz"]


def test_an_interrupted_reading_goes_on(
    small: pruned.Pruned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    said = windows(small.load(), causal_toy.talk(0).train, 10, 0, 12)
    monkeypatch.setattr(causal_teacher, "_BATCH", 2)
    monkeypatch.setattr(causal_teacher, "_KEPT", 4)

    def read(progress: Callable[[int, int], None]) -> np.ndarray:
        return causal_teacher.read(causal_toy.teacher(0), small.kept, said, progress, tmp_path)[0]

    def interrupt(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(interrupt)
    told: list[int] = []
    found = read(lambda done, total: told.append(done))
    assert told == [10, 12]
    shutil.rmtree(tmp_path)
    np.testing.assert_array_equal(found, read(lambda done, total: None))


def test_an_encoder_is_no_teacher(small: pruned.Pruned) -> None:
    said = np.zeros((1, 9), np.int32)
    with pytest.raises(ConversionError, match="toy is no decoder"):
        causal_teacher.study(
            replace(causal_toy.teacher(0), config=None),
            small.kept,
            said,
            said,
            progress=lambda phase, done, total, note: None,
        )
