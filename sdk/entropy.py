"""Levels as bits: which are not 0, their signs, and how far they are from 0, in Golomb-Rice codes.

A Rice code of parameter k writes a step s >= 1 as d = ceil(s / 2^k) in unary, d - 1 times 0 and a 1, and d 2^k - s in k
bits (Golomb 1966; Rice 1979): close to the entropy of distances between rare events. All unary parts stand in front,
one after the other, and all other bits stand at the end, from the last bit backwards: so both are read without looking
for where one ends, and NumPy reads each at once. What is in between is less than a byte of 0 bits.

How many of a row are not 0 is told; it says by itself whether the steps between these or between the others are
written, and by which parameter. The levels above 1 are found in the same way among all that are not 0, as if they were
one more row.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import Refusal, Refused

Levels = NDArray[np.int16]
_Bits = NDArray[np.uint8]
_Numbers = NDArray[np.int64]
MAX_LEVEL: Final = 128
# In place of the parameter of what exceeds 2: no level exceeds 1.
FLAT: Final = 7
_MAX_PARAMETER: Final = 8
# Row k: which of 8 bits are the k low ones.
_LOW: Final = np.arange(_MAX_PARAMETER) >= _MAX_PARAMETER - np.arange(_MAX_PARAMETER + 1)[:, None]
_MAX_WIDTH: Final = 40
_POWERS: Final = 1 << np.arange(_MAX_WIDTH - 1, -1, -1, dtype=np.int64)


def pack(levels: Levels) -> tuple[int, bytes]:
    """The parameter of the tail, 0 to `FLAT`, and the bits of `levels` int16 [rows, n], where no row is all 0."""
    n = levels.shape[1]
    marks = levels != 0
    counts = marks.sum(1)
    sizes = np.abs(levels[marks]).astype(np.int64)
    above = sizes > 1
    total, more = len(sizes), int(above.sum())
    tokens, parameters = (table[counts] for table in _plan(n))
    rare = (marks ^ (2 * counts > n)[:, None]).ravel()
    raw = [_bits(counts - 1, _width(n - 1))]
    ks = parameters.repeat(tokens)
    tail, excess = FLAT, sizes[:0]
    if more:
        raw.append(_bits(np.array([more - 1]), _width(total - 1)))
        few = above ^ (2 * more > total)
        rare = np.concatenate([rare, few])
        excess = sizes[above] - 1
        tail = min(range(FLAT), key=lambda k: int(((excess - 1) >> k).sum()) + k * more)
        count = int(few.sum())
        ks = np.concatenate([ks, np.repeat([_parameter(total, count), tail], [count, more])])
    steps = np.concatenate([np.diff(np.flatnonzero(rare), prepend=-1), excess])
    unary = ((steps - 1) >> ks) + 1
    low = np.unpackbits(((unary << ks) - steps).astype(np.uint8)[:, None], axis=1)
    raw += [low[_LOW.take(ks, 0)], (levels[marks] < 0).astype(np.uint8)]
    back = np.concatenate(raw)
    ends = unary.cumsum()
    front = int(ends[-1]) if len(ends) else 0
    bits = np.zeros(-(-(front + len(back)) // 8) * 8, np.uint8)
    bits[ends - 1] = 1
    bits[len(bits) - len(back) :] = back[::-1]
    return tail, np.packbits(bits).tobytes()


def unpack(data: bytes, tail: int, rows: int, n: int) -> NDArray[np.float32]:
    """The levels, float32 [rows, n], that `pack` gave as `tail` and `data`. Raises Refused(MALFORMED) on all else."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    raw = bits[::-1]
    # Where the n-th unary part ends is the n-th 1; the 1 bits of the other part follow and are not looked at.
    ends = bits.view(np.bool_).nonzero()[0]
    width = _width(n - 1)
    read = rows * width
    if len(raw) < read:
        raise _malformed("levels end early")
    counts = raw[:read].reshape(rows, width) @ _POWERS[_MAX_WIDTH - width :] + 1
    listed = counts.tolist()
    most, total = max(listed), sum(listed)
    if most > n:
        raise _malformed("more levels than a row has")
    tokens, parameters = _plan(n)
    gaps = tokens.take(counts)
    ks = parameters.take(counts).repeat(gaps)
    places, more, few = rows * n, 0, 0
    if tail != FLAT:
        width = _width(total - 1)
        if len(raw) < read + width:
            raise _malformed("levels end early")
        more = int(raw[read : read + width] @ _POWERS[_MAX_WIDTH - width :]) + 1
        if more > total:
            raise _malformed("more levels above 1 than there are")
        read += width
        few = min(more, total - more)
        places += total
        ks = np.concatenate([ks, np.array((_parameter(total, few), tail)).repeat((few, more))])
    last, low = len(ks), read + int(ks.sum())
    stop = len(bits) - low - total
    used = int(ends[last - 1]) + 1 if 0 < last <= len(ends) else 0
    if last > len(ends) or used > stop:
        raise _malformed("levels end early")
    if stop - used > 7 or (last < len(ends) and ends[last] < stop):
        raise _malformed("levels go on")
    steps = ends[:last].copy()
    steps[:1] += 1
    steps[1:] -= ends[: max(last - 1, 0)]
    steps <<= ks
    spread = np.zeros((last, _MAX_PARAMETER), np.uint8)
    spread[_LOW.take(ks, 0)] = raw[read:low]
    steps -= np.packbits(spread)

    # Places count from 1. In the rows up to each are as many as these have steps, so each is in its row, and those of
    # the last part are behind all rows.
    found = steps[: last - more].cumsum()
    astray = found.searchsorted(_ends(rows, n), "right") != gaps.cumsum()
    if astray.any() or (few and found[-1] > places):
        raise _malformed("levels beyond a row's end")
    rare = np.zeros(places + 1, np.bool_)
    rare[found] = True
    marks = rare[1 : rows * n + 1].reshape(rows, n)
    if 2 * most > n:
        marks ^= (2 * counts > n)[:, None]
    signed = raw[low : low + total].astype(np.float32)
    signed *= -2
    signed += 1
    if more:
        excess = steps[last - more :]
        if excess.max() >= MAX_LEVEL:
            raise _malformed("a level is too large")
        above = (~rare[rows * n + 1 :]).nonzero()[0] if 2 * more > total else found[len(found) - few :] - rows * n - 1
        signed[above] *= (excess + 1).astype(np.float32)
    levels = np.zeros((rows, n), np.float32)
    levels[marks] = signed
    return levels


@lru_cache(maxsize=64)
def _plan(n: int) -> tuple[_Numbers, _Numbers]:
    """By how many of n are not 0: how many gaps are written (those of the rarer kind), and their parameter."""
    tokens = np.minimum(np.arange(n + 1), n - np.arange(n + 1))
    return tokens, np.array([_parameter(n, int(count)) for count in tokens], np.int64)


@lru_cache(maxsize=64)
def _ends(rows: int, n: int) -> _Numbers:
    """Where each row ends."""
    return np.arange(1, rows + 1) * n


def _parameter(n: int, count: int) -> int:
    """The parameter for the gaps of `count` among n: the greatest k, 0 to 8, with ``2^k <= n / count - 1/2``."""
    return min(_MAX_PARAMETER, max(1, (2 * n - count) // (2 * count)).bit_length() - 1) if count else 0


def _width(most: int) -> int:
    """How many bits hold 0 to `most`."""
    return most.bit_length()


def _bits(values: _Numbers, width: int) -> _Bits:
    """The `width` low bits of each of `values`, most significant first."""
    return np.asarray((values[:, None] >> np.arange(width - 1, -1, -1)) & 1, np.uint8).ravel()


def _malformed(detail: str) -> Refused:
    return Refused(Refusal.MALFORMED, detail)
