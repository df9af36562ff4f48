"""Held-out answers: no example has a part in the fit that answers it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.sdk import adapter, held_out, kinds
from tasuki.sdk.problem import Problem, subset

LABELS = ("a", "b", "c")


def make(count: int, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    return Problem(
        LABELS,
        rng.standard_normal((count, 4)).astype(np.float32),
        rng.standard_normal((count, 3)).astype(np.float32),
        np.arange(count) % 3,
        np.eye(5, dtype=np.float32),
        np.ones(3),
    )


@pytest.mark.parametrize("name", kinds.NAMES)
@pytest.mark.parametrize("count", [5, 30])
def test_the_own_label_and_the_own_features_play_no_part(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, kind = make(count), kinds.make(name, 4, rank=2)
    # Stratified folds follow the labels: hold them still, to see the fits alone.
    folds = held_out.assign(problem.targets, 5, 0)
    monkeypatch.setattr(held_out, "assign", lambda *_: folds)
    before = held_out.held_out(kind, problem)
    assert before.dtype == np.float32
    own = 2
    targets = problem.targets.copy()
    targets[own] = (targets[own] + 1) % 3
    after = held_out.held_out(kind, replace(problem, targets=targets))
    assert np.array_equal(after[own], before[own])
    others = folds != folds[own]
    assert (np.abs(after - before).max(1) > 1e-5)[others].all()
    features = problem.features.copy()
    features[own] *= -3
    moved = held_out.held_out(kind, replace(problem, features=features))
    assert np.array_equal(
        moved[folds == folds[own]][:, 0] != before[folds == folds[own]][:, 0], _only(own, folds, name)
    )
    if name != "bias":
        assert (np.abs(moved - before).max(1) > 1e-6)[others].all()


def _only(own: int, folds: np.ndarray, name: str) -> np.ndarray:
    """In the fold of `own` its answer alone follows its features, and not even that where features are not seen."""
    return (np.flatnonzero(folds == folds[own]) == own) & (name != "bias")


def test_each_answer_is_that_of_a_fit_to_the_other_folds() -> None:
    problem, kind = make(17), kinds.make("head", 4)
    folds = held_out.assign(problem.targets, 4, 3)
    answers = held_out.held_out(kind, problem, folds=4, seed=3)
    offset = problem.offsets(np.arange(17))
    for fold in range(4):
        inside = folds == fold
        head = kind.fit(subset(problem, np.flatnonzero(~inside)))
        wanted = adapter.logits(head, problem.features[inside], offset[inside])
        assert np.array_equal(answers[inside], wanted)


def test_few_examples_are_left_out_one_by_one() -> None:
    for count in range(1, 6):
        assert sorted(held_out.assign(np.zeros(count, np.intp), 5, 0).tolist()) == list(range(count))
    problem = make(1)
    assert np.array_equal(held_out.held_out(kinds.make("head", 4), problem), problem.offsets(np.arange(1)))
    assert held_out.held_out(kinds.make("head", 4), subset(problem, np.zeros(0, np.intp))).shape == (0, 3)


def test_a_label_of_one_example_is_answered_without_it() -> None:
    problem = make(30)
    targets = np.where(np.arange(30) == 7, 2, np.arange(30) % 2)
    answers = held_out.held_out(kinds.make("bias", 4), replace(problem, targets=targets))
    # A fit that knows no example of the label lowers it most.
    added = (answers - problem.offsets(np.arange(30)))[:, 2]
    assert added[7] == pytest.approx(added.min(), abs=1e-5)
    assert added[7] < added.max() - 0.1


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(2, 7), st.integers(0, 9))
@settings(deadline=None)
def test_folds_are_even_in_size_and_in_labels(targets: list[int], folds: int, seed: int) -> None:
    labels = np.array(targets)
    places = held_out.assign(labels, folds, seed)
    assert np.array_equal(places, held_out.assign(labels, folds, seed))
    for some in (labels >= 0, *(labels == label for label in set(targets))):
        sizes = np.bincount(places[some], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_one_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="folds"):
        held_out.held_out(kinds.make("head", 4), make(9), folds=1)


def test_an_offset_by_rows_gives_the_same_answers_with_statistics() -> None:
    problem = make(20)
    table = problem.offsets(np.arange(20))
    kind = kinds.make("statistics", 4)
    by_rows = replace(problem, offset=lambda rows: table[rows])
    assert np.array_equal(held_out.held_out(kind, by_rows), held_out.held_out(kind, problem))


def test_losses_are_cross_entropies() -> None:
    logits = np.array([[0.0, 0.0], [1000.0, 0.0], [-1000.0, 0.0]], np.float32)
    found = held_out.losses(logits, np.array([0, 0, 0]))
    assert found.dtype == np.float64
    assert found.tolist() == pytest.approx([np.log(2), 0.0, 1000.0])
