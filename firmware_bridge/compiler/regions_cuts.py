"""Where regions are cut into loops: first what needs least memory at its worst, then what takes fewest calls."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tasuki.firmware_bridge.compiler.lower_memory import Storage
from tasuki.firmware_bridge.compiler.regions import Region
from tasuki.firmware_bridge.compiler.regions_segments import Segment, Segments, lives

# The longest loop that is tried: more calls than this have nothing to gain from each other.
_LONGEST: Final = 24


class _Way(NamedTuple):
    """A way to cut a region: the memory that its worst segment needs, the calls it takes, and the segments."""

    peak: int
    calls: int
    segments: tuple[Segment, ...]


def cut(regions: Sequence[Region], storages: Sequence[Storage]) -> list[list[Segment]]:
    """Two ways to cut all regions: fewest calls within what the worst region can't do without, and least memory each.

    The memory is a lower bound; which way packs better, only a plan can say.
    """
    spans = lives(regions)
    parts: list[Segments] = []
    begin = 0
    for region in regions:
        parts.append(Segments(region, begin, storages, spans))
        begin += len(region.calls)
    least = [_best(part, None) for part in parts]
    worst = max((way.peak for way in least), default=0)
    few = [_best(part, worst) for part in parts]
    return [[segment for way in ways for segment in way.segments] for ways in (few, least)]


def _best(parts: Segments, limit: int | None) -> _Way:
    """The best way to cut one region, by dynamic programming over where its last segment begins.

    Without a limit the peak counts before the calls; peaks up to the limit count as equal.
    """

    def rank(way: _Way) -> tuple[int, int, int]:
        return max(way.peak, limit or 0), way.calls, way.peak

    best = [_Way(0, 0, ())]
    for end in range(1, parts.length + 1):
        ways = []
        for begin in range(max(0, end - _LONGEST), end):
            segment = parts.segment(begin, end)
            before = best[begin]
            ways.append(_Way(max(before.peak, segment.peak), before.calls + segment.calls, (*before.segments, segment)))
        best.append(min(ways, key=rank))
    return best[-1]
