"""Which bytes each kernel of tsk_kernels.h touches: written from the header's comments, not from what lowers to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# What the header's TSK_ROWS is: rows that a fast FULLY_CONNECTED or BATCH_MATMUL meets at once.
_TILE: Final = 6
# Bytes of an element by tsk_type_t: TSK_BOOL, TSK_S8, TSK_S16, TSK_S32, TSK_F32.
_TYPE_BYTES: Final = (1, 1, 2, 4, 4)


@dataclass(frozen=True, eq=False)
class Span:
    """Elements of `size` bytes: `first` has the offset in bytes of each from the pointer, in the kernel's order."""

    first: NDArray[np.int64]
    size: int

    def bytes(self) -> NDArray[np.int64]:
        """The offset of every byte, in the same order, int64 [elements * size]."""
        return (self.first[:, None] + np.arange(self.size)).ravel()


@dataclass(frozen=True, eq=False)
class Access:
    """What one call touches.

    `reads` and `writes` are by pointer, in the header's order. `in_place` are the pairs (place in `reads`, place in
    `writes`) for which the header says "in place". `kept` are the places in `writes` whose memory must hold values
    before the call. `constants` are the bytes behind each pointer of the parameters that is not NULL. `scratch` is the
    least that the header asks for.
    """

    reads: tuple[Span, ...]
    writes: tuple[Span, ...]
    in_place: tuple[tuple[int, int], ...] = ()
    kept: tuple[int, ...] = ()
    constants: Mapping[str, int] = field(default_factory=dict)
    scratch: int = 0


def access(kernel: str, params: Mapping[str, Any], rows: int | None) -> Access:
    """What `tsk_<kernel>` touches. Raises ValueError for a kernel that is not known."""
    if kernel not in _KERNELS:
        raise ValueError(f"nothing is known about what tsk_{kernel} touches")
    return _KERNELS[kernel](params, 1 if rows is None else rows)


def _strided(size: int, *axes: tuple[int, int]) -> Span:
    """Elements over axes of (count, stride in elements), the last axis fastest."""
    first = np.zeros(1, np.int64)
    for count, stride in axes:
        first = (first[:, None] + stride * np.arange(count, dtype=np.int64)).ravel()
    return Span(first * size, size)


def _dense(size: int, count: int) -> Span:
    return _strided(size, (count, 1))


def _fc(size: int, bias: int) -> Callable[[Mapping[str, Any], int], Access]:
    def found(p: Mapping[str, Any], rows: int) -> Access:
        wide = p["out"] if p["channels"] else 1
        constants = {"weights": p["out"] * p["in"], "bias": bias * p["out"], "multiplier": 4 * wide, "shift": wide,
                     "scale": 8 * wide, "lut": 256}  # fmt: skip
        scratch = 2 * _TILE * -(-p["in"] // 4) * 4 if size == 1 else 0
        return Access(
            (_dense(size, rows * p["in"]),), (_dense(size, rows * p["out"]),), constants=constants, scratch=scratch
        )

    return found


def _matmul(size: int) -> Callable[[Mapping[str, Any], int], Access]:
    def found(p: Mapping[str, Any], rows: int) -> Access:
        def operand(name: str, height: int, width: int) -> Span:
            outer = zip(p["batch"], p[f"{name}_batch"], strict=True)
            return _strided(size, *outer, (height, p[f"{name}_row"]), (width, p[f"{name}_column"]))

        m, n, k = p["m"], p["n"], p["k"]
        scratch = (k + 7) // 4 * 4 * (n + 2 * _TILE) if size == 1 else 0
        reads = (operand("a", m, k), operand("b", k, n))
        return Access(reads, (operand("y", m, n),), constants={"lut": 256}, scratch=scratch)

    return found


def _softmax(size: int) -> Callable[[Mapping[str, Any], int], Access]:
    def found(p: Mapping[str, Any], rows: int) -> Access:
        all_of = _dense(size, rows * p["columns"])
        constants = {"exponents": 4 * 256, "exp_lut": 2 * 513, "reciprocal_lut": 2 * 513}
        return Access((all_of,), (all_of,), in_place=((0, 0),), constants=constants)

    return found


def _binary(size: int) -> Callable[[Mapping[str, Any], int], Access]:
    def found(p: Mapping[str, Any], rows: int) -> Access:
        a, b = (_strided(size, (rows, p[f"{x}_row"]), (p["columns"], p[f"{x}_column"])) for x in "ab")
        y = _dense(size, rows * p["columns"])
        return Access((a, b), (y,), in_place=_dense_ones((a, b), y))

    return found


def _dense_ones(reads: tuple[Span, ...], y: Span) -> tuple[tuple[int, int], ...]:
    """In place with an operand that is dense: each of its elements is read before it is written."""
    return tuple((i, 0) for i, x in enumerate(reads) if x.size == y.size and np.array_equal(x.first, y.first))


def _unary(size: int, lut: int = 0) -> Callable[[Mapping[str, Any], int], Access]:
    def found(p: Mapping[str, Any], rows: int) -> Access:
        all_of = _dense(size, rows * p["columns"])
        return Access((all_of,), (all_of,), in_place=((0, 0),), constants={"lut": lut})

    return found


def _reduce(size: int, out: int) -> Callable[[Mapping[str, Any], int], Access]:
    def found(p: Mapping[str, Any], rows: int) -> Access:
        return Access((_dense(size, rows * p["count"] * p["inner"]),), (_dense(out, rows * p["inner"]),))

    return found


def _gather(p: Mapping[str, Any], rows: int) -> Access:
    row, outer = p["row_bytes"], p["outer"]
    return Access((_dense(1, outer * p["count"] * row), _dense(4, rows)), (_dense(1, outer * rows * row),))


def _copy(p: Mapping[str, Any], rows: int) -> Access:
    x, y = (_strided(p["size"], *zip(p["shape"], p[f"{name}_stride"], strict=True)) for name in "xy")
    return Access((x,), (y,))


def _fill(p: Mapping[str, Any], rows: int) -> Access:
    return Access((), (_dense(p["size"], p["count"]),))


def _update_slice(p: Mapping[str, Any], rows: int) -> Access:
    used = p["dimensions"]
    whole, part = (int(np.prod(p[name][:used], dtype=np.int64)) for name in ("shape", "update"))
    return Access((_dense(p["size"], part), _dense(4, used)), (_dense(p["size"], whole),), kept=(0,))


def _select(p: Mapping[str, Any], rows: int) -> Access:
    def operand(name: str, size: int) -> Span:
        return _strided(size, (rows, p[f"{name}_row"]), (p["columns"], p[f"{name}_column"]))

    reads = (operand("condition", 1), operand("a", p["size"]), operand("b", p["size"]))
    y = _dense(p["size"], rows * p["columns"])
    return Access(reads, (y,), in_place=_dense_ones(reads, y))


def _convert(p: Mapping[str, Any], rows: int) -> Access:
    count = rows * p["columns"]
    sizes = [_TYPE_BYTES[p[name]] if name in p else 4 for name in ("from", "to")]
    x, y = (_dense(size, count) for size in sizes)
    return Access((x,), (y,), in_place=_dense_ones((x,), y))


_KERNELS: Final[Mapping[str, Callable[[Mapping[str, Any], int], Access]]] = {
    "fc_s8": _fc(1, 4),
    "fc_s16": _fc(2, 8),
    "matmul_s8": _matmul(1),
    "matmul_s16": _matmul(2),
    "softmax_s8": _softmax(1),
    "softmax_s16": _softmax(2),
    "add_s8": _binary(1),
    "add_s16": _binary(2),
    "add_s32": _binary(4),
    "mul_s8": _binary(1),
    "mul_s16": _binary(2),
    "squared_difference_s8": _binary(1),
    "extremum_s8": _binary(1),
    "extremum_s16": _binary(2),
    "extremum_s32": _binary(4),
    "lut_s8": _unary(1, 256),
    "lut_s16": _unary(2, 2 * 513),
    "rsqrt_s16": _unary(2),
    "sigmoid_s16": _unary(2),
    "reduce_s8": _reduce(1, 1),
    "reduce_s16": _reduce(2, 2),
    "reduce_u8": _reduce(1, 1),
    "arg_s8": _reduce(1, 4),
    "gather": _gather,
    "copy": _copy,
    "fill": _fill,
    "update_slice": _update_slice,
    "select": _select,
    "cast": _convert,
    "requantize": _convert,
    "quantize": _convert,
    "dequantize": _convert,
}
