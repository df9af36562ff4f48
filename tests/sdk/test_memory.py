"""Cache and state together: what is written when, shared, failed, forgotten, and in which order it comes back."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.sdk import opening
from tasuki.sdk.cache import Cache, Example, digest
from tasuki.sdk.errors import StateUnwritable
from tasuki.sdk.memory import Memory
from tasuki.sdk.state import State

HASH = b"h" * 32
PATIENCE = 20.0


def example(number: int, label: str = "label", code: int = 0) -> Example:
    text = f"text {number}"
    return Example(digest(text), text, label, bytes([code]) * 16, b"\x80\x7f")


class Recording(State):
    """A state that counts its writes, fails them while `failing`, and holds them while `gate` is clear."""

    def __init__(self, folder: Path) -> None:
        self.writes: list[tuple[list[Example], list[bytes], int]] = []
        self.failing = False
        self.gate, self.waiting = threading.Event(), threading.Event()
        self.gate.set()
        super().__init__(folder, HASH)

    def write(self, puts: Sequence[Example], deletes: Sequence[bytes], counts: Mapping[str, int], learned: int) -> None:
        self.waiting.set()
        assert self.gate.wait(PATIENCE)
        if self.failing:
            raise StateUnwritable("the test says so")
        self.writes.append((list(puts), list(deletes), learned))
        super().write(puts, deletes, counts, learned)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Recording]:
    opened = Recording(tmp_path / "state")
    yield opened
    opened.close()


def same_on_disk(state: State, memory: Memory, seed: int = 0) -> None:
    """What the disk has is what is in memory, in its order, and a memory made of it goes on alike."""
    assert state.examples() == list(memory.examples())
    assert state.counts() == memory._cache.counts()
    again = Memory(state, memory.capacity, seed)
    assert list(again.examples()) == list(memory.examples())


calls = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 25), st.integers(0, 3)),
        st.tuples(st.just("add"), st.integers(0, 25), st.integers(0, 3)),
        st.tuples(st.just("add"), st.integers(0, 25), st.integers(0, 3)),
        st.tuples(st.just("flush"), st.just(0), st.just(0)),
        st.tuples(st.just("fail"), st.just(0), st.just(0)),
        st.tuples(st.just("text"), st.integers(0, 25), st.just(0)),
        st.tuples(st.just("label"), st.integers(0, 3), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10), calls)
def test_after_any_calls_the_disk_has_what_memory_has_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, capacity: int, calls: list[tuple[str, int, int]]
) -> None:
    """Repeated texts, evicted ones that come back, failed writes: what is reopened goes on as what lived on."""
    state = Recording(tmp_path_factory.mktemp("state"))
    memory, learned = Memory(state, capacity, 3), 0
    for step, (what, number, label) in enumerate(calls):
        match what:
            case "add":
                memory.add(example(number, f"label {label}", step))
                learned += 1
            case "flush":
                memory.flush()
                same_on_disk(state, memory, 3)
            case "fail":
                state.failing = True
                before = list(memory.examples())
                if memory.changes != memory._saved:
                    with pytest.raises(StateUnwritable):
                        memory.flush()
                state.failing = False
                assert list(memory.examples()) == before
            case _:
                memory.forget(**{"text": None, "label": None, "everything": False, what: f"{what} {number}"})
                same_on_disk(state, memory, 3)
    memory.flush()
    same_on_disk(state, memory, 3)
    assert state.number("learned") == learned
    state.close()


def test_a_repeated_text_keeps_its_place_and_one_that_was_let_go_is_the_newest(state: Recording) -> None:
    memory = Memory(state, 3, 0)
    for number in range(3):
        memory.add(example(number))
    memory.flush()
    memory.add(example(0, code=5))
    memory.flush()
    assert [one.text for one in state.examples()] == ["text 0", "text 1", "text 2"]
    # Let go and back between two flushes: a third label takes a place, then leaves it.
    ranks = sorted(range(3), key=lambda number: memory._cache._rank(example(number).digest))
    memory.add(example(9, "other"))
    memory._cache.remove([example(9, "other").digest])
    memory._puts.pop(example(9).digest)
    memory.add(example(ranks[0], code=7))
    memory.flush()
    assert state.examples()[-1] == example(ranks[0], code=7)
    same_on_disk(state, memory)


def test_a_flush_writes_only_what_is_new_and_nothing_twice(state: Recording) -> None:
    memory = Memory(state, 100, 0)
    memory.flush()
    assert state.writes == []
    for number in range(5):
        memory.add(example(number))
    memory.flush()
    memory.flush()
    memory.add(example(7))
    memory.flush()
    assert [(len(puts), deletes, learned) for puts, deletes, learned in state.writes] == [(5, [], 5), (1, [], 1)]
    memory.forget(None, None, True)
    memory.flush()
    assert len(state.writes) == 2, "forgetting has written all"


def test_flushes_of_many_threads_share_writes(state: Recording) -> None:
    """While one write is held, all others wait; then one more write brings what all of them have added."""
    memory = Memory(state, 1000, 0)
    state.gate.clear()
    added = threading.Barrier(17)

    def work(number: int) -> None:
        memory.add(example(number))
        added.wait(PATIENCE)
        memory.flush()

    memory.add(example(99))
    first = threading.Thread(target=memory.flush)
    first.start()
    assert state.waiting.wait(PATIENCE)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    added.wait(PATIENCE)
    state.gate.set()
    for thread in (first, *threads):
        thread.join(PATIENCE)
    assert [learned for _, _, learned in state.writes] == [1, 16]
    same_on_disk(state, memory)


def test_adds_and_flushes_of_many_threads_lose_nothing(state: Recording) -> None:
    memory = Memory(state, 200, 0)
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 100):
                memory.add(example(number, f"label {number % 5}"))
                if number % 3 == 0:
                    memory.flush()
                    assert memory._saved > 0
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    memory.flush()
    assert state.number("learned") == 600
    assert len(state.writes) <= 6 * 34 + 1
    same_on_disk(state, memory)


def test_an_add_does_not_wait_for_the_disk(state: Recording) -> None:
    memory = Memory(state, 10, 0)
    memory.add(example(0))
    state.gate.clear()
    flushing = threading.Thread(target=memory.flush)
    flushing.start()
    assert state.waiting.wait(PATIENCE)
    memory.add(example(1))
    assert len(memory) == 2
    state.gate.set()
    flushing.join(PATIENCE)
    assert state.examples() == [example(0)], "the flush began before"
    memory.flush()
    assert state.examples() == [example(0), example(1)]


def test_a_failing_write_loses_nothing_and_the_next_flush_brings_it(state: Recording) -> None:
    memory = Memory(state, 4, 0)
    for number in range(4):
        memory.add(example(number, f"label {number % 2}"))
    memory.flush()
    state.failing = True
    for number in range(4, 12):
        memory.add(example(number, "new", number))
        with pytest.raises(StateUnwritable):
            memory.flush()
    assert len(memory) == 4
    state.failing = False
    memory.flush()
    assert state.number("learned") == 12
    same_on_disk(state, memory)


def test_what_changes_while_a_write_fails_is_not_undone_by_it(state: Recording) -> None:
    """Meanwhile one of the failing write's examples is let go, and another one is replaced."""
    memory = Memory(state, 2, 0)
    memory.add(example(0, "a"))
    memory.add(example(1, "a"))
    state.failing = True
    state.gate.clear()
    caught: list[BaseException] = []

    def flush() -> None:
        try:
            memory.flush()
        except StateUnwritable as error:
            caught.append(error)

    flushing = threading.Thread(target=flush)
    flushing.start()
    assert state.waiting.wait(PATIENCE)
    memory.add(example(2, "b"))
    (left,) = (one for one in memory.examples() if one.label == "a")
    memory.add(left._replace(features=b"changed"))
    state.gate.set()
    flushing.join(PATIENCE)
    assert len(caught) == 1
    state.failing = False
    memory.flush()
    assert state.examples() == [left._replace(features=b"changed"), example(2, "b")]
    same_on_disk(state, memory)


def test_what_waits_for_the_disk_is_bounded(state: Recording) -> None:
    """A disk that fails for ever: no more than the cache, and the keys of what was once written, wait for it."""
    memory = Memory(state, 20, 0)
    for number in range(20):
        memory.add(example(number, f"label {number % 4}"))
    memory.flush()
    state.failing = True
    for number in range(3000):
        memory.add(example(100 + number, f"label {number % 40}"))
        with pytest.raises(StateUnwritable):
            memory.flush()
        assert len(memory._puts) <= 20
        assert len(memory._deletes) <= len(memory._on_disk) <= 20
    state.failing = False
    memory.flush()
    assert len(memory._on_disk) == 20
    same_on_disk(state, memory)


def test_forgetting_during_learning(state: Recording) -> None:
    """One thread forgets all of a label again and again while others teach it: nothing forgotten stays or returns."""
    memory = Memory(state, 500, 0)
    stop = threading.Event()
    failures: list[BaseException] = []

    def teach(first: int) -> None:
        try:
            for number in range(first, first + 150):
                memory.add(example(number, "secret" if number % 2 else "kept"))
                if number % 10 == 0:
                    memory.flush()
        except BaseException as error:
            failures.append(error)
        finally:
            stop.set()

    def forget() -> None:
        try:
            while not stop.is_set():
                memory.forget(None, "secret", False)
        except BaseException as error:
            failures.append(error)

    threads = [*(threading.Thread(target=teach, args=(1000 * n,)) for n in range(3)), threading.Thread(target=forget)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    memory.forget(None, "secret", False)
    memory.flush()
    assert {one.label for one in memory.examples()} == {"kept"}
    assert len(memory) == 225
    assert b"secret" not in b"".join(path.read_bytes() for path in state.folder.iterdir()).replace(
        b"the label 'secret'", b""
    )
    same_on_disk(state, memory)


def test_forgetting_that_fails_forgets_nothing(state: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(state, 10, 0)
    memory.add(example(0))

    def fails(*_: Any) -> None:
        raise StateUnwritable("the test says so")

    monkeypatch.setattr(state, "forget", fails)
    with pytest.raises(StateUnwritable):
        memory.forget(None, None, True)
    assert list(memory.examples()) == [example(0)]


def test_a_smaller_capacity_lets_go_and_says_so_to_the_disk(state: Recording) -> None:
    memory = Memory(state, 30, 0)
    for number in range(30):
        memory.add(example(number, f"label {number % 3}"))
    memory.flush()
    smaller = Memory(state, 9, 0)
    smaller.flush()
    assert len(state.examples()) == 9
    assert state.number("learned") == 30
    same_on_disk(state, smaller)


def test_damaged_counts_are_no_less_than_what_is_there(state: Recording) -> None:
    memory = Memory(state, 30, 0)
    for number in range(12):
        memory.add(example(number, f"label {number % 3}"))
    memory.flush()
    state.put("counts", b"damaged")
    assert Cache(30, 0, state.examples(), state.counts()).counts() == {f"label {number}": 4 for number in range(3)}


# --- another body -----------------------------------------------------------------------------------------


class Wide:
    """A task whose body gives `width` features."""

    def __init__(self, width: int) -> None:
        self.width = width

    def example(self, text: str, label: str, keep_text: bool) -> Example:
        return Example(digest(text), text if keep_text else None, label, bytes(self.width), b"")


@pytest.mark.parametrize(
    ("width", "text_bytes", "capacity", "least"), [(64, 10, 20, 20), (9000, 10, 60, 30), (9000, 3000, 60, 18)]
)
def test_a_wider_body_takes_over_what_fits_and_keeps_it_balanced(
    tmp_path: Path, width: int, text_bytes: int, capacity: int, least: int
) -> None:
    """Also where texts are longer than the capacity counts on; beside them the fleet has its room."""
    disk = 2 << 20
    state = State(tmp_path, HASH, disk=disk)
    memory = Memory(state, 100, 0)
    for number in range(100):
        label = "rare" if number % 20 == 0 else f"label {number % 2}"
        text = f"text {number} ".ljust(text_bytes, "x")
        memory.add(Example(digest(text), text, label, bytes(16), b""))
    memory.flush()
    state.close()
    state = State(tmp_path, b"o" * 32, disk=disk, replace=True)
    parts: Any = SimpleNamespace(hash=b"o" * 32)
    task: Any = Wide(width)
    opening._read_anew(state, parts, task, capacity, 0)
    sizes = Counter(one.label for one in state.examples())
    assert least <= sizes.total() <= capacity
    assert sizes["rare"] == 5
    assert abs(sizes["label 0"] - sizes["label 1"]) <= 1
    assert {len(one.features) for one in state.examples()} == {width}
    assert f"{sizes.total()} of 100 examples" in state.events()[-1].detail
    state.install_adapter(1, bytes(64 << 10))
    state.install_adapter(2, bytes(64 << 10))
    state.spool(2, lambda _: bytes(250_000))
    again = Memory(state, capacity, 0)
    again.flush()
    assert len(again) == sizes.total()
    state.close()


def test_a_text_larger_than_all_room_is_left_and_nothing_fails(tmp_path: Path) -> None:
    state = State(tmp_path, HASH, disk=1 << 20)
    state.write([example(1), example(2)], [], {}, 2)
    parts: Any = SimpleNamespace(hash=b"o" * 32)
    task: Any = Wide(400_000)
    opening._read_anew(state, parts, task, 16, 0)
    assert (state.examples(), state.artifact) == ([], b"o" * 32)
    state.close()
