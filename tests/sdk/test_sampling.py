"""Sampling against the definitions, written out slowly; and the same picks for the same seed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.sdk import sampling
from tasuki.sdk.errors import InputError
from tasuki.sdk.sampling import Sampler

# Few different values, so that ties are the rule.
LOGITS = st.lists(st.integers(-6, 6).map(lambda n: n / 2), min_size=1, max_size=12)


def oracle(logits: list[float], temperature: float, top_k: int, top_p: float, uniform: float) -> int:
    """The same by sorting lists and adding numbers."""
    ranked = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    ranked = ranked[:top_k] if top_k else ranked
    worth = {i: math.exp((logits[i] - max(logits)) / temperature) for i in ranked}
    if top_p < 1:
        whole, kept = math.fsum(worth.values()), []
        for i in ranked:
            kept.append(i)
            if math.fsum(worth[j] for j in kept) >= top_p * whole:
                break
        worth = {i: worth[i] for i in kept}
    whole, sum_ = math.fsum(worth.values()), 0.0
    for i in sorted(worth):
        sum_ += worth[i]
        if sum_ > uniform * whole:
            return i
    return max(worth)


@given(LOGITS, st.floats(0.2, 5), st.integers(0, 14), st.floats(0.05, 1), st.floats(0, 1, exclude_max=True))
@settings(max_examples=400, deadline=None)
def test_as_defined(logits: list[float], temperature: float, top_k: int, top_p: float, uniform: float) -> None:
    ids, weights = sampling.shares(np.array(logits, np.float32), temperature, top_k, top_p)
    found = sampling.choose(weights, uniform)
    found = found if ids is None else int(ids[found])
    wanted = oracle(logits, temperature, top_k, top_p, uniform)
    if found != wanted:  # only where a sum and a bound differ by the last bits
        near = [oracle(logits, temperature, top_k, p, u) for p in (top_p - 1e-9, top_p, min(1.0, top_p + 1e-9))
                for u in (max(0.0, uniform - 1e-9), uniform, min(uniform + 1e-9, 1 - 1e-16))]  # fmt: skip
        assert found in near


def kept(logits: np.ndarray, temperature: float, top_k: int = 0, top_p: float = 1.0) -> list[int]:
    ids, weights = sampling.shares(logits, temperature, top_k, top_p)
    return list(range(len(weights))) if ids is None else ids.tolist()


def by_sorting_everything(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """The definition at full length, float64 [V]: what is not kept is worth 0."""
    with np.errstate(over="ignore"):
        weights = np.exp((logits.astype(np.float64) - float(logits.max())) / temperature)
    order = np.argsort(-logits, kind="stable")[: top_k or None]
    if top_p < 1:
        sums = weights[order].cumsum()
        order = order[: int(np.searchsorted(sums, top_p * sums[-1])) + 1]
    found = np.zeros_like(weights)
    found[order] = weights[order]
    return found


@given(
    st.integers(1, 5000), st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.5, 3.0]), st.booleans(),
    st.sampled_from([1e-300, 1e-3, 0.7, 1.0, 2.0]), st.integers(0, 80), st.sampled_from([1e-9, 0.3, 0.9, 0.99999, 1.0]),
    st.floats(0, 1, exclude_max=True),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_to_the_bit_what_sorting_everything_gives(
    count: int, seed: int, step: float, masked: bool, temperature: float, top_k: int, top_p: float, uniform: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = (3 * rng.standard_normal(count)).astype(np.float32)
    if step:
        logits = np.round(logits / np.float32(step)) * np.float32(step)
    if masked:
        logits[rng.random(count) < 0.5] = -np.inf
        logits[rng.integers(count)] = 1
    wanted = by_sorting_everything(logits, temperature, top_k, top_p)
    ids, weights = sampling.shares(logits, temperature, top_k, top_p)
    found = np.zeros_like(wanted)
    found[slice(None) if ids is None else ids] = weights
    np.testing.assert_array_equal(found, wanted)
    chosen = sampling.choose(weights, uniform)
    assert (chosen if ids is None else ids[chosen]) == sampling.choose(wanted, uniform)


def test_greedy_takes_the_lowest_id_of_the_best() -> None:
    assert Sampler().pick(np.array([1, 3, 3, -np.inf], np.float32)) == 1


def test_ties_at_the_edge_go_to_the_lowest_id() -> None:
    level = np.zeros(6, np.float32)
    assert kept(level, 1.0, top_k=2) == [0, 1]
    assert kept(level, 1.0, top_p=0.4) == [0, 1, 2]
    # Equal as weights, but not as logits.
    close = np.array([0, 1e-30, 1e30], np.float32)
    assert kept(close, 1e-3, top_k=1) == [2]


def test_top_k_of_one_and_a_tiny_nucleus_are_greedy() -> None:
    logits = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    for sampler in (Sampler(1.0, top_k=1), Sampler(1.0, top_p=1e-9), Sampler(1e-300), Sampler(0.0)):
        assert {sampler.pick(logits) for _ in range(5)} == {int(logits.argmax())}


def test_picks_come_as_often_as_they_are_worth() -> None:
    logits = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    for sampler, wanted in (
        (Sampler(1.0, seed=1), [0.1, 0.2, 0.3, 0.4]),
        (Sampler(0.5, seed=2), [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
        (Sampler(1.0, top_k=2, seed=3), [0, 0, 3 / 7, 4 / 7]),
        (Sampler(1.0, top_p=0.65, seed=4), [0, 0, 3 / 7, 4 / 7]),
        (Sampler(1.0, top_k=3, top_p=0.8, seed=5), [0, 2 / 9, 3 / 9, 4 / 9]),
    ):
        counts = np.bincount([sampler.pick(logits) for _ in range(20_000)], minlength=4) / 20_000
        np.testing.assert_allclose(counts, wanted, atol=0.012)  # more than three standard deviations
        assert not counts[np.array(wanted) == 0].any()


def test_the_seed_says_it_all_and_a_token_takes_one_draw() -> None:
    logits = np.random.default_rng(1).standard_normal(100).astype(np.float32)
    first, second, other = ([s.pick(logits) for s in [Sampler(1.0, seed=n)] for _ in range(30)] for n in (5, 5, 6))
    assert first == second != other
    draws = np.random.Generator(np.random.PCG64(5)).random(30)
    assert first == [sampling.choose(sampling.shares(logits, 1.0)[1], float(draw)) for draw in draws]


def test_masked_tokens_are_never_picked() -> None:
    logits = np.full(9, -np.inf, np.float32)
    logits[[2, 5]] = -1e30, -1e30
    sampler = Sampler(2.0, top_k=5, top_p=0.99)
    assert {sampler.pick(logits) for _ in range(50)} == {2, 5}
    weights = np.array([0.0, 1.0, 0.0])
    assert {sampling.choose(weights, uniform) for uniform in (0.0, 0.5, 1 - 2**-53, 1.0)} == {1}


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"temperature": math.nan}, {"temperature": math.inf}, {"temperature": 101},
     {"temperature": "1"}, {"temperature": True}, {"top_k": -1}, {"top_k": 1.0}, {"top_k": True}, {"top_p": 0},
     {"top_p": 1.01}, {"top_p": math.nan}, {"seed": -1}, {"seed": 0.5}, {"seed": None}],
)  # fmt: skip
def test_bad_parameters(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Sampler(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("logits", [[], [[1.0]], [math.nan, 1], [math.inf, 1], [-math.inf, -math.inf]])
def test_bad_logits(logits: list[float]) -> None:
    for sampler in (Sampler(), Sampler(1.0)):
        with pytest.raises(InputError):
            sampler.pick(np.array(logits, np.float32))
