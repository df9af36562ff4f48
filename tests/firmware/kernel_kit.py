"""The C kernels, compiled for this machine and called with NumPy arrays.

    call("lut_s8", {"columns": 5, "lut": table}, reads=[x], writes=[y], rows=3)

Structs and prototypes are read from `tsk_kernels.h` itself. An operand may be `At(array, offset)`. What is written is
changed in place. `recording()` keeps every call, for `kernel_sanitized.replay`.
"""

import ctypes
import functools
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from firmware import host_kit
from numpy.typing import NDArray

from tasuki.firmware_bridge.emit.header import RUNTIME

BUILD: Final = Path(__file__).parents[2] / "build" / "firmware-kernels"
FLAGS: Final = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
# The host's own compiler; clang comes with the tools for the boards.
Compiler = Literal["cc", "clang"]

_SCALARS: Final = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "float": ctypes.c_float}


@dataclass(frozen=True)
class At:
    """A pointer into an array, `offset` elements from its start."""

    array: NDArray[Any]
    offset: int = 0


@dataclass(frozen=True)
class Kernel:
    """A prototype: its struct, then what it takes, ``read``, ``write``, ``rows`` or ``scratch``, in order."""

    name: str
    struct: type[ctypes.Structure]
    arguments: tuple[str, ...]
    status: bool


@dataclass(frozen=True, eq=False)
class Call:
    """One call as it was made, with the contents of its memory before it and of what it wrote after it."""

    kernel: str
    rounding: str
    params: Mapping[str, Any]
    reads: tuple[At, ...]
    writes: tuple[At, ...]
    rows: int | None
    scratch: int
    wrote: tuple[bytes, ...]
    status: int | None


_calls: list[Call] | None = None


def header() -> str:
    """`tsk_kernels.h` without comments."""
    text = (RUNTIME / "include" / "tsk_kernels.h").read_text()
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


@functools.cache
def structs() -> dict[str, type[ctypes.Structure]]:
    """Every `tsk_…_t` of the header that is a struct, by its name."""
    text, made = header(), {}
    dimensions = re.search(r"#define TSK_MAX_DIMENSIONS (\d+)", text)
    assert dimensions
    for body, name in re.findall(r"typedef struct \{(.*?)\} (tsk_\w+_t);", text, re.DOTALL):
        fields = [field for line in body.split(";") if line.strip() for field in _fields(line, dimensions[1])]
        made[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    for old, new in re.findall(r"typedef (tsk_\w+_t) (tsk_\w+_t);", text):
        made[new] = made[old]
    return made


def _fields(line: str, dimensions: str) -> Iterator[tuple[str, Any]]:
    """Of one declaration: ``const int8_t *lut``, ``int32_t in, out`` or ``int32_t batch[2], shape[MAX]``."""
    found = re.fullmatch(r"\s*(const )?(\w+)\s+(.*)", " ".join(line.split()))
    assert found, line
    for item in found[3].replace("TSK_MAX_DIMENSIONS", dimensions).split(","):
        name = re.fullmatch(r"\s*(\*?)(\w+)(?:\[(\d+)\])?\s*", item)
        assert name, line
        kind: Any = ctypes.c_void_p if name[1] else _SCALARS[found[2]]
        yield name[2], kind * int(name[3]) if name[3] else kind


@functools.cache
def kernels() -> dict[str, Kernel]:
    """Every kernel of the header, by its name without ``tsk_`` and ``_plain``."""
    made = {}
    for returns, name, arguments in re.findall(r"(void|int) tsk_(\w+)_plain\((.*?)\);", header(), re.DOTALL):
        first, *others = [" ".join(argument.split()) for argument in arguments.split(",")]
        struct = re.fullmatch(r"const (tsk_\w+_t) \*p", first)
        assert struct, first
        made[name] = Kernel(name, structs()[struct[1]], tuple(map(_role, others)), returns == "int")
    return made


def _role(argument: str) -> str:
    if argument == "int32_t rows":
        return "rows"
    assert "*" in argument, argument
    return "read" if argument.startswith("const ") else "scratch" if argument.endswith("*scratch") else "write"


def sources() -> list[Path]:
    """The C files that define plain kernels."""
    files = sorted((RUNTIME / "src").glob("tsk_*.c"))
    return [path for path in files if re.search(r"^(void|int) tsk_\w+_plain\(", path.read_text(), re.MULTILINE)]


def includes() -> list[str]:
    """Compiler flags that find the runtime's headers."""
    return [f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}"]


def build(
    name: str, compiler: Compiler, flags: Sequence[str], files: Sequence[Path], code: str = "",
    include: Sequence[Path] = (),
) -> Path:  # fmt: skip
    """Compiles `files` and `code` once for each content; `name` is how the result's name ends.

    `include` are folders that come before the runtime's own.
    """
    seen = [*files, *sorted(RUNTIME.glob("*/*.h")), *(path for folder in include for path in sorted(folder.iterdir()))]
    content = [compiler, *flags, name, code, *(path.read_text() for path in seen)]
    out = BUILD / (hashlib.sha256("\0".join(content).encode()).hexdigest()[:24] + name)
    if not out.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        # Another run of the tests may build the same.
        extra, made = (out.with_suffix(f".{os.getpid()}.{end}") for end in ("c", "new"))
        extra.write_text(code)
        first = [f"-I{folder}" for folder in include]
        given = [*files, *([extra] if code else [])]
        subprocess.run([compiler, *FLAGS, *flags, *first, *includes(), "-o", made, *given], check=True)
        made.rename(out)
        extra.unlink()
    return out


@functools.cache
def library(rounding: str = "tflm", compiler: Compiler = "cc") -> ctypes.CDLL:
    """The runtime as a shared library, without the serial line: every plain kernel, and what is for text."""
    return ctypes.CDLL(str(host_kit.compile_c({}, "shared", compiler=compiler, rounding=rounding)))


def fill(struct: type[ctypes.Structure], params: Mapping[str, Any]) -> ctypes.Structure:
    """The struct with every field set from `params`, which has no other; arrays give pointers, None gives NULL."""
    assert {name for name, *_ in struct._fields_} == set(params), (struct.__name__, sorted(params))
    filled = struct()
    for name, kind, *_ in struct._fields_:
        value = params[name]
        if kind is ctypes.c_void_p:
            value = None if value is None else value.ctypes.data
        elif isinstance(value, Sequence):
            value = kind(*value)
        setattr(filled, name, value)
    return filled


def call(
    kernel: str, params: Mapping[str, Any], reads: Sequence[NDArray[Any] | At], writes: Sequence[NDArray[Any] | At],
    rows: int | None = None, scratch: int = 0, rounding: str = "tflm", compiler: Compiler = "cc",
) -> int | None:  # fmt: skip
    """Calls `tsk_<kernel>_plain`; what it returns, None for nothing. Scratch is `scratch` bytes, aligned to 16."""
    known = kernels()[kernel]
    read, write = [tuple(map(_at, group)) for group in (reads, writes)]
    kept = _snapshot(kernel, rounding, params, read, write, rows, scratch)
    room = np.zeros(scratch + 16, np.int8)
    rest = {"read": iter(read), "write": iter(write)}
    arguments: list[Any] = []
    for role in known.arguments:
        if role == "rows":
            assert rows is not None, f"{kernel} takes rows"
            arguments.append(ctypes.c_int32(rows))
        elif role == "scratch":
            arguments.append(ctypes.c_void_p(room.ctypes.data + -room.ctypes.data % 16))
        else:
            arguments.append(ctypes.c_void_p(_pointer(next(rest[role]))))
    assert not [*rest["read"], *rest["write"]], f"{kernel} takes fewer operands"
    function = getattr(library(rounding, compiler), f"tsk_{kernel}_plain")
    function.restype = ctypes.c_int if known.status else None
    status: int | None = function(ctypes.byref(fill(known.struct, params)), *arguments)
    if kept is not None and _calls is not None:
        after = tuple(operand.array.tobytes() for operand in write)
        _calls.append(Call(**{**kept, "wrote": after, "status": status}))
    return status


@contextmanager
def recording() -> Iterator[list[Call]]:
    """Collects every call that is made inside."""
    global _calls
    _calls = []
    try:
        yield _calls
    finally:
        _calls = None


def _at(operand: NDArray[Any] | At) -> At:
    made = operand if isinstance(operand, At) else At(operand)
    assert made.array.flags.c_contiguous
    return made


def _pointer(operand: At) -> int:
    return operand.array.ctypes.data + operand.offset * operand.array.itemsize


def _snapshot(
    kernel: str, rounding: str, params: Mapping[str, Any], reads: tuple[At, ...], writes: tuple[At, ...],
    rows: int | None, scratch: int,
) -> dict[str, Any] | None:  # fmt: skip
    """The call's memory before it, if calls are recorded; what was one array stays one."""
    if _calls is None:
        return None
    copies: dict[int, NDArray[Any]] = {}

    def copy(array: NDArray[Any]) -> NDArray[Any]:
        return copies.setdefault(array.ctypes.data, array.copy())

    constants = {name: copy(value) if isinstance(value, np.ndarray) else value for name, value in params.items()}
    read, write = [tuple(At(copy(x.array), x.offset) for x in group) for group in (reads, writes)]
    return {
        "kernel": kernel, "rounding": rounding, "params": constants, "reads": read, "writes": write, "rows": rows,
        "scratch": scratch,
    }  # fmt: skip
