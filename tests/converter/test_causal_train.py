"""Training of a causal student: with a teacher and without, interrupted and not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasuki.converter import causal_train, standing
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.causal_teacher import Expected
from tasuki.converter.causal_train import CausalRecipe, Trained
from tasuki.converter.standing import Standing
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import ConversionError

SHAPE = CausalShape(vocabulary=12, context=8, width=16, layers=1, heads=2, inner=16)
RECIPE = CausalRecipe(epochs=4, batch=4, context=8, windows=32, dropped=0.0, rate=1e-2)


def silent(phase: str, done: int, total: int, note: str) -> None:
    pass


def cycle(count: int) -> np.ndarray:
    """Each token is followed by the next, but half of the time by a random one."""
    rng = np.random.default_rng(5)
    rows = np.zeros((count, 9), np.int32)
    for at in range(1, 9):
        random = rng.integers(1, 12, count)
        rows[:, at] = np.where(rng.random(count) < 0.5, random, rows[:, at - 1] % 11 + 1)
    return rows


def truth(windows: np.ndarray) -> Expected:
    """The distribution that `cycle` draws from."""
    ids = np.broadcast_to(np.arange(1, 12, dtype=np.uint16), (*windows[:, 1:].shape, 11))
    shares = np.full(ids.shape, 0.5 / 11)
    np.put_along_axis(shares, (windows[:, :-1] % 11)[..., None], 0.5 + 0.5 / 11, -1)
    return Expected(ids.copy(), np.log(shares).astype(np.float16), 0.0, 0.0)


def test_a_teacher_who_knows_the_truth_helps() -> None:
    windows, validation, held_out = cycle(48), cycle(240)[48:144], cycle(240)[144:]
    recipe = replace(RECIPE, epochs=12)
    alone = causal_train.train(SHAPE, windows, validation, None, recipe, silent)
    taught = causal_train.train(SHAPE, windows, validation, truth(windows), recipe, silent)
    losses = [causal_train.loss(SHAPE, arm.weights, held_out) for arm in (alone, taught)]
    assert losses[1] < losses[0]


# A rate at which the validation gets worse at times, so that best weights and halvings matter.
ROUGH = replace(RECIPE, epochs=7, rate=0.5, dropped=0.2)
SAID, VALIDATION = cycle(24)[:16], cycle(24)[16:]


def rough(file: Path | None, progress: Progress = silent) -> Trained:
    return causal_train.train(SHAPE, SAID, VALIDATION, truth(SAID), ROUGH, progress, file)


@pytest.fixture(scope="module")
def whole() -> Trained:
    return rough(None)


def test_the_best_epoch_is_kept(whole: Trained) -> None:
    assert min(whole.losses) < whole.losses[-1]
    assert causal_train.loss(SHAPE, whole.weights, VALIDATION) == pytest.approx(min(whole.losses), abs=1e-5)


def test_an_interrupted_training_ends_in_the_same_weights(whole: Trained, tmp_path: Path) -> None:
    def interrupt(phase: str, done: int, total: int, note: str) -> None:
        # Told after the first step of an epoch, which is lost.
        if done == 12 and note.startswith("loss"):
            raise KeyboardInterrupt

    file = tmp_path / "training.npz"
    with pytest.raises(KeyboardInterrupt):
        rough(file, interrupt)
    told: list[int] = []
    found = rough(file, lambda phase, done, total, note: told.append(done))
    assert told[0] == 12
    assert found.losses == whole.losses
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(value, found.weights[name], err_msg=name)
    told.clear()
    assert rough(file, lambda phase, done, total, note: told.append(done)).losses == whole.losses
    assert told == [28]

    def first(phase: str, done: int, total: int, note: str) -> None:
        told.append(done)
        raise KeyboardInterrupt

    # Another training begins anew.
    with pytest.raises(KeyboardInterrupt):
        causal_train.train(SHAPE, SAID, VALIDATION, truth(SAID), replace(ROUGH, seed=1), first, file)
    assert told[-1] == 0


def test_a_recipe_is_sized_for_a_shape() -> None:
    found = CausalRecipe(seed=3).sized(SHAPE)
    assert (found.seed, found.vocabulary, found.context) == (3, 12, 8)
    assert CausalShape(found.vocabulary, found.context, **found.shape) == SHAPE


def test_too_little_text_is_refused() -> None:
    with pytest.raises(ConversionError, match="3 windows of 8 tokens do not make one batch of 4: give more text"):
        causal_train.train(SHAPE, cycle(3), cycle(3), None, RECIPE, silent)


# What is kept


STANDING = Standing({"count": 3, "losses": [0.1, 1 / 3]}, {"a": np.arange(4, dtype=np.float32)})


def test_a_standing_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "training.npz"
    standing.keep(file, "key", STANDING)
    found = standing.find(file, "key")
    assert found is not None
    assert found.about == STANDING.about
    np.testing.assert_array_equal(found.arrays["a"], STANDING.arrays["a"])
    assert standing.find(file, "another") is None
    assert standing.find(tmp_path / "none.npz", "key") is None
    assert [path.name for path in tmp_path.iterdir()] == ["training.npz"]


def test_a_damaged_standing_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "training.npz"
    standing.keep(file, "key", STANDING)
    whole = file.read_bytes()
    for size in range(0, len(whole), 7):
        file.write_bytes(whole[:size])
        with pytest.raises(ConversionError, match="damaged"):
            standing.find(file, "key")


def test_the_key_depends_on_everything() -> None:
    base = standing.key({"a": 1}, {"x": np.zeros(4, np.float32)})
    others = [
        standing.key({"a": 2}, {"x": np.zeros(4, np.float32)}),
        standing.key({"a": 1}, {"x": np.ones(4, np.float32)}),
        standing.key({"a": 1}, {"x": np.zeros((2, 2), np.float32)}),
        standing.key({"a": 1}, {"x": np.zeros(4, np.int32)}),
        standing.key({"a": 1}, {"y": np.zeros(4, np.float32)}),
    ]
    assert len({base, *others}) == 6
