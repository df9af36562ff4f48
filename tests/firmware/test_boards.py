"""The table of boards against their ports; tools that are missing; what the compiler says."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tasuki.firmware_bridge import boards, image, qemu, toolchain
from tasuki.firmware_bridge.boards import BOARDS, PORTS, Board
from tasuki.sdk.errors import BuildFailed, InputError, ToolMissing

UNITS = {"": 1, "K": 1024, "M": 1024 * 1024}
CORES = [board for board in BOARDS if not board.is_host]
FUNCTIONS = ("read", "write", "milliseconds", "entropy", "storage")


def regions(board: Board) -> dict[str, tuple[int, int]]:
    """Address and size of each region of the linker script."""
    text = (board.port / "link.ld").read_text()
    found = re.findall(r"(\w+) \(\w+\) *: ORIGIN = (\w+), LENGTH = (\d+)([KM]?)(?: - (\d+))?", text)
    return {name: (int(at, 16), int(size) * UNITS[unit] - int(less or 0)) for name, at, size, unit, less in found}


@pytest.mark.parametrize("board", CORES, ids=lambda board: board.name)
def test_the_table_says_what_the_linker_script_says(board: Board) -> None:
    found = regions(board)
    vectors, flash, ram = (found[name] for name in ("VECTORS", "FLASH", "RAM"))
    assert ram == (board.ram_at, board.ram)
    if vectors[0] == board.flash_at:
        # The vectors are the start of flash.
        assert flash == (vectors[0] + vectors[1], board.flash - vectors[1])
    else:
        assert flash == (board.flash_at, board.flash)
    port = (board.port / "port.c").read_text()
    assert f"#define PORT_HERTZ {board.hertz}u" in port


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_port_is_one_short_file_of_five_functions(board: Board) -> None:
    shared = (PORTS / "common" / "tsk_mps_port.h").read_text()
    text = (board.port / "port.c").read_text().replace('#include "tsk_mps_port.h"\n', shared)
    for name in FUNCTIONS:
        assert len(re.findall(rf"^u?int32_t tsk_port_{name}\(", text, re.MULTILINE)) == 1
    if not board.is_host:
        assert len(text.splitlines()) < 60


def test_every_port_is_in_the_table() -> None:
    folders = {path.name for path in PORTS.iterdir() if path.is_dir()}
    assert folders == {board.name for board in BOARDS} | {"common"}


def test_a_board_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no board 'uno': it is one of host, mps2-an386"):
        boards.get("uno")


OWN = """\
[board]
core = Cortex-M4F
flags = -mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mthumb -mfloat-abi=hard
flash_at = 0
flash = 4194304
ram_at = 0x20000000
ram = 4194304
hertz = 25000000
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A board of somebody's own, which happens to be one of ours."""
    folder = tmp_path / "mine"
    shutil.copytree(PORTS / "mps2-an386", folder)
    (folder / "board.ini").write_text(OWN)
    return folder


@pytest.mark.boards
def test_a_board_of_ones_own(own: Path, tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text('#include "tsk_port.h"\nint main(void) {\n    return tsk_port_write("mine\\n", 5);\n}\n')
    board = boards.get(str(own))
    made = image.link(board, [source], tmp_path / "image.elf")
    assert made.stack is not None
    with pytest.raises(InputError, match="mine has no emulator"), qemu.running(board, made.path):
        pass
    with qemu.running(replace(board, machine="mps2-an386"), made.path) as line:
        assert line.read_line() == "mine"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("[board]", "[bord]", "board.ini: 'board'"),
        ("flash = 4194304\n", "", "'flash'"),
        ("ram = 4194304", "ram = much", "invalid literal"),
        ("ram = 4194304", "ram = 0", "within 4 GiB"),
        ("ram = 4194304", "ram = 0xF0000000", "within 4 GiB"),
        ("flash_at = 0", "flash_at = -1", "within 4 GiB"),
        ("hertz = 25000000", "hertz = 0", "a clock"),
        ("-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mthumb -mfloat-abi=hard", "", "flags, a clock"),
        ("[board]", "core", "no section headers"),
    ],
)
def test_what_is_wrong_with_a_board_of_ones_own(own: Path, before: str, after: str, words: str) -> None:
    (own / "board.ini").write_text(OWN.replace(before, after))
    with pytest.raises(InputError, match=words):
        boards.get(str(own))


@pytest.mark.parametrize("name", ["port.c", "link.ld"])
def test_a_board_of_ones_own_lacks_a_file(own: Path, name: str) -> None:
    (own / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        boards.get(str(own))


@pytest.mark.parametrize(
    ("tool", "cure"),
    [
        ("arm-none-eabi-gcc", "apt-get install gcc-arm-none-eabi"),
        ("qemu-system-arm", "apt-get install qemu-system-arm"),
        ("cc", "apt-get install gcc"),
        ("pyocd", "pip install pyocd"),
        ("openocd", "apt-get install openocd"),
    ],
)
def test_a_missing_tool_says_how_to_install_it(
    tool: str, cure: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=cure):
        toolchain.find(tool)


def test_the_compilers_first_complaint(tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    source.write_text("int main(void) {\n    return nonsense;\n}\n")
    with pytest.raises(BuildFailed, match=r"compile bad\.c: .*bad\.c:2:12: error: .*nonsense"):
        image.link(boards.get("host"), [source], tmp_path / "image")
    assert not (tmp_path / "image").exists()


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "wide.c"
    source.write_text(
        "int main(int count, char **words) {\n    const signed char n = count;\n    return n + !words;\n}\n"
    )
    with pytest.raises(BuildFailed, match=r"\[-Werror=conversion\]"):
        image.link(boards.get("host"), [source], tmp_path / "image")


def test_what_is_not_defined_is_named(tmp_path: Path) -> None:
    source = tmp_path / "gone.c"
    source.write_text("int gone(void);\nint main(void) {\n    return gone();\n}\n")
    with pytest.raises(BuildFailed, match="link: .*gone"):
        image.link(boards.get("host"), [source], tmp_path / "image")


@pytest.mark.parametrize("said", ["", "\n \n", "one\ntwo\n"])
def test_a_compiler_that_gives_no_reason(said: str) -> None:
    assert toolchain.complaint(said) == ("one" if said.strip() else "it gave no reason")
