"""The head and the problem that adapters are fitted to: their promises about shapes, names and numbers."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tasuki.sdk import adapter
from tasuki.sdk.problem import RIDGE, Problem, subset


def problem() -> Problem:
    rng = np.random.default_rng(0)
    features, offset = rng.standard_normal((4, 2)).astype(np.float32), rng.standard_normal((4, 3)).astype(np.float32)
    return Problem(("a", "b", "c"), features, offset, np.array([0, 1, 2, 1]), np.eye(3, dtype=np.float32), np.ones(3))


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


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda p: replace(p, features=p.features[:3]), "features"),
        (lambda p: replace(p, features=p.features[0]), "features"),
        (lambda p: replace(p, offset=p.offset[:, :2]), "offset"),
        (lambda p: replace(p, targets=np.array([0, 1, 3, 1])), "targets"),
        (lambda p: replace(p, targets=np.array([0, 1, -1, 1])), "targets"),
        (lambda p: replace(p, moment=np.eye(2, dtype=np.float32)), "moment"),
        (lambda p: replace(p, pulls=np.ones(2)), "pulls"),
        (lambda p: replace(p, pulls=np.array([1.0, 0.0, 1.0])), "pulls"),
        (lambda p: replace(p, pulls=np.array([1.0, np.nan, 1.0])), "pulls"),
    ],
)
def test_problems_that_do_not_fit_are_refused(change: Callable[[Problem], Problem], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        change(problem())


def test_an_offset_may_be_a_function_of_rows() -> None:
    whole = problem()
    table = whole.offset
    assert isinstance(table, np.ndarray)
    by_rows = replace(whole, offset=lambda rows: table[rows])
    rows = np.array([3, 0, 2])
    for kept in (whole, by_rows):
        part = subset(kept, rows)
        assert part.targets.tolist() == [1, 0, 2]
        assert np.array_equal(part.features, whole.features[rows])
        assert np.array_equal(part.offsets(np.array([1, 2])), table[[0, 2]])


def test_the_metric_is_the_moment_with_a_ridge() -> None:
    metric = problem().metric()
    assert metric is not None
    assert metric.dtype == np.float64
    assert np.array_equal(metric, (1 + RIDGE) * np.eye(3))
    assert replace(problem(), moment=None).metric() is None
