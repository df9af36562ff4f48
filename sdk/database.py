"""What the device's state and the gateway's ledger share: SQLite's transactions, and its errors by their names."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasuki.sdk.errors import StateCorrupt, StateError, StateLocked, StateUnwritable


def private_folder(folder: Path) -> None:
    """The folder, mode 0700, and its entry on disk. Raises StateUnwritable."""
    try:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
    except OSError as error:
        raise StateUnwritable(f"{folder} can't be made: {error.strerror}") from None


def private_file(path: Path) -> None:
    """Make the database at `path` ready for SQLite: plain files that only the owner reads (mode 0600).

    SQLite gives its log the mode of its database. Raises StateUnwritable: no permission, or a link or folder there.
    """
    try:
        for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
            try:
                mode = name.lstat().st_mode
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(mode):
                raise StateUnwritable(f"{name} is not a plain file; move it away")
            if mode & 0o077:
                name.chmod(0o600)
        # Never opened and closed here if it exists: that would give up the locks that this process has on it.
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StateUnwritable(f"{path} can't be made or opened: {error.strerror}") from None


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
        if "disk image" not in words and any(
            s in words for s in ("full", "disk", "readonly", "unable to open", "access")
        ):
            raise StateUnwritable(f"{path} can't be written ({words}); check disk space and permissions") from None
        # Anything else is a table or a text that is not as it was made.
        raise _corrupt(path, error) from None
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter: a damaged name in SQLite's own message
        raise _corrupt(path, error) from None


def _corrupt(path: Path, error: Exception) -> StateCorrupt:
    return StateCorrupt(f"{path} is damaged ({error}); restore a copy, or remove it to start anew")
