"""What is in an image: sections and functions of a 32-bit little-endian ELF file (System V ABI, chapter 4)."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasuki.sdk.errors import BuildFailed

_HEADER: Final = struct.Struct("<16xHHIIIIIHHHHHH")
_SECTION: Final = struct.Struct("<10I")
_SYMBOL: Final = struct.Struct("<IIIBBH")
_SYMBOLS: Final = 2
_FUNCTION: Final = 2
_MAGIC: Final = b"\x7fELF\x01\x01"


@dataclass(frozen=True)
class Sizes:
    """Bytes of an image. Flash holds all but `bss`; memory holds `data` and `bss` (and the stack, which is not here).

    `code` is instructions, the vector table and exception tables; `tables` is constants that code and compiler
    brought; `model` is what comes from the model itself; `bss` includes memory that start-up leaves alone.
    """

    code: int
    tables: int
    model: int
    data: int
    bss: int

    @property
    def flash(self) -> int:
        return self.code + self.tables + self.model + self.data

    @property
    def static(self) -> int:
        """Memory that is taken from start to end."""
        return self.data + self.bss


@dataclass(frozen=True)
class Elf:
    """Sizes of the sections by name, and the names of the functions."""

    sections: Mapping[str, int]
    functions: frozenset[str]


def read(path: Path) -> Elf:
    """An image's sections and functions.

    Raises:
        BuildFailed: It is no ELF file for a 32-bit little-endian machine, or it is cut.
    """
    content = path.read_bytes()
    if content[: len(_MAGIC)] != _MAGIC:
        raise BuildFailed(f"{path.name} is no 32-bit little-endian ELF file")
    try:
        header = _HEADER.unpack_from(content)
        start, size, count, names_at = header[5], header[10], header[11], header[12]
        rows = [_SECTION.unpack_from(content, start + number * size) for number in range(count)]
        sizes_by_name = {_name(content, rows[names_at], row[0]): row[5] for row in rows}
        functions = {name for row in rows if row[1] == _SYMBOLS for name in _functions(content, row, rows[row[6]])}
    except (struct.error, IndexError, ValueError):
        raise BuildFailed(f"{path.name} is cut or damaged") from None
    return Elf(sizes_by_name, frozenset(functions))


def _name(content: bytes, strings: tuple[int, ...], at: int) -> str:
    begin = strings[4] + at
    return content[begin : content.index(b"\0", begin)].decode("ascii")


def _functions(content: bytes, table: tuple[int, ...], strings: tuple[int, ...]) -> Iterator[str]:
    for at in range(table[4], table[4] + table[5], _SYMBOL.size):
        name, _, _, kind, _, section = _SYMBOL.unpack_from(content, at)
        if kind & 0xF == _FUNCTION and section != 0:
            yield _name(content, strings, name)


def sizes(found: Elf) -> Sizes:
    """The sizes of an image that one of the linker scripts made."""

    def total(*names: str) -> int:
        return sum(found.sections.get(name, 0) for name in names)

    return Sizes(
        total(".vectors", ".text", ".ARM.exidx"),
        total(".rodata"),
        total(".model"),
        total(".data"),
        total(".bss", ".noinit"),
    )
