"""What tsk_kernels.h declares: each kernel's parameters and pointers, read from the header itself.

So the emitted C can't drift from the runtime that it is compiled with. The header is the project's own and its style is
fixed: this reads that style, not C.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RUNTIME: Final = Path(__file__).parents[1] / "runtime"
PORT: Final = Path(__file__).parents[1] / "ports" / "tsk_port.h"
_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_STRUCT: Final = re.compile(r"typedef struct \{(.*?)\} (tsk_\w+_t);", re.DOTALL)
_ALIAS: Final = re.compile(r"typedef (tsk_\w+_t) (tsk_\w+_t);")
_FUNCTION: Final = re.compile(r"^(void|int) tsk_(\w+?)(?:_plain)?\((.*?)\);", re.DOTALL | re.MULTILINE)
_DECLARATOR: Final = re.compile(r"(\*?)(\w+)((?:\[\w+\])*)")
_POINTER: Final = re.compile(r"(const )?(\w+) \*(\w+)")


@dataclass(frozen=True)
class Field:
    """A field of a parameter struct: `type` is the element's, e.g. ``int8_t``; a pointer is always to const."""

    name: str
    type: str
    pointer: bool = False
    array: bool = False


@dataclass(frozen=True)
class Kernel:
    """A kernel's declaration. `reads` and `writes` are the types behind its pointers, in order; ``void`` is any."""

    name: str
    struct: str
    fields: tuple[Field, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    rows: bool
    scratch: bool
    status: bool


@functools.cache
def kernels() -> Mapping[str, Kernel]:
    """Every kernel of the header by its name without ``tsk_``."""
    return parse((RUNTIME / "include" / "tsk_kernels.h").read_text(encoding="utf-8"))


@functools.cache
def constant(name: str) -> int:
    """The number that the header defines `name` as."""
    text = (RUNTIME / "include" / "tsk_kernels.h").read_text(encoding="utf-8")
    return int(re.findall(rf"^#define {name} (\d+)$", text, re.MULTILINE)[0])


def parse(text: str) -> dict[str, Kernel]:
    """The kernels that `text` declares."""
    text = _COMMENT.sub("", text)
    structs = {name: _fields(body) for body, name in _STRUCT.findall(text)}
    for old, new in _ALIAS.findall(text):
        structs[new] = structs[old]
    found = {}
    for returns, name, arguments in _FUNCTION.findall(text):
        parts = [" ".join(part.split()) for part in arguments.split(",")]
        first = re.fullmatch(r"const (tsk_\w+_t) \*p", parts[0])
        if first and first[1] in structs:
            found[name] = _kernel(name, first[1], structs[first[1]], parts[1:], returns == "int")
    return found


def _fields(body: str) -> tuple[Field, ...]:
    found = []
    for declaration in filter(None, (" ".join(part.split()) for part in body.split(";"))):
        kind, rest = re.fullmatch(r"(?:const )?(\w+) (.*)", declaration).groups()  # type: ignore[union-attr]
        for star, name, array in _DECLARATOR.findall(rest):
            found.append(Field(name, kind, bool(star), bool(array)))
    return tuple(found)


def _kernel(name: str, struct: str, fields: tuple[Field, ...], arguments: list[str], status: bool) -> Kernel:
    reads, writes, rows, scratch = [], [], False, False
    for argument in arguments:
        pointer = _POINTER.fullmatch(argument)
        if argument == "int32_t rows":
            rows = True
        elif argument == "void *scratch":
            scratch = True
        elif pointer and pointer[1]:
            reads.append(pointer[2])
        elif pointer:
            writes.append(pointer[2])
        else:
            raise ValueError(f"tsk_{name}: {argument} is not understood")
    return Kernel(name, struct, fields, tuple(reads), tuple(writes), rows, scratch, status)
