"""The ledger: everything admitted or decided, in SQLite. What goes out was committed before."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tasuki.aggregator.admission import Entry
from tasuki.sdk.database import named_errors, transaction
from tasuki.sdk.errors import InputError, Refusal, StateNewer

FORMAT: Final = 1
_TABLES: Final = """
CREATE TABLE devices (name TEXT PRIMARY KEY, key BLOB NOT NULL UNIQUE) WITHOUT ROWID;
CREATE TABLE updates (device TEXT NOT NULL, sequence INTEGER NOT NULL, base_version INTEGER NOT NULL,
                      digest BLOB NOT NULL, status INTEGER NOT NULL, plain BLOB NOT NULL, received REAL NOT NULL,
                      PRIMARY KEY (device, sequence)) WITHOUT ROWID;
CREATE INDEX updates_of_version ON updates (base_version, status);
CREATE TABLE versions (version INTEGER PRIMARY KEY, message BLOB NOT NULL, accuracy REAL NOT NULL,
                       candidate REAL NOT NULL, devices INTEGER NOT NULL, published REAL NOT NULL);
CREATE TABLE refusals (status INTEGER PRIMARY KEY, count INTEGER NOT NULL)
"""


@dataclass(frozen=True)
class Version:
    """One published adapter: held-out accuracy of what it holds and of the candidate that was judged for it."""

    version: int
    message: bytes
    accuracy: float
    candidate: float
    devices: int
    published: float

    @property
    def kept(self) -> bool:
        """The candidate lost and the former head was published again under this version."""
        return self.candidate < self.accuracy

    def figures(self) -> dict[str, Any]:
        """What is told of it."""
        return {
            "version": self.version,
            "devices": self.devices,
            "accuracy": self.accuracy,
            "candidate": self.candidate,
            "kept": self.kept,
        }


class Ledger:
    """The open ledger. One process writes; others may read."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises StateLocked, StateCorrupt, StateNewer, StateUnwritable."""
        self._path = path
        with named_errors(self._path):
            self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            with self._transaction():
                (found,) = self._db.execute("PRAGMA user_version").fetchone()
                if found == 0:
                    for statement in _TABLES.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version={FORMAT}")
            if found > FORMAT:
                raise StateNewer(f"{path} has format {found}, this version knows {FORMAT}; update tasuki")

    def close(self) -> None:
        self._db.close()

    def enrol(self, name: str, key: bytes) -> None:
        """Add a device, or the same again. Raises InputError if the name or the key belongs to another one."""
        with self._transaction() as db:
            rows = db.execute("SELECT name, key FROM devices WHERE name=? OR key=?", (name, key)).fetchall()
            if rows and rows != [(name, key)]:
                raise InputError(f"{rows[0][0]} is enrolled already, with another key or name; choose another name")
            if not rows:
                db.execute("INSERT INTO devices VALUES (?, ?)", (name, key))

    def key_of(self, name: str) -> bytes | None:
        """The public key of a device, None if it is not enrolled."""
        row = self._one("SELECT key FROM devices WHERE name=?", name)
        return None if row is None else row[0]

    def devices(self) -> list[tuple[str, int, int]]:
        """Name, number of admitted updates and highest sequence of every device."""
        with named_errors(self._path):
            return self._db.execute(
                "SELECT name, COUNT(CASE status WHEN 0 THEN 1 END), COALESCE(MAX(sequence), 0)"
                " FROM devices LEFT JOIN updates ON device=name GROUP BY name ORDER BY name"
            ).fetchall()

    def seen(self, device: str, sequence: int) -> Entry | None:
        """The earlier entry of this device and sequence number."""
        row = self._one(
            "SELECT base_version, digest, status FROM updates WHERE device=? AND sequence=?", device, sequence
        )
        return None if row is None else Entry(device, sequence, row[0], row[1], Refusal(row[2]))

    def record(self, entry: Entry, now: float) -> None:
        """Keep an authentic entry. When this returns, it is on disk."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    entry.device,
                    entry.sequence,
                    entry.base_version,
                    entry.digest,
                    entry.status,
                    entry.plain,
                    now,
                ),
            )
            if entry.status is not Refusal.ADMITTED:
                _count(db, entry.status)

    def count(self, reason: Refusal) -> None:
        """Count a refusal that leaves no entry."""
        with self._transaction() as db:
            _count(db, reason)

    def refusals(self) -> dict[str, int]:
        """How many messages were refused, by reason."""
        with named_errors(self._path):
            rows = self._db.execute("SELECT status, count FROM refusals ORDER BY status").fetchall()
        return {Refusal(status).word: count for status, count in rows}

    def waiting(self, base_version: int) -> tuple[list[tuple[str, bytes]], float | None]:
        """The newest admitted update of each device for `base_version`, by name; and when the first one came."""
        with named_errors(self._path):
            rows = self._db.execute(
                "SELECT device, plain, MAX(sequence) FROM updates WHERE base_version=? AND status=0"
                " GROUP BY device ORDER BY device",
                (base_version,),
            ).fetchall()
            (first,) = self._db.execute(
                "SELECT MIN(received) FROM updates WHERE base_version=? AND status=0", (base_version,)
            ).fetchone()
        return [(device, plain) for device, plain, _ in rows], first

    def publish(self, version: Version) -> None:
        """Keep a version. When this returns, it is on disk and may go out."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)",
                (version.version, version.message, version.accuracy, version.candidate, version.devices,
                 version.published),
            )  # fmt: skip

    def versions(self) -> list[Version]:
        """Every version, oldest first."""
        with named_errors(self._path):
            return [Version(*row) for row in self._db.execute("SELECT * FROM versions ORDER BY version")]

    def latest(self) -> Version | None:
        """The current version."""
        row = self._one("SELECT * FROM versions ORDER BY version DESC LIMIT 1")
        return None if row is None else Version(*row)

    def _one(self, statement: str, *values: object) -> Any:
        with named_errors(self._path):
            return self._db.execute(statement, values).fetchone()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with named_errors(self._path), transaction(self._db) as db:
            yield db


def _count(db: sqlite3.Connection, reason: Refusal) -> None:
    db.execute("INSERT INTO refusals VALUES (?, 1) ON CONFLICT (status) DO UPDATE SET count=count+1", (reason,))
