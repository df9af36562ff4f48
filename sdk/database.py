"""What the device's state and the gateway's ledger share: SQLite's transactions, and its errors by their names."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasuki.sdk.errors import StateCorrupt, StateError, StateLocked, StateUnwritable


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All that happens inside is kept together, or none of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """SQLite's errors on the database at `path`, as ours."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise StateError(f"{path} can't be used ({error}); open it again") from None
    except sqlite3.OperationalError as error:
        words = str(error)
        if "locked" in words:
            raise StateLocked(f"{path} is open in another process; stop that one first") from None
        if "malformed" in words or "no such" in words:
            raise _corrupt(path, error) from None
        raise StateUnwritable(f"{path} can't be written ({words}); check space and permissions") from None
    except sqlite3.DatabaseError as error:
        raise _corrupt(path, error) from None


def _corrupt(path: Path, error: sqlite3.DatabaseError) -> StateCorrupt:
    return StateCorrupt(f"{path} is damaged ({error}); restore a copy, or remove it to start anew")
