"""Decisions out of a fuzzer's bytes, so that the fuzzer drives the mutators and any input can be run again."""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Reads decisions from `data`; where it ends, a generator seeded with `data` goes on, so no input runs dry."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._more: random.Random | None = None

    def take(self, size: int) -> bytes:
        """`size` bytes."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        if len(taken) < size:
            if self._more is None:
                self._more = random.Random(self._data)
            taken += self._more.randbytes(size - len(taken))
        return taken

    def below(self, bound: int) -> int:
        """A number from 0 to `bound` - 1."""
        return int.from_bytes(self.take((bound.bit_length() + 7) // 8), "little") % bound

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`."""
        return choices[self.below(len(choices))]

    def one_in(self, times: int) -> bool:
        """True once in `times`."""
        return self.below(times) == 0
