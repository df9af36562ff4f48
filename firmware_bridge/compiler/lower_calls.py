"""Calls of kernels before they are put into loops: which elements each touches, and how it may be cut into turns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from tasuki.firmware_bridge.compiler.views import View, dense_strides, merged

# What the header's TSK_ROWS and TSK_MAX_DIMENSIONS are.
ROWS: Final = 6
DIMENSIONS: Final = 6

# How a kernel repeats: over rows that follow each other; over (row, column) with strides for what it reads; over two
# batch axes with strides; over all axes with strides; or not at all.
Style = Literal["rows", "grid", "batch", "copy", "once"]
_AXES: Final[Mapping[Style, int]] = {"rows": 1, "grid": 2, "batch": 2, "copy": DIMENSIONS, "once": 0}


@dataclass(frozen=True)
class Access:
    """Elements of `size` bytes of a storage: `offset`, `steps` along the call's outer axes, and `block` are in bytes.

    `block` has (count, stride) for the axes that one repetition of the kernel walks by itself.
    """

    storage: int
    offset: int
    steps: tuple[int, ...]
    block: tuple[tuple[int, int], ...]
    size: int


@dataclass(frozen=True, eq=False)
class Call:
    """The kernel, repeated over `outer` axes, outermost first; no axis has one element or could join its neighbour.

    `strided` names the reads that have strides among the parameters ("a" for a_row and a_column), None for those that
    must be dense, "" for those that repetitions do not walk. `rows` is how many turns a loop around it would naturally
    have, `fixed_rows` the number of rows of a kernel that does not repeat. The other fields are those of `Step`.
    """

    kernel: str
    params: Mapping[str, Any]
    outer: tuple[int, ...]
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    style: Style
    rows: int
    strided: tuple[str | None, ...] = ()
    scratch: int = 0
    overlap: tuple[tuple[int, int], ...] = ()
    source: tuple[int, ...] = ()
    fixed_rows: int | None = None

    @property
    def accesses(self) -> tuple[Access, ...]:
        """What it reads, then what it writes."""
        return self.reads + self.writes


@dataclass(frozen=True, eq=False)
class Turn:
    """What a call does in one row of a loop: `strides` in bytes from row to row by access, and `call` for the rest."""

    call: Call
    strides: tuple[int, ...]


def joined(
    shape: Sequence[int], accesses: Sequence[tuple[View, int, tuple[tuple[int, int], ...]]]
) -> tuple[tuple[int, ...], list[Access]]:
    """Outer axes and accesses of a call that repeats over `shape`.

    Each access is a view of that shape, its elements' size, and the block (in elements) that it touches at each place.
    """
    axes = merged(shape, [view.strides for view, _, _ in accesses])
    made = [
        Access(
            view.storage, view.offset * size, tuple(steps[i] * size for _, steps in axes),
            tuple((count, stride * size) for count, stride in block if count > 1), size,
        )
        for i, (view, size, block) in enumerate(accesses)
    ]  # fmt: skip
    return tuple(size for size, _ in axes), made


def turn(call: Call, rows: int) -> Turn | None:
    """The call in one of `rows` equal turns over its outermost axis, or None where that axis does not divide so."""
    if not call.outer or call.outer[0] % rows:
        return None
    each = call.outer[0] // rows
    kept = call.outer[1:] if each == 1 else (each, *call.outer[1:])

    def inner(access: Access) -> Access:
        return replace(access, steps=access.steps[1:] if each == 1 else access.steps)

    inside = replace(call, outer=kept, reads=tuple(map(inner, call.reads)), writes=tuple(map(inner, call.writes)))
    return Turn(inside, tuple(access.steps[0] * each for access in call.accesses))


def finish(call: Call) -> tuple[dict[str, Any], int | None] | None:
    """The parameters and the number of rows for one call without a loop, or None where the kernel can't do it."""
    if len(call.outer) > _AXES[call.style] or not _dense_enough(call):
        return None
    params = dict(call.params)
    match call.style:
        case "rows":
            return params, call.outer[0] if call.outer else 1
        case "grid":
            rows, columns = (1, 1, *call.outer)[-2:]
            steps = [(0, 0, *access.steps)[-2:] for access in call.reads]
            return _grid(call, columns, steps), rows
        case "batch":
            params["batch"] = (1, 1, *call.outer)[-2:]
            for name, access in zip("aby", call.accesses, strict=True):
                params[f"{name}_batch"] = tuple(step // access.size for step in (0, 0, *access.steps)[-2:])
            return params, None
        case "copy":
            fill = DIMENSIONS - len(call.outer)
            params["shape"] = (1,) * fill + call.outer
            for name, access in zip("xy", call.accesses, strict=True):
                params[f"{name}_stride"] = (0,) * fill + tuple(step // access.size for step in access.steps)
            return params, None
        case "once":
            return params, call.fixed_rows


def finish_tile(inside: Turn, tile: int) -> tuple[dict[str, Any], int | None] | None:
    """The same for `tile` rows of a loop at once; a last turn with fewer rows must need other `rows` alone."""
    if tile == 1:
        return finish(inside.call)
    call = inside.call
    if call.style not in ("rows", "grid"):
        return None
    # The rows of a turn become one more outer axis; it must do as the kernel's axis of rows.
    reads, writes = (
        tuple(replace(access, steps=(stride, *access.steps)) for access, stride in zip(part, strides, strict=True))
        for part, strides in (
            (call.reads, inside.strides[: len(call.reads)]), (call.writes, inside.strides[len(call.reads) :]),
        )
    )  # fmt: skip
    whole = replace(call, outer=(tile, *call.outer), reads=reads, writes=writes)
    if call.style == "grid" and not call.outer:
        # One element a row: it is a row of one column.
        whole = replace(
            whole, outer=(tile, 1), reads=tuple(replace(a, steps=(*a.steps, 0)) for a in reads),
            writes=tuple(replace(a, steps=(*a.steps, a.size)) for a in writes),
        )  # fmt: skip
    return finish(_with_joined_rows(whole))


def _with_joined_rows(call: Call) -> Call:
    """The first two outer axes as one, where all accesses walk both with one stride and the kernel needs it so."""
    if len(call.outer) <= _AXES[call.style] or len(call.outer) < 2:
        return call
    if any(access.steps[0] != access.steps[1] * call.outer[1] for access in call.accesses):
        return call

    def joined_rows(access: Access) -> Access:
        return replace(access, steps=access.steps[1:])

    return replace(
        call, outer=(call.outer[0] * call.outer[1], *call.outer[2:]), reads=tuple(map(joined_rows, call.reads)),
        writes=tuple(map(joined_rows, call.writes)),
    )  # fmt: skip


def _grid(call: Call, columns: int, steps: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    params = dict(call.params)
    params["columns"] = columns
    for name, access, (row, column) in zip(call.strided, call.reads, steps, strict=True):
        if name is not None:
            params[f"{name}_row"], params[f"{name}_column"] = row // access.size, column // access.size
    return params


def _dense_enough(call: Call) -> bool:
    """Whether what the kernel takes as dense is so along the outer axes."""
    if call.style in ("batch", "copy", "once"):
        return True
    strided = call.strided or (None,) * len(call.reads)
    dense = [access for access, name in zip(call.reads, strided, strict=True) if name is None] + list(call.writes)
    for access in dense:
        unit = access.size
        for count, _ in access.block:
            unit *= count
        steps = tuple(step * unit for step in dense_strides(call.outer))
        if any(count > 1 and a != b for count, a, b in zip(call.outer, access.steps, steps, strict=True)):
            return False
    return True
