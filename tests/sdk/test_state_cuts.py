"""A power cut at every single write: the state opens, with all that was acknowledged, and nothing half.

A child does a scenario under `write_recorder.c`, which logs every change to the folder's files and, between them, a
mark after every step: its number and all that the state then holds. From the log the folder is built as a cut would
leave it, opened with the real `State`, and must hold exactly what the last mark says, or the next one.

What a cut may do: stop after any change; tear the last write at a sector or a byte; lose any of the writes that were
not synced yet, each on its own, or parts of them by sectors. Names follow a journalled file system: of creations and
deletions since the folder was synced, a first part survives. SQLite assumes that a torn write does not touch bytes
outside of it ("powersafe overwrite"), and so does this.
"""

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from test_state import former_state

from tasuki.sdk.cache import Example, digest
from tasuki.sdk.state import State
from tasuki.sdk.state_size import MIN_DISK

HASH, OTHER = b"h" * 32, b"o" * 32
NOW = 1_000_000.0
SECTOR = 512
KEPT = 30
HERE = Path(__file__)


def example(number: int, size: int = 40) -> Example:
    text = f"text {number} " + "x" * size
    return Example(digest(text), text, f"label {number % 3}", bytes([number % 256]) * 96, bytes(27))


def dump(state: State) -> dict[str, Any]:
    """All that the state holds, as JSON has it; but for `created` of an update, which migration sets by the clock."""
    adapter = state.adapter()
    return {
        "artifact": state.artifact.hex(),
        "examples": [[e.text, e.digest.hex(), e.label, e.features.hex(), len(e.base)] for e in state.examples()],
        "counts": state.counts(),
        "adapter": None if adapter is None else [adapter[0], adapter[1].hex()],
        "spool": [[s.sequence, s.base_version, s.message.hex(), str(s.expires)] for s in state.spooled(NOW)],
        "sent": (state.get("sent") or b"").hex(),
        "kept": {key: (state.get(key) or b"").hex() for key in ("session", "memory", "pending.memory")},
        "dropped": state.dropped(),
        "numbers": [state.number(key) for key in ("learned", "sequence", "version", "highest", "age")],
        "unread": state.unread,
        "damaged": state.damaged(),
        "spent": state.spent(0),
        "enrolment": (state.get("enrolment") or b"").hex(),
        "journal": [list(entry) for entry in state.events()],
    }


Step = Callable[[State], State | None]


def update(sequence: int, number: int) -> bytes:
    return b"update %d of %d " % (sequence, number) * 200


def steps(scale: int) -> list[Step]:
    """A life in short; `scale` says how much is learned in it."""

    def learn(first: int, last: int, gone: range = range(0), size: int = 40) -> Step:
        puts = [example(n, size) for n in range(first, last)]
        deletes = [example(n).digest for n in gone]
        return lambda state: state.write(puts, deletes, {"label 0": last, "label 1": first}, last - first)

    def spool(number: int, lifetime: float = 1000.0) -> Step:
        def run(state: State) -> None:
            version, mark = state.number("version"), b"mark %d" % number
            keep = {"session": b"chain %d" % number, "pending.memory": b"memory %d " % number * 100}
            state.spool(version, lambda n: update(n, number), mark, NOW, lifetime, keep=lambda: keep)

        return run

    def told(sequence: int, number: int, admitted: bool = True) -> Step:
        """The receipt for an update has come."""
        digest = sha256(update(sequence, number)).digest()[:16]
        return lambda state: state.unspool(digest, admitted) and None

    def adapter(version: int) -> Step:
        return lambda state: state.install_adapter(version, b"version %d " % version * 700)

    def again(state: State) -> State:
        state.close()
        return State(state.folder, OTHER, disk=MIN_DISK, replace=True)

    def replace(state: State) -> None:
        state.rewrite(OTHER, [e._replace(features=bytes(64)) for e in state.examples()], "all", NOW)

    def forget(state: State) -> None:
        state.forget([e.digest for e in state.examples()[::2]], {"label 1": 1}, "half", NOW)

    flushes = [learn(10 + n, 11 + n, range(n, n + 1)) for n in range(4 * scale)]
    return [
        learn(0, 10), spool(0), adapter(1), *flushes[: 2 * scale], learn(200, 206, size=5000), spool(1), again,
        adapter(2), told(2, 1), spool(2, 1.0), lambda state: state.spend(5, 70) and None,
        told(3, 2, admitted=False), *flushes[2 * scale :], spool(3), forget, again,
        lambda state: state.put("enrolment", b"file"), adapter(3), spool(4), replace, learn(300, 305), adapter(1),
        lambda state: state.journal("event", "detail", NOW) and None, spool(5), again, learn(305, 306),
    ]  # fmt: skip


def child(folder: str, mark: str, scale: int) -> None:
    """Do the scenario (with `scale` 0 only open), with a mark after every step; the end is a cut too."""
    file = os.open(mark, os.O_WRONLY | os.O_CREAT)
    state = State(folder, HASH, disk=MIN_DISK, replace=True)
    for step in [lambda _: None, *(steps(scale) if scale else [])]:
        state = step(state) or state
        os.write(file, json.dumps(dump(state)).encode())
    os._exit(0)


# --- the log ----------------------------------------------------------------------------------------------


@dataclass
class Op:
    """One entry of the log; `inode` tells files of the same name apart."""

    kind: str
    offset: int
    name: str
    data: bytes
    inode: int = -1
    done: float = field(default=float("inf"))  # index of the op that made it durable


def read_log(path: Path, before: dict[str, bytes]) -> list[Op]:
    """The entries, with inodes: those of `before` are 0, 1, … in order of name."""
    data, at, ops = path.read_bytes(), 0, []
    while at < len(data):
        kind, _, offset, size, length = struct.unpack_from("<ciqIH", data, at)
        at += 19
        name, body = data[at : at + length].decode(), data[at + length : at + length + size]
        at += length + size
        ops.append(Op(kind.decode(), offset, name, body))
    inodes = {name: number for number, name in enumerate(sorted(before))}
    fresh = len(before)
    for index, op in enumerate(ops):
        match op.kind:
            case "o":
                inodes[op.name], fresh = fresh, fresh + 1
            case "s":
                for earlier in ops[:index]:
                    if earlier.kind in "wt" and earlier.inode == inodes[op.name]:
                        earlier.done = min(earlier.done, index)
            case "d":
                for earlier in ops[:index]:
                    if earlier.kind in "ou":
                        earlier.done = min(earlier.done, index)
            case "r":
                raise NotImplementedError("SQLite renames nothing")
        if op.kind in "owtsu":
            op.inode = inodes[op.name]
    return ops


Lengths = Callable[[int, Op], list[tuple[int, int]]]


def build(before: dict[str, bytes], ops: list[Op], keep: Callable[[int, Op], bool], parts: Lengths) -> dict[str, bytes]:
    """The files after those of `ops` that `keep` says; of a write only the `parts` (start, end) arrive."""
    content = {number: bytearray(before[name]) for number, name in enumerate(sorted(before))}
    names = {name: number for number, name in enumerate(sorted(before))}
    for index, op in enumerate(ops):
        if op.kind not in "owtu" or not keep(index, op):
            continue
        data = content.setdefault(op.inode, bytearray())
        match op.kind:
            case "o":
                names[op.name] = op.inode
            case "u":
                del names[op.name]
            case "t":
                del data[op.offset :]
                data.extend(bytes(op.offset - len(data)))
            case "w":
                for start, end in parts(index, op):
                    data.extend(bytes(max(0, op.offset + end - len(data))))
                    data[op.offset + start : op.offset + end] = op.data[start:end]
    return {name: bytes(content[inode]) for name, inode in names.items()}


def whole(_: int, op: Op) -> list[tuple[int, int]]:
    return [(0, len(op.data))]


def torn_ends(op: Op, rng: random.Random, every: bool) -> list[int]:
    """Where the last write may stop."""
    ends = {rng.randrange(len(op.data)), *range(0, len(op.data), SECTOR)} - {0}
    return sorted(ends) if every else rng.sample(sorted(ends), min(1, len(ends)))


def lossy(ops: list[Op], rng: random.Random) -> tuple[Callable[[int, Op], bool], Lengths]:
    """What a cut after `ops` may leave of what was not synced."""
    end, share = len(ops), rng.choice((0.1, 0.5, 0.9))
    pending = [index for index, op in enumerate(ops) if op.kind in "ou" and op.done >= end]
    named = set(pending[: rng.randint(0, len(pending))])
    lost = {index for index, op in enumerate(ops) if op.kind in "wt" and op.done >= end and rng.random() > share}
    tear = {index for index, op in enumerate(ops) if op.kind == "w" and op.done >= end and rng.random() < 0.3}

    def keep(index: int, op: Op) -> bool:
        return (op.done < end or index in named) if op.kind in "ou" else index not in lost

    def parts(index: int, op: Op) -> list[tuple[int, int]]:
        if index not in tear:
            return whole(index, op)
        sectors = [(at, min(at + SECTOR, len(op.data))) for at in range(0, len(op.data), SECTOR)]
        return rng.sample(sectors, rng.randint(0, len(sectors)))

    return keep, parts


def cuts(
    before: dict[str, bytes], ops: list[Op], thorough: bool, stride: int
) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """Every folder that a cut may leave: after how many entries, how, and the files."""
    rng = random.Random(1)
    for end in range(0, len(ops) + 1, stride):
        did = ops[:end]
        yield end, "prefix", build(before, did, lambda *_: True, whole)
        if did and did[-1].kind == "w":
            for stop in torn_ends(did[-1], rng, thorough):

                def torn(index: int, op: Op, last: int = end - 1, stop: int = stop) -> list[tuple[int, int]]:
                    return [(0, stop)] if index == last else whole(index, op)

                yield end, f"torn at {stop}", build(before, did, lambda *_: True, torn)
        for draw in range(8 if thorough else 1):
            yield end, f"lossy {draw}", build(before, did, *lossy(did, rng))


# --- the tests --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, compiled for this machine."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.fail("a C compiler is needed to record writes: apt-get install gcc libc6-dev")
    made = tmp_path_factory.mktemp("recorder") / "recorder.so"
    source = HERE.with_name("write_recorder.c")
    done = subprocess.run(
        [compiler, "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", made, source, "-ldl", "-lpthread"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(
            f"write_recorder.c does not compile (glibc and its headers: apt-get install libc6-dev):\n{done.stderr}"
        )
    return made


def record(recorder: Path, folder: Path, scale: int) -> tuple[dict[str, bytes], list[Op]]:
    """Files before, and the log of the scenario in `folder`; checked to be whole."""
    folder.mkdir(exist_ok=True)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    log, mark = folder.with_name("log"), folder.with_name("mark")
    names = {"LD_PRELOAD": recorder, "RECORD_FOLDER": folder, "RECORD_LOG": log, "RECORD_MARK": mark}
    environment = {**os.environ, **{key: str(value) for key, value in names.items()}}
    subprocess.run([sys.executable, HERE, folder, mark, str(scale)], env=environment, check=True)
    ops = read_log(log, before)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert build(before, ops, lambda *_: True, whole) == after, "the log does not tell all that happened"
    return before, ops


def check(folder: Path, before: dict[str, bytes], ops: list[Op], thorough: bool, stride: int) -> dict[str, int]:
    """Open the state after every cut; how many there were of each way."""
    marks = [(index, json.loads(op.data)) for index, op in enumerate(ops) if op.kind == "m"]
    count: dict[str, int] = {}
    reached = set()
    for end, way, files in cuts(before, ops, thorough, stride):
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        acknowledged = sum(index < end for index, _ in marks) - 1
        state = State(folder, HASH, disk=MIN_DISK, replace=True)
        found = json.loads(json.dumps(dump(state)))
        state.close()
        allowed = [held for _, held in marks[max(0, acknowledged) : acknowledged + 2]]
        assert found in allowed, f"cut after {end} of {len(ops)} entries, {way}: after step {acknowledged}"
        reached.add(max(0, acknowledged) + allowed.index(found))
        count[way.split()[0]] = count.get(way.split()[0], 0) + 1
        shutil.rmtree(folder)
    assert len(reached) > len(marks) * 0.9 / stride, "the cuts reach nearly every step"
    return count


@pytest.mark.parametrize(
    ("scale", "thorough", "stride"), [(1, False, 3), pytest.param(6, True, 1, marks=pytest.mark.slow)]
)
def test_a_cut_at_any_write_loses_nothing_acknowledged_and_leaves_nothing_half(
    tmp_path: Path, recorder: Path, scale: int, thorough: bool, stride: int
) -> None:
    before, ops = record(recorder, tmp_path / "state", scale)
    kinds = [op.kind for op in ops]
    assert {"o", "w", "s", "u", "d", "m"} <= set(kinds)
    assert {op.name for op in ops if op.kind == "w"} >= {"state.db", "state.db-wal"}
    assert kinds.count("m") == len(steps(scale)) + 1
    count = check(tmp_path / "cut", before, ops, thorough, stride)
    assert sum(count.values()) > kinds.count("w") / stride


def test_a_cut_while_an_older_format_is_brought_to_this_one(tmp_path: Path, recorder: Path) -> None:
    """Before the first mark the state is still the former one, or all of the new one."""
    folder = tmp_path / "state"
    former_state(folder, count=40)
    before, ops = record(recorder, folder, scale=0)
    first = next(index for index, op in enumerate(ops) if op.kind == "m")
    assert sum(op.kind == "w" for op in ops[:first]) > 10
    count = check(tmp_path / "cut", before, ops[: first + 1], thorough=True, stride=1)
    assert count["lossy"] > 8 * first * 0.9


def life(folder: str) -> None:
    """Learn, spool, unspool and swap adapters for ever; prints every number when it is done with it."""
    state = State(folder, HASH, disk=MIN_DISK)
    number = state.number("learned")
    while True:
        state.write([example(number)], [example(number - KEPT).digest], {"label": number}, 1)
        state.spool(number, lambda n: b"update %d " % n * 100, b"mark %d" % number, NOW)
        if number % 2:
            state.unspool(sha256(b"update %d " % state.number("sequence") * 100).digest()[:16])
        if state.number("version") <= number:
            state.install_adapter(number + 1, b"version %d " % (number + 1) * 100)
        print(number, flush=True)
        number += 1


@pytest.mark.parametrize("kills", [8, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, kills: int) -> None:
    rng = random.Random(0)
    acknowledged, sequence = -1, 0
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, HERE, tmp_path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(rng.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        lines = [first, *process.stdout.read().splitlines()]
        process.wait()
        process.stdout.close()
        acknowledged = max([acknowledged, *(int(line) for line in lines if line.strip())])
        state = State(tmp_path, HASH, disk=MIN_DISK)
        learned, former = state.number("learned"), sequence
        sequence, version, waiting = state.number("sequence"), state.number("version"), state.spooled(NOW)
        assert learned > acknowledged
        assert state.examples() == [example(n) for n in range(max(0, learned - KEPT), learned)]
        assert state.counts() == {"label": learned - 1}
        assert state.adapter() == (version, b"version %d " % version * 100)
        assert version > acknowledged
        assert version in (learned - 1, learned)
        assert sequence >= former
        assert [item.message for item in waiting] in ([], [b"update %d " % sequence * 100])
        if waiting:
            assert waiting[0].sequence == sequence
            assert state.get("sent") == b"mark %d" % waiting[0].base_version
        else:
            assert (state.get("sent") or b"mark 1")[-1:] in b"13579"
        assert sum(state.damaged().values()) == 0
        state.close()
    assert acknowledged > kills / 2


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], int(sys.argv[3])) if len(sys.argv) > 2 else life(sys.argv[1])
