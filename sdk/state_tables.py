"""The tables of a device's database, what is done to their rows, and the older formats."""

import sqlite3
import struct
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tasuki.sdk.cache import Example, digest
from tasuki.sdk.errors import StateCorrupt
from tasuki.sdk.state_records import (
    FOR_EVER,
    Spooled,
    pack_adapter,
    pack_counts,
    pack_example,
    pack_number,
    pack_spooled,
    row_of,
    unpack_adapter,
    unpack_example,
    unpack_number,
    unpack_spent,
    unpack_spooled,
)

FORMAT: Final = 2
JOURNAL_ROWS: Final = 100
_DETAIL: Final = 200
# 2025-01-01: a clock that says less was never set.
_CLOCK_SET: Final = 1_735_689_600.0
# These may never go back: each is kept twice, and missing both times is damage.
GUARDED: Final = ("sequence", "version", "highest")
# `examples.id` is made of the digest's first 63 bits, so no second index is needed; `age` grows with every new row.
TABLES: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE examples (id INTEGER PRIMARY KEY, age INTEGER NOT NULL, record BLOB NOT NULL);
CREATE TABLE slots (slot INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE spool (sequence INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE journal (id INTEGER PRIMARY KEY, time REAL NOT NULL, event TEXT NOT NULL, detail TEXT NOT NULL)
"""


# --- small values -----------------------------------------------------------------------------------------


def put(db: sqlite3.Connection, key: str, value: bytes) -> None:
    """Keep `value` under `key`."""
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value=excluded.value", (key, value))


def number(db: sqlite3.Connection, key: str) -> int:
    """The counter `key`; 0 if it was never set, or is damaged.

    One of `GUARDED` is kept twice, so one damage does not matter. Raises StateCorrupt if neither of the two is sound.
    """
    for name in _places(key):
        row = db.execute("SELECT value FROM meta WHERE key=?", (name,)).fetchone()
        found = None if row is None else unpack_number(name, row[0])
        if found is not None:
            return found
    if key in GUARDED:
        raise StateCorrupt(f"the counter {key!r} is damaged in both places; restore a copy, or remove the state")
    return 0


def put_number(db: sqlite3.Connection, key: str, value: int) -> None:
    """Keep the counter `key`, 0 to 2^64 - 1."""
    for name in _places(key):
        put(db, name, pack_number(name, value))


def _places(key: str) -> tuple[str, ...]:
    return (key, f"{key}.copy") if key in GUARDED else (key,)


# --- rows, inside the caller's transaction -----------------------------------------------------------------


def note(db: sqlite3.Connection, event: str, detail: str, now: float | None = None) -> None:
    """Add a line to the journal; the oldest beyond `JOURNAL_ROWS` goes."""
    words = (text.encode("utf-8", "replace")[:_DETAIL].decode(errors="ignore") for text in (event, detail))
    at = time.time() if now is None else now
    row = db.execute("INSERT INTO journal (time, event, detail) VALUES (?, ?, ?)", (at, *words)).lastrowid
    db.execute("DELETE FROM journal WHERE id<=?", ((row or 0) - JOURNAL_ROWS,))


def write(
    db: sqlite3.Connection, puts: Sequence[Example], deletes: Sequence[bytes], counts: Mapping[str, int], learned: int
) -> None:
    """Delete, then put, and keep the counts; `learned` more were learned."""
    db.executemany("DELETE FROM examples WHERE id=?", ((row_of(one),) for one in deletes))
    put_examples(db, puts)
    put(db, "counts", pack_counts(counts))
    put_number(db, "learned", number(db, "learned") + learned)


def put_examples(db: sqlite3.Connection, examples: Sequence[Example]) -> None:
    """Insert, or replace in place; new ones are the newest, in their order."""
    if not examples:
        return
    age = number(db, "age") or _highest_age(db)
    rows = [(row_of(example.digest), age + n, pack_example(example)) for n, example in enumerate(examples, 1)]
    db.executemany(
        "INSERT INTO examples VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET record=excluded.record",
        sorted(rows),  # in the order of the table: pages fill up, so that what fitted before fits again
    )
    put_number(db, "age", age + len(examples))


def _highest_age(db: sqlite3.Connection) -> int:
    """What the counter of ages was, where it is damaged; no age comes near 2^62."""
    (found,) = db.execute("SELECT MAX(age) FROM examples WHERE age BETWEEN 0 AND ?", (1 << 62,)).fetchone()
    return found or 0


def examples(db: sqlite3.Connection) -> tuple[list[Example], list[int]]:
    """All that are sound, oldest first; and the rows of those that are damaged."""
    try:
        rows = db.execute("SELECT id, age, record FROM examples").fetchall()
    except sqlite3.DatabaseError:
        rows = [_row(db, number) for (number,) in db.execute("SELECT id FROM examples").fetchall()]
    found, damaged = [], []
    for row, age, record in rows:
        example = unpack_example(row, record)
        if example is None:
            damaged.append(row)
        else:
            found.append((age if isinstance(age, int) else 0, example))
    return [example for _, example in sorted(found, key=lambda pair: pair[0])], damaged


def _row(db: sqlite3.Connection, row: int) -> tuple[int, object, object]:
    """One example where the table can't be read in one go: a page that one record alone lies on is damaged."""
    try:
        age, record = db.execute("SELECT age, record FROM examples WHERE id=?", (row,)).fetchone() or (0, None)
    except sqlite3.DatabaseError:
        return row, 0, None
    return row, age, record


def forget(db: sqlite3.Connection, gone: Sequence[bytes]) -> None:
    """Remove examples so that no byte of them is left in the table's pages, nor of any that went before."""
    rows = {row_of(one) for one in gone}
    if not _renew(db, "examples", lambda row: row[0] not in rows):
        db.executemany("DELETE FROM examples WHERE id=?", ((row,) for row in rows))


def drop_damaged(db: sqlite3.Connection, table: str, rows: Sequence[int]) -> None:
    """Drop rows of `table` whose checksum does not hold, count them and say so in the journal.

    A row whose number is damaged is not found by it, so the table is made anew of its sound rows. Where even the way to
    a record is damaged, SQLite refuses; what can't be dropped is passed over each time, and not counted.
    """
    if not _renew(db, table, lambda row: _sound(table, row)):
        rows = [row for row in rows if _drop_row(db, table, row)]
    for row in rows:
        note(db, "damaged", f"{table} {row}")
    put_number(db, f"damaged.{table}", number(db, f"damaged.{table}") + len(rows))


def _renew(db: sqlite3.Connection, table: str, keep: Callable[[tuple[Any, ...]], bool]) -> bool:
    """Make `table` anew of the rows that `keep` says; False, and nothing has changed, if what is there is damaged.

    SQLite zeroes a page that is freed (secure_delete), but a row that was moved when its page was split may have left
    a copy there. So deleting rows is not enough; clearing the table frees all its pages.
    """
    db.execute("SAVEPOINT renew")
    try:
        kept = [row for row in db.execute(f"SELECT * FROM {table}") if keep(row)]  # noqa: S608  our own names
        db.execute(f"DELETE FROM {table}")  # noqa: S608
        if kept:
            places = ", ".join("?" * len(kept[0]))
            db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", kept)  # noqa: S608
    except sqlite3.OperationalError:  # no damage: the disk
        raise
    except sqlite3.DatabaseError:
        db.execute("ROLLBACK TO renew")
        return False
    finally:
        if db.in_transaction:
            db.execute("RELEASE renew")
    return True


def _sound(table: str, row: tuple[Any, ...]) -> bool:
    """Whether a whole row, number first and record last, is as it was written."""
    if table == "slots":
        return unpack_adapter(row[-1]) is not None
    unpack = unpack_example if table == "examples" else unpack_spooled
    return unpack(row[0], row[-1]) is not None


def _drop_row(db: sqlite3.Connection, table: str, row: int) -> bool:
    try:
        return db.execute(f"DELETE FROM {table} WHERE rowid=?", (row,)).rowcount > 0  # noqa: S608
    except sqlite3.DatabaseError:
        return False


class Slot(NamedTuple):
    """An adapter in its slot."""

    slot: int
    version: int
    message: bytes


def adapter(db: sqlite3.Connection) -> tuple[Slot | None, list[int]]:
    """The newest adapter that is sound; and the slots that are damaged."""
    found, damaged = [], []
    for slot, record in db.execute("SELECT slot, record FROM slots").fetchall():
        sound = unpack_adapter(record)
        if sound is None:
            damaged.append(slot)
        else:
            found.append(Slot(slot, *sound))
    return max(found, key=lambda one: one.version, default=None), damaged


def install(db: sqlite3.Connection, version: int, message: bytes) -> None:
    """Put an adapter into the slot that does not hold the current one."""
    current, _ = adapter(db)
    slot = 0 if current is None else 1 - current.slot
    if current is not None:
        db.execute("DELETE FROM slots WHERE slot<>?", (current.slot,))
    db.execute("INSERT OR REPLACE INTO slots VALUES (?, ?)", (slot, pack_adapter(version, message)))
    put_number(db, "version", version)
    put_number(db, "highest", version)


class Sweep(NamedTuple):
    """What the spool holds at a time: what waits, in order; of these the `moved` ones have a new time; and the rest."""

    waiting: list[Spooled]
    moved: list[Spooled]
    expired: list[int]
    damaged: list[int]

    @property
    def changes(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.moved or self.expired or self.damaged)


def look(db: sqlite3.Connection, now: float) -> Sweep:
    """Judge what is in the spool; changes nothing.

    An item is expired once it is older than its lifetime. If it is from the future, or from before 2025 and it no
    longer is, the clock was set meanwhile (a board without a battery begins in 1970): it is taken as made just now.
    """
    sweep = Sweep([], [], [], [])
    for sequence, record in db.execute("SELECT sequence, record FROM spool ORDER BY sequence").fetchall():
        item = unpack_spooled(sequence, record)
        if item is None:
            sweep.damaged.append(sequence)
            continue
        if item.created > now or item.created < _CLOCK_SET <= now:
            lifetime = FOR_EVER if item.expires >= FOR_EVER else item.expires - item.created
            fresh = item._replace(created=now, expires=min(now + lifetime, FOR_EVER))
            sweep.waiting.append(fresh)
            sweep.moved.append(fresh)
        elif now >= item.expires:
            sweep.expired.append(sequence)
        else:
            sweep.waiting.append(item)
    return sweep


def sweep(db: sqlite3.Connection, found: Sweep) -> None:
    """Carry out what `look` found. What went without an answer is to be made anew, so ``sent`` goes too."""
    for item in found.moved:
        db.execute("UPDATE spool SET record=? WHERE sequence=?", (pack_spooled(item), item.sequence))
    for sequence in found.expired:
        drop(db, sequence, "expired")
    if found.damaged:
        drop_damaged(db, "spool", found.damaged)
    if found.damaged or number(db, "sequence") in found.expired:
        db.execute("DELETE FROM meta WHERE key='sent'")
        drop_pending(db)


def drop(db: sqlite3.Connection, sequence: int, reason: str) -> None:
    """Drop a message from the spool and count why."""
    db.execute("DELETE FROM spool WHERE sequence=?", (sequence,))
    db.execute("DELETE FROM meta WHERE key GLOB ?", (f"shelved.{sequence}.*",))
    put_number(db, f"dropped.{reason}", number(db, f"dropped.{reason}") + 1)


def drop_pending(db: sqlite3.Connection) -> None:
    """Forget what was to follow from updates that are not answered yet."""
    db.execute("DELETE FROM meta WHERE key GLOB 'pending.*' OR key GLOB 'shelved.*'")


def shelve_pending(db: sqlite3.Connection, waiting: Collection[int]) -> None:
    """Another update becomes the newest: what is pending of the former one is kept apart if that is still `waiting`."""
    former = number(db, "sequence")
    if former in waiting:
        db.execute("UPDATE meta SET key='shelved.' || ? || substr(key, 8) WHERE key GLOB 'pending.*'", (str(former),))
    else:
        db.execute("DELETE FROM meta WHERE key GLOB 'pending.*'")


def settle_pending(db: sqlite3.Connection, sequence: int, admitted: bool) -> None:
    """The update has its receipt: what was pending of it takes its place, unless a later one's has, or goes."""
    prefix = "pending." if sequence == number(db, "sequence") else f"shelved.{sequence}."
    if admitted and sequence > number(db, "settled"):
        for key, value in db.execute("SELECT key, value FROM meta WHERE key GLOB ?", (f"{prefix}*",)).fetchall():
            put(db, key.removeprefix(prefix), value)
        put_number(db, "settled", sequence)
    db.execute("DELETE FROM meta WHERE key GLOB ?", (f"{prefix}*",))


def forget_update(db: sqlite3.Connection) -> None:
    """Empty the spool, and forget what was sent and what was left unsent of it."""
    db.execute("DELETE FROM spool")
    db.execute("DELETE FROM meta WHERE key IN ('sent', 'memory')")
    drop_pending(db)


def spent(db: sqlite3.Connection, day: int) -> tuple[int, int]:
    """The day that counts now, and its bytes so far.

    That is the stored day if the clock jumped back by one, so that a day is not given twice. A stored day further ahead
    came from a clock that was wrong: its bytes count for `day`.
    """
    row = db.execute("SELECT value FROM meta WHERE key='spent'").fetchone()
    stored, count = (None if row is None else unpack_spent(row[0])) or (day, 0)
    if stored < day:
        return day, 0
    return (stored if stored == day + 1 else day), count


# --- formats ----------------------------------------------------------------------------------------------


def create(db: sqlite3.Connection) -> None:
    """Make the tables, inside the caller's transaction."""
    for statement in TABLES.split(";"):
        db.execute(statement)
    for key in GUARDED:
        put_number(db, key, 0)
    db.execute(f"PRAGMA user_version={FORMAT}")


def migrate(db: sqlite3.Connection) -> None:
    """From format 1, inside the caller's transaction: texts, labels, adapter, spool and counters are all kept.

    Format 1 had features and base logits as float32; they become int8 with a scale of their own, and
    ``unread`` says that the body can do better from the texts.
    """
    former = db.execute("SELECT text, label, features, base FROM examples ORDER BY id").fetchall()
    waiting = db.execute("SELECT sequence, base_version, message FROM spool ORDER BY sequence").fetchall()
    numbers = db.execute("SELECT key, value FROM meta WHERE key IN ('learned', 'sequence', 'version')").fetchall()
    db.execute("DROP TABLE examples")
    db.execute("DROP TABLE spool")
    create(db)
    for key, value in numbers:
        put_number(db, key, int.from_bytes(value, "big"))
    put_number(db, "highest", number(db, "version"))
    counts: dict[str, int] = {}
    for age, (text, label, features, base) in enumerate(former, 1):
        codes, scale = _quantise(features)
        base_codes, base_scale = _quantise(base)
        example = Example(digest(text), text, label, codes, base_codes, scale, base_scale)
        db.execute("INSERT INTO examples VALUES (?, ?, ?)", (row_of(example.digest), age, pack_example(example)))
        counts[label] = counts.get(label, 0) + 1
    put_number(db, "age", len(former))
    put(db, "counts", pack_counts(counts))
    if former:
        put(db, "unread", b"1")
    now = time.time()
    for sequence, base_version, message in waiting:
        record = pack_spooled(Spooled(sequence, base_version, message, now))
        db.execute("INSERT INTO spool VALUES (?, ?)", (sequence, record))
    adapter = db.execute("SELECT value FROM meta WHERE key='adapter'").fetchone()
    if adapter is not None:
        db.execute("INSERT INTO slots VALUES (0, ?)", (pack_adapter(number(db, "version"), adapter[0]),))
        db.execute("DELETE FROM meta WHERE key='adapter'")


def _quantise(blob: bytes) -> tuple[bytes, float]:
    """Float32 values as int8 codes and their scale (largest magnitude / 127)."""
    values = struct.unpack(f"<{len(blob) // 4}f", blob)
    scale = max(map(abs, values), default=0.0) / 127 or 1.0
    return struct.pack(f"{len(values)}b", *(round(value / scale) for value in values)), scale
