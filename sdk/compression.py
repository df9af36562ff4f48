"""A table of float32 as few bytes (SPEC.md, "Compressed table"), and back.

The table is brought into a basis. In the *whitened* one (`tasuki.sdk.metric`) an error of a coefficient weighs what it
changes in the logits of public text. Then there are two ways, and one decoder that reads the bytes of both:

- rows get as many bytes as they are worth, and their coefficients are looked up some at a time (`tasuki.sdk.lattice`):
  what `auto` mostly takes, because it errs least and decodes in half the time;
- or most coefficients are left out (`tasuki.sdk.sparsity`), the rest become whole levels of a scale
  (`tasuki.sdk.quantise`), and the levels are coded (`tasuki.sdk.entropy`).
"""

import math
import struct
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk import entropy, lattice, quantise, sparsity
from tasuki.sdk.adapter import Floats
from tasuki.sdk.errors import InputError, Refusal, Refused
from tasuki.sdk.metric import Metric

MAX_SIDE: Final = 4096
BITS: Final = (1, 2, 4, 8)
# In the lower half of the first byte; the upper half is the tail's parameter.
_WHITENED, _RANDOM, _BLOCKS, _ROWS = 1, 2, 4, 8
_ZERO: Final = b"\x00"
# Everything but rows: first byte, scale, draw and block.
_HEAD: Final = 11
_Values = NDArray[np.float64]
# What rounding of scales, products and sums may add to a norm: a clipped table stays this much below its bound.
_SLACK: Final = 1e-4
# So that a share of a whole number of bytes is that number.
_ROUNDING: Final = 1e-3
# The share of the error of ``rows`` below which another setting is clearly better.
_CLEARLY: Final = 0.8
# Below what a scale can be.
_TOO_LARGE: Final = 2.0**63
Basis = Literal["whitened", "plain"]
Sparsity = Literal["rows", "top", "worth", "random", "dense"]
Rounding = Literal["nearest", "stochastic"]


@dataclass(frozen=True)
class Setting:
    """How a table is compressed.

    With ``rows`` each row gets as many bytes as it is worth, and `keep` is the share that all may take of what float32
    would; `bits` and `block` say nothing (`tasuki.sdk.lattice`). With the others each coefficient is rounded alone:
    `keep` is the share of coefficients kept: the largest of the table (``top``), of these only what is worth its bits
    (``worth``), or some of each row, drawn by the seed and scaled up to stay unbiased (``random``). `bits` (1, 2, 4 or
    8) bounds the levels to -2^(bits - 1) .. 2^(bits - 1). `block` is how many neighbours in a row share a scale; 0 is
    one scale for the table. Raises InputError.
    """

    basis: Basis = "whitened"
    sparsity: Sparsity = "rows"
    keep: float = 1 / 64
    bits: int = 4
    block: int = 0
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        if self.basis not in get_args(Basis) or self.sparsity not in get_args(Sparsity):
            raise InputError(f"basis {self.basis!r} or sparsity {self.sparsity!r} is not known")
        if self.rounding not in ("nearest", "stochastic") or self.bits not in BITS:
            raise InputError(f"rounding {self.rounding!r} or bits {self.bits!r} is not known; bits are 1, 2, 4 or 8")
        if not 0 < self.keep <= 1 or (self.sparsity == "dense" and self.keep != 1):
            raise InputError(f"keep is {self.keep}: it must be above 0 and at most 1, and 1 for a dense table")
        if self.sparsity in ("rows", "worth") and self.rounding != "nearest":
            raise InputError(f"{self.sparsity} is rounded to the nearest: take another sparsity or rounding")
        if not 0 <= self.block <= MAX_SIDE:
            raise InputError(f"block is {self.block}: it must be 0 to {MAX_SIDE}")


def compress(table: Floats, setting: Setting, metric: Metric | None, seed: int) -> bytes:
    """The bytes of `table` float32 [rows, columns]; the same arguments give the same bytes.

    `metric` is needed for the whitened basis. `seed`, 0 to 2^32 - 1, draws columns and rounds by chance. Raises
    InputError where the table is not finite, not below 2^63 in the basis, or not of the metric's width.
    """
    return _compress(_bounded(_coefficients(table, setting.basis, metric)), setting, seed)


def decompress(data: bytes, rows: int, columns: int, metric: Metric | None) -> Floats:
    """The table float32 [rows, columns] of which `data` are the bytes. Total: that, or Refused.

    Raises Refused(MALFORMED) for bytes that `compress` does not give for such a table, Refused(NOT_FINITE) for a scale
    that is none; InputError where `rows`, `columns` and `metric` do not fit, which `data` has no part in. What it needs
    of memory and time grows with the table alone: it reads no more than float32 would take, and a little.
    """
    return _read(data, rows, columns, metric)[0]


def measured(data: bytes, rows: int, columns: int, metric: Metric | None) -> tuple[Floats, float]:
    """As `decompress`, and the table's norm in the metric, which coefficients in the whitened basis give at once."""
    table, whitened = _read(data, rows, columns, metric)
    if whitened is None:
        return table, norm(table, metric)
    wide = whitened.astype(np.float64).ravel()
    return table, math.sqrt(wide @ wide)


def auto(table: Floats, budget_bytes: int, metric: Metric | None, seed: int, bound: float) -> tuple[bytes, Setting]:
    """The bytes, at most `budget_bytes`, that err least in the metric, and how they were made.

    `table` is clipped to `bound` first, and what the bytes decode to is never above it. Tried are ``rows`` and, for
    tables where few coefficients hold most, ``worth`` of 8 bits, as many as fit. Raises InputError as `compress` does,
    and for a budget below 1.
    """
    if budget_bytes < 1:
        raise InputError(f"a budget of {budget_bytes} bytes: it must be at least 1")
    basis: Basis = "plain" if metric is None else "whitened"
    values = _bounded(_coefficients(clip(table, bound, metric), basis, metric))
    best, chosen = _ZERO, Setting(basis)
    least = float(np.square(values).sum())
    settings = [Setting(basis, "rows", min(1.0, budget_bytes / (4 * values.size)))]
    if found := _most_worth(values, basis, budget_bytes, seed):
        settings.append(found)
    for setting in settings:
        data = _compress(values, setting, seed)
        error = float(np.square(values - _expand(data, values.shape)).sum())
        if len(data) <= budget_bytes and error < least:
            # Rows decode in half the time: others must err clearly less.
            best, chosen, least = data, setting, error * (_CLEARLY if setting.sparsity == "rows" else 1)
    return best, chosen


def _most_worth(values: _Values, basis: Basis, budget_bytes: int, seed: int) -> Setting | None:
    """The setting ``worth`` of 8 bits that keeps as much as fits."""
    bits = 8
    low, high, found = 0, _unclipped(values, bits), None
    while low < high:
        middle = (low + high + 1) // 2
        setting = Setting(basis, "worth", middle / values.size, bits)
        if len(_compress(values, setting, seed)) <= budget_bytes:
            low, found = middle, setting
        else:
            high = middle - 1
    return found


def clip(table: Floats, bound: float, metric: Metric | None) -> Floats:
    """`table`, made shorter where its norm in the metric is above `bound`. Raises InputError."""
    if not 0 < bound < np.inf:
        raise InputError(f"a bound of {bound}: it must be above 0 and finite")
    length = norm(table, metric)
    if length <= bound * (1 - _SLACK):
        return table
    return np.asarray(table * (bound * (1 - _SLACK) / length), np.float32)


def norm(table: Floats, metric: Metric | None) -> float:
    """The root mean square change of the logits of public text, summed over the rows; without a metric the length."""
    return float(np.linalg.norm(_coefficients(table, "plain" if metric is None else "whitened", metric)))


def _coefficients(table: Floats, basis: Basis, metric: Metric | None) -> _Values:
    if table.ndim != 2:
        raise InputError(f"a table of shape {table.shape}: it must have rows and columns")
    _check_shape(len(table), table.shape[1], metric)
    if not np.isfinite(table).all():
        raise InputError("the table has a number that is not finite")
    values = table.astype(np.float64)
    if basis == "whitened":
        if metric is None:
            raise InputError("the whitened basis needs a metric")
        values = values @ metric.root
    return values


def _bounded(values: _Values) -> _Values:
    if np.abs(values).max() >= _TOO_LARGE:
        raise InputError(f"the table has a coefficient of {np.abs(values).max():.3g}: it must be below 2^63")
    return values


def _check_shape(rows: int, columns: int, metric: Metric | None) -> None:
    if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE):
        raise InputError(f"a table of {rows} x {columns}: both must be 1 to {MAX_SIDE}")
    if metric is not None and metric.columns != columns:
        raise InputError(f"a metric of {metric.columns} columns for a table of {columns}")


def _unclipped(values: _Values, bits: int) -> int:
    """How many coefficients can be kept before the largest exceeds the greatest level."""
    sizes = np.abs(values)
    floor = float(sizes.max()) * (1 - quantise.NEAR) / quantise.greatest(bits)
    return int(np.count_nonzero(sizes[sizes > 0] >= floor))


def _compress(values: _Values, setting: Setting, seed: int) -> bytes:
    if not 0 <= seed <= sparsity.MAX_SEED:
        raise InputError(f"the seed is {seed}: it must be 0 to 2^32 - 1")
    rows, columns = values.shape
    flags = _WHITENED if setting.basis == "whitened" else 0
    if setting.sparsity == "rows":
        return _compress_rows(values, flags | _ROWS, int(setting.keep * 4 * values.size + _ROUNDING))
    drawn = b""
    if setting.sparsity == "random":
        count = max(1, round(setting.keep * columns))
        chosen = sparsity.draw(np.arange(rows), columns, count, seed)
        values = np.take_along_axis(values, chosen, 1)
        flags |= _RANDOM
        drawn = struct.pack(">HI", count, seed)
    kept = values != 0
    if setting.sparsity in ("top", "worth"):
        kept = sparsity.top(values, max(1, round(setting.keep * values.size)))
    block = min(setting.block, values.shape[1]) or values.size
    levels, whole, shares = _quantise(values, kept, setting, block, seed)
    active = levels.any(1)
    if not active.any():
        return _ZERO
    if setting.block:
        flags |= _BLOCKS
        drawn += struct.pack(">H", block)
    tail, coded = entropy.pack(levels[active])
    scales = shares[active].tobytes() if setting.block else b""
    head = struct.pack(">BH", tail << 4 | flags, whole)
    return head + drawn + np.packbits(active).tobytes() + scales + coded


def _compress_rows(values: _Values, flags: int, most: int) -> bytes:
    """At most `most` bytes."""
    rows, columns = values.shape
    kinds = lattice.allot(values, most - 3 - (rows + 7) // 8)
    active = kinds > 0
    whole = quantise.scale_up(float(np.sqrt(np.square(values).mean(1).max())))
    if not whole or not active.any():
        return _ZERO
    coded = lattice.pack(values[active], kinds[active], quantise.scale(whole))
    # With the words chosen, the scale that errs least: the projection, which is never longer than the table.
    order, found = lattice.unpack(coded, int(active.sum()), columns)
    words = found.astype(np.float64)
    whole = quantise.scale_down(max(0.0, float((words * values[active][order]).sum() / np.square(words).sum())))
    if not whole:
        return _ZERO
    return struct.pack(">BH", flags, whole) + np.packbits(active).tobytes() + coded


def _quantise(
    values: _Values, kept: NDArray[np.bool_], setting: Setting, block: int, seed: int
) -> tuple[entropy.Levels, int, NDArray[np.uint8]]:
    """Levels, the code of the scale, and the shares of each block in it, uint8 [rows, blocks]."""
    shape = values.shape
    chance = setting.rounding == "stochastic"
    if setting.sparsity in ("top", "worth") and not chance:
        choose = quantise.worth if setting.sparsity == "worth" else quantise.thresholded
        levels = choose(values, kept, setting.bits)
        if not setting.block:
            values, levels = values.reshape(1, -1), levels.reshape(1, -1)
    else:
        if not setting.block:
            values, kept = values.reshape(1, -1), kept.reshape(1, -1)
        scales = quantise.peaks(values, kept, setting.bits, block)
        whole = quantise.scale_up(float(scales.max()))
        if not whole:
            return np.zeros(shape, np.int16), 0, np.zeros((0, 0), np.uint8)
        shares = quantise.shares_up(scales, quantise.scale(whole))
        steps = quantise.SHARES[shares] * quantise.scale(whole)
        levels = quantise.rounded(values, kept, steps, block, setting.bits, seed if chance else None)
        if chance:
            return levels.reshape(shape), whole, shares
    scales = quantise.fitted(values, levels, block)
    whole = quantise.scale_down(float(scales.max()))
    if not whole:
        return np.zeros(shape, np.int16), 0, np.zeros((0, 0), np.uint8)
    shares = quantise.shares_down(scales, quantise.scale(whole))
    lost = scales < quantise.SHARES[-1] * quantise.scale(whole)
    levels[lost.repeat(block, 1)[:, : values.shape[1]]] = 0
    return levels.reshape(shape), whole, shares


def _expand(data: bytes, shape: tuple[int, ...]) -> _Values:
    _, present, values = _decode(data, shape[0], shape[1])
    whole = np.zeros(shape)
    whole[present] = values
    return whole


def _read(data: bytes, rows: int, columns: int, metric: Metric | None) -> tuple[Floats, Floats | None]:
    """The table, and the whitened coefficients of which it is, if any."""
    _check_shape(rows, columns, metric)
    if len(data) > 4 * rows * (columns + 1) + _HEAD:
        raise Refused(Refusal.MALFORMED, "table is longer than any")
    whitened, present, values = _decode(data, rows, columns)
    table = np.zeros((rows, columns), np.float32)
    if not whitened:
        table[present] = values
        return table, None
    if metric is None:
        raise Refused(Refusal.MALFORMED, "whitened, and there is no metric")
    table[present] = metric.unwhiten(values)
    return table, values


def _decode(data: bytes, rows: int, columns: int) -> tuple[bool, NDArray[np.intp], Floats]:
    """Whether the basis is the whitened one, the numbers of rows that are not 0, and those rows' coefficients."""
    if data == _ZERO:
        return False, np.zeros(0, np.intp), np.zeros((0, columns), np.float32)
    if len(data) < 3:
        raise _ends_early()
    first, code = struct.unpack_from(">BH", data)
    flags, tail, position = first & 15, first >> 4, 3
    if tail > entropy.FLAT or (flags & _ROWS and first & ~(_WHITENED | _ROWS)):
        raise Refused(Refusal.MALFORMED, "table of another format")
    scale = quantise.scale(code)
    count, block, seed = columns, 0, 0
    try:
        if flags & _RANDOM:
            count, seed = struct.unpack_from(">HI", data, position)
            position += 6
        if flags & _BLOCKS:
            (block,) = struct.unpack_from(">H", data, position)
            position += 2
    except struct.error:
        raise _ends_early() from None
    if not 1 <= count <= columns or (flags & _BLOCKS and not 1 <= block <= count):
        raise Refused(Refusal.MALFORMED, "columns or block of a table")
    start, position = position, position + (rows + 7) // 8
    if len(data) < position:
        raise _ends_early()
    seen = np.unpackbits(np.frombuffer(data, np.uint8, position - start, start)).view(np.bool_)
    active, lines = seen[:rows], int(np.count_nonzero(seen))
    if not lines or np.count_nonzero(active) < lines:
        raise Refused(Refusal.MALFORMED, "rows of a table")
    present = active.nonzero()[0]
    if flags & _ROWS:
        order, values = lattice.unpack(data[position:], lines, columns)
        values *= np.float32(scale)
        return bool(flags & _WHITENED), present.take(order), values
    shares = data[position : position + (-(-count // block) * lines if block else 0)]
    values = entropy.unpack(data[position + len(shares) :], tail, lines, count)
    values *= np.float32(scale)
    if block:
        if len(shares) < -(-count // block) * lines:
            raise _ends_early()
        factors = quantise.SHARES.astype(np.float32)[np.frombuffer(shares, np.uint8)].reshape(lines, -1)
        values *= factors.repeat(block, 1)[:, :count]
    if flags & _RANDOM:
        kept, values = values, np.zeros((lines, columns), np.float32)
        chosen = sparsity.draw(present, columns, count, seed)
        np.put_along_axis(values, chosen, kept * np.float32(columns / count), 1)
    return bool(flags & _WHITENED), present, values


def _ends_early() -> Refused:
    return Refused(Refusal.MALFORMED, "table ends early")
