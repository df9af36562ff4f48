"""Compilers, emulators and programmers: where they are, how to install them, and how C is compiled."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tasuki.firmware_bridge.target.boards import Board
from tasuki.sdk.errors import BuildFailed, ToolMissing

# The standard of all C of this project, at no warning.
C_FLAGS: Final = (
    "-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic", "-ffunction-sections",
    "-fdata-sections",
)  # fmt: skip
# GCC alone can say how deep the stack gets.
STACK_FLAGS: Final = ("-fstack-usage", "-fcallgraph-info=su")
_HOST_COMPILERS: Final = ("cc", "gcc", "clang")
_SECONDS: Final = 300
_TELLING: Final = re.compile(r"\berror:|undefined reference|overflowed|multiple definition", re.IGNORECASE)
_INSTALL: Final = {
    "arm-none-eabi-gcc": "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi (elsewhere: the Arm GNU Toolchain)",
    "qemu-system-arm": "apt-get install qemu-system-arm (elsewhere: QEMU 7.2 or newer)",
    "cc": "apt-get install gcc (elsewhere: any C99 compiler that is called cc, gcc or clang)",
    "clang": "apt-get install clang",
    "clang-tidy": "apt-get install clang-tidy",
    "gcc": "apt-get install gcc",
    "arm-none-eabi-g++": "apt-get install gcc-arm-none-eabi",
    "pyocd": "pip install pyocd",
    "openocd": "apt-get install openocd",
}


def find(tool: str) -> str:
    """The path of a tool.

    Raises:
        ToolMissing: It is not installed; the message says how to.
    """
    for name in _HOST_COMPILERS if tool == "cc" else (tool,):
        found = shutil.which(name)
        if found:
            return found
    raise ToolMissing(f"{tool} is not installed: {_INSTALL[tool]}")


def compiler(board: Board) -> str:
    """The compiler for a board.

    Raises:
        ToolMissing: It is not installed.
    """
    return find("cc" if board.is_host else "arm-none-eabi-gcc")


def run(command: Sequence[str | Path], doing: str) -> str:
    """Run a compiler or linker; what it said, in English.

    Raises:
        BuildFailed: It gave up; the message is `doing` and its first complaint.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{doing}: {error}") from None
    if done.returncode != 0:
        raise BuildFailed(f"{doing}: {complaint(done.stderr)}")
    return done.stdout + done.stderr


def complaint(said: str) -> str:
    """The first line of what a tool said that tells what is wrong; else its first line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line) and not line.startswith("collect2:")]
    return (telling or lines or ["it gave no reason"])[0]
