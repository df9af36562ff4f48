"""The quick scorer against the plain formula in NumPy, for every kind of model and of adapter."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_features import output

from tasuki.sdk import adapter
from tasuki.sdk.adapter import Head
from tasuki.sdk.classifier import Raw
from tasuki.sdk.errors import ArtifactCorrupt
from tasuki.sdk.features import Grid
from tasuki.sdk.scorer import FEW, Scorer, joined

KINDS: dict[str, Any] = {"int8": np.int8, "int16": np.int16, "float32": np.float32}


def names(count: int) -> tuple[str, ...]:
    return tuple(f"l{n}" for n in range(count))


def drawn(rng: np.random.Generator, kind: str, width: int, reach: float) -> tuple[Any, Any]:
    """An output whose values reach about `reach`, and codes of it."""
    if kind == "float32":
        return output(width, np.float32), (rng.standard_normal(width) * reach / 2).astype(np.float32)
    most = np.iinfo(KINDS[kind]).max
    codes = rng.integers(-most - 1, most, width, endpoint=True).astype(KINDS[kind])
    return output(width, KINDS[kind], reach / most, int(rng.integers(-100, 100))), codes


def plain(base: Grid, grid: Grid, raw: Raw, temperature: float, head: Head | None, gate: float | None) -> Any:
    """Probabilities by the formula, as every other part of the project computes them."""
    z, h = base.real((raw[0],))[None], grid.real(raw[1])[None]
    if head is None:
        scores = z
    elif gate is None:
        scores = adapter.logits(head, h, z)
    else:
        scores = adapter.fleet_logits(head, h, z, gate)
    return adapter.probabilities(scores / np.float32(temperature))[0]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    labels=st.integers(2, 12) | st.integers(FEW - 2, FEW + 8),
    own=st.sampled_from([0, 0, 1, 5]),
    logits=st.sampled_from(sorted(KINDS)),
    features=st.sampled_from(sorted(KINDS)),
    adapted=st.sampled_from(["none", "local", "fleet"]),
    reach=st.sampled_from([0.5, 4.0, 30.0]),
    temperature=st.floats(0.05, 5),
    gate=st.floats(0.2, 5),
)
def test_answers_are_those_of_the_formula(
    seed: int, labels: int, own: int, logits: str, features: str, adapted: str, reach: float, temperature: float,
    gate: float,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    base_output, codes = drawn(rng, logits, labels, reach)
    drawn_features = [drawn(rng, features, width, 2.0) for width in (3, 7)]
    base, grid = Grid([base_output]), Grid([one for one, _ in drawn_features])
    raw = (codes, tuple(values for _, values in drawn_features))
    head = None
    if adapted != "none":
        weight = rng.standard_normal((labels + own, 10)).astype(np.float32)
        head = Head(names(labels + own), weight, rng.standard_normal(labels + own).astype(np.float32))
    limit = gate if adapted == "fleet" else None
    scorer = Scorer(base, grid, temperature, head, limit)
    z = base.real((codes,))[None]
    sure = float(adapter.probabilities(z / np.float32(gate)).max())
    if adapted == "fleet" and abs(sure - adapter.CONFIDENT) < 1e-4:
        return  # either is right
    wanted = plain(base, grid, raw, temperature, head, limit)
    best, probability, second = scorer(raw)
    tolerance = 1e-5 if temperature >= 0.5 else 1e-4
    assert wanted[best] == pytest.approx(wanted.max(), abs=tolerance)
    assert probability == pytest.approx(wanted.max(), abs=tolerance)
    assert second == pytest.approx(np.sort(wanted)[-2], abs=tolerance)
    np.testing.assert_allclose(scorer.probabilities(raw), wanted, atol=tolerance)
    assert scorer.needs_features == (adapted != "none")


@pytest.mark.parametrize("labels", [3, FEW + 1])
def test_the_first_of_equals_is_the_answer(labels: int) -> None:
    base, grid = Grid([output(labels, np.int8, 0.1)]), Grid([output(2, np.int8, 0.1)])
    codes = np.full(labels, -5, np.int8)
    codes[1:3] = 7
    raw = (codes, (np.zeros(2, np.int8),))
    for head in (None, adapter.zero(names(labels), 2)):
        best, probability, second = Scorer(base, grid, 1.0, head)(raw)
        assert best == 1
        assert probability == second


@pytest.mark.parametrize("temperature", [0.01, 100.0])
def test_extreme_grids_neither_overflow_nor_divide_by_zero(temperature: float) -> None:
    for scale in (1e-30, 1.0, 1e30):
        base, grid = Grid([output(3, np.int8, scale)]), Grid([output(1, np.int8, 1.0)])
        best, probability, second = Scorer(base, grid, temperature)((np.array([127, -128, 0], np.int8), ()))
        assert best == 0
        assert 0 <= second <= probability <= 1


def test_an_adapter_of_the_largest_numbers_gives_an_answer_or_a_named_error() -> None:
    for kind in (np.int8, np.float32):
        base, grid = Grid([output(2, np.int8, 0.1)]), Grid([output(2, kind, 1e3)])
        huge = np.array([[3e38, -3e38], [-3e38, 3e38]], np.float32)
        scorer = Scorer(base, grid, 0.01, Head(names(2), huge, huge[0]))
        raw = (np.array([5, 6], np.int8), (np.array([100, 100], kind) * (1 if kind is np.int8 else kind(1e30)),))
        try:
            _, probability, second = scorer(raw)
        except ArtifactCorrupt:
            continue
        assert 0 <= second <= probability <= 1


def test_adapters_are_joined_by_label_and_through_their_projections() -> None:
    rng = np.random.default_rng(3)
    fleet = Head(("a", "b"), rng.standard_normal((2, 4)).astype(np.float32), np.ones(2, np.float32))
    low = Head(("a", "b", "own"), rng.standard_normal((3, 2)).astype(np.float32), np.ones(3, np.float32))
    bias = Head(("b",), np.zeros((1, 0), np.float32), np.full(1, 5, np.float32))
    projection = rng.standard_normal((2, 4)).astype(np.float32)
    h = rng.standard_normal(4).astype(np.float32)
    found = joined(
        ("a", "b", "own"), 4, [(fleet, None), (low, projection), (bias, np.zeros((0, 4), np.float32))]
    )  # fmt: skip
    wanted = low.weight @ (projection @ h) + low.bias
    wanted[:2] += fleet.weight @ h + fleet.bias
    wanted[1] += 5
    np.testing.assert_allclose(found.weight @ h + found.bias, wanted, rtol=1e-5)
