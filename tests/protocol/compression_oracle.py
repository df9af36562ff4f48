"""A second decoder of compressed tables, from the text of SPEC.md alone: one symbol at a time, in plain Python.

It shares no line with the library, and knows neither NumPy nor a matrix product.
"""

import math
import struct
from collections.abc import Sequence

Row = list[float]


class Wrong(Exception):
    """The bytes do not follow the rules."""


class Bits:
    """A string of bits, read from both ends."""

    def __init__(self, data: bytes) -> None:
        self.bits = "".join(f"{byte:08b}" for byte in data)
        self.front, self.back = 0, len(self.bits)

    def unary(self) -> int:
        for zeros in range(self.back - self.front):
            if self.bits[self.front + zeros] == "1":
                self.front += zeros + 1
                return zeros
        raise Wrong("front ends early")

    def number(self, width: int) -> int:
        value = 0
        for _ in range(width):
            if self.back <= 0:
                raise Wrong("back ends early")
            self.back -= 1
            value = 2 * value + int(self.bits[self.back])
        return value


def parameter(n: int, count: int) -> int:
    if count == 0:
        return 0
    return min(8, int(math.log2(max(1, (2 * n - count) // (2 * count)))))


def width(number: int) -> int:
    return len(f"{number:b}") if number else 0


def levels(data: bytes, tail: int, rows: int, m: int) -> list[list[int]]:
    bits = Bits(data)
    counts = [bits.number(width(m - 1)) + 1 for _ in range(rows)]
    total = sum(counts)
    if max(counts) > m:
        raise Wrong("more than a row has")
    many = 0
    if tail != 7:
        many = bits.number(width(total - 1)) + 1
        if many > total:
            raise Wrong("more above 1 than there are")
    ks, ends = [], []
    for row, count in enumerate(counts):
        rare = min(count, m - count)
        ks += [parameter(m, rare)] * rare
        ends += [(row * m, (row + 1) * m)] * rare
    few = min(many, total - many)
    ks += [parameter(total, few)] * few
    ends += [(rows * m, rows * m + total)] * few
    tails = [tail] * many
    codes = []
    for k in ks + tails:
        parts = bits.unary() + 1
        codes.append(parts * 2**k - bits.number(k))
    signs = [-1 if bits.number(1) else 1 for _ in range(total)]
    if bits.front > bits.back or bits.back - bits.front > 7 or "1" in bits.bits[bits.front : bits.back]:
        raise Wrong("front and back do not meet")
    marks = [False] * (rows * m + (total if many else 0))
    place = -1
    for step, (start, end) in zip(codes, ends, strict=False):
        place += step
        if not start <= place < end:
            raise Wrong("not in its row")
        marks[place] = True
    table, done = [], 0
    big = [mark != (2 * many > total) for mark in marks[rows * m :]] if many else [False] * total
    extra = iter(codes[len(ks) :])
    for row, count in enumerate(counts):
        line = []
        for mark in marks[row * m : (row + 1) * m]:
            if mark == (2 * count > m):
                line.append(0)
                continue
            magnitude = 1 + next(extra) if big[done] else 1
            if magnitude > 128:
                raise Wrong("too large")
            line.append(magnitude * signs[done])
            done += 1
        table.append(line)
    return table


def eight(number: int) -> list[int]:
    """The word `number` of the book of 8."""
    word = [0] * 8
    if number < 112:
        pairs = [(i, j) for i in range(8) for j in range(i + 1, 8)]
        i, j = pairs[number // 4]
        word[i], word[j] = (2, -2)[number // 2 % 2], (2, -2)[number % 2]
    elif number < 240:
        word = [-1 if (number - 112) >> (6 - i) & 1 else 1 for i in range(7)]
        word.append(1 if word.count(-1) % 2 == 0 else -1)
    else:
        word[(number - 240) % 8] = 4 if number < 248 else -4
    return word


def sixteen(number: int) -> list[int]:
    """The word `number` of the book of 16."""
    rows = ["31210001", "03121001", "00312101", "00031211"]
    digits = [number // 64, number // 16 % 4, number // 4 % 4, number % 4]
    word = []
    for i in range(8):
        digit = sum(digits[r] * int(rows[r][i]) for r in range(4)) % 4
        word += [(1, 1), (1, -1), (-1, -1), (-1, 1)][digit]
    return word


def words(data: bytes, rows: int, n: int) -> list[Row]:
    """The rows of a table in words, in units of the scale."""
    kinds = [byte >> 5 for byte in data[:rows]]
    units = [(8 - byte % 4) / 8 * 2.0 ** -(byte % 32 // 4) for byte in data[:rows]]
    if len(kinds) < rows or 0 in kinds:
        raise Wrong("kinds")
    table = [[0.0] * n for _ in range(rows)]
    rest = data[rows:]
    for part in range(1, max(kinds) + 1):
        ordered = [row for kind in range(7, 0, -1) for row in range(rows) if kinds[row] == kind]
        chosen = [row for row in ordered if (kinds[row] == 1 if part == 1 else kinds[row] >= part)]
        places = [(row, j) for row in chosen for j in range(n)]
        wide = 16 if part == 1 else 8
        length = math.ceil(len(places) / wide)
        if len(rest) < length:
            raise Wrong("words end early")
        found = [value for byte in rest[:length] for value in (sixteen(byte) if part == 1 else eight(byte))]
        for (row, j), value in zip(places, found, strict=False):
            table[row][j] += value * (9 / 16) ** max(0, part - 2)
        rest = rest[length:]
    if rest:
        raise Wrong("words go on")
    return [[value * unit for value in line] for line, unit in zip(table, units, strict=True)]


def key(seed: int, number: int) -> int:
    mask = (1 << 64) - 1
    z = ((seed << 32) + number + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def factor(moment: list[Row]) -> list[Row]:
    """The lower triangular L with L L^T = M + 0.001 I."""
    n = len(moment)
    lower = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = moment[i][j] + (0.001 if i == j else 0.0) - sum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = math.sqrt(rest) if i == j else rest / lower[j][j]
    return lower


def unwhiten(row: Row, lower: list[Row]) -> Row:
    """The w with w L = `row`."""
    n = len(row)
    solved = [0.0] * n
    for j in range(n - 1, -1, -1):
        solved[j] = (row[j] - sum(solved[i] * lower[i][j] for i in range(j + 1, n))) / lower[j][j]
    return solved


def decode(data: bytes, rows: int, n: int, moment: list[Row] | None) -> list[Row]:
    """The table, as rows of Python floats. Raises Wrong."""
    table = [[0.0] * n for _ in range(rows)]
    if len(data) > 4 * rows * (n + 1) + 11:
        raise Wrong("too long")
    if data == b"\0":
        return table
    try:
        first, code = struct.unpack_from(">BH", data)
        rest = data[3:]
        tail, in_words, blocks, random, whitened = first >> 4, first & 8, first & 4, first & 2, first & 1
        if (in_words and first > 9) or tail > 7 or not 0x0080 <= code <= 0x5F7F:
            raise Wrong("first bytes")
        (scale,) = struct.unpack(">f", struct.pack(">HH", code, 0))
        m, seed, block = n, 0, 0
        if random:
            m, seed = struct.unpack_from(">HI", rest)
            rest = rest[6:]
        if blocks:
            (block,) = struct.unpack_from(">H", rest)
            rest = rest[2:]
    except struct.error:
        raise Wrong("ends early") from None
    if not 1 <= m <= n or (blocks and not 1 <= block <= m) or (whitened and moment is None):
        raise Wrong("draw, block or basis")
    length = math.ceil(rows / 8)
    bitmap = "".join(f"{byte:08b}" for byte in rest[:length])
    if len(bitmap) < 8 * length or "1" not in bitmap[:rows] or "1" in bitmap[rows:]:
        raise Wrong("rows")
    active = [row for row in range(rows) if bitmap[row] == "1"]
    rest = rest[length:]
    shares = [[1.0] * m for _ in active]
    if blocks:
        wide = math.ceil(m / block)
        if len(rest) < wide * len(active):
            raise Wrong("shares")
        for line in range(len(active)):
            found = [(32 - u % 16) / 32 * 2.0 ** -(u // 16) for u in rest[line * wide : (line + 1) * wide]]
            shares[line] = [found[j // block] for j in range(m)]
        rest = rest[wide * len(active) :]
    lower = factor(moment) if whitened and moment is not None else None
    found_rows: Sequence[Sequence[float]] = (
        words(rest, len(active), n) if in_words else levels(rest, tail, len(active), m)
    )
    for line, row in enumerate(found_rows):
        i = active[line]
        values = [level * scale * share for level, share in zip(row, shares[line], strict=True)]
        if random:
            chosen = sorted(sorted(range(n), key=lambda j: key(seed, i * n + j))[:m])
            spread = [0.0] * n
            for j, value in zip(chosen, values, strict=True):
                spread[j] = value * n / m
            values = spread
        table[i] = unwhiten(values, lower) if lower else values
    return table
