"""The state on a bad disk: never over its bound, full, read-only, with flipped bits; nothing is lost in silence."""

import contextlib
import os
import random
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasuki.sdk.cache import Cache, Example, digest
from tasuki.sdk.errors import InputError, StateCorrupt, StateNewer, StateUnwritable
from tasuki.sdk.state import SPOOL_BYTES, State, capacity_for
from tasuki.sdk.state_records import pack_example, row_of
from tasuki.sdk.state_size import ADAPTER_BYTES, MIN_DISK, max_pages, spool_bound

HASH = b"h" * 32
TEXT_BYTES = 64 << 10


def example(number: int, text_bytes: int = 40, features: int = 96) -> Example:
    text = f"text {number} ".ljust(text_bytes, "x")
    return Example(digest(text), text, f"label {number % 3}", bytes([number % 256]) * features, bytes(27))


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


# --- the bound --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disk", [MIN_DISK, 3_000_000, 8 << 20])
def test_the_longest_texts_never_bring_the_folder_over_its_bound(tmp_path: Path, disk: int) -> None:
    """Fill until it is full, with all else that grows; the folder is measured after every write."""
    state = State(tmp_path, HASH, disk=disk)
    most, kept = 0, []
    text_bytes = TEXT_BYTES if disk > MIN_DISK else TEXT_BYTES // 8

    def measured() -> None:
        nonlocal most
        most = max(most, on_disk(tmp_path))
        assert most <= disk
        assert state.size() == on_disk(tmp_path)

    def fill() -> None:
        for number in range(len(kept), 1000):
            state.write([example(number, text_bytes)], [], {"label 0": number}, number)
            kept.append(example(number, text_bytes))
            measured()

    with pytest.raises(StateUnwritable, match="disk"):
        fill()
    assert state.examples() == kept, "nothing is lost"
    measured()
    # Full of examples, there is room for what the fleet sends and wants, again and again.
    for version in range(1, 6):
        message = bytes([version]) * spool_bound(disk, SPOOL_BYTES)
        state.install_adapter(version, bytes([version]) * ADAPTER_BYTES)
        measured()
        assert state.spool(version, lambda _, message=message: message, b"mark" * 4).message == message
        measured()
        assert state.unspool(sha256(message).digest()[:16]) == version
        with pytest.raises(StateUnwritable, match="fleet"):
            fill()
        assert state.examples() == kept
        measured()
    # A full state can still forget, and what was freed can be used again (a leaf may have to be split for it).
    state.forget([kept.pop(0).digest], {}, "one")
    measured()
    for number in range(1000, 1030):
        state.write([example(number, text_bytes)], [kept.pop(0).digest], {}, number)
        kept.append(example(number, text_bytes))
        measured()
    # The largest transaction: every page is written again.
    state.rewrite(b"o" * 32, kept, "")
    measured()
    state.rewrite(HASH, [item._replace(features=bytes([1]) * 96) for item in kept], "")
    measured()
    state.close()
    again = State(tmp_path, HASH, disk=disk)
    assert [item.text for item in again.examples()] == [item.text for item in kept]
    again.forget([item.digest for item in kept], {}, "")
    measured()
    assert again.examples() == []
    again.close()
    assert most > 0.4 * disk, "and the room that there is is used"


def test_a_log_that_a_cut_left_long_is_folded_in_before_it_grows(tmp_path: Path) -> None:
    disk = 1 << 20
    state = State(tmp_path / "whole", HASH, disk=disk, adapter_bytes=4096, spool_bytes=4096)
    items = [example(n, 1000) for n in range(265)]
    state.write(items, [], {}, 280)
    state.scrub()
    state._db.execute("PRAGMA wal_autocheckpoint=0")  # as if the cut came after the commit, before the log is folded in
    state.write([item._replace(base=bytes([1]) * 27) for item in items], [], {}, 301)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    state.close()
    again = State(tmp_path / "cut", HASH, disk=disk, adapter_bytes=4096, spool_bytes=4096)
    assert again.number("learned") == 581
    again.write([item._replace(base=bytes([2]) * 27) for item in items], [], {}, 302)
    assert 0.7 * disk < on_disk(tmp_path / "cut") <= disk
    again.close()


@pytest.mark.parametrize(
    ("text_bytes", "features", "rounds"),
    [(40, 96, 3), (0, 64 * 128, 6), (700, 96, 3), (1500, 96, 4), (TEXT_BYTES, 96, 8)],
)
def test_as_many_as_capacity_for_says_fit_through_many_evictions(
    tmp_path: Path, text_bytes: int, features: int, rounds: int
) -> None:
    """With adapters and spool at their own bounds beside them."""
    disk, spool_bytes, adapter_bytes = 4 << 20, 64 << 10, 64 << 10
    item = example(0, text_bytes, features)
    size = len(item.text or "") + len(item.label) + len(item.features) + len(item.base) + 20
    capacity = capacity_for(disk, size, spool_bytes=spool_bytes, adapter_bytes=adapter_bytes)
    assert capacity >= 16
    state = State(tmp_path, HASH, disk=disk, spool_bytes=spool_bytes)
    cache = Cache(capacity, 1)
    state.install_adapter(1, bytes(adapter_bytes))
    state.install_adapter(2, bytes(adapter_bytes))
    state.spool(2, lambda _: bytes(spool_bytes))
    dirty: dict[bytes, Example] = {}
    gone: list[bytes] = []
    for number in range(rounds * capacity):
        item = example(number, text_bytes, features)
        change = cache.add(item)
        evicted = [] if change.evicted is None else [change.evicted]
        gone += evicted
        for lost in evicted:
            dirty.pop(lost, None)
        if change.stored:
            dirty[item.digest] = item
        if number % 16 == 15:
            state.write(list(dirty.values()), gone, cache.counts(), 16)
            dirty, gone = {}, []
    state.install_adapter(3, bytes(adapter_bytes))
    state.spool(3, lambda _: bytes(spool_bytes))
    assert len(state.examples()) > 0.9 * capacity - 16
    assert on_disk(tmp_path) <= disk
    state.close()


def test_forgetting_works_on_a_full_state(tmp_path: Path) -> None:
    """One small example at a time, each with the longest line in the journal: that frees less than it writes."""
    state = State(tmp_path, HASH, disk=MIN_DISK)
    kept = fill(state, text_bytes=10)
    count = 0
    for step in (100_000, 4096, 16):  # what is kept for the fleet is used up, too
        with contextlib.suppress(StateUnwritable):
            while True:
                state.put(f"padding {count}", bytes(step))
                count += 1
    with pytest.raises(StateUnwritable):
        state.put("padding", bytes(4096))
    for _ in range(120):
        state.forget([kept.pop().digest], {"label": 1}, "ä" * 500, now=1.0)
        assert on_disk(tmp_path) <= MIN_DISK
    assert state.examples() == kept
    assert len(state.events()) == 100
    state.close()


@given(st.integers(MIN_DISK, 1 << 30), st.integers(0, 200_000))
def test_capacity_grows_with_the_disk_and_shrinks_with_the_examples(disk: int, size: int) -> None:
    def capacity(disk: int, size: int) -> int:
        try:
            return capacity_for(disk, size)
        except InputError:
            return 0

    assert 0 <= capacity(disk, size) <= max_pages(disk) * 64
    assert capacity(disk, size) <= capacity(2 * disk, size)
    assert capacity(disk, size + 5000) <= capacity(disk, size)


def test_the_least_directory_has_room_for_small_examples_alone() -> None:
    sizes = (600, 2048, 4096)
    assert [capacity_for(2 << 20, size) for size in sizes] == [217, 109, 82]
    assert [capacity_for(8 << 20, size) for size in sizes] == [1670, 843, 634]
    assert [capacity_for(MIN_DISK, size) for size in sizes[:2]] == [37, 18]
    with pytest.raises(InputError, match="disk=1048576 is too little for 16 examples of 4096 bytes"):
        capacity_for(MIN_DISK, sizes[2])


def test_a_bound_that_is_too_small_for_anything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1048576 bytes"):
        State(tmp_path, HASH, disk=MIN_DISK - 1)


# --- full, read-only --------------------------------------------------------------------------------------


def fill(state: State, text_bytes: int = 3000) -> list[Example]:
    """Write until it is refused; what was acknowledged."""
    kept, why = [], "never full"
    try:
        for number in range(10_000):
            state.write([example(number, text_bytes)], [], {}, number)
            kept.append(example(number, text_bytes))
    except StateUnwritable as error:
        why = str(error)
    assert "disk" in why
    return kept


@contextlib.contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size`: a write fails as on a full disk (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [100_000, 300_000, 1_000_000])
def test_when_files_can_grow_no_more_nothing_acknowledged_is_lost(tmp_path: Path, limit: int) -> None:
    state = State(tmp_path, HASH)
    with file_limit(limit):
        kept = fill(state)
        assert state.examples() == kept
        assert max(path.stat().st_size for path in tmp_path.iterdir()) <= limit
    state.write([example(99_999)], [], {}, 1)  # there is room again
    state.close()
    again = State(tmp_path, HASH)
    assert again.examples() == [*kept, example(99_999)]
    again.close()


def test_a_log_that_cannot_be_folded_in_does_not_grow_without_bound(tmp_path: Path) -> None:
    """The database can't grow, its log can: the writer stops while both are still under the bound."""
    state = State(tmp_path, HASH, disk=8 << 20)
    state.write([example(n) for n in range(10)], [], {}, 10)
    state.scrub()
    with file_limit(400_000):
        # Rows that are replaced again and again fill the log; only new ones would grow the database.
        kept = fill(state)
        assert on_disk(tmp_path) <= 8 << 20
        assert (tmp_path / "state.db-wal").stat().st_size <= 400_000
    state.close()
    again = State(tmp_path, HASH)
    assert again.examples()[10:] == kept
    again.close()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 1 MiB. Where this user may not mount one, a file limit has to stand for it."""
    # Not under pytest's own folders: it would try to clear them away while something is mounted there.
    place = Path(tempfile.mkdtemp())
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", place]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        with contextlib.nullcontext() if mounted else file_limit(500_000):
            yield place
    finally:
        if mounted:
            subprocess.run(["umount", "-l", place], check=True)
        shutil.rmtree(place)


def test_a_full_disk_is_named_and_loses_nothing(small_disk: Path) -> None:
    state = State(small_disk / "state", HASH)
    state.install_adapter(1, b"adapter")
    kept = fill(state)
    with pytest.raises(StateUnwritable):
        state.install_adapter(2, bytes(100_000))
    with pytest.raises(StateUnwritable):
        state.spool(1, lambda _: bytes(100_000))
    assert (state.examples(), state.adapter(), state.number("sequence")) == (kept, (1, b"adapter"), 0)
    state.close()
    again = State(small_disk / "state", HASH)
    assert (again.examples(), again.adapter(), again.number("sequence")) == (kept, (1, b"adapter"), 0)
    again.close()
    with contextlib.suppress(OSError), (small_disk / "rest").open("wb", buffering=0) as rest:
        while rest.write(bytes(512)):
            pass
    full = State(small_disk / "state", HASH)
    assert full.examples() == kept, "a device on a full disk still answers"
    with pytest.raises(StateUnwritable):
        full.write([example(1)], [], {}, 1)
    full.close()
    (small_disk / "rest").unlink()


@contextlib.contextmanager
def plain_user() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def hand_over(folder: Path, mode: int, file_mode: int) -> None:
    for path in folder.iterdir():
        path.chmod(file_mode)
        os.chown(path, 65534 if os.geteuid() == 0 else -1, -1)
    folder.chmod(mode)
    os.chown(folder, 65534 if os.geteuid() == 0 else -1, -1)


@pytest.mark.parametrize(("mode", "file_mode"), [(0o500, 0o600), (0o500, 0o400), (0o000, 0o600), (0o700, 0o400)])
def test_what_may_not_be_written_is_named(mode: int, file_mode: int) -> None:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        folder = Path(made) / "state"
        state = State(folder, HASH)
        state.write([example(1)], [], {}, 1)
        state.close()
        hand_over(folder, mode, file_mode)
        with plain_user(), pytest.raises(StateUnwritable, match="state"):
            State(folder, HASH)
        folder.chmod(0o700)
        (folder / "state.db").chmod(0o600)
        again = State(folder, HASH)
        assert again.examples() == [example(1)]
        again.close()


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o555)
        with plain_user(), pytest.raises(StateUnwritable, match="deeper can't be made"):
            State(Path(made) / "state" / "deeper", HASH)


def test_a_folder_under_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnwritable, match="file"):
        State(tmp_path / "file" / "state", HASH)
    with pytest.raises(StateUnwritable, match="file"):
        State(tmp_path / "file", HASH)


# --- flipped bits -----------------------------------------------------------------------------------------


def rotten(folder: Path) -> tuple[bytes, list[Example]]:
    """A database with some of everything, and the examples in it."""
    state = State(folder, HASH)
    items = [*(example(n) for n in range(40)), *(example(n, 9000) for n in range(40, 46))]
    state.write(items, [], {"label 0": 20, "label 1": 26}, 46)
    state.install_adapter(1, b"version 1 " * 1000)
    state.install_adapter(2, b"version 2 " * 1000)
    state.spool(2, lambda _: b"update " * 1000, b"mark", now=1.0)
    state.close()
    return (folder / "state.db").read_bytes(), items


def test_a_flipped_bit_in_an_example_costs_that_example_alone(tmp_path: Path) -> None:
    data, items = rotten(tmp_path)
    rng = random.Random(2)
    for victim in rng.sample(items, 12):
        text = (victim.text or "").encode()
        spots = [data.find(text[:20]), data.find(victim.features, max(0, data.find(text[:20])))]
        for at in (spot for spot in spots if spot > 0):
            broken = bytearray(data)
            broken[at + rng.randrange(12)] ^= 1 << rng.randrange(8)
            (tmp_path / "state.db").write_bytes(broken)
            state = State(tmp_path, HASH)
            assert state.examples() == [item for item in items if item != victim]
            assert state.damaged()["examples"] == 1
            assert state.examples() == [item for item in items if item != victim], "and is dropped for good"
            assert state.damaged()["examples"] == 1
            assert [entry.event for entry in state.events()] == ["damaged"]
            assert state.adapter() == (2, b"version 2 " * 1000)
            state.close()


@pytest.mark.parametrize("flips", [150, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_flipped_bit_anywhere_gives_no_false_example_and_no_foreign_error(tmp_path: Path, flips: int) -> None:
    """Whatever SQLite makes of it: what is read is what was written, or less, or the damage is named."""
    data, items = rotten(tmp_path)
    rng = random.Random(flips)
    fine = dropped = named = 0
    for _ in range(flips):
        broken = bytearray(data)
        broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "state.db").write_bytes(broken)
        try:
            state = State(tmp_path, HASH, replace=True)
        except (StateCorrupt, StateUnwritable, StateNewer):
            named += 1
            continue
        try:
            found = {item.digest: item for item in state.examples()}
            assert found.items() <= {item.digest: item for item in items}.items()
            assert state.adapter() in ((2, b"version 2 " * 1000), (1, b"version 1 " * 1000), None)
            assert [item.message for item in state.spooled(2.0)] in ([b"update " * 1000], [])
            state.journal("alive", "")
            state.counts()
            fine, dropped = fine + (len(found) == len(items)), dropped + (len(found) < len(items))
        except StateCorrupt:
            named += 1
        finally:
            state.close()
            for rest in tmp_path.glob("state.db-*"):
                rest.unlink()
    assert fine > flips / 4
    assert dropped > flips / 10
    assert named < flips / 10


def varint(number: int) -> bytes:
    """A row's number of 57 to 63 bits, as SQLite's file format has it: seven bits a byte, eight in the ninth."""
    high = number >> 8
    return bytes(0x80 | high >> 7 * place & 0x7F for place in range(7, -1, -1)) + bytes([number & 0xFF])


def test_a_damaged_row_number_is_counted_once(tmp_path: Path) -> None:
    """By that number the row is not found any more; its neighbours stay."""
    data, items = rotten(tmp_path)
    done = 0
    for victim in items[:40:8]:
        key = varint(row_of(victim.digest))
        for place in range(9):
            record = data.find(pack_example(victim)[:24])
            at = data.rfind(key, record - 20, record)  # inner pages have keys, too
            if at < 0:
                continue
            broken = bytearray(data)
            broken[at + place] ^= 8
            (tmp_path / "state.db").write_bytes(broken)
            for _ in range(3):
                state = State(tmp_path, HASH)
                for _ in range(3):
                    assert state.examples() == [item for item in items if item != victim]
                    assert state.damaged()["examples"] == 1
                    assert len(state.events()) == 1
                state.write([example(1000)], [], {}, 1)
                state.write([], [example(1000).digest], {}, 1)
                state.close()
            done += 1
    assert done == 5 * 9


def test_damage_is_noticed_while_the_state_is_open_too(tmp_path: Path) -> None:
    state = State(tmp_path, HASH)
    state.write([example(1), example(2)], [], {}, 2)
    state._db.execute("UPDATE examples SET record=zeroblob(200) WHERE age=1")
    assert state.examples() == [example(2)]
    state._db.execute("UPDATE examples SET record='text' WHERE age=2")
    assert state.examples() == []
    assert state.damaged()["examples"] == 2
    state.close()
