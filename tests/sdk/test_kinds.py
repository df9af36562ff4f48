"""The kinds: what each sees of the features, that kinds agree where they must, and that statistics add up."""

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasuki.sdk import adapter, adapter_low_rank, adapter_statistics, kinds, solver
from tasuki.sdk.problem import Problem, subset

WIDTH = 6
LABELS = ("a", "b", "c", "d")


def make(seed: int, count: int = 50, moment: bool = True) -> Problem:
    rng = np.random.default_rng(seed)
    inputs = np.c_[rng.standard_normal((200, WIDTH)) * rng.uniform(0.2, 2, WIDTH), np.ones(200)]
    return Problem(
        LABELS,
        rng.standard_normal((count, WIDTH)).astype(np.float32),
        rng.standard_normal((count, 4)).astype(np.float32),
        rng.integers(0, 4, count),
        (inputs.T @ inputs / 200).astype(np.float32) if moment else None,
        np.array([1.0, 1.0, 0.5, 0.1]),
    )


@pytest.mark.parametrize("name", kinds.NAMES)
def test_every_kind_keeps_the_protocol(name: str) -> None:
    kind, problem = kinds.make(name, WIDTH, rank=3, seed=5), make(1)
    assert kind.name == name
    assert kind == kinds.make(name, WIDTH, rank=3, seed=5)
    columns = kind.project(problem.features)
    assert columns.shape == (50, kind.columns)
    assert columns.dtype == np.float32
    head = kind.fit(problem)
    assert (head.labels, head.weight.shape, head.weight.dtype) == (LABELS, (4, kind.columns), np.float32)
    assert np.array_equal(head.joined, kind.fit(problem).joined)

    def loss(table: adapter.Head) -> float:
        scores = adapter.logits(table, columns, problem.offsets(np.arange(50)))
        return float(-np.log(adapter.probabilities(scores)[np.arange(50), problem.targets]).sum())

    assert loss(head) < loss(adapter.zero(LABELS, kind.columns))
    assert not kind.fit(subset(problem, np.zeros(0, np.intp))).joined.any()
    started = kind.fit(problem, head)
    np.testing.assert_allclose(started.joined, head.joined, atol=5e-3)
    with pytest.raises(ValueError, match="width"):
        kinds.make(name, WIDTH + 1, rank=3).fit(problem)


@pytest.mark.parametrize(
    ("name", "width", "rank", "seed"),
    [
        ("other", 6, 2, 0),
        ("head", 0, 2, 0),
        ("low_rank", 6, 0, 0),
        ("low_rank", 6, 7, 0),
        ("low_rank", 6, 2, -1),
        ("low_rank", 6, 2, 2**64),
    ],
)
def test_impossible_kinds_are_refused(name: str, width: int, rank: int, seed: int) -> None:
    with pytest.raises(ValueError, match="is not|width"):
        kinds.make(name, width, rank, seed)


def test_the_frozen_matrix_is_the_one_of_the_specification() -> None:
    signs = {
        (2, 5, 0): VECTOR_SMALL,
        (8, 96, 2**63 + 7): VECTOR_LARGE,
    }
    for (rank, width, seed), first in signs.items():
        matrix = adapter_low_rank.matrix(rank, width, seed)
        assert "".join("+" if number > 0 else "-" for number in matrix.ravel()[: len(first)]) == first
        assert np.unique(np.abs(matrix)).tolist() == [np.float32(rank**-0.5)]
    assert not adapter_low_rank.matrix(2, 5, 0).flags.writeable


# Of the bytes that `printf 'tasuki low_rank 1\0...' | openssl dgst -shake256` gives, bit 0 first.
VECTOR_SMALL = "-+-+++-+-+"
VECTOR_LARGE = "++-+-++-----+-+-+-++-+--"


def test_the_frozen_matrix_keeps_lengths_on_average() -> None:
    features = np.random.default_rng(0).standard_normal((20, 64)).astype(np.float32)
    ratios = [
        (kinds.make("low_rank", 64, 8, seed).project(features) ** 2).sum() / (features**2).sum() for seed in range(200)
    ]
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_low_rank_answers_as_the_head_with_the_product(seed: int) -> None:
    kind, problem = kinds.make("low_rank", WIDTH, 3, seed), make(seed)
    head = kind.fit(problem)
    wide = adapter.Head(LABELS, head.weight @ adapter_low_rank.matrix(3, WIDTH, seed), head.bias)
    base = problem.offsets(np.arange(50))
    np.testing.assert_allclose(
        adapter.logits(head, kind.project(problem.features), base),
        adapter.logits(wide, problem.features, base),
        atol=1e-5,
    )
    # So is the objective, but for the small ridge.
    small, full = (_objective(problem, wide), _objective(_reduced(problem, kind, seed), head))
    assert small == pytest.approx(full, rel=2e-3)


def test_full_rank_finds_what_the_head_finds() -> None:
    problem = make(4)
    kind = kinds.make("low_rank", WIDTH, WIDTH, 2)
    matrix = adapter_low_rank.matrix(WIDTH, WIDTH, 2)
    assert np.linalg.matrix_rank(matrix) == WIDTH
    head = kind.fit(problem)
    wide = adapter.Head(LABELS, head.weight @ matrix, head.bias)
    least = _objective(problem, kinds.make("head", WIDTH).fit(problem))
    assert _objective(problem, wide) <= least * (1 + 1e-3)


@pytest.mark.parametrize("moment", [True, False])
def test_bias_answers_as_the_head_with_no_columns(moment: bool) -> None:
    problem = make(2, moment=moment)
    blind = replace(problem, features=np.zeros_like(problem.features))
    if moment:
        corner = np.eye(WIDTH + 1, dtype=np.float32)
        blind = replace(blind, moment=corner)
        problem = replace(problem, moment=np.where(corner > 0, 1, 0.2).astype(np.float32))
    bias, head = kinds.make("bias", WIDTH).fit(problem), kinds.make("head", WIDTH).fit(blind)
    assert not np.abs(head.weight).max() > 1e-6
    np.testing.assert_allclose(bias.bias, head.bias, atol=2e-3)


def _objective(problem: Problem, head: adapter.Head) -> float:
    return solver.objective(problem, head.joined)


def _reduced(problem: Problem, kind: kinds.Kind, seed: int) -> Problem:
    wide = np.zeros((4, WIDTH + 1))
    wide[:3, :WIDTH] = adapter_low_rank.matrix(3, WIDTH, seed)
    wide[3, WIDTH] = 1
    assert problem.moment is not None
    moment = (wide @ problem.moment @ wide.T).astype(np.float32)
    return replace(problem, features=kind.project(problem.features), moment=moment)


# --- statistics -----------------------------------------------------------------------------------------------


@given(st.integers(0, 500), st.lists(st.integers(0, 4), min_size=30, max_size=30), st.booleans())
@settings(deadline=None, max_examples=40)
def test_any_partition_adds_up_to_the_solution_in_one_place(seed: int, parts: list[int], moment: bool) -> None:
    problem = make(seed, 30, moment)
    places = np.array(parts)
    sums = [adapter_statistics.accumulate(subset(problem, np.flatnonzero(places == part))) for part in range(5)]
    total = reduce(adapter_statistics.add, sums)
    whole = adapter_statistics.accumulate(problem)
    assert total.count.tolist() == np.bincount(problem.targets, minlength=4).tolist()
    assert total.count.dtype == np.int64
    found, wanted = (adapter_statistics.solve(s, problem.moment, problem.pulls).joined for s in (total, whole))
    assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()
    assert np.array_equal(wanted, kinds.make("statistics", WIDTH).fit(problem).joined)


@given(st.integers(0, 500), st.booleans())
@settings(deadline=None, max_examples=30)
def test_statistics_minimise_the_bound_and_so_never_do_harm(seed: int, moment: bool) -> None:
    problem = make(seed, 30, moment)
    head = kinds.make("statistics", WIDTH).fit(problem)
    nothing = adapter.zero(LABELS, WIDTH)
    least = _objective(problem, kinds.make("head", WIDTH).fit(problem))
    assert least * (1 - 1e-6) <= _objective(problem, head) <= _objective(problem, nothing)
    # The bound's own gradient is zero there.
    inputs = np.c_[problem.features, np.ones(30)].astype(np.float64)
    left = np.eye(4)[problem.targets] - adapter.probabilities(problem.offsets(np.arange(30)))
    metric = problem.metric()
    pull = problem.pulls[:, None] * (head.joined if metric is None else head.joined @ metric)
    rest = 0.5 * head.joined @ (inputs.T @ inputs) + pull - left.T @ inputs
    assert np.abs(rest).max() < 1e-4


def test_statistics_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make(3)
    whole = adapter_statistics.accumulate(problem)
    monkeypatch.setattr(adapter_statistics, "_CHUNK", 60)
    pieces = adapter_statistics.accumulate(problem)
    np.testing.assert_allclose(pieces.gram, whole.gram, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(pieces.sums, whole.sums, rtol=1e-12, atol=1e-12)


def test_statistics_of_other_labels_do_not_add_up() -> None:
    one = adapter_statistics.empty(("a", "b"), 3)
    for other in (adapter_statistics.empty(("b", "a"), 3), adapter_statistics.empty(("a", "b"), 4)):
        with pytest.raises(ValueError, match="do not add up"):
            adapter_statistics.add(one, other)
    with pytest.raises(ValueError, match="do not fit"):
        adapter_statistics.Statistics(("a",), one.gram, one.sums, one.count)


# --- what a fleet of one kind exchanges -----------------------------------------------------------------------


def of_kind(data: st.DataObject, width: int) -> kinds.Kind:
    rank = data.draw(st.integers(1, width))
    return kinds.make(data.draw(st.sampled_from(kinds.NAMES)), width, rank, data.draw(st.integers(0, 2**53 - 1)))


def floats(data: st.DataObject, *shape: int) -> adapter.Floats:
    return data.draw(hnp.arrays(np.float32, shape, elements=st.floats(-8, 8, width=32)))


@given(st.data(), st.integers(1, 12), st.integers(1, 5))
def test_an_expanded_table_answers_as_the_table_over_what_its_kind_sees(
    data: st.DataObject, width: int, rows: int
) -> None:
    kind = of_kind(data, width)
    labels = tuple(f"label_{row}" for row in range(rows))
    table = adapter.Head(labels, floats(data, rows, kind.columns), floats(data, rows))
    features, base = floats(data, 7, width), floats(data, 7, rows)
    wide = kind.expand(table)
    assert (wide.labels, wide.weight.shape, wide.weight.dtype) == (labels, (rows, width), np.float32)
    np.testing.assert_array_equal(wide.bias, table.bias)
    np.testing.assert_allclose(
        adapter.logits(wide, features, base),
        adapter.logits(table, kind.project(features), base),
        rtol=1e-4,
        atol=1e-3,
    )


@given(st.data(), st.integers(1, 12))
def test_a_kinds_moment_is_that_of_what_it_sees(data: st.DataObject, width: int) -> None:
    """So is the change that a table makes to the logits: ``trace(T M T^T)`` on either side of `expand`."""
    kind = of_kind(data, width)
    inputs = np.c_[floats(data, 9, width), np.ones(9)].astype(np.float64)
    moment = (inputs.T @ inputs / 9).astype(np.float32)
    seen = np.c_[kind.project(inputs[:, :-1].astype(np.float32)), np.ones(9)].astype(np.float64)
    found = kind.moment(moment)
    assert (found.shape, found.dtype) == ((kind.columns + 1, kind.columns + 1), np.float32)
    scale = 1e-5 * float(np.abs(moment).sum())
    np.testing.assert_allclose(found, seen.T @ seen / 9, atol=scale)
    table = adapter.Head(("a", "b"), floats(data, 2, kind.columns), floats(data, 2))
    sizes = [
        float(np.einsum("ci,ij,cj->", joined.astype(np.float64), of.astype(np.float64), joined.astype(np.float64)))
        for joined, of in ((table.joined, found), (kind.expand(table).joined, moment))
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-4, abs=scale * width * float(np.square(table.joined).sum()))


@pytest.mark.parametrize("name", kinds.NAMES)
def test_a_zero_table_expands_to_zero(name: str) -> None:
    kind = kinds.make(name, WIDTH, 3, 5)
    assert not kind.expand(adapter.zero(LABELS, kind.columns)).joined.any()


@pytest.mark.parametrize("name", kinds.NAMES)
def test_the_expanded_fit_answers_as_the_fit(name: str) -> None:
    kind, problem = kinds.make(name, WIDTH, 3, 5), make(7)
    table = kind.fit(problem)
    base = problem.offsets(np.arange(50))
    np.testing.assert_allclose(
        adapter.logits(kind.expand(table), problem.features, base),
        adapter.logits(table, kind.project(problem.features), base),
        atol=1e-4,
    )
