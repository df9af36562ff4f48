"""Kind `low_rank`: ``phi(h) = A h`` with a frozen random A [r, d]; only B of ``W = B A`` learns.

LoRA with the first factor frozen (FFA-LoRA, Sun et al. 2024): the problem stays convex, and tables of devices with the
same A add up, which products of two learned factors do not. A is a matrix of signs (Achlioptas 2003), so that
``|A h|`` is ``|h|`` in the mean square, and a board without floating point applies it with additions and one scale.

A is the same on every machine. Its r d signs are the first ``ceil(r d / 8)`` bytes of SHAKE-256 (FIPS 202) over these
34 bytes:

    "tasuki low_rank 1"     17 bytes of ASCII
    0                        1 byte
    seed                     8 bytes, unsigned, little-endian
    r                        4 bytes, unsigned, little-endian
    d                        4 bytes, unsigned, little-endian

Sign j of row i is bit ``m mod 8`` (bit 0 is the least significant) of byte ``m div 8``, with ``m = i d + j``: 1 is
plus, 0 is minus. The scale is ``1 / sqrt(r)`` in binary64, rounded to binary32.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np

from tasuki.sdk import solver
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.problem import Problem, check_width

LABEL = b"tasuki low_rank 1\x00"


@lru_cache(maxsize=8)
def matrix(rank: int, width: int, seed: int) -> Floats:
    """A, float32 [rank, width], read-only."""
    numbers = seed.to_bytes(8, "little") + rank.to_bytes(4, "little") + width.to_bytes(4, "little")
    stream = hashlib.shake_256(LABEL + numbers).digest(-(-rank * width // 8))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=rank * width, bitorder="little")
    scale = np.float32(1.0 / math.sqrt(rank))
    made: Floats = np.where(bits.reshape(rank, width) == 1, scale, -scale)
    made.flags.writeable = False
    return made


@dataclass(frozen=True)
class LowRankKind:
    """`width` is d, `rank` is r (1 to d), `seed` is 0 to 2**64 - 1; ValueError otherwise."""

    width: int
    rank: int
    seed: int
    name: ClassVar[str] = "low_rank"

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= self.width < 2**32:
            raise ValueError(f"rank {self.rank} is not in 1 to {self.width}")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed {self.seed} is not in 0 to 2**64 - 1")

    @property
    def columns(self) -> int:
        """The rank."""
        return self.rank

    def project(self, features: Floats) -> Floats:
        """``A h``, float32 [n, r]."""
        return np.asarray(features @ matrix(self.rank, self.width, self.seed).T, np.float32)

    def moment(self, moment: Floats) -> Floats:
        """``[A 0; 0 1] M [A 0; 0 1]^T``, float32 [r + 1, r + 1]."""
        wide = np.zeros((self.rank + 1, self.width + 1))
        wide[:-1, :-1] = matrix(self.rank, self.width, self.seed)
        wide[-1, -1] = 1
        return np.asarray(wide @ moment.astype(np.float64) @ wide.T, np.float32)

    def expand(self, table: Head) -> Head:
        """``W = B A``."""
        weight = np.asarray(table.weight @ matrix(self.rank, self.width, self.seed), np.float32)
        return Head(table.labels, weight, table.bias)

    def fit(self, problem: Problem, start: Head | None = None) -> Head:
        """B and b at the minimum of the objective with the moment of the projected features."""
        check_width(problem, self.width)
        moment = None if problem.moment is None else self.moment(problem.moment)
        return solver.minimise(replace(problem, features=self.project(problem.features), moment=moment), start)
