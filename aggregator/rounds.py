"""When a round closes. No I/O: counts and times in, a decision out."""

import math


def quorum(enrolled: int, share: float) -> int:
    """How many devices close a round at once: `share` (0 to 1) of those enrolled, at least one."""
    return max(1, math.ceil(share * enrolled - 1e-9))


def closes(waiting: int, needed: int, first: float | None, now: float, round_seconds: float) -> bool:
    """A round closes at the quorum, or `round_seconds` after its first update.

    `waiting` devices have sent for the current version; `first` is when the first of them did (seconds), if any.
    """
    if waiting == 0 or first is None:
        return False
    return waiting >= needed or now - first >= round_seconds
