"""Texts longer than a causal model's context, in parts that it can read."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A part of a text's ids: `begin` to `end` are read, and what follows each from ``target - 1`` on is expected.

    So the targets of a window are the ids from `target` to `end`, that included.
    """

    begin: int
    end: int
    target: int


def windows(count: int, context: int, first: int) -> Iterator[Window]:
    """How `count` ids, of any number, are read so that each that something stands before is the target of one window.

    A window is read from position 0, and begins with `first` (0 or 1) ids of its own. Behind the first window, a target
    has at least half the context before it.
    """
    room = context - first
    target = 1 - first
    while target < count:
        # The first window begins with the text.
        begin = 0 if target == 1 - first else target - max(room // 2, 1 - first)
        end = min(begin + room, count - 1)
        yield Window(begin, end, target)
        target = end + 1
