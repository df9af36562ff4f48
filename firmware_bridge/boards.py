"""The boards that an image can be built for. Each has a folder in `ports`: its five functions and a linker script.

A board of one's own is such a folder anywhere, with a file `board.ini` that says what the table below says of ours:

    [board]
    core = Cortex-M4F
    flags = -mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mthumb -mfloat-abi=hard
    flash_at = 0x08000000
    flash = 1048576
    ram_at = 0x20000000
    ram = 131072
    hertz = 168000000
"""

import configparser
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasuki.sdk.errors import InputError

PORTS: Final = Path(__file__).parent / "ports"


@dataclass(frozen=True)
class Board:
    """`flash` and `ram` are in bytes and `hertz` is the processor's clock; all are 0 on the host, which has no limits.

    `flags` choose the core for arm-none-eabi-gcc. `machine` is QEMU's name for the board, None where it has none.
    `folder` is that of a board of one's own.
    """

    name: str
    core: str
    flags: tuple[str, ...] = ()
    flash: int = 0
    ram: int = 0
    flash_at: int = 0
    ram_at: int = 0
    hertz: int = 0
    machine: str | None = None
    folder: Path | None = None

    @property
    def port(self) -> Path:
        """The folder with `port.c` and, but for the host, `link.ld`."""
        return self.folder or PORTS / self.name

    @property
    def is_host(self) -> bool:
        """Whether the image is a process of this machine."""
        return not self.flags


_M = ("-mthumb", "-mfloat-abi=hard")
_KIB: Final = 1024
_MIB: Final = 1024 * 1024

BOARDS: Final = (
    Board("host", "this machine"),
    Board("mps2-an386", "Cortex-M4F", ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", *_M), 4 * _MIB, 4 * _MIB,
          0x00000000, 0x20000000, 25_000_000, "mps2-an386"),
    Board("mps2-an500", "Cortex-M7", ("-mcpu=cortex-m7", "-mfpu=fpv5-d16", *_M), 4 * _MIB, 4 * _MIB,
          0x00000000, 0x20000000, 25_000_000, "mps2-an500"),
    Board("mps2-an505", "Cortex-M33", ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16", *_M), 4 * _MIB, 4 * _MIB,
          0x10000000, 0x38000000, 20_000_000, "mps2-an505"),
    Board("mps3-an547", "Cortex-M55", ("-mcpu=cortex-m55", *_M), 2 * _MIB, 512 * _KIB,
          0x11000000, 0x30000000, 32_000_000, "mps3-an547"),
)  # fmt: skip
_FILE: Final = "board.ini"
_NUMBERS: Final = ("flash", "ram", "flash_at", "ram_at", "hertz")
NAMES: Final = tuple(board.name for board in BOARDS)


def get(name: str) -> Board:
    """The board of this name, or of the folder that is called so.

    Raises:
        InputError: There is none, or its folder lacks something.
    """
    for board in BOARDS:
        if board.name == name:
            return board
    if (Path(name) / _FILE).is_file():
        return _own(Path(name).resolve())
    raise InputError(
        f"no board {name!r}: it is one of {', '.join(NAMES)}, or a folder with {_FILE}, port.c and link.ld"
    )


def _own(folder: Path) -> Board:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string((folder / _FILE).read_text(encoding="utf-8"))
        said = parser["board"]
        flash, ram, flash_at, ram_at, hertz = (int(said[key], 0) for key in _NUMBERS)
        core, flags = said["core"], tuple(said["flags"].split())
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError, ValueError) as error:
        raise InputError(f"{folder / _FILE}: {' '.join(str(error).split())}; see `boards.py` for an example") from None
    for file in ("port.c", "link.ld"):
        if not (folder / file).is_file():
            raise InputError(f"{folder / file} is missing: a board has {_FILE}, port.c and link.ld")
    if not flags or hertz <= 0 or not (_is_memory(flash_at, flash) and _is_memory(ram_at, ram)):
        raise InputError(f"{folder / _FILE}: flags, a clock, and flash and memory within 4 GiB are wanted")
    return Board(folder.name, core, flags, flash, ram, flash_at, ram_at, hertz, folder=folder)


def _is_memory(at: int, size: int) -> bool:
    """Whether a 32-bit core can have `size` bytes from the address `at` on."""
    return at >= 0 and 0 < size <= 2**32 - at
