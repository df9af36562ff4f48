"""All C of the runtime and ports at no warning: gcc and clang for this machine and for every core, then clang-tidy.

python tests/firmware/compile_all.py
"""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasuki.firmware_bridge.target import boards, image, toolchain

PORTS = boards.PORTS
CORES = ("cortex-m0plus", *sorted({flag.removeprefix("-mcpu=") for b in boards.BOARDS for flag in b.flags[:1]}))
# What `tsk_config.h` lets one choose; the first is the default.
CHOICES = ((), ("-DTSK_ROUNDING=TSK_ROUNDING_SINGLE", "-DTSK_SELFTEST=0"), ("-DTSK_KERNELS=TSK_KERNELS_PLAIN",))
CLANG = ("-Wno-unused-command-line-argument",)
INCLUDE = [f"-I{folder}" for folder in (image.RUNTIME / "include", image.RUNTIME / "src", PORTS, PORTS / "common")]
TIDY = ("--quiet", f"--config-file={image.RUNTIME / '.clang-tidy'}")
JOBS = 2


def newlib() -> Path:
    """Where the Arm compiler has the headers of its C library: clang has none of its own."""
    found = toolchain.run([toolchain.find("arm-none-eabi-gcc"), "-print-sysroot"], "ask for the C library").strip()
    for folder in (Path(found) / "include", Path("/usr/lib/arm-none-eabi/include")):
        if (folder / "stdint.h").exists():
            return folder
    raise SystemExit("newlib's headers are missing: apt-get install libnewlib-arm-none-eabi")


def compilers() -> Iterator[tuple[list[str], bool]]:
    """Commands, and whether they are for Arm."""
    gcc, clang, arm = (toolchain.find(tool) for tool in ("gcc", "clang", "arm-none-eabi-gcc"))
    yield [gcc], False
    yield [clang, *CLANG], False
    for core in CORES:
        board = next((b for b in boards.BOARDS if f"-mcpu={core}" in b.flags), None)
        flags = list(board.flags) if board else [f"-mcpu={core}", "-mthumb"]
        yield [arm, *flags], True
        yield [clang, "--target=arm-none-eabi", *flags, "-isystem", str(newlib()), *CLANG], True


def tasks() -> Iterator[list[str]]:
    """Every compilation; what is not the default is compiled for this machine and for the M4."""
    host = [PORTS / "host" / "port.c"]
    arm = [*(PORTS / "common").glob("*.c"), *(b.port / "port.c" for b in boards.BOARDS if not b.is_host)]
    for command, is_arm in compilers():
        for choice in CHOICES if not is_arm or "-mcpu=cortex-m4" in command else CHOICES[:1]:
            for path in (*image.runtime_sources(), *(arm if is_arm else host)):
                yield [*command, *toolchain.C_FLAGS, *choice, *INCLUDE, "-c", str(path), "-o", "/dev/null"]
        if "clang" in command[0] and (not is_arm or "-mcpu=cortex-m4" in command):
            for path in (*image.runtime_sources(), *(arm if is_arm else host)):
                yield [toolchain.find("clang-tidy"), *TIDY, str(path), "--", *command[1:], "-std=c99", *INCLUDE]


def main() -> int:
    """Compile and check everything; the complaints go to stderr."""

    def one(command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # clang-tidy counts on stderr what it left out.
        said = done.stdout if "clang-tidy" in command[0] else done.stderr
        return f"{' '.join(command)}\n{said}{done.stderr if done.returncode else ''}" if done.returncode or said else ""

    with ThreadPoolExecutor(JOBS) as pool:
        said = list(pool.map(one, tasks()))
    complaints = [words for words in said if words]
    print("\n".join(complaints) or f"{len(said)} compilations and checks, no warning", file=sys.stderr)
    return len(complaints) > 0


if __name__ == "__main__":
    sys.exit(main())
