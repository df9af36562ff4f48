"""Rows as words of two books: 8 or 16 coefficients are one byte, so decoding is looking up.

The rows of a table are of very unequal length, and within a row, in the whitened basis, coefficients are nearly normal
and alike. So each row gets a number of bytes of its own (reverse water-filling: Cover and Thomas 2006, 10.3.3), and the
coefficients of a row are rounded together (vector quantisation: Gersho and Gray 1992), to the nearest word of

- 8 coefficients: the 240 shortest vectors of the lattice E8 and 16 of the next (Conway and Sloane 1999, 4.8), in as
  many stages as the row is worth, each of the rest that the stage before it has left, on a grid of 9/16 its size;
- 16 coefficients, for rows that are worth half a bit each: the 256 words of the Nordstrom-Robinson code, as signs,
  which is the Gray image of the octacode (Hammons et al. 1994).

At 1 bit a coefficient this leaves 0.318 of a normal row's squared length, at half a bit 0.574. Rounding each alone
leaves 0.34 and 0.62 with an ideal entropy coder, and nothing can leave less than 0.25 and 0.5.
"""

from itertools import combinations, product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import Refusal, Refused

_Floats = NDArray[np.float32]
_Values = NDArray[np.float64]
MAX_KIND: Final = 7
# Blocks that are compared with a book at a time: bounds the memory.
_SOME: Final = 4096
# Share `u` of the scale: (8 - u % 4) / 8 * 2^-(u // 4).
SHARES: Final = ((8 - np.arange(32) % 4) / 8 * 2.0 ** -(np.arange(32) // 4)).astype(np.float32)
_GRID: Final = 9 / 16
# A unit normal row's best unit, by whether its words are of 16; and what is left of it by kind.
_UNITS: Final = (0.82, 0.65)
_LEFT: Final = (1.0, 0.574, 0.318, 0.102, 0.035, 0.0131, 0.0057, 0.0032)


def _eight() -> _Floats:
    words = []
    for i, j in combinations(range(8), 2):
        for signs in product((2, -2), repeat=2):
            word = [0] * 8
            word[i], word[j] = signs
            words.append(word)
    words += [[*signs, 1 if signs.count(-1) % 2 == 0 else -1] for signs in product((1, -1), repeat=7)]
    return np.concatenate([np.array(words), 4 * np.eye(8), -4 * np.eye(8)]).astype(np.float32)


def _sixteen() -> _Floats:
    octacode = ((3, 1, 2, 1, 0, 0, 0, 1), (0, 3, 1, 2, 1, 0, 0, 1), (0, 0, 3, 1, 2, 1, 0, 1), (0, 0, 0, 3, 1, 2, 1, 1))
    gray = np.array(((1, 1), (1, -1), (-1, -1), (-1, 1)), np.float32)
    words = np.array(list(product(range(4), repeat=4))) @ np.array(octacode) % 4
    return np.asarray(gray[words].reshape(256, 16), np.float32)


# By stage, float32 [256, 8], already on the stage's grid; and the words of 16.
EIGHT: Final = tuple(_eight() * np.float32(_GRID**stage) for stage in range(MAX_KIND - 1))
SIXTEEN: Final = _sixteen()


def size(kinds: NDArray[np.intp], n: int) -> int:
    """How many bytes rows of n coefficients take; each has its kind, 1 to 7 (0: not there)."""
    counts = np.bincount(kinds, minlength=MAX_KIND + 1)
    staged = [-(-int(counts[stage:].sum()) * n // 8) for stage in range(2, MAX_KIND + 1)]
    return int(counts[1:].sum()) - (-int(counts[1]) * n // 16) + sum(staged)


def allot(values: _Values, most: int) -> NDArray[np.intp]:
    """The kind of each row of `values` [rows, n], 0 to 7, so that all take at most `most` bytes and err least.

    Step by step the row gets more for which a bit takes most off the error.
    """
    rows, n = values.shape
    energy = np.square(values).sum(1)
    left = np.array(_LEFT)
    bits = np.array([n / 2 + 8, n / 2, *[n] * (MAX_KIND - 2)])
    gains = energy[:, None] * (left[:-1] - left[1:]) / bits
    kinds = np.zeros(rows, np.intp)
    for step in np.argsort(-gains, axis=None, kind="stable"):
        row, kind = divmod(int(step), MAX_KIND)
        if gains[row, kind] > 0 and kinds[row] == kind:
            kinds[row] += 1
            if size(kinds, n) > most:
                kinds[row] -= 1
    return kinds


def pack(values: _Values, kinds: NDArray[np.intp], scale: float) -> bytes:
    """The bytes of the rows of `values` [rows, n], none of whose `kinds` is 0, in shares of `scale`."""
    n = values.shape[1]
    wanted = np.sqrt(np.square(values).mean(1)) * np.where(kinds == 1, _UNITS[1], _UNITS[0])
    numbers = np.abs(SHARES.astype(np.float64) * scale - wanted[:, None]).argmin(1)
    codes = (kinds << 5 | numbers).astype(np.uint8)
    order = _order(kinds)
    rest = (values / (SHARES[numbers].astype(np.float64) * scale)[:, None])[order]
    parts = [codes.tobytes()]
    for some, book in _parts(kinds.tolist()):
        flat = rest[some].ravel()
        blocks = np.pad(flat, (0, -len(flat) % book.shape[1])).reshape(-1, book.shape[1])
        words = _nearest(blocks, book)
        parts.append(words.tobytes())
        rest[some] -= book[words].ravel()[: len(flat)].reshape(-1, n)
    return b"".join(parts)


def unpack(data: bytes, rows: int, n: int) -> tuple[NDArray[np.intp], _Floats]:
    """What `pack` gave as `data`: the order of the rows, and in this order the rows, float32 [rows, n], without scale.

    Raises Refused(MALFORMED).
    """
    codes = np.frombuffer(data, np.uint8)
    numbers = codes[:rows]
    kinds = numbers >> 5
    listed = kinds.tolist()
    if len(listed) < rows or 0 in listed:
        raise Refused(Refusal.MALFORMED, "rows of a table")
    order = _order(kinds)
    values = np.zeros((rows, n), np.float32)
    position = rows
    for some, book in _parts(listed):
        count = (some.stop - some.start) * n
        start, position = position, position - (-count // book.shape[1])
        if len(codes) < position:
            break
        values[some] += book.take(codes[start:position], 0).ravel()[:count].reshape(-1, n)
    if len(codes) != position:
        raise Refused(Refusal.MALFORMED, "rows of a table end early or go on")
    values *= SHARES.take(numbers.take(order) & 31)[:, None]
    return order, values


def _order(kinds: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """Rows of greater kinds first, of equal ones in their order: so each part is of neighbours."""
    return (MAX_KIND - kinds).argsort(kind="stable")


def _parts(kinds: list[int]) -> list[tuple[slice, _Floats]]:
    """Of each part that is there, which of the ordered rows it is of, and its book."""
    ones = kinds.count(1)
    parts = [(slice(len(kinds) - ones, len(kinds)), SIXTEEN)] if ones else []
    stages = range(max(kinds) - 1)
    return [*parts, *((slice(0, sum(kind > stage + 1 for kind in kinds)), EIGHT[stage]) for stage in stages)]


def _nearest(blocks: _Values, book: _Floats) -> NDArray[np.uint8]:
    """The number of the word of `book` that is nearest to each of `blocks`, the first of equals."""
    half = 0.5 * np.square(book, dtype=np.float64).sum(1)
    found = np.empty(len(blocks), np.uint8)
    for start in range(0, len(blocks), _SOME):
        some = slice(start, start + _SOME)
        found[some] = (blocks[some] @ book.T - half).argmax(1)
    return found
