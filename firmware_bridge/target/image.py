"""From C files to an image that a board starts."""

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tasuki.firmware_bridge.emit.header import RUNTIME
from tasuki.firmware_bridge.target import elf, placement, stack
from tasuki.firmware_bridge.target.boards import PORTS, Board
from tasuki.firmware_bridge.target.toolchain import C_FLAGS, STACK_FLAGS, compiler, run
from tasuki.sdk.errors import BuildFailed, ModelTooLarge

_JOBS: Final = 2
_OVERFLOW: Final = re.compile(r"region `(\w+)' overflowed by (\d+) bytes")
# The linker only warns of it, and then drops everything.
_NO_ENTRY: Final = re.compile(r"cannot find entry symbol (\w+)")
_DEFINED: Final = re.compile(r"(?:^| )-[DU] ?(\w+)")
# `ports/common/sections.ld` gives what begins so a section of its own.
_MODEL_DATA: Final = ".rodata.tsk_model_data"


@dataclass(frozen=True)
class Image:
    """A linked image. `sizes` and `stack` (bytes that it takes at most) are None on the host, which has no limits."""

    board: Board
    path: Path
    sizes: elf.Sizes | None
    stack: int | None


def link(
    board: Board,
    sources: Iterable[Path],
    out: Path,
    *,
    include: Sequence[Path] = (),
    defines: Mapping[str, int | str] = MappingProxyType({}),
    objects: Sequence[Path] = (),
) -> Image:
    """Compile `sources` with the board's port and start-up, and link the image `out` with `objects` (`compile_all`).

    The runtime's headers and the port's are found without being named; the runtime's sources are not added
    (`runtime_sources`). `defines` become ``-DNAME=VALUE``. The C library is newlib-nano without system calls, so that
    an image that allocates or prints does not link.

    Raises:
        ToolMissing: No compiler for this board is installed.
        BuildFailed: The compiler or linker complained; a function recurses or has a frame without a bound; the image
            would not start (`placement`).
        ModelTooLarge: The image, or its memory with the stack, does not fit the board.
    """
    files = [*sources, board.port / "port.c"]
    if not board.is_host:
        files += sorted((PORTS / "common").glob("*.c"))
    with tempfile.TemporaryDirectory(prefix="tasuki-") as folder:
        compiled = compile_all(board, files, Path(folder), include=include, defines=defines)
        linking: list[str | Path] = [compiler(board), *board.flags, *compiled, *objects, "-Wl,--gc-sections", "-o", out]
        if board.is_host:
            run([*linking, "-lm"], "link")
            return Image(board, out, None, None)
        places = (f"-L{PORTS / 'common'}", f"-L{board.port}", "-T", board.port / "link.ld")
        # The stack is checked below, when its bound is known.
        symbols = ("tsk_stack_bytes", *((board.mark,) if board.mark else ()))
        names = [f"-Wl,--defsym={symbol}=0" for symbol in symbols]
        _link([*linking, "-nostartfiles", "-specs=nano.specs", *names, *places, "-lm"], board)
        found = elf.read(out)
        placement.check(found, board)
        deepest = stack.bound([path.with_suffix(".ci") for path in (*compiled, *objects)], found.functions)
        sizes = elf.sizes(found)
        if not sizes.model and any(_has_model(path) for path in compiled):
            script = board.port / "link.ld"
            raise BuildFailed(f"{script}: no section .model, which takes {_MODEL_DATA}*; {placement.CURE}")
    placement.check_stack(found, board, deepest)
    return Image(board, out, sizes, deepest)


def compile_all(
    board: Board,
    sources: Sequence[Path],
    folder: Path,
    *,
    include: Sequence[Path] = (),
    defines: Mapping[str, int | str] = MappingProxyType({}),
) -> list[Path]:
    """The objects of `sources`, in `folder`, with the call graph of each beside it where GCC writes one.

    The board's flags come last, so that what they say holds, also of one of `defines`.

    Raises:
        ToolMissing, BuildFailed: See `link`.
    """
    said = _DEFINED.findall(" ".join(board.flags))
    command = [
        compiler(board), *C_FLAGS, *(() if board.is_host else STACK_FLAGS),
        *(f"-D{name}={value}" for name, value in defines.items() if name not in said),
        *(f"-I{path}" for path in (*include, RUNTIME / "include", RUNTIME / "src", PORTS, PORTS / "common")),
        *board.flags,
    ]  # fmt: skip
    objects = [folder / f"{number}-{path.stem}.o" for number, path in enumerate(sources)]

    def one(place: int) -> None:
        run([*command, "-c", sources[place], "-o", objects[place]], f"compile {sources[place].name}")

    with ThreadPoolExecutor(_JOBS) as pool:
        list(pool.map(one, range(len(sources))))
    return objects


def runtime_sources() -> list[Path]:
    """The runtime's C files; what an image does not use costs it nothing."""
    return sorted((RUNTIME / "src").glob("*.c"))


def _has_model(path: Path) -> bool:
    return any(name.startswith(_MODEL_DATA) for name in elf.section_names(path))


def _link(command: Sequence[str | Path], board: Board) -> None:
    try:
        missing = _NO_ENTRY.search(run(command, "link"))
    except BuildFailed as error:
        over = _OVERFLOW.search(str(error))
        if over is None:
            raise
        raise ModelTooLarge(
            f"{over[2]} bytes more {'memory' if over[1] == 'RAM' else 'flash'} than {board.name} has"
        ) from None
    if missing:
        raise BuildFailed(f"{board.port / 'link.ld'}: nothing defines ENTRY({missing[1]}): it is {placement.START}")
