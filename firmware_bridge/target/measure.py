"""What a model takes on a board: it runs there on given inputs, and the outputs come back with what was counted."""

import atexit
import functools
import shutil
import struct
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.compiler.program import Port
from tasuki.firmware_bridge.emit.folder import runtime_files
from tasuki.firmware_bridge.emit.templating import environment
from tasuki.firmware_bridge.target import image, qemu
from tasuki.firmware_bridge.target.boards import Board
from tasuki.firmware_bridge.target.image import Image
from tasuki.sdk.errors import BoardSilent

Arrays = Sequence[NDArray[Any]]
PATIENCE: Final = 120.0


@dataclass(frozen=True, eq=False)
class Run:
    """One run of the model on a board.

    `instructions` is how many the emulated core executed, to one tick of its clock (40 instructions at 25 MHz); they
    are no measure of speed. `stack` is the deepest that the stack got, in bytes: since the start where the image has a
    self-test, else in this run. Both are None on the host.
    """

    outputs: tuple[NDArray[Any], ...]
    instructions: int | None
    stack: int | None


def application(generated: Generated, board: Board) -> bytes:
    """``main.c`` that runs the model on what comes over the serial line; `templates/measure.c.j2` has the protocol."""
    function = generated.functions[0]
    text = environment().get_template("measure.c.j2").render(
        name=generated.name, arena=generated.arena_bytes, hertz=board.hertz, inputs=function.inputs,
        outputs=function.outputs, ins=[f"in_{place}" for place in range(len(function.inputs))],
        outs=[f"out_{place}" for place in range(len(function.outputs))],
    )  # fmt: skip
    return text.encode("ascii")


def link(generated: Generated, board: Board, main: bytes, out: Path, selftest: bool = True) -> Image:
    """Compile the model, the runtime and the application `main` in the folder of `out`, and link the image `out`.

    Raises:
        ToolMissing, BuildFailed, ModelTooLarge: See `image.link`.
    """
    folder = out.parent / "source"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**generated.files, "main.c": main}.items():
        (folder / name).write_bytes(content)
    runtime, objects = _runtime(board, generated.rounding, selftest)
    return image.link(board, sorted(folder.glob("*.c")), out, include=[folder, runtime],
                      defines={"TSK_SELFTEST": int(selftest)}, objects=objects)  # fmt: skip


@functools.cache
def _runtime(board: Board, rounding: str, selftest: bool) -> tuple[Path, list[Path]]:
    """The runtime's headers and objects for a board: compiled once a process, in a folder that lasts as long."""
    folder = Path(tempfile.mkdtemp(prefix="tasuki-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, content in runtime_files(rounding).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    include, sources = folder / "runtime" / "include", sorted(folder.glob("runtime/src/*.c"))
    return include, image.compile_all(
        board, sources, folder, include=[include], defines={"TSK_SELFTEST": int(selftest)}
    )  # fmt: skip


def run(made: Image, generated: Generated, inputs: Iterable[Arrays], timeout: float = PATIENCE) -> list[Run]:
    """Run the image that has `application`, once for each of `inputs`.

    Raises:
        ToolMissing: The emulator is not installed.
        BoardSilent: The board's answer does not come, is no answer, or is an error; or its self-test fails.
    """
    board, program = made.board, generated.programs[0]
    size = sum(_bytes(port) for port in program.outputs)
    found = []
    with qemu.running(board, made.path, timeout) as line:
        (status,) = numbers(line.read_line(), "ready", 1, board)
        if status:
            raise BoardSilent(f"{board.name}: the self-test fails with status {_signed(status)} (tsk_status.h)")
        for arrays in inputs:
            line.write(b"".join(_sent(array, port.type) for array, port in zip(arrays, program.inputs, strict=True)))
            status, ticks, stack = numbers(line.read_line(), "done", 3, board)
            answer = line.read(size)
            if status:
                raise BoardSilent(f"{board.name}: the model ends with status {_signed(status)} (tsk_status.h)")
            outputs = _arrays(answer, generated)
            counted = None if board.is_host else instructions(ticks, board)
            found.append(Run(outputs, counted, None if board.is_host else stack))
    return found


def numbers(line: str, first: str, count: int, board: Board) -> list[int]:
    """The `count` hexadecimal numbers of a line that begins with `first`. Raises BoardSilent for another line."""
    words = line.split()
    try:
        if words[0] != first or len(words) != count + 1:
            raise ValueError
        return [int(word, 16) for word in words[1:]]
    except (ValueError, IndexError):
        raise BoardSilent(f"{board.name} said {line[:80]!r} where '{first} …' was expected") from None


def instructions(ticks: int, board: Board) -> int:
    """What the emulated core executes in so many ticks of the board's clock: one instruction a nanosecond."""
    return round(ticks * 1_000_000_000 / board.hertz)


def _bytes(port: Port) -> int:
    return int(np.prod(port.shape, dtype=np.int64)) * int(port.type.itemsize)


def _sent(array: NDArray[Any], kind: np.dtype[Any]) -> bytes:
    """The bytes of an input as the core has them: little-endian."""
    return np.ascontiguousarray(array, kind.newbyteorder("<")).tobytes()


def _arrays(answer: bytes, generated: Generated) -> tuple[NDArray[Any], ...]:
    found, at = [], 0
    for port in generated.programs[0].outputs:
        size = _bytes(port)
        found.append(np.frombuffer(answer[at : at + size], port.type).reshape(port.shape))
        at += size
    return tuple(found)


def _signed(status: int) -> int:
    return int(struct.unpack("<i", struct.pack("<I", status))[0])
