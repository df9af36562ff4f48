"""An image that runs, in QEMU or as a process of this machine, and its serial line.

QEMU runs with ``-icount shift=0``: one nanosecond of its time passes for each instruction, so that counts of
instructions repeat exactly. They are counts, never speed.
"""

import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tasuki.firmware_bridge.target.boards import Board
from tasuki.firmware_bridge.target.toolchain import find
from tasuki.sdk.errors import BoardSilent, InputError

_CHUNK: Final = 65536
_LAST: Final = 80
# Bytes that wait to be read; no model has so large outputs.
_MOST: Final = 1 << 28
# Seconds that a process has to end after its line did.
_ENDING: Final = 0.5


class Line:
    """The serial line of a running image. A read that is not over in `timeout` seconds raises `BoardSilent`."""

    def __init__(self, process: "subprocess.Popen[bytes]", name: str, timeout: float) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("the process needs three pipes")
        self.process, self._name, self._timeout = process, name, timeout
        self._in, self._out, self._err = process.stdin.fileno(), process.stdout.fileno(), process.stderr
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._held = bytearray()
        self._last = b""

    def write(self, data: bytes) -> None:
        """Send `data`; what the board says meanwhile is kept.

        Raises:
            BoardSilent: It takes nothing more in time, or ended.
        """
        rest, ends = memoryview(data), time.monotonic() + self._timeout
        with selectors.DefaultSelector() as ready:
            ready.register(self._in, selectors.EVENT_WRITE)
            ready.register(self._out, selectors.EVENT_READ)
            while rest:
                left = ends - time.monotonic()
                events = {key.fd for key, _ in ready.select(left)} if left > 0 else set()
                if not events:
                    raise self._silence("takes no input")
                if self._out in events:
                    self._take()
                if self._in in events:
                    try:
                        rest = rest[os.write(self._in, rest) :]
                        ends = time.monotonic() + self._timeout
                    except BrokenPipeError:
                        raise self._end() from None

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes.

        Raises:
            BoardSilent: Fewer came in time, or it ended.
        """
        ends = time.monotonic() + self._timeout
        while len(self._held) < size:
            self._wait(ends)
        return self._pop(size)

    def read_line(self) -> str:
        """One line without its end; bytes that are no UTF-8 are replaced.

        Raises:
            BoardSilent: No whole line came in time, or it ended.
        """
        ends = time.monotonic() + self._timeout
        while b"\n" not in self._held:
            self._wait(ends)
        return self._pop(self._held.index(b"\n") + 1).decode("utf-8", "replace").rstrip("\r\n")

    def _pop(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        self._last = taken[-_LAST:]
        return taken

    def _wait(self, ends: float) -> None:
        left = ends - time.monotonic()
        with selectors.DefaultSelector() as ready:
            ready.register(self._out, selectors.EVENT_READ)
            if left <= 0 or not ready.select(left):
                what = "did not come to an end in" if self._held else "said nothing for"
                raise self._silence(f"{what} {self._timeout:g} s")
        self._take()

    def _take(self) -> None:
        got = os.read(self._out, _CHUNK)
        if not got:
            raise self._end()
        self._held += got
        if len(self._held) > _MOST:
            raise self._silence(f"says more than {_MOST:,} bytes that nobody asked for")

    def _silence(self, what: str) -> BoardSilent:
        last = (bytes(self._held) or self._last)[-_LAST:].decode("utf-8", "replace")
        said = f"the last it said was {last!r}" if last else "it never said a word"
        return BoardSilent(f"{self._name} {what}; {said}")

    def _end(self) -> BoardSilent:
        """A process that closed its line, and the first that it complained of."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_ENDING)
        words = [] if self.process.returncode is None else self._err.read().decode("utf-8", "replace").splitlines()
        return self._silence(f"ended ({words[0]})" if words else "ended")


def emulator(board: Board) -> list[str]:
    """The beginning of the command that starts an image; nothing on the host, whose image is a program.

    Raises:
        InputError: The board has no emulator.
        ToolMissing: The emulator is not installed.
    """
    if board.is_host:
        return []
    if board.machine is None:
        raise InputError(f"{board.name} has no emulator: build for it, then `tasuki firmware flash`")
    return [
        find("qemu-system-arm"), "-M", board.machine, "-display", "none", "-monitor", "none", "-icount", "shift=0",
        "-chardev", "stdio,id=line,signal=off", "-serial", "chardev:line", "-kernel",
    ]  # fmt: skip


@contextmanager
def running(board: Board, image: Path, timeout: float = 30.0) -> Iterator[Line]:
    """Start the image and give its serial line; it is killed at the end. `timeout` is for each read, in seconds.

    Raises:
        InputError, ToolMissing: See `emulator`.
        BoardSilent: It does not start.
    """
    with tempfile.TemporaryDirectory(prefix="tasuki-") as folder:
        try:
            process = subprocess.Popen(
                [*emulator(board), image.resolve()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**os.environ, "TASUKI_STORAGE": os.environ.get("TASUKI_STORAGE", f"{folder}/storage.bin")},
            )  # fmt: skip
        except OSError as error:
            raise BoardSilent(f"{board.name} does not start: {error.strerror}") from None
        with process:
            try:
                yield Line(process, board.name, timeout)
            finally:
                process.kill()
