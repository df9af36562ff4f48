"""Temperature and conformal thresholds, on texts whose truth is drawn from known probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.sdk import adapter
from tasuki.sdk.confidence import (
    LEVELS,
    NEVER,
    cache_floor,
    calibration_error,
    conformal_table,
    fit_temperature,
    table_floor,
)


def drawn(rng: np.random.Generator, n: int, classes: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [n, classes], and targets drawn from their softmax."""
    logits = (spread * rng.standard_normal((n, classes))).astype(np.float32)
    shares = adapter.probabilities(logits).astype(np.float64)
    targets = (shares.cumsum(1) > rng.random((n, 1)) * shares.sum(1, keepdims=True)).argmax(1)
    return logits, targets


def held(logits: np.ndarray, targets: np.ndarray, temperature: float, threshold: float) -> np.ndarray:
    """Whether the set of labels holds the true one, as SPEC.md says."""
    shares = adapter.probabilities(np.asarray(logits / np.float32(temperature), np.float32))
    return shares[np.arange(len(targets)), targets] >= 1 - threshold


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_applied_is_found(factor: float) -> None:
    logits, targets = drawn(np.random.default_rng(0), 4000, 8, 2.0)
    assert fit_temperature(np.asarray(factor * logits, np.float32), targets) == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("level", LEVELS)
def test_sets_hold_the_truth_as_often_as_promised(temperature: float, level: float) -> None:
    """Over many drawings of held-out and new texts; the guarantee needs no good temperature."""
    rng = np.random.default_rng([int(100 * level), int(10 * temperature)])
    n, new, rounds = 99, 100, 200
    covered = []
    for _ in range(rounds):
        logits, targets = drawn(rng, n + new, 6, 2.0)
        ((_, threshold),) = conformal_table(logits[:n], targets[:n], temperature, (level,))
        covered.append(held(logits[n:], targets[n:], temperature, threshold).mean())
    error = np.std(covered, ddof=1) / np.sqrt(rounds)
    assert np.mean(covered) >= 1 - level - 4 * error
    # Nor are the sets needlessly large: exchangeable scores give at most 1 / (n + 1) more.
    assert np.mean(covered) <= 1 - level + 1 / (n + 1) + 4 * error


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(2, 9), st.floats(0.3, 5))
@settings(max_examples=100, deadline=None)
def test_of_the_held_out_texts_themselves_enough_are_held(seed: int, n: int, classes: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.integers(-8, 8, (n, classes)) / 2).astype(np.float32)  # in steps, as int8 gives them: ties
    targets = rng.integers(0, classes, n)
    table = conformal_table(logits, targets, temperature)
    assert [level for level, _ in table] == list(LEVELS)
    thresholds = [threshold for _, threshold in table]
    assert thresholds == sorted(thresholds, reverse=True)
    assert all(0 <= threshold <= 1 for threshold in thresholds)
    for level, threshold in table:
        wanted = int(np.ceil(round((n + 1) * (1 - level), 9)))
        assert held(logits, targets, temperature, threshold).sum() >= min(n, wanted)


def test_ranks_are_exact_and_few_texts_promise_nothing() -> None:
    """With 99 texts the level 0.01 is the largest score; with 98 there is none."""
    logits, targets = drawn(np.random.default_rng(3), 99, 5, 2.0)
    shares = adapter.probabilities(logits)
    scores = np.sort(1 - shares[np.arange(99), targets])
    table = dict(map(tuple, conformal_table(logits, targets, 1.0)))
    for level, rank in ((0.01, 99), (0.05, 95), (0.1, 90), (0.2, 80)):
        assert scores[rank - 1] <= table[level] <= scores[rank - 1] + 2e-6
    few = dict(map(tuple, conformal_table(logits[:98], targets[:98], 1.0)))
    assert few[0.01] == 1.0
    assert few[0.05] < 1.0
    assert conformal_table(logits[:0], targets[:0], 1.0) == [[level, 1.0] for level in LEVELS]


def test_a_floor_before_learning_rises_with_the_strictness_and_needs_enough_texts() -> None:
    table = ((0.05, 0.4), (0.1, 0.02), (0.2, 0.001))
    floors = [table_floor(table, level) for level in (0.05, 0.09, 0.1, 0.2)]
    assert floors == pytest.approx([0.95, 0.91, 0.9, 0.8])
    assert table_floor(table, 0.01) == NEVER
    assert table_floor(((0.01, 1.0),), 0.5) == NEVER


@pytest.mark.parametrize("level", [0.02, 0.05, 0.1, 0.3])
def test_answers_above_the_floor_are_as_often_wrong_as_the_level_says(level: float) -> None:
    """Fitted on 60 answers of one user, judged on 4,000 others of the same; over many users."""
    rng = np.random.default_rng(int(1000 * level))
    wrong, kept, all_answers = 0, 0, 0
    for _ in range(150):
        logits, targets = drawn(rng, 4060, 6, 8.0)
        shares = adapter.probabilities(logits).astype(np.float64)
        best, right = shares.max(1), shares.argmax(1) == targets
        floor = cache_floor(best[:60], right[:60], level)
        above = best[60:] >= floor
        wrong += int((above & ~right[60:]).sum())
        kept += int(above.sum())
        all_answers += 4000
    assert wrong / kept <= level + 0.01
    # A floor that flags everything would pass the line above.
    assert kept / all_answers > 0.3


def test_nothing_is_sure_where_every_answer_was_wrong() -> None:
    assert cache_floor(np.array([0.9, 0.8]), np.array([False, False]), 0.1) == NEVER
    assert cache_floor(np.zeros(0), np.zeros(0, bool), 0.1) == NEVER


def test_calibration_error_of_known_answers() -> None:
    rng = np.random.default_rng(0)
    best = rng.uniform(0.5, 1, 20_000)
    right = rng.random(20_000) < best
    assert calibration_error(best, right) < 0.02
    assert calibration_error(np.minimum(best + 0.1, 1), right) == pytest.approx(0.09, abs=0.02)
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0


def test_a_prior_holds_the_temperature_where_there_is_little_to_go_by() -> None:
    logits, targets = drawn(np.random.default_rng(1), 10, 4, 2.0)
    scaled = np.asarray(5 * logits, np.float32)
    free, held_back = fit_temperature(scaled, targets), fit_temperature(scaled, targets, prior=1e6, expected=0.8)
    assert held_back == pytest.approx(0.8, rel=0.05)
    assert free > 2
