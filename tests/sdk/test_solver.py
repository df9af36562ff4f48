"""The solver: its objective against finite differences, its minimum against scipy and scikit-learn, its promises."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from tasuki.sdk import adapter, solver
from tasuki.sdk.problem import Problem, subset


def make(seed: int, count: int = 40, width: int = 5, labels: int = 3, pulls: Any = 1.0, moment: bool = True) -> Problem:
    rng = np.random.default_rng(seed)
    inputs = np.c_[rng.standard_normal((200, width)) * rng.uniform(0.1, 2, width), np.ones(200)]
    return Problem(
        tuple(f"l{i}" for i in range(labels)),
        rng.standard_normal((count, width)).astype(np.float32),
        rng.standard_normal((count, labels)).astype(np.float32),
        rng.integers(0, labels, count),
        (inputs.T @ inputs / 200).astype(np.float32) if moment else None,
        np.array(np.broadcast_to(np.asarray(pulls, np.float64), labels)),
    )


def by_definition(problem: Problem, table: NDArray[np.float64]) -> float:
    """The objective of the docstring, example by example and label by label."""
    total = 0.0
    for row in range(len(problem.targets)):
        scores = problem.offsets(np.array([row]))[0] + table @ np.r_[problem.features[row].astype(np.float64), 1.0]
        total += float(np.logaddexp.reduce(scores) - scores[problem.targets[row]])
    metric = problem.metric()
    whole = np.eye(table.shape[1]) if metric is None else metric
    return total + 0.5 * sum(float(p * row @ whole @ row) for p, row in zip(problem.pulls, table, strict=True))


def slope(problem: Problem, table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gradient, written down apart from the solver's."""
    inputs = np.c_[problem.features, np.ones(len(problem.features))].astype(np.float64)
    scores = problem.offsets(np.arange(len(inputs))) + inputs @ table.T
    shares = np.exp(scores - scores.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    shares[np.arange(len(inputs)), problem.targets] -= 1
    metric = problem.metric()
    return shares.T @ inputs + problem.pulls[:, None] * (table if metric is None else table @ metric)


def exact(problem: Problem) -> float:
    """The lowest objective that scipy finds in float64."""
    shape = (len(problem.labels), problem.features.shape[1] + 1)
    found = minimize(
        lambda flat: (by_definition(problem, flat.reshape(shape)), slope(problem, flat.reshape(shape)).ravel()),
        np.zeros(shape).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "gtol": 1e-9, "ftol": 1e-15, "maxfun": 50_000},
    )
    return float(found.fun)


def value(problem: Problem, head: adapter.Head) -> float:
    return solver.objective(problem, head.joined)


@pytest.mark.parametrize("moment", [True, False])
def test_the_objective_is_the_one_of_the_docstring(moment: bool) -> None:
    problem = make(3, pulls=[0.5, 1.0, 2.0], moment=moment)
    table = np.random.default_rng(0).standard_normal((3, 6))
    assert solver.objective(problem, table) == pytest.approx(by_definition(problem, table), rel=1e-12)


def test_the_objective_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, table = make(3), np.random.default_rng(0).standard_normal((3, 6))
    whole = solver.objective(problem, table)
    monkeypatch.setattr(solver, "_CHUNK", 42)
    assert solver.objective(problem, table) == pytest.approx(whole, rel=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_the_minimum_has_no_slope_by_finite_differences(seed: int) -> None:
    problem = make(seed, pulls=[0.5, 1.0, 2.0])
    table = solver.minimise(problem).joined.astype(np.float64)
    for row, column in np.ndindex(*table.shape):
        step = np.zeros_like(table)
        step[row, column] = 1e-4
        change = (by_definition(problem, table + step) - by_definition(problem, table - step)) / 2e-4
        assert abs(change) <= 2 * solver.TOLERANCE * len(problem.targets)
        assert change == pytest.approx(slope(problem, table)[row, column], abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pulls", [0.1, 1.0, 30.0, [1.0, 1.0, 0.1]], ids=str)
@pytest.mark.parametrize("moment", [True, False])
def test_it_finds_what_scipy_finds(seed: int, pulls: Any, moment: bool) -> None:
    problem = make(seed, pulls=pulls, moment=moment)
    assert value(problem, solver.minimise(problem)) <= exact(problem) * (1 + 1e-4)


def test_it_finds_what_scikit_learn_finds() -> None:
    problem = replace(make(5, 300, 12, 6, pulls=0.5, moment=False), offset=np.zeros((300, 6), np.float32))
    inputs = np.c_[problem.features, np.ones(300)]
    model = LogisticRegression(fit_intercept=False, C=2.0, tol=1e-10, max_iter=10_000)
    model.fit(inputs, problem.targets)
    found = solver.minimise(problem).joined
    assert solver.objective(problem, found) <= solver.objective(problem, model.coef_) * (1 + 1e-5)
    np.testing.assert_allclose(found, model.coef_, atol=0.02)


def test_columns_of_very_different_size_do_not_stop_it() -> None:
    problem = make(7, 200, 30, 8, pulls=0.1, moment=False)
    sizes = np.logspace(-3, 1, 30).astype(np.float32)
    problem = replace(problem, features=problem.features * sizes)
    assert value(problem, solver.minimise(problem)) <= exact(problem) * (1 + 1e-4)


def test_it_does_not_depend_on_where_it_starts() -> None:
    problem = make(9)
    far = adapter.from_joined(problem.labels, np.full((3, 6), 2.0))
    first, second = solver.minimise(problem), solver.minimise(problem, far)
    assert value(problem, first) == pytest.approx(value(problem, second), rel=1e-5)
    np.testing.assert_allclose(first.joined, second.joined, atol=0.02)


@given(st.integers(0, 1000), st.floats(0.0, 30.0), st.sampled_from([1, 3, 40]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_it_never_ends_above_its_start(seed: int, size: float, count: int, moment: bool) -> None:
    problem = make(seed, count, pulls=[0.1, 1.0, 3.0], moment=moment)
    start = adapter.from_joined(problem.labels, size * np.random.default_rng(seed).standard_normal((3, 6)))
    assert value(problem, solver.minimise(problem, start)) <= value(problem, start) * (1 + 1e-6)
    # A minimum stays one.
    least = solver.minimise(problem)
    assert value(problem, solver.minimise(problem, least)) <= value(problem, least) * (1 + 1e-6)


@given(st.floats(1.0, 1e4), st.integers(0, 50))
@settings(deadline=None, max_examples=25)
def test_a_stronger_pull_changes_public_logits_less(strength: float, seed: int) -> None:
    problem = make(seed)
    metric = problem.metric()
    assert metric is not None

    def change(pull: float) -> float:
        table = solver.minimise(replace(problem, pulls=np.full(3, pull))).joined.astype(np.float64)
        return float(np.trace(table @ metric @ table.T))

    weak, strong = change(strength), change(4 * strength)
    assert strong <= weak + 1e-6


def test_rows_of_the_start_are_matched_by_label() -> None:
    problem = make(2)
    least = solver.minimise(problem)
    turned = adapter.select(least, [*reversed(problem.labels), "other"])
    np.testing.assert_allclose(solver.minimise(problem, turned).joined, least.joined, atol=2e-3)
    with pytest.raises(ValueError, match="columns"):
        solver.minimise(problem, adapter.zero(problem.labels, 4))


def test_separable_examples_have_a_finite_minimum() -> None:
    targets = np.arange(60) % 3
    features = (10 * np.eye(3)[targets] + np.random.default_rng(0).normal(0, 0.1, (60, 3))).astype(np.float32)
    problem = replace(make(0, 60, 3, pulls=1e-3, moment=False), features=features, targets=targets)
    head = solver.minimise(problem)
    assert np.isfinite(head.joined).all()
    assert (adapter.logits(head, features, problem.offsets(np.arange(60))).argmax(1) == targets).all()
    assert value(problem, head) <= 1.05 * exact(problem)


def test_no_examples_give_zero() -> None:
    problem = subset(make(1), np.zeros(0, np.intp))
    start = adapter.from_joined(problem.labels, np.ones((3, 6)))
    assert not solver.minimise(problem, start).joined.any()


def test_one_example() -> None:
    problem = make(1, 1)
    assert (
        value(problem, solver.minimise(problem))
        <= exact(problem) * (1 + 1e-4)
        < value(problem, adapter.zero(problem.labels, 5))
    )


def test_examples_of_one_label() -> None:
    problem = replace(make(4), targets=np.full(40, 2))
    head = solver.minimise(problem)
    assert value(problem, head) <= exact(problem) * (1 + 1e-4)
    assert head.bias[2] > 0


def test_one_label_in_all_leaves_nothing_to_learn() -> None:
    problem = make(4, labels=1)
    assert not solver.minimise(problem).joined.any()
    start = adapter.from_joined(problem.labels, np.ones((1, 6)))
    assert value(problem, solver.minimise(problem, start)) < 0.01 * value(problem, start)


def test_an_example_twice_weighs_twice() -> None:
    problem = make(6)
    twice = subset(problem, np.repeat(np.arange(40), 2))
    halved = replace(twice, pulls=2 * problem.pulls)
    np.testing.assert_allclose(solver.minimise(halved).joined, solver.minimise(problem).joined, atol=2e-3)


@pytest.mark.parametrize("moment", [True, False])
@pytest.mark.parametrize("size", [1e4, 1e-4])
def test_huge_and_tiny_features(size: float, moment: bool) -> None:
    problem = make(8, pulls=0.1, moment=moment)
    problem = replace(problem, features=problem.features * np.float32(size))
    head = solver.minimise(problem)
    assert np.isfinite(head.joined).all()
    # The same minimum after scaling the pull's coordinates in float64.
    scaling = np.r_[np.full(5, 1 / size), 1.0]

    def scaled(flat: NDArray[np.float64]) -> float:
        table = flat.reshape(3, 6) * scaling
        return by_definition(problem, table)

    found = minimize(scaled, np.zeros(18), method="BFGS", options={"gtol": 1e-5})
    assert value(problem, head) <= found.fun * (1 + 1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    problem = make(1)
    problem.features[3, 2] = bad
    start = adapter.from_joined(problem.labels, np.ones((3, 6)))
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="finite"):
        solver.minimise(problem, start)


def test_it_is_deterministic() -> None:
    assert np.array_equal(solver.minimise(make(3)).joined, solver.minimise(make(3)).joined)


# --- large problems -------------------------------------------------------------------------------------------


def vocabulary(seed: int = 0, count: int = 1500, labels: int = 60) -> Problem:
    """A last layer that has moved a little: targets are drawn from it."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, 8)).astype(np.float32)
    before = (rng.standard_normal((labels, 8)) / 2).astype(np.float32)
    after = before + rng.standard_normal((labels, 8)) / 2
    targets = (features @ after.T + rng.gumbel(size=(count, labels))).argmax(1)
    moment = np.eye(9, dtype=np.float32) + 0.3
    return Problem(
        tuple(map(str, range(labels))),
        features,
        lambda rows: features[rows] @ before.T,
        targets,
        moment,
        np.ones(labels),
    )


def test_the_rule_for_large_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = vocabulary()
    everything = problem.offsets(np.arange(1500))
    assert solver.large(problem)
    assert not solver.large(replace(problem, offset=everything))
    monkeypatch.setattr(solver, "LARGE_TABLE", 60 * 9 - 1)
    assert solver.large(replace(problem, offset=everything))
    monkeypatch.setattr(solver, "LARGE_TABLE", 60 * 9)
    monkeypatch.setattr(solver, "LARGE_LOGITS", 60 * 1500 - 1)
    assert solver.large(replace(problem, offset=everything))


@pytest.mark.parametrize("moment", [True, False])
def test_minibatches_come_near_the_minimum(moment: bool) -> None:
    problem = vocabulary()
    if not moment:
        problem = replace(problem, moment=None)
    nothing = value(problem, adapter.zero(problem.labels, 8))
    whole = replace(problem, offset=problem.offsets(np.arange(1500)))
    least = value(problem, solver.minimise(whole))
    assert value(problem, solver.minimise(problem)) - least < 0.05 * (nothing - least)


def test_a_strong_pull_holds_minibatches_too() -> None:
    problem = replace(vocabulary(), pulls=np.full(60, 1e6))
    head = solver.minimise(problem)
    assert np.abs(head.joined).max() < 1e-2
    assert value(problem, head) <= value(problem, adapter.zero(problem.labels, 8))


def test_minibatches_never_end_above_the_start() -> None:
    problem = vocabulary()
    whole = replace(problem, offset=problem.offsets(np.arange(1500)))
    least = solver.minimise(whole)
    assert value(problem, solver.minimise(problem, least)) <= value(problem, least)


def test_minibatches_are_seeded() -> None:
    problem = vocabulary(count=300)
    first, again, other = (solver.minimise(problem, seed=seed).joined for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_large_problems_with_numbers_that_are_not_finite_are_refused() -> None:
    problem = vocabulary(count=100)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="finite"):
        solver.minimise(replace(problem, offset=lambda rows: np.full((len(rows), 60), np.nan, np.float32)))
