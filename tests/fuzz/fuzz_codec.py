"""Compressed tables in every setting, and the changes that reach each part of their decoder."""

import struct
from itertools import product

import numpy as np
from fuzz_dice import Dice
from fuzz_mutate import change_bytes
from fuzz_world import table_of

from tasuki.sdk import compression, entropy
from tasuki.sdk.compression import Basis, Rounding, Setting, Sparsity

# Codes of scales at the edges of what is finite, normal and positive.
_CODES = (0, 1, 0x7F, 0x80, 0x3A00, 0x3C00, 0x3F80, 0x7E80, 0x7F7F, 0x7F80, 0x7FC0, 0x8000, 0xBF80, 0xFFFF)
_COUNTS = (0, 1, 2, 5, 6, 20, 21, 22, 255, 4096, 0xFFFF)
_BASES: tuple[Basis, ...] = ("whitened", "plain")
_KEPT: tuple[tuple[Sparsity, float], ...] = (("top", 0.2), ("worth", 0.5), ("random", 0.4), ("dense", 1.0))
_ROUNDINGS: tuple[Rounding, ...] = ("nearest", "stochastic")
_SETTINGS = tuple(
    Setting(basis, sparsity, keep, bits, block, rounding)
    for basis, (sparsity, keep), bits, block, rounding in product(_BASES, _KEPT, (1, 2, 4, 8), (0, 4), _ROUNDINGS)
    if sparsity != "worth" or rounding == "nearest"
) + tuple(Setting(basis, "rows", keep) for basis, keep in product(_BASES, (0.02, 0.05, 0.1, 0.2, 0.5)))


def tables(kind: str) -> list[bytes]:
    """Tables of `kind` in every setting, and levels that no setting has; some are zero, some too large."""
    table = table_of(kind)
    rows, columns = table.shape
    rng = np.random.default_rng(4)
    scales = (0.02, 0.2, 5.0, 1e16)
    made = [compression.compress(np.zeros((rows, columns + 1), np.float32), Setting(), table.metric, 1)]
    for number, setting in enumerate(_SETTINGS):
        joined = (rng.standard_normal((rows, columns + 1)) * scales[number % 4]).astype(np.float32)
        joined[number % (rows + 3) % rows] *= number % 2
        made.append(compression.compress(joined, setting, table.metric, number))
    for most, share in product((1, 2, 128, 129, 300), (0.1, 0.6, 1.0)):
        levels = rng.integers(1, most + 1, (rows, columns + 1)) * rng.choice((-1, 1), (rows, columns + 1))
        levels[rng.random(levels.shape) > share] = 0
        active = levels.any(1)
        if active.any():
            tail, coded = entropy.pack(levels[active].astype(np.int16))
            made.append(struct.pack(">BH", tail << 4 | 1, 0x3C00) + np.packbits(active).tobytes() + coded)
    return made


def change_table(data: bytes, kind: str, dice: Dice) -> bytes:
    """`data` with its setting, its scale, its counts, its rows, or its coded stream changed."""
    flags, rows = data[0] & 15 if data else 0, table_of(kind).shape[0]
    counts_at, block_at = 3, 3 + 6 * (flags >> 1 & 1)
    rows_at = block_at + 2 * (flags >> 2 & 1)
    coded_at = rows_at + -(-rows // 8)
    if len(data) <= coded_at:
        return change_bytes(data, dice)
    made = bytearray(data)
    match dice.below(12):
        case 0:
            made[0] ^= 1 << dice.below(8)
        case 1:
            made[0] = made[0] & 15 | dice.below(16) << 4
        case 2:
            made[1:3] = struct.pack(">H", dice.pick(_CODES))
        case 3 if flags & 6:
            at = dice.pick((counts_at, block_at))
            made[at : at + 2] = struct.pack(">H", dice.pick(_COUNTS))
        case 4:
            made[rows_at] ^= 1 << dice.below(8)
        case 5:
            made[coded_at:] = dice.take(dice.below(60))
        case 6:
            # Few marks: long runs of 0, as a stream has them.
            made[coded_at:] = bytes(one & other for one, other in zip(dice.take(24), dice.take(24), strict=True))
        case 7:
            del made[coded_at + dice.below(len(made)) :]
        case 8:
            made += bytes(dice.below(3)) + dice.take(dice.below(3))
        case _:
            for _ in range(1 + dice.below(3)):
                place = min(coded_at + dice.below(len(made)), len(made) - 1)
                made[place] ^= 1 << dice.below(8)
    return bytes(made)
