"""The cache is bounded, balanced between labels, uniform within each, and after reopening as if never closed."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.sdk.cache import Cache, Example, digest


def example(text: str, label: str, code: int = 0) -> Example:
    return Example(digest(text), text, label, bytes([code]) * 4, bytes(2))


def stream(labels: list[int], start: int = 0) -> list[Example]:
    return [example(f"text {start + n}", f"label {label}") for n, label in enumerate(labels)]


def texts(cache: Cache) -> list[str | None]:
    return [kept.text for kept in cache.examples()]


def held(cache: Cache) -> dict[str, int]:
    return dict(Counter(kept.label for kept in cache.examples()))


@given(st.integers(1, 40), st.integers(-(2**62), 2**62), st.lists(st.integers(0, 6), max_size=200))
def test_never_above_capacity_and_every_label_has_its_share(capacity: int, seed: int, labels: list[int]) -> None:
    cache = Cache(capacity, seed)
    seen: Counter[str] = Counter()
    mirror: set[bytes] = set()
    for item in stream(labels):
        stored, evicted = cache.add(item)
        seen[item.label] += 1
        mirror |= {item.digest} if stored else set()
        mirror -= {evicted}
        assert mirror == {kept.digest for kept in cache.examples()}, "a change says all that changed"
        for label, count in seen.items():
            assert held(cache).get(label, 0) >= min(count, capacity // len(seen))
    assert len(cache) == min(capacity, len(labels))
    if capacity >= 7:
        assert cache.counts() == dict(seen)


calls = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 30), st.integers(0, 3)),
        st.tuples(st.just("add"), st.integers(0, 30), st.integers(0, 3)),
        st.tuples(st.just("text"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("label"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("shrink"), st.integers(1, 12), st.just(0)),
        st.tuples(st.just("everything"), st.just(0), st.just(0)),
    ),
    max_size=120,
)


def apply(cache: Cache, what: str, number: int, label: int, step: int) -> Any:
    match what:
        case "add":
            return cache.add(example(f"text {number}", f"label {label}", code=step))
        case "shrink":
            return cache.shrink(number)
        case "text":
            gone = cache.matching(text=f"text {number}")
        case "label":
            gone = cache.matching(label=f"label {number}")
        case _:
            gone = cache.matching(everything=True)
    cache.remove(gone)
    return sorted(gone)


@settings(max_examples=300)
@given(st.integers(1, 12), calls)
def test_a_cache_reopened_before_any_call_does_as_the_one_that_lived_on(
    capacity: int, calls: list[tuple[str, int, int]]
) -> None:
    """It gets no more than `examples` and `counts`, and must report and keep the same, in the same order."""
    cache = Cache(capacity, 5)
    for step, (what, number, label) in enumerate(calls):
        again = Cache(cache.capacity, 5, cache.examples(), cache.counts())
        said = apply(again, what, number, label, step)
        assert apply(cache, what, number, label, step) == said
        assert cache.examples() == again.examples()
        assert cache.counts() == again.counts()
        assert len(cache) <= cache.capacity
        assert all(cache.counts()[name] >= count for name, count in held(cache).items())
        assert held(cache).keys() == cache.counts().keys()
        heaps = (cache._heaps or {}).values()
        assert sum(map(len, heaps)) <= 2 * capacity + 1, "what is gone is not kept for ever"


def test_reopened_once_the_whole_rest_of_a_stream_goes_alike() -> None:
    rng = np.random.default_rng(3)
    items = stream([int(n) for n in rng.zipf(1.5, 3000) % 20])
    lived, half = Cache(100, 1), Cache(100, 1)
    for item in items[:1000]:
        lived.add(item)
        half.add(item)
    again = Cache(100, 1, half.examples(), half.counts())
    assert [lived.add(item) for item in items[1000:]] == [again.add(item) for item in items[1000:]]
    assert lived.examples() == again.examples()


def test_the_same_text_again_replaces_label_and_codes_in_its_place() -> None:
    cache = Cache(3, 0)
    for name in ("a", "b", "c"):
        cache.add(example(name, "old"))
    assert cache.add(example("b", "old", code=9)) == (True, None)
    assert cache.add(example("a", "new", code=7)) == (True, None)
    assert texts(cache) == ["a", "b", "c"]
    assert [kept.features[0] for kept in cache.examples()] == [7, 9, 0]
    assert cache.counts() == {"old": 2, "new": 1}


def test_a_text_that_was_let_go_is_no_more_likely_to_come_back() -> None:
    cache = Cache(10, 0)
    items = stream([0] * 100)
    for _ in range(5):
        for item in items:
            cache.add(item)
    once = Cache(10, 0)
    for item in items:
        once.add(item)
    assert {*texts(cache)} == {*texts(once)}


def test_a_label_that_was_removed_starts_anew() -> None:
    cache = Cache(10, 0)
    for item in stream([0] * 500 + [1] * 5):
        cache.add(item)
    cache.remove(cache.matching(label="label 0"))
    assert cache.counts() == {"label 1": 5}
    for item in stream([0] * 5, start=1000):
        assert cache.add(item) == (True, None)
    assert cache.counts() == {"label 0": 5, "label 1": 5}


def test_a_label_that_was_thinned_by_removals_fills_up_again() -> None:
    cache = Cache(20, 1)
    for item in stream([0] * 200 + [1] * 200):
        cache.add(item)
    cache.remove(cache.matching(label="label 0")[:9])
    for item in stream([1] * 100, start=1000):
        cache.add(item)
    for item in stream([0] * 400, start=2000):
        cache.add(item)
    assert held(cache) == {"label 0": 10, "label 1": 10}


def test_shrinking_takes_from_the_largest_labels() -> None:
    cache = Cache(30, 0)
    items = stream([0] * 20 + [1] * 8 + [2] * 2)
    for item in items:
        cache.add(item)
    gone = cache.shrink(10)
    assert held(cache) == {"label 0": 4, "label 1": 4, "label 2": 2}
    assert {kept.digest for kept in cache.examples()} == {item.digest for item in items} - set(gone)
    assert cache.shrink(30) == []
    assert cache.capacity == 10
    opened = Cache(10, 0, items)
    assert opened.shrink() == gone, "the same where it was opened with more than fits"
    assert opened.examples() == cache.examples()


def test_a_long_skewed_stream_ends_balanced() -> None:
    """27 labels, the most frequent 400 times as often as the rarest."""
    rng = np.random.default_rng(0)
    shares = 1.0 / np.arange(1, 28) ** 1.8
    labels = rng.choice(27, 20_000, p=shares / shares.sum())
    cache = Cache(270, 0)
    for item in stream([int(label) for label in labels]):
        cache.add(item)
    counts = Counter(int(label) for label in labels)
    sizes = held(cache)
    assert len(cache) == 270
    for label, count in counts.items():
        assert sizes[f"label {label}"] >= min(count, 10)
    assert max(sizes.values()) <= 12


def test_one_in_a_thousand_of_a_stream_is_not_lost() -> None:
    cache = Cache(50, 3)
    for number in range(5000):
        cache.add(example(f"text {number}", "rare" if number % 1000 == 999 else "common"))
    assert held(cache) == {"rare": 5, "common": 45}


def chi_square_bound(freedom: int) -> float:
    """Above it with probability 1e-4 (Wilson and Hilferty's approximation)."""
    return float(freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3)


def test_within_a_label_every_text_is_kept_with_the_same_probability() -> None:
    """Early and late, before and after the label had to shrink for others: 2,000 seeds, chi-square over positions."""
    common, rare, seeds = 60, 12, 2000
    kept = Counter[str]()
    items = stream([0] * 30 + [1] * 4 + [0] * 30 + [2] * 8)
    size = 24 - rare
    for seed in range(seeds):
        cache = Cache(24, seed)
        for item in items:
            cache.add(item)
        assert held(cache) == {"label 0": size, "label 1": 4, "label 2": 8}
        kept.update(found.text or "" for found in cache.examples() if found.label == "label 0")
    counts = np.array([kept[item.text or ""] for item in items if item.label == "label 0"])
    assert counts.size == common
    expected = seeds * size / common
    # Draws without replacement vary less than the chi-square of independent draws by the factor 1 - size / common.
    statistic = float(((counts - expected) ** 2 / expected).sum()) / (1 - size / common) * (common - 1) / common
    assert statistic < chi_square_bound(common - 1)
    assert statistic > (common - 1) / 3, "not more even than chance either"


def test_the_seed_decides() -> None:
    def kept(seed: int) -> list[str | None]:
        cache = Cache(10, seed)
        for item in stream([0] * 100):
            cache.add(item)
        return texts(cache)

    assert kept(1) == kept(1)
    assert kept(1) != kept(2)


class Work:
    """What keys and ranks were asked for."""

    count = 0


class Key(bytes):
    """A digest that counts how often it is looked up."""

    def __hash__(self) -> int:
        Work.count += 1
        return super().__hash__()

    __eq__ = bytes.__eq__


class Rank(int):
    """A rank that counts how often it is compared."""

    def __lt__(self, other: int) -> bool:
        Work.count += 1
        return super().__lt__(other)

    def __eq__(self, other: object) -> bool:
        Work.count += 1
        return super().__eq__(other)

    __hash__ = int.__hash__


@pytest.mark.parametrize("capacity", [1000, 100_000])
def test_what_an_add_does_grows_with_the_logarithm_of_the_capacity(
    monkeypatch: pytest.MonkeyPatch, capacity: int
) -> None:
    """Nothing looks at all examples: lookups and comparisons are counted, in a full cache, with every kind of add."""
    rank = Cache._rank
    monkeypatch.setattr(Cache, "_rank", lambda self, key: Rank(rank(self, key)))

    def keyed(number: int, label: int) -> Example:
        return example(f"text {number}", f"label {label}")._replace(digest=Key(digest(f"text {number}")))

    rng = np.random.default_rng(0)
    cache = Cache(capacity, 0)
    for number in range(capacity + 100):
        cache.add(keyed(number, number % 9))
    works = []
    for number in range(2500):
        # New texts of known labels, of new labels that grow, and known texts under another label.
        known = number % 3 == 0
        item = keyed(int(rng.integers(capacity)) if known else 10**6 + number, int(rng.integers(12)))
        before = Work.count
        cache.add(item)
        works.append(Work.count - before)
    assert 3 < max(works) < capacity / 5, "nothing looks at all"
    assert sum(works) / len(works) < 4 * math.log2(capacity), "and what is put off is not more"
