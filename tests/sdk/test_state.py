"""The state survives cuts: at any byte of what was written, reopening gives a state that was once complete."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tasuki.sdk.errors import (
    Refused,
    StateCorrupt,
    StateError,
    StateLocked,
    StateMismatch,
    StateNewer,
    StateUnwritable,
)
from tasuki.sdk.state import Example, State

HASH = b"h" * 32


def example(number: int) -> Example:
    return Example(f"text {number}", "label", np.full(4, number, np.float32), np.zeros(2, np.float32))


def test_examples_come_back(tmp_path: Path) -> None:
    state = State(tmp_path, HASH)
    state.add_example(example(1))
    state.add_example(example(2))
    state.add_example(Example("text 1", "other", np.zeros(4, np.float32), np.zeros(2, np.float32)))
    state.close()
    found = State(tmp_path, HASH).examples()
    assert [(e.text, e.label) for e in found] == [("text 1", "other"), ("text 2", "label")]
    assert found[1].features.tolist() == [2, 2, 2, 2]


def test_second_opener_is_refused_at_once(tmp_path: Path) -> None:
    first = State(tmp_path, HASH)
    with pytest.raises(StateLocked, match="another process"):
        State(tmp_path, HASH)
    first.close()
    State(tmp_path, HASH).close()


def test_other_artifact_newer_format_and_damage_are_named(tmp_path: Path) -> None:
    State(tmp_path, HASH).close()
    with pytest.raises(StateMismatch):
        State(tmp_path, b"o" * 32)
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StateNewer):
        State(tmp_path, HASH)
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to be read as one" * 40)
    with pytest.raises(StateCorrupt):
        State(tmp_path, HASH)


def test_a_closed_state_is_not_called_damaged(tmp_path: Path) -> None:
    state = State(tmp_path, HASH)
    state.close()
    with pytest.raises(StateError, match="closed") as caught:
        state.examples()
    assert type(caught.value) is StateError


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnwritable):
        State(tmp_path / "file" / "state", HASH)


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    state = State(tmp_path, HASH)
    state.add_example(example(1))
    # SQLite's own bound stands for the disk's: the same error path (SQLITE_FULL).
    (pages,) = state._db.execute("PRAGMA page_count").fetchone()
    state._db.execute(f"PRAGMA max_page_count={pages}")

    def fill() -> None:
        for number in range(2, 500):
            state.add_example(example(number))

    with pytest.raises(StateUnwritable, match="full"):
        fill()
    count = len(state.examples())
    state.close()
    assert len(State(tmp_path, HASH).examples()) == count


def test_versions_only_go_forward(tmp_path: Path) -> None:
    state = State(tmp_path, HASH)
    state.install_adapter(3, b"three")
    for version in (3, 2, 0):
        with pytest.raises(Refused, match="rollback"):
            state.install_adapter(version, b"old")
    assert state.adapter() == (3, b"three")


def test_sequence_grows_and_the_newest_update_waits(tmp_path: Path) -> None:
    state = State(tmp_path, HASH)
    assert state.spool(0, lambda n: b"%d" % n, b"mark").sequence == 1
    assert state.spool(0, lambda n: b"%d" % n).message == b"2"
    assert [item.sequence for item in state.spooled()] == [2]
    with pytest.raises(RuntimeError):
        state.spool(0, lambda n: (_ for _ in ()).throw(RuntimeError()))
    assert [item.sequence for item in state.spooled()] == [2]
    state.close()
    again = State(tmp_path, HASH)
    assert again.unspool(2)
    assert not again.unspool(2)
    assert again.spool(1, lambda n: b"%d" % n).sequence == 3


def test_a_refused_update_is_made_anew(tmp_path: Path) -> None:
    state = State(tmp_path, HASH)
    state.spool(0, lambda n: b"m", b"mark")
    state.unspool(1, admitted=False)
    assert state.get("sent") is None


def test_spool_has_a_bound(tmp_path: Path) -> None:
    state = State(tmp_path, HASH, spool_bytes=100)
    with pytest.raises(StateUnwritable, match="100"):
        state.spool(0, lambda n: b"x" * 101)
    assert state.spooled() == []


def test_a_cut_at_any_byte_of_the_log_leaves_a_committed_state(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    state = State(whole, HASH)
    snapshots = tmp_path / "snapshot"
    for number in range(6):
        state.add_example(example(number))
    # Copied while open, as a power cut would leave it: the log is not yet folded into the database.
    shutil.copytree(whole, snapshots)
    state.close()
    log = (snapshots / "state.db-wal").read_bytes()
    counts = set()
    for cut in sorted({*range(0, len(log), 211), *range(len(log) - 40, len(log) + 1)}):
        folder = tmp_path / "cut"
        shutil.copytree(snapshots, folder)
        (folder / "state.db-wal").write_bytes(log[:cut])
        reopened = State(folder, HASH)
        found = [e.text for e in reopened.examples()]
        assert found == [f"text {n}" for n in range(len(found))]
        counts.add(len(found))
        reopened.close()
        shutil.rmtree(folder)
    assert {0, 6} <= counts


CHILD = """
import sys
import numpy as np
from tasuki.sdk.state import Example, State
state = State(sys.argv[1], b"h" * 32)
number = len(state.examples())
while True:
    state.add_example(Example(f"text {number}", "label", np.zeros(4, np.float32), np.zeros(2, np.float32)))
    state.spool(number, lambda n: b"%d" % number)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, kills: int) -> None:
    rng = np.random.default_rng(0)
    acknowledged = -1
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        child.send_signal(signal.SIGKILL)
        lines = [first, *child.stdout.read().splitlines()]
        child.wait()
        child.stdout.close()
        acknowledged = max([acknowledged, *(int(line) for line in lines if line.strip())])
        state = State(tmp_path, HASH)
        texts = [e.text for e in state.examples()]
        state.close()
        assert texts == [f"text {n}" for n in range(len(texts))]
        assert len(texts) > acknowledged
    assert acknowledged > kills / 2
