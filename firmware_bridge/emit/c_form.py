"""The C that a program becomes, as data: arrays, structs of parameters, functions. Templates print it."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Array:
    """A constant array. `model` says that it comes from the model, and not from the compiler."""

    name: str
    type: str
    data: NDArray[Any]
    model: bool
    comment: str


@dataclass(frozen=True)
class Struct:
    """The constant parameters of calls: `fields` are pairs of a name and a C expression."""

    name: str
    type: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Call:
    """A call of a kernel. `status` says that it returns one."""

    kernel: str
    arguments: tuple[str, ...]
    comment: str
    status: bool


@dataclass(frozen=True)
class Block:
    """`calls`, for rows 0 to `rows`, `tile` at a time; a single turn if `tile` is `rows`."""

    calls: tuple[Call, ...]
    rows: int = 1
    tile: int = 1

    @property
    def counted(self) -> bool:
        """Whether the last turn has fewer rows, and a call must know."""
        return bool(self.rows % self.tile) and any("rows" in a.split() for c in self.calls for a in c.arguments)


@dataclass(frozen=True)
class Parameter:
    """An input or output of a function.

    `macro` begins the names of its constants in the header. `values` says type, shape and range, `tensor` what the
    model calls it.
    """

    name: str
    macro: str
    type: str
    count: int
    values: str
    tensor: str
    scale: float | None
    zero: int


@dataclass(frozen=True)
class Place:
    """Where a buffer is in the arena."""

    name: str
    offset: int
    comment: str


@dataclass(frozen=True)
class Function:
    """``tsk_<name>_invoke``. `macro` begins the names of its constants."""

    name: str
    macro: str
    arena: int
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    places: tuple[Place, ...]
    blocks: tuple[Block, ...]

    @property
    def status(self) -> bool:
        """Whether any call returns a status."""
        return any(call.status for block in self.blocks for call in block.calls)


@dataclass(frozen=True)
class Unit:
    """A C file: what stands in it, in order."""

    arrays: tuple[Array, ...]
    structs: tuple[Struct, ...]
    functions: tuple[Function, ...]

    @property
    def arena(self) -> bool:
        """Whether any call takes memory from the arena."""
        return any(a.startswith("at(") for f in self.functions for b in f.blocks for c in b.calls for a in c.arguments)
