"""What the state keeps, in what order, for how long, and how it says what is wrong."""

import contextlib
import hashlib
import os
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasuki.sdk.cache import Example, digest
from tasuki.sdk.errors import (
    Refused,
    StateCorrupt,
    StateError,
    StateLocked,
    StateMismatch,
    StateNewer,
    StateUnwritable,
)
from tasuki.sdk.state import FOR_EVER, Spooled, State

HASH, OTHER = b"h" * 32, b"o" * 32


def example(number: int, label: str = "label") -> Example:
    text = f"text {number}"
    return Example(digest(text), text, label, bytes([number % 256]) * 16, b"\x80\x7f")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State(tmp_path / "state", HASH)
    yield opened
    opened.close()


def reopened(state: State, artifact: bytes = HASH) -> State:
    state.close()
    return State(state.folder, artifact)


def test_examples_come_back_as_they_were(state: State) -> None:
    causal = Example(b"d" * 16, None, "", bytes(range(256)), b"", 0.125, 0.0, b"\x01\x00\x00\x00" * 4)
    state.write([example(1), causal, example(2)], [], {"label": 2, "": 1, "Ärger": 7}, 3)
    changed = example(1, "Ärger")._replace(scale=1 / 3, base_scale=2.5)
    counts = {"label": 1, "Ärger": 7}
    state.write([example(4), changed], [example(2).digest, b"nobody" * 2], counts, 2)
    again = reopened(state)
    assert again.examples() == [changed, causal, example(4)]
    assert again.counts() == counts
    assert again.number("learned") == 5
    assert sum(again.damaged().values()) == 0
    again.write([causal], [causal.digest], {}, 1)
    assert again.examples() == [changed, example(4), causal], "deleted and put again is the newest"
    again.close()


def test_one_flush_is_one_sync_to_disk(state: State) -> None:
    """The log grows by one commit: its last frame alone names a database size (SQLite's file format, "WAL")."""
    state.scrub()
    state.write([example(n) for n in range(100)], [], {"label": 100}, 100)
    log = (state.folder / "state.db-wal").read_bytes()
    commits = [struct.unpack_from(">I", log, at + 4)[0] for at in range(32, len(log), 4096 + 24)]
    assert [bool(pages) for pages in commits] == [False] * (len(commits) - 1) + [True]


def test_a_second_opener_of_this_process_does_not_take_the_lock_from_the_first(state: State) -> None:
    """Closing any descriptor of a file gives up all locks that the process has on it (POSIX)."""
    with pytest.raises(StateLocked):
        State(state.folder, HASH)
    code = "import sys; from tasuki.sdk.state import State; State(sys.argv[1], b'h' * 32)"
    other = subprocess.run([sys.executable, "-c", code, state.folder], capture_output=True, text=True, check=False)
    assert "StateLocked" in other.stderr


def test_second_opener_is_refused_at_once(state: State) -> None:
    with pytest.raises(StateLocked, match="another process"):
        State(state.folder, HASH)
    state.write([example(1)], [], {}, 1)
    with pytest.raises(StateLocked):
        State(state.folder, OTHER, replace=True)
    reopened(state).close()


def test_other_artifact_newer_format_and_damage_are_named(tmp_path: Path) -> None:
    State(tmp_path, HASH).close()
    with pytest.raises(StateMismatch, match="replace=True"):
        State(tmp_path, OTHER)
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StateNewer, match="99"):
        State(tmp_path, HASH)
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to be read as one" * 40)
    with pytest.raises(StateCorrupt):
        State(tmp_path, HASH)


def test_a_closed_state_is_not_called_damaged(state: State) -> None:
    state.close()
    with pytest.raises(StateError, match="closed") as caught:
        state.examples()
    assert type(caught.value) is StateError


def test_only_the_owner_reads_it(state: State, tmp_path: Path) -> None:
    state.write([example(1)], [], {}, 1)
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.folder.iterdir()}
    assert found == {"state.db": 0o600, "state.db-wal": 0o600}
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "state.db").touch(mode=0o644)
    State(tmp_path / "wide", HASH).close()
    assert stat.S_IMODE((tmp_path / "wide" / "state.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
@pytest.mark.parametrize("kind", ["folder", "link", "dangling link", "pipe"])
def test_what_is_not_a_plain_file_is_refused_by_name(tmp_path: Path, name: str, kind: str) -> None:
    target = tmp_path / "elsewhere"
    path = tmp_path / "state" / name
    path.parent.mkdir()
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            target.write_bytes(b"")
            path.symlink_to(target)
        case _:
            path.symlink_to(target)
    with pytest.raises(StateUnwritable, match=f"{name} is not a plain file"):
        State(path.parent, HASH)
    assert not target.exists() or target.read_bytes() == b""


# --- forgetting -------------------------------------------------------------------------------------------


def test_forgetting_leaves_no_byte_and_says_so(state: State) -> None:
    secrets = [example(n)._replace(text=f"SECRET {n} " * 40) for n in range(50)]
    keep = example(999)._replace(text="KEPT")
    state.write([*secrets, keep], [], {"label": 51}, 51)
    # What an update left unsent tells of the examples as well.
    unsent = {"memory": b"SECRET memory", "pending.memory": b"SECRET pending"}
    state.spool(0, lambda n: b"SECRET update", b"SECRET marker", keep=lambda: unsent)
    state.forget([item.digest for item in secrets], {"label": 1}, "50 examples", now=12.5)
    files = b"".join(path.read_bytes() for path in state.folder.iterdir())
    assert b"SECRET" not in files
    assert b"KEPT" in files
    assert (state.examples(), state.spooled(), state.get("sent")) == ([keep], [], None)
    assert (state.get("memory"), state.get("pending.memory")) == (None, None)
    assert state.events() == [(12.5, "forgotten", "50 examples")]
    assert (state.counts(), state.number("learned")) == ({"label": 1}, 51)
    assert state.spool(0, lambda n: b"m").sequence == 2, "sequence numbers go on"


def test_forgetting_leaves_no_copy_that_a_split_page_had(state: State) -> None:
    """Rows come in the order of their digests, so pages are split, and rows that move may leave a copy behind."""
    for first in range(0, 1200, 60):
        items = [
            example(number)._replace(text=f"{'SECRET' if number % 2 else 'kept'} {number}")
            for number in range(first, first + 60)
        ]
        state.write(items, [], {"label": 1}, 60)
        state.forget([item.digest for item in items if "SECRET" in (item.text or "")], {"label": 1}, "all secrets")
        assert b"SECRET" not in b"".join(path.read_bytes() for path in state.folder.iterdir())
    assert len(state.examples()) == 600


def test_the_journal_is_bounded(state: State) -> None:
    for number in range(250):
        state.journal("event", f"{number} " + "x" * 1000, now=float(number))
    again = reopened(state)
    entries = again.events()
    assert [entry.time for entry in entries] == [float(n) for n in range(150, 250)]
    assert all(len(entry.detail) == 200 for entry in entries)
    again.close()


# --- the fleet's adapter ----------------------------------------------------------------------------------


def test_versions_only_go_forward(state: State) -> None:
    assert state.adapter() is None
    state.install_adapter(3, b"three")
    for version in (3, 2, 0):
        with pytest.raises(Refused, match="rollback"):
            state.install_adapter(version, b"old")
    assert state.adapter() == (3, b"three")
    state.install_adapter(2**64 - 1, b"last")
    again = reopened(state)
    assert again.adapter() == (2**64 - 1, b"last")
    assert again.number("version") == 2**64 - 1
    again.close()


def flip(folder: Path, needle: bytes) -> None:
    """Flip one bit in every place of the database that holds `needle`; the state is closed."""
    path = folder / "state.db"
    data = bytearray(path.read_bytes())
    at = data.find(needle)
    assert at >= 0
    while at >= 0:
        data[at + len(needle) // 2] ^= 4
        at = data.find(needle, at + 1)
    path.write_bytes(data)


def test_a_damaged_adapter_gives_way_to_the_one_before_and_may_come_again(state: State) -> None:
    for version in (1, 4, 6):
        state.install_adapter(version, b"adapter %d " % version * 20)
    state.close()
    flip(state.folder, b"adapter 6 " * 20)
    again = State(state.folder, HASH)
    assert again.adapter() == (4, b"adapter 4 " * 20)
    assert (again.number("version"), again.damaged()["adapters"]) == (4, 1)
    assert [entry.event for entry in again.events()] == ["damaged"]
    for older in (3, 4, 5):
        with pytest.raises(Refused, match="rollback"):
            again.install_adapter(older, b"replayed")
    again.install_adapter(6, b"again")
    assert again.adapter() == (6, b"again")
    again.close()
    flip(again.folder, b"adapter 4 " * 20)
    last = State(again.folder, HASH)
    assert last.adapter() == (6, b"again"), "damage in the former slot does not matter"
    last.close()


def test_with_both_adapters_damaged_there_is_none_and_no_way_back(state: State) -> None:
    state.install_adapter(1, b"first adapter")
    state.install_adapter(2, b"second adapter")
    state.close()
    flip(state.folder, b"first adapter")
    flip(state.folder, b"second adapter")
    again = State(state.folder, HASH)
    assert again.adapter() is None
    assert (again.number("version"), again.damaged()["adapters"]) == (0, 2)
    with pytest.raises(Refused, match="rollback"):
        again.install_adapter(1, b"first adapter")
    again.install_adapter(2, b"second adapter")
    again.close()


# --- the spool --------------------------------------------------------------------------------------------


def test_sequence_grows_and_the_newest_update_waits(state: State) -> None:
    assert state.spool(0, lambda n: b"%d" % n, b"mark").sequence == 1
    assert state.spool(0, lambda n: b"%d" % n).message == b"2"
    assert [item.sequence for item in state.spooled()] == [2]
    with pytest.raises(RuntimeError):
        state.spool(0, lambda n: (_ for _ in ()).throw(RuntimeError()))
    assert [item.sequence for item in state.spooled()] == [2]
    again = reopened(state)
    assert again.dropped() == {"expired": 0, "superseded": 1, "bound": 0}
    assert again.unspool(named(b"1")) is None, "the superseded one is not there any more"
    assert again.unspool(named(b"2")) == 2
    assert again.unspool(named(b"2")) is None
    assert again.spool(1, lambda n: b"%d" % n).sequence == 3
    again.close()


def named(message: bytes) -> bytes:
    """How a receipt names a message: 16 bytes of its SHA-256."""
    return hashlib.sha256(message).digest()[:16]


def test_a_refused_update_is_made_anew(state: State) -> None:
    state.spool(0, lambda n: b"m", b"mark")
    assert state.get("sent") == b"mark"
    assert state.unspool(named(b"another"), admitted=False) is None
    assert (state.get("sent"), len(state.spooled())) == (b"mark", 1), "a receipt for another message"
    assert state.unspool(named(b"m"), admitted=False) == 1
    assert (state.get("sent"), state.spooled()) == (None, [])


def test_only_the_message_that_a_receipt_names_is_forgotten(state: State) -> None:
    for number in range(1, 4):
        state.spool(0, lambda n: b"update %d" % n, supersede=False)
        assert state.number("sequence") == number
    assert state.unspool(named(b"update 2")) == 2
    assert [item.sequence for item in state.spooled()] == [1, 3]


def test_the_spool_drops_the_expired_then_the_superseded_then_the_oldest(tmp_path: Path) -> None:
    state = State(tmp_path, HASH, spool_bytes=100)
    with pytest.raises(StateUnwritable, match="100"):
        state.spool(0, lambda n: b"x" * 101)
    assert (state.spooled(), state.number("sequence")) == ([], 0)
    state.spool(0, lambda n: b"a" * 40, now=100.0, lifetime=10.0)
    state.spool(0, lambda n: b"b" * 40, now=105.0, supersede=False)
    # The first is past its expiry: its room is enough for the third, so the bound drops nobody.
    state.spool(0, lambda n: b"c" * 40, now=111.0, supersede=False)
    assert state.dropped() == {"expired": 1, "superseded": 0, "bound": 0}
    state.spool(0, lambda n: b"d" * 60, now=112.0, supersede=False)
    assert [item.sequence for item in state.spooled(113.0)] == [3, 4]
    assert state.dropped() == {"expired": 1, "superseded": 0, "bound": 1}
    state.spool(0, lambda n: b"e" * 100, now=114.0)
    assert [item.sequence for item in state.spooled(114.0)] == [5]
    state.close()
    again = State(tmp_path, HASH, spool_bytes=100)
    assert again.dropped() == {"expired": 1, "superseded": 2, "bound": 1}
    again.close()


def test_an_expired_update_is_gone_for_good_and_made_anew(state: State) -> None:
    state.spool(7, lambda n: b"m", b"mark", now=100.0, lifetime=10.0)
    assert state.spooled(109.9) == [Spooled(1, 7, b"m", 100.0, 110.0)]
    assert state.spooled(110.0) == []
    assert state.spooled(50.0) == [], "a clock that jumps back brings nothing back"
    assert state.get("sent") is None
    assert state.dropped()["expired"] == 1


def test_a_clock_that_jumps_back_expires_nothing_and_keeps_nothing_for_ever(state: State) -> None:
    assert state.spool(0, lambda n: b"m", now=1_000_000.0).expires == FOR_EVER
    assert [item.expires for item in state.spooled(500.0)] == [FOR_EVER], "without an expiry there is none"
    state.spool(0, lambda n: b"m", now=1_000_000.0, lifetime=10.0)
    assert [item.created for item in state.spooled(500.0)] == [500.0], "from the future: made just now"
    assert len(state.spooled(509.0)) == 1
    assert state.spooled(510.0) == []


def test_a_clock_that_is_set_after_boot_drops_no_update(state: State) -> None:
    """A board that begins in 1970 and then hears what time it is; and back again at the next boot."""
    month, today = 30 * 86400.0, 1_790_000_000.0
    state.spool(0, lambda n: b"m", b"mark", now=60.0, lifetime=month)
    assert [item.created for item in state.spooled(today)] == [today], "made just now"
    assert [item.created for item in state.spooled(today + month - 1)] == [today]
    assert [item.created for item in state.spooled(70.0)] == [70.0]
    assert [item.created for item in state.spooled(today)] == [today]
    assert state.get("sent") == b"mark"
    assert state.spooled(today + month) == [], "and its lifetime is no longer for that"
    assert state.dropped()["expired"] == 1


def test_a_damaged_message_is_dropped_and_made_anew(state: State) -> None:
    state.spool(0, lambda n: b"a sealed message", b"mark")
    state.close()
    flip(state.folder, b"a sealed message")
    again = State(state.folder, HASH)
    assert (again.spooled(), again.get("sent"), again.damaged()["messages"]) == ([], None, 1)
    again.close()


def test_bytes_count_per_day_and_a_jump_back_by_one_gives_no_day_twice(state: State) -> None:
    assert state.spent(20_000) == 0
    assert state.spend(20_000, 70) == 70
    assert state.spend(20_000, 5) == 75
    assert state.spent(19_999) == 75
    assert state.spend(19_999, 5) == 80, "the clock jumped back: still the stored day"
    again = reopened(state)
    assert again.spent(20_000) == 80
    assert again.spent(20_001) == 0
    assert again.spend(20_001, 1) == 1
    assert again.spent(20_000) == 1
    again.close()


def test_a_clock_that_was_far_ahead_does_not_pin_the_budget_to_its_day(state: State) -> None:
    state.spend(30_000, 70)
    assert state.spent(20_000) == 70, "what was spent stays spent"
    assert state.spend(20_000, 5) == 75
    assert state.spent(20_000) == 75
    assert state.spent(20_001) == 0, "and the next day is a new one"


def damage(folder: Path, key: str) -> None:
    """Flip one bit of the value kept under `key`; the state is closed."""
    with sqlite3.connect(folder / "state.db") as db:
        (value,) = db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        db.execute("UPDATE meta SET value=? WHERE key=?", (value[:-3] + bytes([value[-3] ^ 1]) + value[-2:], key))
    db.close()


@pytest.mark.parametrize("place", ["sequence", "sequence.copy", "version", "version.copy", "highest", "highest.copy"])
def test_one_damage_to_a_counter_changes_nothing_and_two_are_refused(state: State, place: str) -> None:
    state.spool(0, lambda n: b"m")
    state.install_adapter(3, b"three")
    state.close()
    damage(state.folder, place)
    again = State(state.folder, HASH)
    assert [again.number(key) for key in ("sequence", "version", "highest")] == [1, 3, 3]
    with pytest.raises(Refused, match="rollback"):
        again.install_adapter(2, b"two")
    again.close()
    damage(state.folder, place.removesuffix(".copy") if place.endswith(".copy") else f"{place}.copy")
    with pytest.raises(StateCorrupt, match=f"counter '{place.removesuffix('.copy')}' is damaged"):
        State(state.folder, HASH)


def test_no_flipped_bit_makes_the_sequence_go_back(state: State) -> None:
    """In every byte of the page that has the counters, with its header, keys and cell pointers."""
    for _ in range(3):
        state.spool(0, lambda n: b"m")
    state.install_adapter(5, b"five")
    state.close()
    path = state.folder / "state.db"
    data = path.read_bytes()
    page = data.index(b"sequence.copy") // 4096 * 4096
    assert page >= 4096
    used = [at for at in range(page, page + 4096) if at < page + 64 or data[at]]
    went_on = refused = 0
    for at in used:
        for bit in (at % 8, (at * 5 + 3) % 8):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            try:
                again = State(state.folder, HASH, replace=True)
            except StateError:
                refused += 1
            else:
                with contextlib.suppress(StateError):
                    assert again.spool(0, lambda n: b"m").sequence == 4
                    assert again.number("version") == again.number("highest") == 5
                    went_on += 1
                again.close()
            for rest in state.folder.glob("state.db-*"):
                rest.unlink()
    assert went_on > 5 * refused > 0


def test_a_damaged_age_never_makes_new_examples_older_than_old_ones(state: State) -> None:
    state.write([example(n) for n in range(5)], [], {}, 5)
    state.close()
    damage(state.folder, "age")
    again = State(state.folder, HASH)
    again.write([example(9)], [], {}, 1)
    assert again.examples() == [*(example(n) for n in range(5)), example(9)]
    assert again.number("learned") == 6
    again.close()


# --- another body -----------------------------------------------------------------------------------------


def test_a_new_body_takes_the_examples_and_leaves_what_was_bound_to_the_former(state: State) -> None:
    state.write([example(n) for n in range(5)], [], {"label": 9}, 9)
    state.install_adapter(4, b"adapter")
    state.spool(4, lambda n: b"m", b"mark")
    state.spend(3, 30)
    state.put("enrolment", b"file")
    state.put("policy", b"kept")
    state.close()
    former = State(state.folder, OTHER, replace=True)
    assert former.artifact == HASH
    fresh = [item._replace(features=b"new codes") for item in former.examples()[1:]]
    former.close()
    again = State(state.folder, OTHER, replace=True)
    assert again.artifact == HASH, "nothing happens before the call"
    again.rewrite(OTHER, fresh, "4 of 5")
    assert again.artifact == OTHER
    again.close()
    with pytest.raises(StateMismatch):
        State(state.folder, HASH)
    new = State(state.folder, OTHER)
    assert new.examples() == fresh
    assert (new.adapter(), new.spooled(), new.get("sent"), new.get("enrolment")) == (None, [], None, None)
    assert (new.get("policy"), new.counts()) == (b"kept", {"label": 9})
    assert (new.number("version"), new.number("sequence"), new.number("learned"), new.spent(3)) == (0, 1, 9, 30)
    assert [entry[1:] for entry in new.events()] == [("read anew", "4 of 5")]
    new.install_adapter(1, b"the new fleet begins anew")
    new.close()


def test_the_same_body_reads_anew_and_nothing_else_changes(state: State) -> None:
    state.write([example(1)], [], {"label": 1}, 1)
    state.install_adapter(4, b"adapter")
    state.spool(4, lambda n: b"m", b"mark")
    state.rewrite(HASH, [example(2)], "1 of 1")
    assert (state.examples(), state.adapter(), len(state.spooled())) == ([example(2)], (4, b"adapter"), 1)
    assert state.get("sent") == b"mark"


def test_replace_makes_a_new_state_and_opens_an_own_one(tmp_path: Path) -> None:
    for _ in range(2):
        opened = State(tmp_path, OTHER, replace=True)
        assert (opened.artifact, opened.unread) == (OTHER, False)
        opened.close()
    State(tmp_path, OTHER).close()


# --- formats ----------------------------------------------------------------------------------------------

FORMER = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE examples (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, label TEXT NOT NULL,
                       features BLOB NOT NULL, base BLOB NOT NULL);
CREATE TABLE spool (sequence INTEGER PRIMARY KEY, base_version INTEGER NOT NULL, message BLOB NOT NULL);
PRAGMA user_version=1;
"""


def former_state(folder: Path, count: int = 3) -> None:
    """A state as version 0.1 left it."""
    folder.mkdir(exist_ok=True)
    db = sqlite3.connect(folder / "state.db")
    db.execute("PRAGMA journal_mode=WAL")
    db.executescript(FORMER)
    numbers = {"learned": 8, "sequence": 5, "version": 7}
    values = {"artifact": HASH, "enrolment": b"file", "adapter": b"published", "sent": b"mark"}
    values |= {key: value.to_bytes(8, "big") for key, value in numbers.items()}
    db.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
    for n in range(count):
        features, base = struct.pack("<4f", 12.7, -12.7, 0.1 * n, 0.0), struct.pack("<2f", 0.0, 0.0)
        db.execute(
            "INSERT INTO examples (text, label, features, base) VALUES (?, ?, ?, ?)",
            (f"text {n}", f"label {n % 2}", features, base),
        )
    db.execute("INSERT INTO spool VALUES (5, 7, ?)", (b"sealed",))
    db.commit()
    db.close()


def test_format_1_is_brought_to_this_one_with_all_that_it_held(tmp_path: Path) -> None:
    former_state(tmp_path)
    for _ in range(2):
        state = State(tmp_path, HASH)
        found = state.examples()
        assert [(e.text, e.label) for e in found] == [
            ("text 0", "label 0"),
            ("text 1", "label 1"),
            ("text 2", "label 0"),
        ]
        assert all(e.digest == digest(e.text or "") for e in found)
        assert [list(memoryview(e.features).cast("b")) for e in found] == [[127, -127, n, 0] for n in range(3)]
        assert found[0].scale == pytest.approx(0.1)
        assert (found[0].base, found[0].base_scale) == (b"\0\0", 1.0)
        assert state.counts() == {"label 0": 2, "label 1": 1}
        assert state.unread, "until it is rewritten"
        assert [state.number(key) for key in ("learned", "sequence", "version")] == [8, 5, 7]
        assert state.adapter() == (7, b"published")
        assert [item[:3] for item in state.spooled()] == [(5, 7, b"sealed")]
        assert (state.get("sent"), state.get("enrolment"), state.get("adapter")) == (b"mark", b"file", None)
        with pytest.raises(Refused):
            state.install_adapter(7, b"")
        state.close()
    with sqlite3.connect(tmp_path / "state.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()
    state = State(tmp_path, HASH)
    state.rewrite(HASH, state.examples(), "all")
    assert not state.unread
    assert not reopened(state).unread


def test_format_1_of_another_artifact_is_not_touched(tmp_path: Path) -> None:
    former_state(tmp_path)
    with pytest.raises(StateMismatch):
        State(tmp_path, OTHER)
    with sqlite3.connect(tmp_path / "state.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
