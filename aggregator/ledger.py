"""The ledger: everything admitted or decided, in SQLite. What goes out was committed before."""

import hmac
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tasuki.aggregator.admission import Entry
from tasuki.sdk.cose import MAX_NUMBER
from tasuki.sdk.database import named_errors, transaction
from tasuki.sdk.errors import InputError, Refusal, StateNewer

FORMAT: Final = 2
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
# What format 2 adds. `tokens` has the SHA-256 of one-time tokens, `sessions` the roots of resumed sealing, `offers` and
# `parts` what comes in parts: at most one content a device.
_TABLES_2: Final = """
CREATE TABLE revoked (name TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens (name TEXT PRIMARY KEY, digest BLOB NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (name TEXT PRIMARY KEY, chain BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE offers (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL, message BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE parts (name TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,
                    PRIMARY KEY (name, number)) WITHOUT ROWID;
CREATE TABLE presence (name TEXT PRIMARY KEY, online INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID
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
                if found > FORMAT:
                    raise StateNewer(f"{path} has format {found}, this version knows {FORMAT}; update tasuki")
                if found < FORMAT:
                    for statement in (*(_TABLES.split(";") if found == 0 else ()), *_TABLES_2.split(";")):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version={FORMAT}")

    def close(self) -> None:
        self._db.close()

    def enrol(self, name: str, key: bytes) -> None:
        """Add a device, or the same again. Raises InputError if the name or the key belongs to another one."""
        with self._transaction() as db:
            _enrol(db, name, key)

    def revoke(self, name: str, now: float) -> bool:
        """Believe a device no more; False if it is neither enrolled nor awaited. Its name is spent for ever."""
        with self._transaction() as db:
            known = "SELECT name FROM devices WHERE name=? UNION SELECT name FROM tokens WHERE name=?"
            if db.execute(known, (name, name)).fetchone() is None:
                return False
            db.execute("INSERT OR IGNORE INTO revoked VALUES (?, ?)", (name, now))
            for table in ("tokens", "sessions", "offers", "parts"):
                db.execute(f"DELETE FROM {table} WHERE name=?", (name,))  # noqa: S608  our own names
            return True

    def revoked(self, name: str) -> bool:
        """Whether a device was revoked."""
        return self._one("SELECT 1 FROM revoked WHERE name=?", name) is not None

    def add_token(self, name: str, digest: bytes, expires: float) -> None:
        """Let the device `name` join once with the token of this SHA-256, until `expires`; an earlier one is void.

        Raises InputError if the device is enrolled already.
        """
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM devices WHERE name=?", (name,)).fetchone() is not None:
                raise InputError(f"{name} is enrolled already; choose another name")
            db.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?)", (name, digest, expires))

    def use_token(self, name: str, digest: bytes, key: bytes, now: float) -> bool:
        """Enrol `name` with `key` if the token is good, and spend it; both or neither.

        True also for the same device with the same key again: its receipt was lost. Raises InputError if the key is
        another device's.
        """
        with self._transaction() as db:
            row = db.execute("SELECT digest, expires FROM tokens WHERE name=?", (name,)).fetchone()
            if row is None:
                return db.execute("SELECT 1 FROM devices WHERE name=? AND key=?", (name, key)).fetchone() is not None
            if not hmac.compare_digest(row[0], digest) or now > row[1]:
                return False
            _enrol(db, name, key)
            db.execute("DELETE FROM tokens WHERE name=?", (name,))
            return True

    def awaited(self, name: str) -> bool:
        """Whether a one-time token was made for `name` and not used yet."""
        return self._one("SELECT 1 FROM tokens WHERE name=?", name) is not None

    def present(self, name: str, online: bool, now: float) -> None:
        """Note what the broker says of a device; nothing is decided by it."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO presence VALUES (?, ?, ?)", (name, online, now))

    def presence(self) -> dict[str, tuple[bool, float]]:
        """Whether each device is online, and since when it is known."""
        with named_errors(self._path):
            rows = self._db.execute("SELECT name, online, at FROM presence").fetchall()
        return {name: (bool(online), at) for name, online, at in rows}

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

    def active(self) -> int:
        """How many devices are enrolled and not revoked."""
        return int(self._one("SELECT COUNT(*) FROM devices WHERE name NOT IN (SELECT name FROM revoked)")[0])

    def seen(self, device: str, sequence: int) -> Entry | None:
        """The earlier entry of this device and sequence number."""
        row = self._one(
            "SELECT base_version, digest, status FROM updates WHERE device=? AND sequence=?", device, sequence
        )
        return None if row is None else Entry(device, sequence, row[0], row[1], Refusal(row[2]))

    def highest(self, device: str) -> int:
        """The highest sequence number of this device that was decided on, 0 before the first."""
        row = self._one("SELECT MAX(sequence) FROM updates WHERE device=?", device)
        return row[0] or 0

    def session(self, device: str) -> bytes | None:
        """The root of the device's resumed sealing, as it was kept by `record`."""
        row = self._one("SELECT chain FROM sessions WHERE name=?", device)
        return None if row is None else row[0]

    def record(self, entry: Entry, now: float) -> None:
        """Keep an authentic entry, and what it founds. When this returns, it is on disk."""
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
            if entry.session:
                # Two roots may come in the wrong order: chains begin with their sequence, so the later one is greater.
                db.execute(
                    "INSERT INTO sessions VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET chain=excluded.chain"
                    " WHERE excluded.chain > chain",
                    (entry.device, entry.session),
                )
            if entry.status is not Refusal.ADMITTED:
                _count(db, entry.status)
            _drop_offer(db, entry.device, entry.sequence)

    # --- what comes in parts --------------------------------------------------------------------------------

    def offer(self, device: str, sequence: int, message: bytes) -> None:
        """Keep the signed offer of a device in place of an earlier one, and no part of that."""
        with self._transaction() as db:
            _drop_offer(db, device, sequence)
            db.execute("INSERT OR REPLACE INTO offers VALUES (?, ?, ?)", (device, sequence, message))

    def offered(self, device: str) -> tuple[int, bytes] | None:
        """Sequence and signed offer of the content that a device is sending."""
        return self._one("SELECT sequence, message FROM offers WHERE name=?", device)  # type: ignore[no-any-return]

    def part(self, device: str, number: int, data: bytes) -> None:
        """Keep a checked part."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", (device, number, data))

    def parts(self, device: str) -> list[int]:
        """Which parts are here."""
        with named_errors(self._path):
            rows = self._db.execute("SELECT number FROM parts WHERE name=? ORDER BY number", (device,)).fetchall()
        return [number for (number,) in rows]

    def content(self, device: str) -> dict[int, bytes]:
        """The parts."""
        with named_errors(self._path):
            return dict(self._db.execute("SELECT number, data FROM parts WHERE name=?", (device,)).fetchall())

    def drop_offer(self, device: str) -> None:
        """Forget what a device was sending."""
        with self._transaction() as db:
            _drop_offer(db, device, MAX_NUMBER)

    # --- refusals, versions -------------------------------------------------------------------------------------

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
        """The newest admitted update of each device for `base_version`, by name; and when the first one came.

        Those of devices that were revoked since do not count.
        """
        counts = "FROM updates WHERE base_version=? AND status=0 AND device NOT IN (SELECT name FROM revoked)"
        with named_errors(self._path):
            rows = self._db.execute(
                f"SELECT device, plain, MAX(sequence) {counts} GROUP BY device ORDER BY device",
                (base_version,),
            ).fetchall()
            (first,) = self._db.execute(f"SELECT MIN(received) {counts}", (base_version,)).fetchone()
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


def _enrol(db: sqlite3.Connection, name: str, key: bytes) -> None:
    rows = db.execute("SELECT name, key FROM devices WHERE name=? OR key=?", (name, key)).fetchall()
    if rows and rows != [(name, key)]:
        raise InputError(f"{rows[0][0]} is enrolled already, with another key or name; choose another name")
    if not rows:
        db.execute("INSERT INTO devices VALUES (?, ?)", (name, key))


def _drop_offer(db: sqlite3.Connection, device: str, upto: int) -> None:
    """Forget a content that a device offered with a sequence of at most `upto`."""
    if db.execute("DELETE FROM offers WHERE name=? AND sequence<=?", (device, upto)).rowcount:
        db.execute("DELETE FROM parts WHERE name=?", (device,))


def _count(db: sqlite3.Connection, reason: Refusal) -> None:
    db.execute("INSERT INTO refusals VALUES (?, 1) ON CONFLICT (status) DO UPDATE SET count=count+1", (reason,))
