"""How deep the stack can get, from the call graphs that GCC writes with ``-fcallgraph-info=su``.

Only functions that are in the linked image count. What is called through a pointer (a callback, an interrupt's
handler) is a function that nobody calls by name: each such call is charged with the deepest of those. What has no graph
is charged with a flat sum: functions of the C library by `LIBRARY`, and the compiler's own helpers and assembler, which
show in no graph, by `HELPER` at the end of every chain. Tests hold the bound against the deepest stack that was seen.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from tasuki.sdk.errors import BuildFailed

# newlib's exp() with double precision in software is the deepest of the C library that the runtime calls.
LIBRARY: Final = 256
# memcpy and its like push a few registers.
_SHALLOW: Final = frozenset(("memcpy", "memmove", "memset", "memcmp", "strlen"))
# 64-bit division, double precision where the core has single precision only, and the frames of assembler functions.
HELPER: Final = 128
# What the core pushes when an interrupt comes: 26 words with the floating-point unit in use, and one to align.
FRAME: Final = 27 * 4
_START: Final = "tsk_start"
_INDIRECT: Final = "__indirect_call"
_NODE: Final = re.compile(r'^node: \{ title: "([^"]+)" label: "[^"]*\\n(\d+) bytes \((\w+)[^"]*"', re.MULTILINE)
_EDGE: Final = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', re.MULTILINE)


def bound(graphs: Iterable[Path], present: frozenset[str], start: str = _START) -> int:
    """Bytes that the stack takes at most, one interrupt included.

    `graphs` are GCC's ``.ci`` files, `present` the functions of the linked image, by the assembler's names.

    Raises:
        BuildFailed: A function calls itself, directly or not, or has a frame that grows as it runs; a graph is missing.
    """
    frames, calls = _read(graphs, present)
    named = {target for targets in calls.values() for target in targets}
    unnamed = [name for name in frames if name not in named and name != start]
    below = _deepest(frames, calls, [name for name in unnamed if not _calls_unnamed(name, calls)])
    return below(start) + FRAME + max(map(below, unnamed), default=0)


def _read(graphs: Iterable[Path], present: frozenset[str]) -> tuple[dict[str, int], Mapping[str, set[str]]]:
    frames: dict[str, int] = {}
    calls: defaultdict[str, set[str]] = defaultdict(set)
    for path in graphs:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BuildFailed(
                f"GCC wrote no call graph of {path.stem.partition('-')[2]}, so its stack has no bound: "
                "flags of board.ini can't have -flto"
            ) from None
        for name, frame, kind in _NODE.findall(text):
            if _bare(name) in present:
                if kind != "static":
                    raise BuildFailed(f"the stack of {_bare(name)} has no bound: its frame is {kind}")
                frames[name] = int(frame)
        for caller, called in _EDGE.findall(text):
            calls[caller].add(called)
    return frames, calls


def _bare(title: str) -> str:
    """A static function's title has its file in front."""
    return title.rsplit(":", 1)[-1]


def _calls_unnamed(name: str, calls: Mapping[str, set[str]], seen: frozenset[str] = frozenset()) -> bool:
    """Whether it comes to a call through a pointer: it then can't be the callback itself."""
    below = calls.get(name, set()) - seen
    return _INDIRECT in below or any(_calls_unnamed(one, calls, seen | below) for one in below)


def _deepest(frames: Mapping[str, int], calls: Mapping[str, set[str]], callbacks: list[str]) -> Callable[[str], int]:
    """The bytes of the deepest chain from a function."""
    open_: list[str] = []

    @cache
    def below(name: str) -> int:
        if name in open_:
            raise BuildFailed(f"recursion: {' -> '.join(map(_bare, (*open_[open_.index(name) :], name)))}")
        if name == _INDIRECT:
            return max(map(below, callbacks), default=HELPER)
        if name not in frames:
            return HELPER if name in _SHALLOW else LIBRARY
        open_.append(name)
        deepest = max((below(called) for called in calls.get(name, ())), default=0)
        open_.pop()
        return frames[name] + max(deepest, HELPER)

    return below
