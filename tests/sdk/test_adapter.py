"""The head: its mathematics against an independent solver, and its promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tasuki.sdk import adapter


def problem(seed: int, count: int = 40, width: int = 5, labels: int = 3) -> tuple[adapter.Head, tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, width)).astype(np.float32)
    base = rng.standard_normal((count, labels)).astype(np.float32)
    targets = rng.integers(0, labels, count)
    inputs = np.c_[rng.standard_normal((200, width)) * rng.uniform(0.1, 2, width), np.ones(200)]
    moment = (inputs.T @ inputs / 200).astype(np.float32)
    anchor = adapter.from_joined([f"l{i}" for i in range(labels)], 0.3 * rng.standard_normal((labels, width + 1)))
    return anchor, (features, base, targets, moment)


def objective(
    joined: np.ndarray, anchor: adapter.Head, data: tuple[np.ndarray, ...], strength: float | np.ndarray
) -> float:
    features, base, targets, moment = data
    scores = base + np.c_[features, np.ones(len(features))] @ joined.T
    scores = scores - scores.max(1, keepdims=True)
    loss = (np.log(np.exp(scores).sum(1)) - scores[np.arange(len(targets)), targets]).sum()
    moved = joined - anchor.joined
    pulled = np.diag(moved @ (moment + 1e-3 * np.eye(len(moment))) @ moved.T)
    return float(loss + 0.5 * (strength * pulled).sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strength", [0.1, 1.0, 30.0, np.array([1.0, 1.0, 0.1])], ids=str)
def test_fit_finds_what_an_independent_solver_finds(seed: int, strength: float | np.ndarray) -> None:
    anchor, data = problem(seed)
    ours = adapter.fit(anchor, *data, strength).joined.astype(np.float64)
    theirs = minimize(
        lambda flat: objective(flat.reshape(ours.shape), anchor, data, strength),
        anchor.joined.astype(np.float64).ravel(),
        method="BFGS",
    )
    assert objective(ours, anchor, data, strength) <= theirs.fun + 1e-3 * max(1.0, theirs.fun)


def test_fit_does_not_depend_on_where_it_starts() -> None:
    anchor, data = problem(9)
    far = adapter.from_joined(anchor.labels, np.full_like(anchor.joined, 2.0))
    first = adapter.fit(anchor, *data, 1.0)
    second = adapter.fit(anchor, *data, 1.0, start=far)
    np.testing.assert_allclose(first.joined, second.joined, atol=2e-3)


def test_no_examples_leave_the_anchor() -> None:
    anchor, (features, base, targets, moment) = problem(1)
    assert adapter.fit(anchor, features[:0], base[:0], targets[:0], moment, 1.0) is anchor


@given(st.floats(1.0, 1e4), st.integers(0, 50))
@settings(deadline=None, max_examples=25)
def test_stronger_pull_changes_public_logits_less(strength: float, seed: int) -> None:
    anchor, data = problem(seed)
    moment = data[3].astype(np.float64)

    def change(head: adapter.Head) -> float:
        moved = (head.joined - anchor.joined).astype(np.float64)
        return float(np.trace(moved @ moment @ moved.T))

    weak = change(adapter.fit(anchor, *data, strength))
    strong = change(adapter.fit(anchor, *data, 4 * strength))
    assert strong <= weak + 1e-6


def test_select_matches_rows_by_name() -> None:
    head = adapter.from_joined(["a", "b"], np.arange(6.0).reshape(2, 3))
    other = adapter.select(head, ["b", "own", "a"])
    assert other.joined.tolist() == [[3, 4, 5], [0, 0, 0], [0, 1, 2]]


def test_labels_without_a_base_logit_start_at_zero() -> None:
    head = adapter.zero(["a", "b", "own"], 2)
    scores = adapter.logits(head, np.ones((1, 2), np.float32), np.array([[1.0, 2.0]], np.float32))
    assert scores.tolist() == [[1.0, 2.0, 0.0]]


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        adapter.Head(("a",), np.zeros((2, 3), np.float32), np.zeros(2, np.float32))


def test_the_body_answers_where_it_is_sure() -> None:
    head = adapter.from_joined(["a", "b"], [[0.0, 0.0], [0.0, 9.0]])
    base = np.array([[4.0, 0.0], [0.5, 0.0]], np.float32)
    scores = adapter.fleet_logits(head, np.zeros((2, 1), np.float32), base, 1.0)
    assert scores.tolist() == [[4.0, 0.0], [0.5, 9.0]]
    # A body that is less sure than it looks (temperature above one) is helped.
    assert adapter.fleet_logits(head, np.zeros((2, 1), np.float32), base, 8.0).argmax(1).tolist() == [1, 1]
