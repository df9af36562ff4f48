"""What a device remembers: one SQLite database in its state directory.

SQLite's write-ahead log with `synchronous=FULL` gives what a board needs: a commit is on disk before it returns, a
cut at any byte leaves the last commit, and what belongs together (a sequence number and its sealed message, a version
and its adapter) changes in one transaction. The connection holds an exclusive lock: a second process is refused at
once. What SQLite does not notice, a flipped bit, the checksum of every record does (`state_records`): a damaged example
or message is dropped and counted, a damaged adapter gives way to the one before.

Database and log together never take more than `disk` bytes; what would not fit is refused and nothing is lost. Where
nothing can be written any more, everything can still be read.
"""

import contextlib
import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tasuki.sdk import state_size as sizes
from tasuki.sdk import state_tables as tables
from tasuki.sdk.cache import Example
from tasuki.sdk.database import named_errors, private_file, private_folder, transaction
from tasuki.sdk.errors import Refusal, Refused, StateMismatch, StateNewer, StateUnwritable
from tasuki.sdk.saying import say
from tasuki.sdk.state_records import (
    FOR_EVER,
    Spooled,
    pack_example,
    pack_spent,
    pack_spooled,
    unpack_counts,
    unpack_spooled,
)
from tasuki.sdk.state_size import ADAPTER_BYTES, capacity_for

__all__ = ["DISK_BYTES", "FOR_EVER", "Entry", "Example", "Spooled", "State", "capacity_for"]
DATABASE: Final = "state.db"
DISK_BYTES: Final = 8 << 20
SPOOL_BYTES: Final = 256 << 10
_RECORDS: Final = {"examples": "examples", "adapters": "slots", "messages": "spool"}
_REASONS: Final = ("expired", "superseded", "bound")


class Entry(NamedTuple):
    """One line of the device's own log. `time` is seconds since 1970."""

    time: float
    event: str
    detail: str


class State:
    """The open state directory. Every method is one transaction; thread-safe.

    `artifact` is the hash of the body that the state is for. `unread` says that an older version read the examples, and
    that `rewrite` should bring them as this one does.

    Every method raises StateUnwritable if the disk or the bound on it is full, StateCorrupt, or StateError if closed.
    """

    def __init__(
        self,
        folder: str | Path,
        artifact: bytes,
        *,
        disk: int = DISK_BYTES,
        spool_bytes: int = SPOOL_BYTES,
        adapter_bytes: int = ADAPTER_BYTES,
        replace: bool = False,
    ) -> None:
        """Open or create; an older format is brought to this one. `disk` bounds database and log, in bytes.

        Of these, examples leave room for a spool of `spool_bytes` and two adapters of `adapter_bytes`.
        A folder that was larger before it was opened with this `disk` does not shrink, but grows no more. `replace`
        opens the state of another artifact too, to hand it over with `rewrite`; until then `artifact` of the state is
        the former hash. Raises StateLocked, StateCorrupt, StateNewer, StateMismatch, StateUnwritable, InputError.
        """
        self.folder = Path(folder)
        self._path = self.folder / DATABASE
        self._wal = self.folder / f"{DATABASE}-wal"
        self._pages, self._frames = sizes.max_pages(disk), sizes.log_frames(disk)
        self._spool_bytes = sizes.spool_bound(disk, spool_bytes)
        self._fleet_pages = sizes.fleet_pages(disk, spool_bytes, adapter_bytes)
        self._example_pages = sizes.example_room(disk, spool_bytes, adapter_bytes)
        self._lock = threading.RLock()
        private_folder(self.folder)
        private_file(self._path)
        with named_errors(self._path):
            self._db = sqlite3.connect(self._path, timeout=0.0, isolation_level=None, check_same_thread=False)
            try:
                self._open(artifact, replace)
            except BaseException:
                self._db.close()
                raise

    def _open(self, artifact: bytes, replace: bool) -> None:
        for setting in (
            "locking_mode=EXCLUSIVE", f"page_size={sizes.PAGE_BYTES}", "journal_mode=WAL", "synchronous=FULL",
            "secure_delete=ON", f"wal_autocheckpoint={self._frames}", f"journal_size_limit={self._log_bytes}",
        ):  # fmt: skip
            self._db.execute(f"PRAGMA {setting}")
        # On a full disk what is known can still be read, so here this may fail.
        with contextlib.suppress(sqlite3.OperationalError, StateUnwritable):
            self._fold()
        # Takes the lock now and not at the first write.
        with transaction(self._db) as db:
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if found > tables.FORMAT:
                raise StateNewer(f"{self.folder} has format {found}, this version knows {tables.FORMAT}; update tasuki")
            if found == 0:
                tables.create(db)
            row = db.execute("SELECT value FROM meta WHERE key='artifact'").fetchone()
            self.artifact: bytes = artifact if row is None else row[0]
            if row is None:
                tables.put(db, "artifact", artifact)
            elif row[0] != artifact and not replace:
                raise StateMismatch(
                    f"{self.folder} belongs to the artifact {row[0].hex()[:12]}, not to {artifact.hex()[:12]};"
                    " use another state directory, or move this one over with `tasuki device replace` (replace=True)"
                )
            if found == 1:
                tables.migrate(db)
            self.unread = db.execute("SELECT 1 FROM meta WHERE key='unread'").fetchone() is not None
            for key in tables.GUARDED:
                tables.number(db, key)
        if found == 1:
            say(__name__, "info", "%s brought from format 1 to %d", self.folder, tables.FORMAT)
            if self._db.execute("PRAGMA page_count").fetchone()[0] > self._pages:
                self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._bound(sizes.RESERVE_PAGES)
        self.adapter()

    def close(self) -> None:
        """Give the lock back. Everything is already on disk."""
        with self._lock:
            self._db.close()

    def size(self) -> int:
        """Bytes that the directory takes now."""
        total = 0
        for entry in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += entry.lstat().st_size
        return total

    # --- small values -------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """The value kept under `key`."""
        with self._reading() as db:
            row = db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if row is None else row[0]

    def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`."""
        with self._writing() as db:
            tables.put(db, key, value)

    def number(self, key: str) -> int:
        """The counter `key`, 0 if it was never set."""
        with self._reading() as db:
            return tables.number(db, key)

    def count(self, more: Mapping[str, int]) -> None:
        """Add to counters that only grow."""
        with self._writing() as db:
            for key, times in more.items():
                tables.put_number(db, key, tables.number(db, key) + times)

    def counted(self, prefix: str) -> dict[str, int]:
        """The counters whose key begins with `prefix`, without it."""
        with self._reading() as db:
            keys = [key for (key,) in db.execute("SELECT key FROM meta WHERE key GLOB ?", (f"{prefix}*",)).fetchall()]
            return {key.removeprefix(prefix): tables.number(db, key) for key in keys}

    def remove(self, *keys: str) -> None:
        """Forget the values kept under `keys`."""
        with self._writing() as db:
            db.executemany("DELETE FROM meta WHERE key=?", ((key,) for key in keys))

    def journal(self, event: str, detail: str, now: float | None = None) -> None:
        """Note what happened in the device's own log; the last 100 notes are kept."""
        with self._writing() as db:
            tables.note(db, event, detail, now)

    def events(self) -> list[Entry]:
        """The notes, oldest first."""
        with self._reading() as db:
            rows = db.execute("SELECT time, CAST(event AS BLOB), CAST(detail AS BLOB) FROM journal ORDER BY id")
            return [Entry(at, what.decode(errors="replace"), more.decode(errors="replace")) for at, what, more in rows]

    def damaged(self) -> dict[str, int]:
        """How many records were dropped because their checksum did not hold, ever."""
        with self._reading() as db:
            return {name: tables.number(db, f"damaged.{table}") for name, table in _RECORDS.items()}

    def spent(self, day: int) -> int:
        """Bytes counted on `day` (days since 1970); of the stored day where that is ahead (see `spend`)."""
        with self._reading() as db:
            return tables.spent(db, day)[1]

    def spend(self, day: int, count: int, going: int = 0) -> int:
        """Count `count` bytes on `day`; returns the day's sum. `going` is the sequence of an update that goes out.

        If the clock jumped back by a day, the stored day goes on. If it jumped back further it was wrong before: the
        stored day becomes `day`, and the bytes stay counted.
        """
        with self._writing() as db:
            stored, sum_ = tables.spent(db, day)
            tables.put(db, "spent", pack_spent(stored, sum_ + count))
            if going > tables.number(db, "went"):
                tables.put_number(db, "went", going)
            return sum_ + count

    # --- examples -----------------------------------------------------------------------------------------

    def write(self, puts: Sequence[Example], deletes: Sequence[bytes], counts: Mapping[str, int], learned: int) -> None:
        """The flush: delete, then put, keep the labels' counts, and `learned` more were learned; one fsync.

        A put of a digest that is there replaces it in its place; one that is also among `deletes` becomes the newest.
        Raises StateUnwritable where the examples would take the room that is kept for the fleet.
        """
        with self._writing() as db, self._leaving_room(db):
            tables.write(db, puts, deletes, counts, learned)

    def forget(self, gone: Sequence[bytes], counts: Mapping[str, int], detail: str, now: float | None = None) -> None:
        """Remove examples and updates not yet sent, and note `detail`; one transaction.

        When this returns, no byte of what was removed is left in database or log. It works on a full state, too.
        """
        with self._writing(reserve=True) as db:
            tables.forget(db, gone)
            tables.write(db, (), (), counts, 0)
            tables.forget_update(db)
            tables.note(db, "forgotten", detail, now)
        self.scrub()

    def scrub(self) -> None:
        """Empty the log, which has former contents of the pages."""
        with self._lock, named_errors(self._path):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def examples(self) -> list[Example]:
        """All examples, oldest first. A damaged one is dropped, counted and noted."""
        with self._reading() as db:
            found, damaged = tables.examples(db)
            if damaged:
                self._repair(lambda db: tables.drop_damaged(db, "examples", damaged))
        return found

    def counts(self) -> dict[str, int]:
        """What is known of the labels; empty if that was never written, or is damaged."""
        record = self.get("counts")
        return {} if record is None else unpack_counts(record) or {}

    def fits(self, examples: Sequence[Example]) -> bool:
        """Whether these examples surely have room here, in place of those that there are."""
        return sum(sizes.record_pages(len(pack_example(example))) for example in examples) <= self._example_pages

    def rewrite(self, artifact: bytes, examples: Sequence[Example], detail: str, now: float | None = None) -> None:
        """Put `examples` (oldest first) in place of all, as the body `artifact` read them; one transaction.

        If it is another body than before, what was bound to the former one goes: adapters, enrolment, spool. Counters
        that only grow stay. Raises StateUnwritable where they do not fit beside the fleet's (`fits`).
        """
        with self._writing() as db, self._leaving_room(db):
            db.execute("DELETE FROM examples")
            tables.put_examples(db, examples)
            if artifact != self.artifact:
                db.execute("DELETE FROM slots")
                tables.forget_update(db)
                db.execute("DELETE FROM meta WHERE key='enrolment'")
                tables.put_number(db, "version", 0)
                tables.put_number(db, "highest", 0)
                tables.put(db, "artifact", artifact)
            db.execute("DELETE FROM meta WHERE key='unread'")
            tables.note(db, "read anew", detail, now)
        self.artifact, self.unread = artifact, False
        self.scrub()

    # --- the fleet's adapter ------------------------------------------------------------------------------

    def adapter(self) -> tuple[int, bytes] | None:
        """Version and bytes of the fleet's adapter, as published; None before the first.

        If the newer of the two is damaged, the one before is given, and ``version`` says so.
        """
        with self._reading() as db:
            found, damaged = tables.adapter(db)
            version = 0 if found is None else found.version

            def repair(db: sqlite3.Connection) -> None:
                tables.drop_damaged(db, "slots", damaged)
                tables.put_number(db, "version", version)

            if damaged:
                self._repair(repair)
        return None if found is None else (found.version, found.message)

    def install_adapter(self, version: int, message: bytes) -> None:
        """Put a newer adapter beside the current one. Raises Refused(ROLLBACK) unless it is newer.

        Newer than what is in use, and not older than the highest that ever was: so after damage the same version may
        come again, and nothing before it.
        """
        with self._writing() as db:
            current, highest = tables.number(db, "version"), tables.number(db, "highest")
            if version <= current or version < highest:
                raise Refused(Refusal.ROLLBACK, f"version {version} is not newer than {max(current, highest)}")
            tables.install(db, version, message)

    # --- the spool ----------------------------------------------------------------------------------------

    def spool(
        self,
        base_version: int,
        seal: Callable[[int], bytes],
        marker: bytes = b"",
        now: float | None = None,
        lifetime: float = FOR_EVER,
        *,
        supersede: bool = True,
        keep: Callable[[], Mapping[str, bytes]] = dict,
    ) -> Spooled:
        """Take the next sequence number, seal with it, and keep the message until its receipt comes.

        `keep` is asked after `seal` for values to keep with it; those whose key begins with ``pending.`` take the place
        of the value without it when the message is admitted, and are dropped when it is not.

        Room is made in this order: what is past its expiry goes; then what the new one supersedes: what never went out
        (`spend`), because a later update of the same device holds all that an earlier one held (not with `supersede`
        False); then, while the spool would be over its bytes, the oldest. Every drop is counted by its reason
        (`dropped`). Sequence numbers only grow; number, message and `marker` (kept as ``sent``) are kept together or
        not at all. `lifetime` in seconds.
        Raises StateUnwritable if the message alone is over the bound.
        """
        at = time.time() if now is None else now
        with self._writing() as db:
            sequence = tables.number(db, "sequence") + 1
            message = seal(sequence)
            if len(message) > self._spool_bytes:
                raise StateUnwritable(f"an update of {len(message)} bytes is over the spool's {self._spool_bytes}")
            found = tables.look(db, at)
            tables.sweep(db, found)
            waiting, went = found.waiting, tables.number(db, "went")
            for item in list(waiting):
                if supersede and item.sequence > went:
                    tables.drop(db, item.sequence, "superseded")
                    waiting.remove(item)
            while waiting and sum(len(item.message) for item in waiting) + len(message) > self._spool_bytes:
                tables.drop(db, waiting.pop(0).sequence, "bound")
            item = Spooled(sequence, base_version, message, at, min(at + lifetime, FOR_EVER))
            db.execute("INSERT INTO spool VALUES (?, ?)", (sequence, pack_spooled(item)))
            tables.shelve_pending(db, {item.sequence for item in waiting})
            tables.put_number(db, "sequence", sequence)
            tables.put(db, "sent", marker)
            for key, value in keep().items():
                tables.put(db, key, value)
        return item

    def spooled(self, now: float | None = None) -> list[Spooled]:
        """What still waits for a receipt, in order; what is past its expiry is dropped for good.

        An item from the future, or from before 2025 when it is later now, tells that the clock was set in between: it
        is taken as made just now, and lives its lifetime from here.
        """
        with self._reading() as db:
            found = tables.look(db, time.time() if now is None else now)
            if found.changes:
                self._repair(lambda db: tables.sweep(db, found))
        return found.waiting

    def unspool(self, digest: bytes, admitted: bool = True) -> int | None:
        """Forget an update because its receipt has come; its sequence, or None if it was not there any more.

        `digest` is how the SHA-256 of the message begins. What was not admitted is made anew from the examples at the
        next sync, and what was to follow from it (`spool`) does not.
        """
        with self._writing() as db:
            for sequence, record in db.execute("SELECT sequence, record FROM spool ORDER BY sequence").fetchall():
                item = unpack_spooled(sequence, record)
                if item is not None and hashlib.sha256(item.message).digest().startswith(digest):
                    db.execute("DELETE FROM spool WHERE sequence=?", (sequence,))
                    tables.settle_pending(db, item.sequence, admitted)
                    if not admitted and item.sequence == tables.number(db, "sequence"):
                        db.execute("DELETE FROM meta WHERE key='sent'")
                    return item.sequence
        return None

    def dropped(self) -> dict[str, int]:
        """How many updates the spool dropped, by reason, since the state was made."""
        with self._reading() as db:
            return {reason: tables.number(db, f"dropped.{reason}") for reason in _REASONS}

    # --- plumbing -----------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, named_errors(self._path):
            yield self._db

    @contextmanager
    def _writing(self, reserve: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction; with `reserve` it may use the pages that are kept free for forgetting."""
        with self._lock, named_errors(self._path):
            self._fold()
            if reserve:
                self._bound(0)
            try:
                with transaction(self._db) as db:
                    yield db
            finally:
                if reserve:
                    self._bound(sizes.RESERVE_PAGES)

    @contextmanager
    def _leaving_room(self, db: sqlite3.Connection) -> Iterator[None]:
        """Refuse to grow into what is kept for the fleet: else a device full of examples could send none of it."""
        before = sizes.pages_left(db, self._pages, self._fleet_pages)
        yield
        if sizes.pages_left(db, self._pages, self._fleet_pages) < min(0, before):
            raise StateUnwritable(f"{self.folder} is full: what is left of its disk bound is the fleet's; forget some")

    def _bound(self, reserve: int) -> None:
        self._db.execute(f"PRAGMA max_page_count={self._pages - reserve}")

    def _repair(self, change: Callable[[sqlite3.Connection], None]) -> None:
        """Write what reading found out; on a full disk it is found out again next time."""
        try:
            with self._writing(reserve=True) as db:
                change(db)
        except StateUnwritable as error:
            say(__name__, "warning", "not repaired: %s", error)

    @property
    def _log_bytes(self) -> int:
        return self._frames * (sizes.PAGE_BYTES + 24) + 32

    def _fold(self) -> None:
        """Before a transaction: a log that could not be folded in after the last one must not grow further."""
        try:
            size = self._wal.stat().st_size
        except FileNotFoundError:
            return
        if size >= self._log_bytes:
            _, frames, done = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if frames != done:
                raise StateUnwritable(f"{self._wal} can't be folded into the database; check disk space")
