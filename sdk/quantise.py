"""Coefficients as whole levels of a scale, for all of a table or for blocks of a row.

A scale is a number of 16 bits, and a block's is a share of it in 8 bits, so that both sides compute with the same.
"""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.entropy import Levels
from tasuki.sdk.errors import Refusal, Refused

_Values = NDArray[np.float64]
_Marks = NDArray[np.bool_]
# A kept coefficient becomes the level floor(|c| / step + NEAR): below 1/2, because small ones are the more frequent
# (a dead-zone quantiser: Sullivan 1996). What a bit must take off the squared error, in squared steps, to be worth it,
# and what a row's count costs. Chosen on split 1000.
NEAR: Final = 0.4
_BIT: Final = 0.12
_ROW_BITS: Final = 7.0
# Share `u` of a scale, falling: (32 - u % 16) / 32 * 2^-(u // 16).
SHARES: Final = (32 - np.arange(256) % 16) / 32 * 2.0 ** -(np.arange(256) // 16)
# Scales are from 2^-126 to below 2^64: no table that is decoded can overflow.
_SMALLEST, _LARGEST, _INFINITE = 0x0080, 0x5F7F, 0x7F80

_FLOAT: Final = struct.Struct(">f")
_HALVES: Final = struct.Struct(">HH")


def greatest(bits: int) -> int:
    """The greatest level of `bits` bits, one of which is the sign."""
    return 1 << (bits - 1)


def thresholded(values: _Values, kept: _Marks, bits: int) -> Levels:
    """Levels of the `kept` of `values` [rows, n], never 0 there: uniform steps from the smallest kept up, clipped."""
    sizes = np.abs(values)
    levels = np.clip(np.floor(sizes / _step(sizes, kept) + NEAR), 1, greatest(bits))
    return np.where(kept, np.copysign(levels, values), 0).astype(np.int16)


def worth(values: _Values, kept: _Marks, bits: int) -> Levels:
    """As `thresholded`, less what is not worth its bits: rate-distortion optimised quantisation.

    A coefficient costs its sign and its place in its row: the fewer of a row are kept, the more. It stays if it takes
    `_BIT` squared steps off the error for each (entropy-constrained quantisation: Chou, Lookabaugh and Gray 1989), and
    a row stays if all of it does.
    """
    n = values.shape[1]
    sizes = np.abs(values)
    ratios = sizes / _step(sizes, kept)
    stays = kept
    for _ in range(3):
        share = np.clip(stays.sum(1) / n, 0.5 / n, 1 - 0.5 / n)
        cost = np.log2(1 / share - 1) + 1.4
        stays = kept & (ratios >= np.maximum(0.5, 0.5 + 0.5 * _BIT * cost)[:, None])
    levels = np.where(stays, np.clip(np.floor(ratios + NEAR), 1, greatest(bits)), 0)
    gain = (levels * (2 * ratios - levels)).sum(1) - _BIT * (cost * stays.sum(1) + _ROW_BITS)
    levels[gain <= 0] = 0
    return np.copysign(levels, values).astype(np.int16)


def _step(sizes: _Values, kept: _Marks) -> float:
    """The step in which the smallest kept is just above 0."""
    return float(sizes[kept].min(initial=np.inf)) / (1 - NEAR)


def fitted(values: _Values, levels: Levels, block: int) -> _Values:
    """The scale of each block that errs least: ``<values, levels> / <levels, levels>``, [rows, blocks], 0 for none.

    The product is then the projection of `values` on `levels`, so it is never longer than they are.
    """
    near, square = (_by_block(part, block) for part in (values * levels, np.square(levels, dtype=np.float64)))
    return np.divide(near, square, out=np.zeros_like(near), where=square > 0)


def peaks(values: _Values, kept: _Marks, bits: int, block: int) -> _Values:
    """The scale of each block that gives its largest kept value the greatest level, [rows, blocks]."""
    sizes = np.where(kept, np.abs(values), 0.0)
    padded = np.pad(sizes, ((0, 0), (0, -sizes.shape[1] % block)))
    return np.asarray(padded.reshape(len(sizes), -1, block).max(2) / greatest(bits))


def rounded(values: _Values, kept: _Marks, scales: _Values, block: int, bits: int, seed: int | None) -> Levels:
    """Levels of the `kept` of `values` in their block's scale: the nearest, or by chance with a `seed`.

    By chance, a level is the next one below or above with the probability that makes its mean the value (QSGD:
    Alistarh et al. 2017). One bit has no 0 to round to where the nearest is asked for: it is the sign.
    """
    steps = np.repeat(scales, block, 1)[:, : values.shape[1]]
    ratios = np.divide(np.abs(values), steps, out=np.zeros_like(values), where=steps > 0)
    chance = 0.5 if seed is None else np.random.default_rng(seed).random(values.shape)
    least = 1 if seed is None and bits == 1 else 0
    levels = np.clip(np.floor(ratios + chance), least, greatest(bits))
    return np.where(kept & (values != 0), np.copysign(levels, values), 0).astype(np.int16)


def scale_down(value: float) -> int:
    """The upper 16 bits of a float32 that is not above `value`, which is below 2^63; 0 where there is none above 0."""
    code = int(_HALVES.unpack(_FLOAT.pack(value))[0])
    if _scale(code) > value:
        code -= 1
    return code if code >= _SMALLEST else 0


def scale_up(value: float) -> int:
    """As `scale_down`, but not below `value`."""
    code = scale_down(value)
    return code + 1 if code and _scale(code) < value else code


def scale(code: int) -> float:
    """The number that 16 bits stand for. Raises Refused(MALFORMED or NOT_FINITE)."""
    if not _SMALLEST <= code <= _LARGEST:
        raise Refused(Refusal.NOT_FINITE if code & _INFINITE == _INFINITE else Refusal.MALFORMED, "scale")
    return _scale(code)


def shares_down(scales: _Values, whole: float) -> NDArray[np.uint8]:
    """For each of `scales` the number of the largest share of `whole` that is not above it, or 255 for the smallest."""
    return np.minimum(np.searchsorted(-SHARES * whole, -scales), 255).astype(np.uint8)


def shares_up(scales: _Values, whole: float) -> NDArray[np.uint8]:
    """For each of `scales`, none above `whole`, the number of the smallest share of `whole` that is not below it."""
    return np.maximum(np.searchsorted(-SHARES * whole, -scales, side="right") - 1, 0).astype(np.uint8)


def _scale(code: int) -> float:
    (value,) = _FLOAT.unpack(_HALVES.pack(code, 0))
    return float(value)


def _by_block(values: _Values, block: int) -> _Values:
    return np.add.reduceat(values, np.arange(0, values.shape[1], block), 1)
