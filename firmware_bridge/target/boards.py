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

All are wanted. `vectors_at` may follow, where the core reads its vectors elsewhere than at the start of flash.
"""

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasuki.sdk.errors import InputError

PORTS: Final = Path(__file__).parents[1] / "ports"


@dataclass(frozen=True)
class Board:
    """`flash` and `ram` are in bytes and `hertz` is the processor's clock; all are 0 on the host, which has no limits.

    `flags` choose the core for arm-none-eabi-gcc. `machine` is QEMU's name for the board, None where it has none.
    `folder` is that of a board of one's own. The core reads its vectors at `vectors_at`, else where flash begins.
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
    vectors_at: int | None = None

    @property
    def port(self) -> Path:
        """The folder with `port.c` and, but for the host, `link.ld`."""
        return self.folder or PORTS / self.name

    @property
    def is_host(self) -> bool:
        """Whether the image is a process of this machine."""
        return not self.flags

    @property
    def vectors(self) -> int:
        """The address of the vector table."""
        return self.flash_at if self.vectors_at is None else self.vectors_at

    @property
    def mark(self) -> str | None:
        """The symbol by which an image tells that it is for this emulated board."""
        return self.machine and f"tsk_board_{self.name.replace('-', '_')}"


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
          0x11000000, 0x30000000, 32_000_000, "mps3-an547", vectors_at=0x00000000),
)  # fmt: skip
_FILE: Final = "board.ini"
# What `board.ini` has: words, and numbers with their bounds.
_SIZE, _ADDRESS = range(1, 2**32 + 1), range(2**32)
_WORDS: Final = {"core": "the name of the core", "flags": "those that choose the core for arm-none-eabi-gcc"}
_NUMBERS: Final = {
    "flash_at": (_ADDRESS, "the address of flash"), "flash": (_SIZE, "the bytes of flash"),
    "ram_at": (_ADDRESS, "the address of memory"), "ram": (_SIZE, "the bytes of memory"),
    "hertz": (_SIZE, "the clock of the processor"), "vectors_at": (_ADDRESS, "the address of the vector table"),
}  # fmt: skip
_OPTIONAL: Final = "vectors_at"
_TUTORIAL: Final = "docs/tutorials/firmware-engineer.md has an example of all"
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
    path = folder / _FILE
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), _FILE)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}; {_TUTORIAL}") from None
    if "board" not in parser:
        raise InputError(f"{path} has no section [board]; {_TUTORIAL}")
    said = parser["board"]
    for key in said:
        if key not in _WORDS and key not in _NUMBERS:
            raise InputError(f"{path}: {key!r} is none of {', '.join((*_WORDS, *_NUMBERS))}")
    core, flags = (_word(path, said, key) for key in _WORDS)
    numbers = {key: _number(path, said, key) for key in _NUMBERS if key in said or key != _OPTIONAL}
    for file in ("port.c", "link.ld"):
        if not (folder / file).is_file():
            raise InputError(f"{folder / file} is missing: a board has {_FILE}, port.c and link.ld")
    for at, size in (("flash_at", "flash"), ("ram_at", "ram")):
        if numbers[at] + numbers[size] > 2**32:
            raise InputError(f"{path}: {at} = {said[at]} and {size} = {said[size]} end beyond 4 GiB")
    flash, ram, flash_at, ram_at, hertz = (numbers[key] for key in ("flash", "ram", "flash_at", "ram_at", "hertz"))
    return Board(folder.name, core, tuple(flags.split()), flash, ram, flash_at, ram_at, hertz,
                 folder=folder, vectors_at=numbers.get(_OPTIONAL))  # fmt: skip


def _word(path: Path, said: Mapping[str, str], key: str) -> str:
    value = said.get(key, "").strip()
    if not value:
        raise InputError(f"{path} lacks {key!r}, {_WORDS[key]}: {_TUTORIAL}")
    return value


def _number(path: Path, said: Mapping[str, str], key: str) -> int:
    bounds, meaning = _NUMBERS[key]
    if key not in said:
        raise InputError(f"{path} lacks {key!r}, {meaning}: {_TUTORIAL}")
    try:
        value = int(said[key], 0)
    except ValueError:
        value = -1
    if value not in bounds:
        raise InputError(
            f"{path}: {key} is {said[key]!r}; it is {meaning}, a number such as 131072 or 0x20000, "
            f"from {bounds.start} to {bounds.stop - 1:#x}"
        )
    return value
