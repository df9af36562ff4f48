"""How large a device's database may grow, and how much of it the examples may have."""

import sqlite3
from typing import Final

from tasuki.sdk.errors import InputError
from tasuki.sdk.state_records import EXAMPLE_OVERHEAD

PAGE_BYTES: Final = 4096
MIN_DISK: Final = 1 << 20
ADAPTER_BYTES: Final = 64 << 10
# The device's key lies in the same folder, and needs as much again while it is written.
_KEY_BYTES: Final = 16 << 10
_LEAST_EXAMPLES: Final = 16
_FRAME_BYTES: Final = PAGE_BYTES + 24
_LOG_HEADER: Final = 32
# Kept free for forgetting, which must work on a full state: a journal of 100 lines has at most 8 pages.
RESERVE_PAGES: Final = 12
_FIXED_PAGES: Final = RESERVE_PAGES + 20
# The fleet's records need a leaf of their table, and one of `meta`, to be split.
_SPLIT_PAGES: Final = 2


def log_frames(disk: int) -> int:
    """After how many frames the write-ahead log is folded into the database."""
    return max(8, min(64, disk // (32 * PAGE_BYTES)))


def max_pages(disk: int) -> int:
    """How many pages the database may have so that it and its log stay under `disk` bytes.

    The log is folded in as soon as a commit leaves `log_frames` in it, and then begins anew. So before a commit it has
    fewer, and the largest transaction (a new body: every example is rewritten) adds each page once at most.
    Raises InputError below 1 MiB.
    """
    if disk < MIN_DISK:
        raise InputError(f"disk={disk} is too little: a state directory needs at least {MIN_DISK} bytes")
    return (disk - _KEY_BYTES - _LOG_HEADER - log_frames(disk) * _FRAME_BYTES) // (PAGE_BYTES + _FRAME_BYTES)


def spool_bound(disk: int, spool_bytes: int) -> int:
    """Bytes that the spool may have: of a small directory an eighth."""
    return min(spool_bytes, disk // 8)


def example_room(disk: int, spool_bytes: int, adapter_bytes: int) -> int:
    """How many pages examples may have, so that there is room for the fleet and all else at its largest."""
    return max_pages(disk) - _FIXED_PAGES - fleet_pages(disk, spool_bytes, adapter_bytes)


def fleet_pages(disk: int, spool_bytes: int, adapter_bytes: int) -> int:
    """How many pages the spool and two adapters take at most."""
    sizes = (spool_bound(disk, spool_bytes), adapter_bytes, adapter_bytes)
    return sum(-(-size // (PAGE_BYTES - 4)) + 1 for size in sizes)


def pages_left(db: sqlite3.Connection, pages: int, fleet: int) -> int:
    """How many of `pages` are neither used nor kept for the fleet, which has `fleet`, and for forgetting."""
    (count,), (free,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count"))
    taken = "SELECT LENGTH(record) FROM slots UNION ALL SELECT LENGTH(record) FROM spool"
    has = sum((size or 0) // (PAGE_BYTES - 4) for (size,) in db.execute(taken))
    return int(pages - RESERVE_PAGES - _SPLIT_PAGES - max(0, fleet - has) - (count - free))


def record_pages(size: int) -> float:
    """How many pages an example's record of `size` bytes takes, on leaves half full as after many evictions."""
    # SQLite's file format, "B-tree pages": what a leaf of a table keeps of a payload, the rest is in whole pages.
    local, rest = size, 0
    if size > PAGE_BYTES - 35:
        least = (PAGE_BYTES - 12) * 32 // 255 - 23
        local = least + (size - least) % (PAGE_BYTES - 4)
        local = local if local <= PAGE_BYTES - 35 else least
        rest = -(-(size - local) // (PAGE_BYTES - 4))
    return 1 / max(1, (PAGE_BYTES - 8) // (local + 32) // 2) + rest + 0.01


def capacity_for(
    disk: int, example_bytes: int, *, spool_bytes: int = 256 << 10, adapter_bytes: int = ADAPTER_BYTES
) -> int:
    """How many examples of `example_bytes` (text, label, codes: the largest to come) surely fit beside all else.

    What else there is: the spool, two adapters, the enrolment, counters. The least directory, 1 MiB, is of use for
    small examples only: 37 of 600 bytes, 18 of 2 KiB, none of 4 KiB. With 2 MiB it is 217, 109 and 82, with 8 MiB
    1670, 843 and 634.
    Raises InputError where fewer than 16 fit.
    """
    free = example_room(disk, spool_bytes, adapter_bytes)
    found = int(free / record_pages(example_bytes + EXAMPLE_OVERHEAD))
    if found < _LEAST_EXAMPLES:
        raise InputError(f"disk={disk} is too little for {_LEAST_EXAMPLES} examples of {example_bytes} bytes")
    return found
