"""Segments of a region, each of which becomes one loop or one step, and how much memory each needs at least."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tasuki.firmware_bridge.compiler.lower_calls import Call, finish
from tasuki.firmware_bridge.compiler.lower_memory import Storage
from tasuki.firmware_bridge.compiler.program import ALIGNMENT
from tasuki.firmware_bridge.compiler.regions import Member, Region, footprint
from tasuki.firmware_bridge.compiler.regions_sharing import in_loop, in_place

_Pairs = tuple[tuple[int, int], ...]


class Life(NamedTuple):
    """The first and the last call, by place in the order of execution, that touches a storage."""

    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Segment:
    """Members of a region; without a loop it is one call by itself.

    `private` has the bytes of each storage that only ever has one turn's rows, `shared` the pairs (old, new) that may
    be one memory. `peak` is a lower bound of the bytes of memory needed, `calls` the number of calls made.
    """

    rows: int
    tile: int
    members: tuple[Member, ...]
    alone: Call | None
    private: Mapping[int, int]
    shared: _Pairs
    peak: int
    calls: int


def lives(regions: Sequence[Region]) -> dict[int, Life]:
    """By storage."""
    found: dict[int, Life] = {}
    calls = [call for region in regions for call in region.calls]
    for place, call in enumerate(calls):
        for access in call.accesses:
            first = found[access.storage].first if access.storage in found else place
            found[access.storage] = Life(first, place)
    return found


@dataclass
class Segments:
    """All segments of a region, whose first call is the one at `begin` in the order of execution."""

    region: Region
    begin: int
    storages: Sequence[Storage]
    lives: Mapping[int, Life]
    _alive: list[list[int]] = field(default_factory=list)
    _private: dict[int, int] = field(default_factory=dict)
    _known: dict[tuple[int, int, tuple[int, ...]], bool] = field(default_factory=dict)
    _made: dict[tuple[int, int], Segment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        places = range(self.begin, self.begin + self.length)
        arena = [(n, life) for n, life in self.lives.items() if self.storages[n].place == "arena"]
        self._alive = [[n for n, life in arena if life.first <= place <= life.last] for place in places]
        for number in {access.storage for member in self.region.members for access in member.call.accesses}:
            size = self._rows_of_its_own(number)
            if size is not None:
                self._private[number] = size

    @property
    def length(self) -> int:
        """How many calls there are."""
        return len(self.region.calls)

    def segment(self, begin: int, end: int) -> Segment:
        """Calls from `begin` to before `end`."""
        if (begin, end) not in self._made:
            self._made[begin, end] = self._segment(begin, end)
        return self._made[begin, end]

    def _segment(self, begin: int, end: int) -> Segment:
        region = self.region
        members = region.members[begin:end]
        alone = region.alone
        if len(members) == 1 and finish(members[0].call) is not None:
            alone = members[0].call
        first, last = self.begin + begin, self.begin + end - 1
        alive = list(dict.fromkeys(number for there in self._alive[begin:end] for number in there))
        private = {}
        if alone is None:
            inner = [n for n in alive if self.lives[n].first >= first and self.lives[n].last <= last]
            private = {number: self._private[number] for number in inner if number in self._private}
        full = [number for number in alive if number not in private]
        shared = self._shared_full(full, first, last, members, alone)
        taken = sum(_aligned(self.storages[number].bytes) for number in full)
        taken -= sum(_aligned(min(self.storages[old].bytes, self.storages[new].bytes)) for old, new in _once(shared))
        if alone is not None:
            return Segment(1, 1, (), alone, {}, shared, taken + alone.scratch, 1)
        inside, most = self._shared_private(private, first, members)
        turns = -(-region.rows // region.tile)
        peak, calls = taken + most, turns * len(members)
        return Segment(region.rows, region.tile, members, None, private, shared + inside, peak, calls)

    def _shared_full(
        self, full: Sequence[int], first: int, last: int, members: Sequence[Member], alone: Call | None
    ) -> _Pairs:
        """Storages that end here, and storages that begin here and may take their place."""
        olds = [number for number in full if self.lives[number].last <= last and self.lives[number].first < last]
        news = [number for number in full if self.lives[number].first >= first]
        return tuple(
            (old, new) for new in news for old in olds
            if old != new and self._may_share(old, new, first, members, alone)
        )  # fmt: skip

    def _may_share(self, old: int, new: int, first: int, members: Sequence[Member], alone: Call | None) -> bool:
        if self.lives[old].last > self.lives[new].first:
            return False
        if alone is not None:
            return in_place(alone, old, new)
        places = tuple(
            first + k for k, member in enumerate(members)
            if any(access.storage in (old, new) for access in member.call.accesses)
        )  # fmt: skip
        key = (old, new, places)
        if key not in self._known:
            self._known[key] = in_loop(members, self.region.rows, old, new)
        return self._known[key]

    def _shared_private(self, private: Mapping[int, int], first: int, members: Sequence[Member]) -> tuple[_Pairs, int]:
        """Pairs of a turn's own storages of which one begins in the step that ends the other; and the most alive."""
        pairs: list[tuple[int, int]] = []
        most = 0
        for place, member in enumerate(members, first):
            alive = [n for n in private if self.lives[n].first <= place <= self.lives[n].last]
            here = [
                (old, new) for new in alive for old in alive
                if self.lives[old].last == self.lives[new].first == place and old != new
                and private[old] == private[new] and in_place(member.inside.call, old, new)
            ]  # fmt: skip
            pairs += here
            taken = sum(_aligned(private[number]) for number in alive)
            taken -= sum(_aligned(private[new]) for _, new in _once(here))
            most = max(most, taken + member.call.scratch)
        return tuple(pairs), most

    def _rows_of_its_own(self, number: int) -> int | None:
        """The bytes of a tile of the storage, if all that is touched in row r is in the r-th of `rows` equal parts."""
        stride, rest = divmod(self.storages[number].bytes, self.region.rows)
        if rest or self.storages[number].place != "arena":
            return None
        for member in self.region.members:
            for access, step in zip(member.inside.call.accesses, member.inside.strides, strict=True):
                if access.storage != number:
                    continue
                touched = footprint(access, member.inside.call.outer)
                if step != stride or touched[0] < 0 or touched[-1] + access.size > stride:
                    return None
        return stride * min(self.region.tile, self.region.rows)


def _once(pairs: _Pairs | Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs so that no storage is in two on the same side."""
    olds: set[int] = set()
    news: set[int] = set()
    chosen = []
    for old, new in pairs:
        if old not in olds and new not in news:
            olds.add(old)
            news.add(new)
            chosen.append((old, new))
    return chosen


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
