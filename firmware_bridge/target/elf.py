"""What is in an image: a linked 32-bit little-endian ELF file for Arm (System V ABI, chapters 4 and 5)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasuki.sdk.errors import BuildFailed

_HEADER: Final = struct.Struct("<16xHHIIIIIHHHHHH")
_SECTION: Final = struct.Struct("<10I")
_SEGMENT: Final = struct.Struct("<8I")
_SYMBOL: Final = struct.Struct("<IIIBBH")
_SYMBOLS, _NO_BITS = 2, 8  # of a section's types
_ALLOCATED: Final = 2  # of a section's flags
_LOAD: Final = 1  # of a segment's types
_PLAIN, _FUNCTION = 0, 2  # of a symbol's types
_ABSOLUTE: Final = 0xFFF1  # in the place of a symbol's section
_MAGIC: Final = b"\x7fELF\x01\x01"
_LINKED: Final = 2
_ARM: Final = 40


@dataclass(frozen=True)
class Sizes:
    """Bytes of an image. Flash holds all but `bss`; memory holds `data` and `bss` (and the stack, which is not here).

    `code` is instructions, the vector table, exception tables and whatever else a linker script of one's own keeps;
    `tables` is constants that code and compiler brought; `model` is what comes from the model itself; `data` is what
    start-up copies; `bss` includes memory that start-up leaves alone.
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
class Section:
    """What takes `size` bytes at `run_at` of a running image; if it is `stored`, they come from `load_at` in flash."""

    name: str
    run_at: int
    load_at: int
    size: int
    stored: bool


@dataclass(frozen=True)
class Segment:
    """What a programmer writes to the address `load_at`."""

    run_at: int
    load_at: int
    content: bytes


@dataclass(frozen=True)
class Elf:
    """`absolute` are the names of symbols that are plain numbers."""

    sections: tuple[Section, ...]
    segments: tuple[Segment, ...] = ()
    functions: frozenset[str] = frozenset()
    absolute: frozenset[str] = frozenset()


def read(path: Path) -> Elf:
    """An image's parts and symbols.

    Raises:
        BuildFailed: It is no linked ELF file for a 32-bit Arm core, or it is cut.
    """
    content = _content(path)
    try:
        header = _HEADER.unpack_from(content)
        if header[:2] != (_LINKED, _ARM):
            raise BuildFailed(f"{path.name} is no linked image for an Arm core")
        segments = tuple(_segments(content, header[4], header[9]))
        rows = _rows(content, header)
        sections = tuple(_sections(content, rows, header[12], segments))
        symbols = [symbol for row in rows if row[1] == _SYMBOLS for symbol in _symbols(content, row, rows[row[6]])]
    except (struct.error, IndexError, ValueError):
        raise _damaged(path) from None
    functions = frozenset(name for name, kind, section in symbols if kind == _FUNCTION and section != 0)
    absolute = frozenset(name for name, kind, section in symbols if kind == _PLAIN and section == _ABSOLUTE)
    return Elf(sections, segments, functions, absolute)


def section_names(path: Path) -> frozenset[str]:
    """Of an object or an image for any 32-bit core.

    Raises:
        BuildFailed: It is neither, or it is cut.
    """
    content = _content(path)
    try:
        header = _HEADER.unpack_from(content)
        rows = _rows(content, header)
        return frozenset(_name(content, rows[header[12]], row[0]) for row in rows)
    except (struct.error, IndexError, ValueError):
        raise _damaged(path) from None


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if content[: len(_MAGIC)] != _MAGIC:
        raise BuildFailed(f"{path.name} is no 32-bit little-endian ELF file")
    return content


def _damaged(path: Path) -> BuildFailed:
    return BuildFailed(f"{path.name} is cut or damaged")


def _rows(content: bytes, header: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The table of sections."""
    start, count = header[5], header[11]
    return [_SECTION.unpack_from(content, start + number * header[10]) for number in range(count)]


def _segments(content: bytes, start: int, count: int) -> Iterator[Segment]:
    for number in range(count):
        kind, at, run_at, load_at, size, *_ = _SEGMENT.unpack_from(content, start + number * _SEGMENT.size)
        if kind == _LOAD and size:
            if at + size > len(content):
                raise ValueError
            yield Segment(run_at, load_at, content[at : at + size])


def _sections(
    content: bytes, rows: list[tuple[int, ...]], names_at: int, segments: tuple[Segment, ...]
) -> Iterator[Section]:
    for row in rows:
        name, (kind, flags, run_at, _, size) = _name(content, rows[names_at], row[0]), row[1:6]
        if flags & _ALLOCATED and size:
            within = (s for s in segments if 0 <= run_at - s.run_at < len(s.content))
            moved = next((s.load_at - s.run_at for s in within), 0)
            stored = kind != _NO_BITS
            yield Section(name, run_at, run_at + moved if stored else run_at, size, stored)


def _name(content: bytes, strings: tuple[int, ...], at: int) -> str:
    begin = strings[4] + at
    return content[begin : content.index(b"\0", begin)].decode("ascii")


def _symbols(content: bytes, table: tuple[int, ...], strings: tuple[int, ...]) -> Iterator[tuple[str, int, int]]:
    """Name, type and section of each."""
    for at in range(table[4], table[4] + table[5], _SYMBOL.size):
        name, _, _, kind, _, section = _SYMBOL.unpack_from(content, at)
        yield _name(content, strings, name), kind & 0xF, section


def sizes(found: Elf) -> Sizes:
    """The sizes of an image: all that it takes, whatever its linker script calls it."""
    total = {"code": 0, "tables": 0, "model": 0, "data": 0, "bss": 0}
    for section in found.sections:
        total[_kind(section)] += section.size
    return Sizes(**total)


def _kind(section: Section) -> str:
    if not section.stored:
        return "bss"
    if section.run_at != section.load_at:
        return "data"
    return {".rodata": "tables", ".model": "model"}.get(section.name, "code")
