"""FlatBuffers tables of an untrusted file: every read is checked against the file, and the work that it can ask for is
bounded by its size.

The format: https://flatbuffers.dev/internals/. A table begins with the distance back to its vtable, which gives the
place of each field (slot) in the table; 0 means that the field has its default.
"""

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import ModelCorrupt

# Parts of an honest file are shared (weights of several subgraphs, zero points), but not without limit: this many times
# its size may be read before it counts as an attempt to keep the reader busy.
_SHARING: Final = 32
# What opening a table costs, in bytes: with what it refers to an honest one takes about as much in the file.
_ENTRY: Final = 64
_LONGEST_NAME: Final = 256


class File:
    """The bytes, and how much of them may still be read."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name
        self.left = _SHARING * len(data) + 4096

    def corrupt(self, where: str, what: str) -> ModelCorrupt:
        """The error to raise."""
        return ModelCorrupt(f"{self.name}: {where}: {what}")

    def read(self, code: str, at: int, where: str) -> Any:
        """One little-endian number of `struct`'s format `code` at `at`."""
        if at < 0 or at + struct.calcsize(code) > len(self.data):
            raise self.corrupt(where, f"points to byte {at}, outside the file of {len(self.data)}")
        return struct.unpack_from("<" + code, self.data, at)[0]

    def spend(self, size: int, where: str) -> None:
        """Count `size` bytes as read. Raises ModelCorrupt when the file shares more than any honest one does."""
        self.left -= size
        if self.left < 0:
            raise self.corrupt(where, "refers to the same bytes too often")

    def root(self, identifier: bytes) -> "Table":
        """The first table. Raises ModelCorrupt if the file is not of `identifier`."""
        if len(self.data) < 8 or self.data[4:8] != identifier:
            raise self.corrupt("header", f"no flatbuffer with the identifier {identifier.decode()}")
        return Table(self, self.read("I", 0, "header"), "model")


@dataclass(frozen=True)
class Table:
    """The table at byte `at`; `where` names it in messages. Slots count from 0, as in the schema."""

    file: File
    at: int
    where: str

    def __post_init__(self) -> None:
        self.file.spend(_ENTRY, self.where)
        size = self._vtable("H")
        if size < 4 or size % 2 or self._start() + size > len(self.file.data):
            raise self.file.corrupt(self.where, f"has a vtable of {size} bytes")
        extent = self._vtable("H", 2)
        if extent < 4 or self.at + extent > len(self.file.data):
            raise self.file.corrupt(self.where, f"has {extent} bytes at byte {self.at}, more than the file")

    def _start(self) -> int:
        return int(self.at - self.file.read("i", self.at, self.where))

    def _vtable(self, code: str, offset: int = 0) -> int:
        return int(self.file.read(code, self._start() + offset, self.where))

    def _field(self, slot: int, size: int) -> int:
        """Where the field is, or 0 if it is not there."""
        place = 4 + 2 * slot
        if place + 2 > self._vtable("H"):
            return 0
        offset = self._vtable("H", place)
        if offset and (offset < 4 or offset + size > self._vtable("H", 2)):
            raise self.file.corrupt(self.where, f"has field {slot} outside itself")
        return self.at + offset if offset else 0

    def _target(self, slot: int, name: str) -> int:
        """Where an offset leads, or 0 if it is not there."""
        field = self._field(slot, 4)
        if not field:
            return 0
        return field + int(self.file.read("I", field, f"{self.where}.{name}"))

    def has(self, slot: int) -> bool:
        """Whether the file has this field."""
        return self._field(slot, 1) != 0

    def number(self, slot: int, code: str, default: Any = 0) -> Any:
        """A scalar field of `struct`'s format `code`."""
        field = self._field(slot, struct.calcsize(code))
        return self.file.read(code, field, self.where) if field else default

    def table(self, slot: int, name: str) -> "Table | None":
        """A table that this one refers to."""
        target = self._target(slot, name)
        return Table(self.file, target, f"{self.where}.{name}") if target else None

    def _vector(self, slot: int, name: str, size: int) -> tuple[int, int]:
        """The first byte and the length of a vector of entries of `size` bytes; (0, 0) if it is not there."""
        target, where = self._target(slot, name), f"{self.where}.{name}"
        if not target:
            return 0, 0
        length = int(self.file.read("I", target, where))
        if target + 4 + length * size > len(self.file.data):
            raise self.file.corrupt(where, f"has {length} entries, more than the file has bytes for")
        return target + 4, length

    def count(self, slot: int, name: str) -> int:
        """How many entries a vector of tables has."""
        return self._vector(slot, name, 4)[1]

    def entry(self, slot: int, name: str, place: int) -> "Table":
        """One table of a vector; `place` counts from 0 and must be below its length."""
        start, _ = self._vector(slot, name, 4)
        at = start + 4 * place
        where = f"{name} {place}" if self.where == "model" else f"{self.where}, {name} {place}"
        return Table(self.file, at + int(self.file.read("I", at, where)), where)

    def entries(self, slot: int, name: str) -> list["Table"]:
        """All tables of a vector; empty if it is not there."""
        return [self.entry(slot, name, place) for place in range(self.count(slot, name))]

    def array(self, slot: int, name: str, kind: str) -> NDArray[Any] | None:
        """A vector of numbers of NumPy's type `kind` (as ``<i4``), a view of the file; None if it is not there."""
        dtype = np.dtype(kind)
        start, length = self._vector(slot, name, dtype.itemsize)
        self.file.spend(length * dtype.itemsize, f"{self.where}.{name}")
        return np.frombuffer(self.file.data, dtype, length, start) if start else None

    def numbers(self, slot: int, name: str, kind: str = "<i4") -> tuple[int, ...]:
        """A short vector of integers; empty if it is not there."""
        found = self.array(slot, name, kind)
        return () if found is None else tuple(int(n) for n in found)

    def text(self, slot: int, name: str) -> str:
        """A string, cut to 256 bytes; what can't be printed on one line becomes a question mark."""
        start, length = self._vector(slot, name, 1)
        raw = self.file.data[start : start + min(length, _LONGEST_NAME)] if start else b""
        self.file.spend(len(raw), f"{self.where}.{name}")
        return "".join(c if c.isprintable() else "?" for c in raw.decode("utf-8", "replace"))
