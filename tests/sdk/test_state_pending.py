"""What is kept beside an update: it counts when the update is admitted, goes with it when it is not, and never half."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tasuki.sdk.state import State

HASH = b"h" * 32


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State(tmp_path / "state", HASH)
    yield opened
    opened.close()


def reopened(state: State) -> State:
    state.close()
    return State(state.folder, HASH)


def named(message: bytes) -> bytes:
    """How a receipt names a message: 16 bytes of its SHA-256."""
    return sha256(message).digest()[:16]


def kept(state: State) -> dict[str, bytes | None]:
    return {key: state.get(key) for key in ("memory", "pending.memory", "session", "pending.session")}


def with_memory(state: State, number: int) -> bytes:
    """Spool an update that keeps a chain, and has a memory pending."""
    words = {"session": b"chain %d" % number, "pending.memory": b"memory %d" % number}
    return state.spool(0, lambda n: b"update %d" % n, b"mark", keep=lambda: words).message


def test_what_is_pending_counts_when_the_update_is_admitted_and_never_else(state: State) -> None:
    nothing = {"memory": None, "pending.memory": None, "session": None, "pending.session": None}
    assert kept(state) == nothing
    refused = with_memory(state, 1)
    assert kept(state) == {**nothing, "pending.memory": b"memory 1", "session": b"chain 1"}
    state.unspool(named(refused), admitted=False)
    assert kept(state) == {**nothing, "session": b"chain 1"}, "a chain goes forward, whatever becomes of the message"
    admitted = with_memory(state, 2)
    state.unspool(named(admitted))
    assert kept(state) == {**nothing, "memory": b"memory 2", "session": b"chain 2"}
    refused = with_memory(state, 3)
    state.unspool(named(refused), admitted=False)
    again = reopened(state)
    assert kept(again) == {**nothing, "memory": b"memory 2", "session": b"chain 3"}, "the memory before it"
    again.close()


def test_what_is_pending_belongs_to_its_update(state: State) -> None:
    old = state.spool(0, lambda n: b"old", supersede=False, keep=lambda: {"pending.memory": b"old"}).message
    new = state.spool(0, lambda n: b"new", supersede=False, keep=lambda: {"pending.memory": b"new"}).message
    state.unspool(named(old))
    assert (state.get("memory"), state.get("pending.memory")) == (b"old", b"new")
    state.unspool(named(new))
    assert (state.get("memory"), state.get("pending.memory")) == (b"new", None)


def test_a_late_receipt_for_an_earlier_update_changes_nothing_that_a_later_one_left(state: State) -> None:
    old = state.spool(0, lambda n: b"old", supersede=False, keep=lambda: {"pending.memory": b"old"}).message
    new = state.spool(0, lambda n: b"new", supersede=False, keep=lambda: {"pending.memory": b"new"}).message
    assert state.unspool(named(new)) == 2
    assert state.unspool(named(old)) == 1
    assert state.get("memory") == b"new"
    assert state.counted("shelved.") == {}


def test_what_went_out_waits_for_its_receipt_and_what_did_not_is_superseded(state: State) -> None:
    first = with_memory(state, 1)
    state.spend(1, 10, going=1)
    with_memory(state, 2)
    third = with_memory(state, 3)
    assert [item.sequence for item in state.spooled()] == [1, 3]
    assert state.dropped()["superseded"] == 1
    # The gateway counted the first and refused the third.
    state.unspool(named(first))
    state.unspool(named(third), admitted=False)
    assert kept(state) == {**dict.fromkeys(kept(state)), "memory": b"memory 1", "session": b"chain 3"}


def test_a_seal_that_fails_keeps_nothing(state: State) -> None:
    with_memory(state, 1)
    before = kept(state)
    with pytest.raises(RuntimeError):
        state.spool(0, lambda n: (_ for _ in ()).throw(RuntimeError()), keep=lambda: {"session": b"chain 2"})
    assert kept(state) == before
    assert [item.sequence for item in state.spooled()] == [1]


def test_an_expired_update_leaves_nothing_pending(state: State) -> None:
    words = {"pending.memory": b"memory"}
    state.spool(0, lambda n: b"m", now=100.0, lifetime=10.0, keep=lambda: words)
    assert state.spooled(111.0) == []
    assert kept(state) == dict.fromkeys(kept(state))


def test_counters_add_up_and_are_read_by_prefix(state: State) -> None:
    assert state.counted("ignored.") == {}
    state.count({"ignored.malformed": 2, "ignored.bad signature": 1, "other": 5})
    state.count({"ignored.malformed": 1})
    state.count({})
    again = reopened(state)
    assert again.counted("ignored.") == {"malformed": 3, "bad signature": 1}
    assert again.counted("other") == {"": 5}
    again.close()


def test_values_are_removed(state: State) -> None:
    for key in ("session", "enrolment"):
        state.put(key, b"value")
    state.remove("session", "nothing")
    assert (state.get("session"), state.get("enrolment")) == (None, b"value")
