"""The command that a programmer needs to put an image on a real board, and running it."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tasuki.firmware_bridge.target import boards, elf
from tasuki.firmware_bridge.target.toolchain import complaint, find
from tasuki.sdk.errors import BoardSilent, InputError

PROBES: Final = ("pyocd", "openocd")
INTERFACE: Final = "interface/cmsis-dap.cfg"
SECONDS: Final = 180
# OpenOCD's command is Tcl: a name with these would end its braces.
_UNSAFE: Final = re.compile(r"[{}\\\n\r]")


def image_in(path: Path, emulated: bool = False) -> Path:
    """The image: `path` itself, or the one in the folder `image` of what `tasuki firmware build` wrote.

    One that was built for a board of the table is taken only if `emulated`: no other chip starts it.

    Raises:
        InputError: There is no image, more than one, it can't be read, or it is for an emulated board.
        BuildFailed: It is no linked image for a 32-bit Arm core.
    """
    if path.is_dir():
        found = sorted(path.glob("image/*.elf"))
        if len(found) != 1:
            raise InputError(f"{path} has {len(found)} images: build it for one board, or name the .elf file")
        path = found[0]
    if not path.is_file():
        raise InputError(f"{path}: no such image")
    try:
        image = elf.read(path)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    for board in boards.BOARDS:
        if board.mark in image.absolute and not emulated:
            raise InputError(
                f"{path} is for {board.name}, which is emulated: build it with --board FOLDER, the folder of your own "
                f"board, or say --emulated if the target is an {board.name}"
            )
    return path


def command(image: Path, probe: str, target: str, interface: str = INTERFACE, serial: str | None = None) -> list[str]:
    """The programmer's command line; nothing passes through a shell.

    `target` is pyOCD's name for the chip (``stm32f407vgtx``), or OpenOCD's file for it (``target/stm32f4x.cfg``);
    `interface` is OpenOCD's file for the probe; `serial` chooses one of several probes.

    Raises:
        InputError: No such programmer, or a name that it can't take.
    """
    words = (str(image), target, interface, serial or "")
    if any(_UNSAFE.search(word) or word.startswith("-") for word in words):
        raise InputError("names with braces, backslashes or line ends, or that begin with '-', can't be flashed")
    if probe == "pyocd":
        return ["pyocd", "flash", "--target", target, *(("--uid", serial) if serial else ()), str(image)]
    if probe == "openocd":
        chosen = ("-c", f"adapter serial {{{serial}}}") if serial else ()
        return ["openocd", "-f", interface, *chosen, "-f", target, "-c", f"program {{{image}}} verify reset exit"]
    raise InputError(f"no programmer {probe!r}; there are {', '.join(PROBES)}")


def run(words: Sequence[str]) -> None:
    """Run what `command` gave.

    Raises:
        ToolMissing: The programmer is not installed.
        BoardSilent: It found no board, or could not write it.
    """
    found = find(words[0])
    try:
        done = subprocess.run(
            [found, *words[1:]], capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise BoardSilent(f"{words[0]} did not end in {SECONDS} s: is the board on?") from None
    except OSError as error:
        raise BoardSilent(f"{words[0]} does not start: {error.strerror}") from None
    if done.returncode != 0:
        raise BoardSilent(f"{words[0]} could not write the board: {complaint(done.stderr or done.stdout)}")
