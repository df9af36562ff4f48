"""What a device remembers: one SQLite database in its state directory.

SQLite's write-ahead log with `synchronous=FULL` gives what a board needs: a commit is on disk before it returns, a
cut at any byte leaves the last commit, and what belongs together (a sequence number and its sealed message, a version
and its adapter) changes in one transaction. The connection holds an exclusive lock:
a second process is refused at once.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.database import named_errors, transaction
from tasuki.sdk.errors import (
    Refusal,
    Refused,
    StateMismatch,
    StateNewer,
    StateUnwritable,
)

Floats = NDArray[np.float32]
FORMAT: Final = 1
DATABASE: Final = "state.db"
SPOOL_BYTES: Final = 1 << 20
_TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE examples (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, label TEXT NOT NULL,
                       features BLOB NOT NULL, base BLOB NOT NULL);
CREATE TABLE spool (sequence INTEGER PRIMARY KEY, base_version INTEGER NOT NULL, message BLOB NOT NULL);
"""


@dataclass(frozen=True)
class Example:
    """A labelled text with the body's features float32 [d] and base logits float32 [C]."""

    text: str
    label: str
    features: Floats
    base: Floats


@dataclass(frozen=True)
class Spooled:
    """A sealed update that waits for its receipt."""

    sequence: int
    base_version: int
    message: bytes


class State:
    """The open state directory. Every method is one transaction; thread-safe."""

    def __init__(self, folder: str | Path, artifact: bytes, spool_bytes: int = SPOOL_BYTES) -> None:
        """Open or create. Raises StateLocked, StateCorrupt, StateNewer, StateMismatch, StateUnwritable."""
        self.folder = Path(folder)
        self._spool_bytes = spool_bytes
        self._lock = threading.RLock()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateUnwritable(f"{self.folder} can't be made: {error.strerror}") from None
        with named_errors(self.folder / DATABASE):
            self._db = sqlite3.connect(
                self.folder / DATABASE, timeout=0.0, isolation_level=None, check_same_thread=False
            )
            try:
                self._open(artifact)
            except BaseException:
                self._db.close()
                raise

    def _open(self, artifact: bytes) -> None:
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        # Takes the lock now and not at the first write.
        self._db.execute("BEGIN IMMEDIATE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={FORMAT}")
        elif version > FORMAT:
            raise StateNewer(f"{self.folder} has format {version}, this version knows {FORMAT}; update tasuki")
        row = self._db.execute("SELECT value FROM meta WHERE key='artifact'").fetchone()
        if row is None:
            self._db.execute("INSERT INTO meta VALUES ('artifact', ?)", (artifact,))
        elif row[0] != artifact:
            raise StateMismatch(
                f"{self.folder} belongs to the artifact {row[0].hex()[:12]}, not to {artifact.hex()[:12]};"
                " use another state directory for another artifact"
            )
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Give the lock back. Everything is already on disk."""
        with self._lock:
            self._db.close()

    # --- small values -------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """The value kept under `key`."""
        with self._transaction() as db:
            row = db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if row is None else row[0]

    def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`."""
        with self._transaction() as db:
            _put(db, key, value)

    def number(self, key: str) -> int:
        """The counter `key`, 0 if it was never set."""
        with self._transaction() as db:
            return _number(db, key)

    # --- examples -----------------------------------------------------------------------------------------

    def add_example(self, example: Example) -> None:
        """Keep `example` and count it; the same text again replaces its label."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO examples (text, label, features, base) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (text) DO UPDATE SET label=excluded.label",
                (example.text, example.label, example.features.astype("<f4").tobytes(),
                 example.base.astype("<f4").tobytes()),
            )  # fmt: skip
            _put(db, "learned", (_number(db, "learned") + 1).to_bytes(8, "big"))

    def examples(self) -> list[Example]:
        """All examples, oldest first."""
        with self._transaction() as db:
            rows = db.execute("SELECT text, label, features, base FROM examples ORDER BY id").fetchall()
        return [
            Example(text, label, np.frombuffer(features, "<f4"), np.frombuffer(base, "<f4"))
            for text, label, features, base in rows
        ]

    def forget(self) -> int:
        """Remove every example, the local head and updates not yet sent; returns how many examples there were."""
        with self._transaction() as db:
            gone = db.execute("DELETE FROM examples").rowcount
            db.execute("DELETE FROM spool")
            db.execute("DELETE FROM meta WHERE key='sent'")
        return gone

    # --- the fleet's adapter ------------------------------------------------------------------------------

    def adapter(self) -> tuple[int, bytes] | None:
        """Version and bytes of the fleet's adapter, as published; None before the first."""
        with self._transaction() as db:
            rows = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('version', 'adapter')").fetchall())
        return (int.from_bytes(rows["version"], "big"), rows["adapter"]) if rows else None

    def install_adapter(self, version: int, message: bytes) -> None:
        """Swap in a newer adapter. Raises Refused(ROLLBACK) unless `version` is higher than what is here."""
        with self._transaction() as db:
            current = _number(db, "version")
            if version <= current:
                raise Refused(Refusal.ROLLBACK, f"version {version} is not newer than {current}")
            _put(db, "version", version.to_bytes(8, "big"))
            _put(db, "adapter", message)

    # --- the spool ----------------------------------------------------------------------------------------

    def spool(self, base_version: int, seal: Callable[[int], bytes], marker: bytes = b"") -> Spooled:
        """Take the next sequence number, seal with it, and keep the message until its receipt comes.

        An older update that still waits is replaced: a later one of the same device holds all that it held. Sequence
        numbers only grow; number, message and `marker` (kept as ``sent``) are kept together or not at all.
        """
        with self._transaction() as db:
            sequence = _number(db, "sequence") + 1
            message = seal(sequence)
            if len(message) > self._spool_bytes:
                raise StateUnwritable(f"an update of {len(message)} bytes is over the spool's {self._spool_bytes}")
            db.execute("DELETE FROM spool")
            db.execute("INSERT INTO spool VALUES (?, ?, ?)", (sequence, base_version, message))
            _put(db, "sequence", sequence.to_bytes(8, "big"))
            _put(db, "sent", marker)
        return Spooled(sequence, base_version, message)

    def spooled(self) -> list[Spooled]:
        """What still waits for a receipt, in order."""
        with self._transaction() as db:
            rows = db.execute("SELECT sequence, base_version, message FROM spool ORDER BY sequence").fetchall()
        return [Spooled(*row) for row in rows]

    def unspool(self, sequence: int, admitted: bool = True) -> bool:
        """Forget an update because its receipt has come; False if it was not there any more.

        What was not admitted is made anew from the examples at the next sync.
        """
        with self._transaction() as db:
            found = db.execute("DELETE FROM spool WHERE sequence=?", (sequence,)).rowcount > 0
            if found and not admitted:
                db.execute("DELETE FROM meta WHERE key='sent'")
            return found

    # --- plumbing -----------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, named_errors(self.folder / DATABASE), transaction(self._db) as db:
            yield db


def _number(db: sqlite3.Connection, key: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
    return 0 if row is None else int.from_bytes(row[0], "big")


def _put(db: sqlite3.Connection, key: str, value: bytes) -> None:
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value=excluded.value", (key, value))
