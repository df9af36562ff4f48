"""The memory plan: a place in the arena for each buffer, by trying orders of placing them one at the lowest free place.

That is offline dynamic storage allocation, which is NP-hard (Garey and Johnson, 1979). A handful of buffers is tried in
every order; with a few dozen, some good orders and a short random search from the best nearly always reach the bound.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Final, NamedTuple

import numpy as np

from tasuki.firmware_bridge.compiler.program import ALIGNMENT, Loop, Plan, Program, Step

# Random changes to the best order that are tried in a row without a smaller plan, fewer where they would take long.
_PATIENCE: Final = 100
_PLACED: Final = 5000
# So many, scratch among them, are tried in every order: 120 of them.
_FEW: Final = 5


class _Life(NamedTuple):
    """The first and the last step, counted through all loops, in which a buffer holds something that is needed."""

    first: int
    last: int


def plan(program: Program) -> Plan:
    """The smallest plan found; always the same for the same program."""
    steps, lives = _lives(program)
    numbers = sorted(lives)
    sizes = {buffer.number: buffer.bytes for buffer in program.buffers}
    pairs = [(numbers.index(old), numbers.index(new)) for old, new in program.shared]
    problem = _Problem(
        [_aligned(sizes[number]) for number in numbers],
        [lives[number] for number in numbers],
        [_aligned(step.scratch) for step in steps],
        {*pairs, *((new, old) for old, new in pairs)},
    )
    places = problem.search()
    return Plan(dict(zip(numbers, places, strict=False)), places[-1], problem.height(places))


def _lives(program: Program) -> tuple[list[Step], dict[int, _Life]]:
    """All steps, and by buffer of the arena from where to where it lives.

    What a loop walks row by row, or only reads, lives in all of the loop. What it writes anew in each turn lives from
    its first step to its last.
    """
    steps: list[Step] = []
    lives: dict[int, _Life] = {}
    arena = {buffer.number for buffer in program.buffers if buffer.place == "arena"}
    for part in program.body:
        inner = part.steps if isinstance(part, Loop) else (part,)
        begin, end = len(steps), len(steps) + len(inner) - 1
        steps += inner
        uses = [(k, operand) for k, step in enumerate(inner, begin) for operand in (*step.reads, *step.writes)]
        written = {operand.buffer for step in inner for operand in step.writes}
        for k, operand in uses:
            number = operand.buffer
            if number not in arena:
                continue
            whole = isinstance(part, Loop) and (operand.row != 0 or number not in written)
            here = _Life(begin, end) if whole else _Life(k, k)
            before = lives.get(number, here)
            lives[number] = _Life(min(before.first, here.first), max(before.last, here.last))
    return steps, lives


@dataclass(frozen=True, eq=False)
class _Problem:
    """Sizes and lives of buffers by place in a list, the scratch of each step, and who may begin at the same place.

    A solution is the offset of each buffer, and last that of scratch.
    """

    sizes: Sequence[int]
    lives: Sequence[_Life]
    scratch: Sequence[int]
    shared: Collection[tuple[int, int]]

    def search(self) -> list[int]:
        """The best of the first orders, and of random changes to it until the lower bound, or patience, is reached."""
        bound, meetings = self.bound(), self._meetings()
        tried = [(order, self._placed(order, meetings)) for order in self._orders()]
        order, places = min(tried, key=lambda one: self.height(one[1]))
        rng = np.random.default_rng(len(self.sizes))
        idle = 0
        patience = 0 if len(order) <= _FEW else min(_PATIENCE, _PLACED // len(order))
        while self.height(places) > bound and idle < patience:
            idle += 1
            other = list(order)
            for old, new in rng.integers(len(order), size=(rng.integers(1, 4), 2)).tolist():
                other.insert(new, other.pop(old))
            found = self._placed(other, meetings)
            if self.height(found) < self.height(places):
                idle = 0
            if self.height(found) <= self.height(places):
                order, places = other, found
        return places

    def height(self, places: Sequence[int]) -> int:
        """The bytes of the arena."""
        return max(place + size for place, size in zip(places, [*self.sizes, max([0, *self.scratch])], strict=True))

    def bound(self) -> int:
        """What the steps need at least: all that is alive, scratch, less what may take another's place."""
        needed = [0]
        for k, scratch in enumerate(self.scratch):
            alive = [i for i, life in enumerate(self.lives) if life.first <= k <= life.last]
            total = sum(self.sizes[i] for i in alive) + scratch
            paired: set[int] = set()
            for i, j in combinations(alive, 2):
                if (i, j) in self.shared and not paired & {i, j}:
                    paired |= {i, j}
                    total -= min(self.sizes[i], self.sizes[j])
            needed.append(total)
        return max(needed)

    def _orders(self) -> Iterator[list[int]]:
        """Buffers and scratch (the number behind the last buffer) in orders that are often good; few in every order."""
        count = len(self.sizes)
        if count < _FEW:
            yield from map(list, permutations(range(count + 1)))
            return
        sizes = [*self.sizes, max([0, *self.scratch])]
        lives = [*self.lives, _Life(0, len(self.scratch))]
        large = sorted(range(count + 1), key=lambda i: (-sizes[i], lives[i].first))
        yield large
        yield [*(i for i in large if i < count), count]
        yield [count, *(i for i in large if i < count)]
        yield sorted(range(count + 1), key=lambda i: (lives[i].first - lives[i].last, -sizes[i]))
        yield [*sorted(range(count), key=lambda i: (lives[i].first, -sizes[i])), count]

    def _placed(self, order: Sequence[int], meetings: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
        """Each in turn at the lowest place that is free for it."""
        places: dict[int, int] = {}
        for i in order:
            # Of who is in the way: where it begins and ends, and the bytes of `i` that must keep out of it.
            taken = [
                (begin, begin + theirs, mine, j)
                for j, begin in places.items() for mine, theirs in [meetings[i][j]]
                if mine and theirs
            ]  # fmt: skip
            places[i] = next(
                place for place in sorted({0, *(edge for begin, end, _, _ in taken for edge in (begin, end))})
                if all(
                    place + mine <= begin or place >= end or (place == begin and (i, j) in self.shared)
                    for begin, end, mine, j in taken
                )
            )  # fmt: skip
        return [places[i] for i in range(len(self.sizes) + 1)]

    def _meetings(self) -> list[list[tuple[int, int]]]:
        """For each two the bytes of both that must not be the same, or 0 and 0 if they are never needed at once."""
        count = len(self.sizes)
        found = [[(0, 0)] * (count + 1) for _ in range(count + 1)]
        for i, life in enumerate(self.lives):
            for j, other in enumerate(self.lives):
                if life.first <= other.last and other.first <= life.last:
                    found[i][j] = self.sizes[i], self.sizes[j]
            most = max(self.scratch[life.first : life.last + 1])
            found[i][count], found[count][i] = (self.sizes[i], most), (most, self.sizes[i])
        return found


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
