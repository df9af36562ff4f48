"""From C files to an image that a board starts."""

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tasuki.firmware_bridge import elf, stack
from tasuki.firmware_bridge.boards import PORTS, Board
from tasuki.firmware_bridge.header import RUNTIME
from tasuki.firmware_bridge.toolchain import C_FLAGS, STACK_FLAGS, compiler, run
from tasuki.sdk.errors import BuildFailed, ModelTooLarge

_JOBS: Final = 2
_OVERFLOW: Final = re.compile(r"region `(\w+)' overflowed by (\d+) bytes")


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
        BuildFailed: The compiler or linker complained; a function recurses or has a frame without a bound.
        ModelTooLarge: The image, or its memory with the stack, does not fit the board.
    """
    files = [*sources, board.port / "port.c"]
    if not board.is_host:
        files += sorted((PORTS / "common").glob("*.c"))
    with tempfile.TemporaryDirectory(prefix="tasuki-") as folder:
        compiled = compile_all(board, files, Path(folder), include=include, defines=defines)
        linking: list[str | Path] = [*compiler(board), *compiled, *objects, "-Wl,--gc-sections", "-o", out]
        if board.is_host:
            run([*linking, "-lm"], "link")
            return Image(board, out, None, None)
        places = (f"-L{PORTS / 'common'}", f"-L{board.port}", "-T", board.port / "link.ld")
        # The stack is checked below, when its bound is known.
        _link([*linking, "-nostartfiles", "-specs=nano.specs", "-Wl,--defsym=tsk_stack_bytes=0", *places, "-lm"], board)
        found = elf.read(out)
        deepest = stack.bound([path.with_suffix(".ci") for path in (*compiled, *objects)], found.functions)
    sizes = elf.sizes(found)
    over = sizes.static + deepest - board.ram
    if over > 0:
        raise ModelTooLarge(f"{over} bytes more memory than {board.name} has, {deepest} of stack included")
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

    Raises:
        ToolMissing, BuildFailed: See `link`.
    """
    command = [
        *compiler(board), *C_FLAGS, *(() if board.is_host else STACK_FLAGS),
        *(f"-D{name}={value}" for name, value in defines.items()),
        *(f"-I{path}" for path in (*include, RUNTIME / "include", RUNTIME / "src", PORTS, PORTS / "common")),
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


def _link(command: Sequence[str | Path], board: Board) -> None:
    try:
        run(command, "link")
    except BuildFailed as error:
        over = _OVERFLOW.search(str(error))
        if over is None:
            raise
        raise ModelTooLarge(
            f"{over[2]} bytes more {'memory' if over[1] == 'RAM' else 'flash'} than {board.name} has"
        ) from None
