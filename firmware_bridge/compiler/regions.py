"""Regions: calls that can run together, a few rows at a time, so that what passes between them is only ever a few rows.

A row may be a token (rows of FULLY_CONNECTED, `ROWS` at a time) or a head of the attention (batches of BATCH_MATMUL,
and what is copied for them, one at a time).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.lower_calls import ROWS, Access, Call, Turn, finish, finish_tile, turn


@dataclass(frozen=True, eq=False)
class Member:
    """A call of a region: whole, and what it does in one row."""

    call: Call
    inside: Turn


@dataclass(frozen=True, eq=False)
class Region:
    """Calls in order of execution; `rows` is 1 for a call that runs by itself, whose only member has no turn."""

    rows: int
    tile: int
    members: tuple[Member, ...]
    alone: Call | None = None

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls, whole."""
        return (self.alone,) if self.alone is not None else tuple(member.call for member in self.members)


def regions(calls: Sequence[Call]) -> list[Region]:
    """All calls, in an order that keeps who writes before who reads, in regions as long as can be."""
    before = _dependencies(calls)
    left = list(range(len(calls)))
    done: set[int] = set()
    found: list[Region] = []
    while left:
        chosen, region = _longest(calls, left, before, done)
        found.append(region)
        done.update(chosen)
        left = [number for number in left if number not in done]
    return found


def _dependencies(calls: Sequence[Call]) -> list[set[int]]:
    """For each call the earlier ones that it must follow: they share a storage and one of the two writes it."""
    before: list[set[int]] = []
    readers: dict[int, set[int]] = {}
    writers: dict[int, set[int]] = {}
    for number, call in enumerate(calls):
        follows: set[int] = set()
        for access in call.accesses:
            follows |= writers.get(access.storage, set())
        for access in call.writes:
            follows |= readers.get(access.storage, set())
        before.append(follows)
        for group, accesses in ((readers, call.reads), (writers, call.writes)):
            for access in accesses:
                group.setdefault(access.storage, set()).add(number)
    return before


def _longest(
    calls: Sequence[Call], left: Sequence[int], before: Sequence[set[int]], done: Collection[int]
) -> tuple[list[int], Region]:
    """The longest region that the first of the calls that are left begins."""
    first = calls[left[0]]
    best, found = [left[0]], Region(1, 1, (), first)
    for rows, tile in _choices(first):
        chosen: list[int] = []
        members: list[Member] = []
        touched: _Touched = {}
        there = set(done)
        for number in left:
            inside = turn(calls[number], rows) if before[number] <= there else None
            if inside is None or finish_tile(inside, tile) is None:
                continue
            member = Member(calls[number], inside)
            if _agree(touched, member, rows):
                chosen.append(number)
                members.append(member)
                there.add(number)
                _touch(touched, member)
        if len(chosen) > len(best) or (len(chosen) == 1 and finish(first) is None):
            best, found = chosen, Region(rows, tile, tuple(members))
    return best, found


def _choices(call: Call) -> list[tuple[int, int]]:
    """Rows and rows at a time that suit the call."""
    found = []
    if call.style in ("rows", "grid") and call.rows > ROWS:
        found.append((call.rows, ROWS))
    if call.outer and (call.style in ("batch", "copy") or finish(call) is None):
        found.append((call.outer[0], 1))
    return found


# By storage: who touches it, how, with which stride from row to row, and whether it writes.
_Touched = dict[int, list[tuple[Member, Access, int, bool]]]


def _touch(touched: _Touched, member: Member) -> None:
    call = member.inside.call
    for place, (access, stride) in enumerate(zip(call.accesses, member.inside.strides, strict=True)):
        touched.setdefault(access.storage, []).append((member, access, stride, place >= len(call.reads)))


def _agree(touched: _Touched, new: Member, rows: int) -> bool:
    """Whether each row writes rows of its own, and touches only what others touch in the same row, where one writes."""
    mine: _Touched = {}
    _touch(mine, new)
    return all(
        (stride != 0 or not writes)
        and all(
            stride == other_stride and own_rows(access, other, new, member, stride, rows)
            for member, other, other_stride, other_writes in touched.get(storage, ())
            if writes or other_writes
        )
        for storage, uses in mine.items() for _, access, stride, writes in uses
    )  # fmt: skip


def own_rows(a: Access, b: Access, first: Member, second: Member, stride: int, rows: int) -> bool:
    """Whether what `a` touches in one row and `b` in another are never the same, when both move by `stride` a row."""
    if stride == 0:
        return False
    mine, other = footprint(a, first.inside.call.outer), footprint(b, second.inside.call.outer)
    chunk = mine[0] // stride
    if all(int(edge) // stride == chunk for edge in (mine[-1], other[0], other[-1])):
        return True
    # Row 0 of one against rows 1, 2, … of the other, and the other way round: only the distance of rows counts.
    further = stride * np.arange(1, rows)
    return not any(np.isin(x, (y[:, None] + further).ravel()).any() for x, y in ((mine, other), (other, mine)))


@lru_cache(maxsize=1024)
def footprint(access: Access, outer: tuple[int, ...]) -> NDArray[np.int64]:
    """Where the elements are that one call touches, in bytes from the storage's start, ascending."""
    places = np.array([access.offset], np.int64)
    for count, stride in (*zip(outer, access.steps, strict=True), *access.block):
        places = (places[:, None] + stride * np.arange(count, dtype=np.int64)).ravel()
    return np.unique(places)
