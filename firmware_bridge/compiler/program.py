"""The lowered program: kernel calls over buffers, in loops over tiles of rows. What is planned, checked and emitted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Place = Literal["arena", "input", "output", "model", "table"]
# Every buffer in the arena begins at a multiple of this.
ALIGNMENT: Final = 16


@dataclass(frozen=True, eq=False)
class Buffer:
    """Memory that steps read and write.

    `place` says where it is: ``arena`` (planned), ``input`` and ``output`` (the caller's), ``model`` (constants that
    come from the model: weights, biases, requantisation) and ``table`` (constants that the compiler made: look-up
    tables). Constants have `data`; the others have a size alone. `bytes` of a tile's buffer is for a whole tile.
    """

    number: int
    name: str
    place: Place
    type: np.dtype[Any]
    bytes: int
    data: NDArray[Any] | None = None


@dataclass(frozen=True)
class Operand:
    """A place in a buffer: `offset` bytes from its start; in a loop, `row` bytes further for each row already done.

    `row` is 0 for what is the same in every turn of the loop, and for a tile's own buffers.
    """

    buffer: int
    offset: int = 0
    row: int = 0


@dataclass(frozen=True, eq=False)
class Step:
    """One call of the kernel `tsk_<kernel>`.

    `params` are the fields of its struct `tsk_<kernel>_t`, in the header's order, by name: numbers, or `Operand` for a
    pointer to a constant, or None for NULL, or tuples of numbers for arrays. `reads` and `writes` are the pointers that
    follow, in the header's order. `rows` is the number of rows where the kernel takes it, else None; in a loop it is
    that of a full tile and a multiple of the tile, and a turn with fewer rows has as many fewer. `scratch` is the bytes
    it needs besides, 0 where it takes none. `overlap` lists pairs (place in `reads`, place in `writes`) that may be the
    same memory exactly. `source` are the places of the operators it came from.
    """

    kernel: str
    params: Mapping[str, Any]
    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]
    rows: int | None = None
    scratch: int = 0
    overlap: tuple[tuple[int, int], ...] = ()
    source: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Loop:
    """`steps` for rows 0 to `rows`, `tile` at a time; the last turn may have fewer."""

    rows: int
    tile: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Port:
    """An input or output of the model: its buffer, the tensor's name, type and shape, and its grid if it has one."""

    buffer: int
    name: str
    type: np.dtype[Any]
    shape: tuple[int, ...]
    scale: float | None = None
    zero: int = 0


@dataclass(frozen=True, eq=False)
class Program:
    """`name` becomes part of C names. `rounding` is ``tflm`` or ``single``.

    `shared` are pairs (old, new) of buffers that may begin at the same place in the arena although one step or loop
    needs both: it ends `old`, begins `new`, and has read of `old` what it overwrites.
    """

    name: str
    rounding: str
    buffers: tuple[Buffer, ...]
    body: tuple[Step | Loop, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    notes: tuple[str, ...] = ()
    shared: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Plan:
    """Where each buffer of the arena is, in bytes from its start, by the buffer's number; so `scratch`; and the total.

    Two buffers may share bytes only where `Step.overlap` allows it or no turn of any loop needs both. Scratch begins at
    the same place for all steps, and is needed only while a step runs.
    """

    offsets: Mapping[int, int]
    scratch: int
    arena: int
