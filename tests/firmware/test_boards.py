"""The table of boards against their ports; tools that are missing; what the compiler says."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tasuki.firmware_bridge.target import boards, image, qemu, toolchain
from tasuki.firmware_bridge.target.boards import BOARDS, PORTS, Board
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


def test_what_a_board_of_ones_own_says_is_read(own: Path) -> None:
    """Memory may end where the addresses do, and no character of the file is special."""
    said = OWN.replace("Cortex-M4F", "M4 at 100 %").replace("0x20000000\nram = 4194304", "0xF0000000\nram = 0x10000000")
    (own / "board.ini").write_text(said)
    flags = ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mthumb", "-mfloat-abi=hard")
    assert boards.get(str(own)) == Board(
        "mine", "M4 at 100 %", flags, 4 << 20, 256 << 20, 0, 0xF0000000, 25_000_000, None, own
    )


def test_a_board_of_ones_own_that_is_no_text(own: Path) -> None:
    (own / "board.ini").write_bytes(b"[board]\ncore = \xff\n")
    with pytest.raises(InputError, match="board.ini: 'utf-8' codec can't decode"):
        boards.get(str(own))


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
        ("[board]", "[bord]", r"board\.ini has no section \[board\]; .*firmware-engineer\.md"),
        ("core = Cortex-M4F\n", "", r"lacks 'core', the name of the core: .*firmware-engineer\.md"),
        ("Cortex-M4F", " ", "lacks 'core'"),
        ("flash = 4194304\n", "", "lacks 'flash', the bytes of flash"),
        ("ram = 4194304", "ram = 1M", "ram is '1M'; it is the bytes of memory, a number such as 131072 or 0x20000"),
        ("ram = 4194304", "ram = 0", "ram is '0'; .* from 1 to 0x100000000"),
        ("ram = 4194304", "ram = 0xF0000000", "ram_at = 0x20000000 and ram = 0xF0000000 end beyond 4 GiB"),
        ("flash_at = 0", "flash_at = -1", "flash_at is '-1'; it is the address of flash, .* from 0 to 0xffffffff"),
        ("hertz = 25000000", "hertz = 0", "hertz is '0'; it is the clock"),
        ("hertz", "vectors_at = here\nhertz", "vectors_at is 'here'"),
        ("hertz", "hertzs", "'hertzs' is none of core, flags, flash_at, flash, ram_at, ram, hertz, vectors_at"),
        ("-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mthumb -mfloat-abi=hard", "", "lacks 'flags'"),
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


def script(folder: Path, name: str, body: str) -> Path:
    """A tool of this name."""
    path = folder / name
    path.write_text(body)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["cc", "gcc", "clang"])
def test_any_c_compiler_of_the_host_will_do(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = script(tmp_path, name, "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert toolchain.find("cc") == str(tool)


def test_a_compiler_that_hangs_or_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toolchain, "_SECONDS", 0.3)
    for body, words in (("#!/bin/sh\nexec sleep 60\n", "timed out after 0.3 seconds"), ("MZ", "Exec format error")):
        with pytest.raises(BuildFailed, match=f"compile x: .*{words}"):
            toolchain.run([script(tmp_path, "tool", body)], "compile x")


def test_a_compiler_that_does_not_speak_utf8(tmp_path: Path) -> None:
    tool = script(tmp_path, "tool", "#!/bin/sh\nprintf '\\377.c:1:1: error: no\\n' >&2\nexit 1\n")
    with pytest.raises(BuildFailed, match="compile x: \ufffd.c:1:1: error: no"):
        toolchain.run([tool], "compile x")


def test_what_the_linker_says_comes_before_that_it_failed() -> None:
    said = "collect2: error: ld returned 1 exit status\nx.c:3: undefined reference to `gone'\n"
    assert toolchain.complaint(said) == "x.c:3: undefined reference to `gone'"


@pytest.mark.parametrize("said", ["", "\n \n", "one\ntwo\n"])
def test_a_compiler_that_gives_no_reason(said: str) -> None:
    assert toolchain.complaint(said) == ("one" if said.strip() else "it gave no reason")


def test_a_board_of_ones_own_may_have_its_vectors_elsewhere(own: Path) -> None:
    assert boards.get(str(own)).vectors == 0
    (own / "board.ini").write_text(OWN + "vectors_at = 0x1000\n")
    assert boards.get(str(own)).vectors == 0x1000


@pytest.mark.boards
def test_flags_of_a_board_of_ones_own_come_last(own: Path, tmp_path: Path) -> None:
    """Also before what the build defines, and before the optimisation that it chooses."""
    source = tmp_path / "main.c"
    source.write_text("""\
int main(void);
int main(void) {
#if !defined __OPTIMIZE_SIZE__ || TSK_SELFTEST || KEPT != 2
#error "overridden"
#endif
    return 0;
}
""")
    defines = {"TSK_SELFTEST": 1, "KEPT": 2}
    for said in ("-Os -DTSK_SELFTEST=0", "-D TSK_SELFTEST=0 -Os", "-UTSK_SELFTEST -Os"):
        (own / "board.ini").write_text(OWN.replace("-mthumb", f"-mthumb {said}"))
        image.link(boards.get(str(own)), [source], tmp_path / "image.elf", defines=defines)
    (own / "board.ini").write_text(OWN)
    with pytest.raises(BuildFailed, match="overridden"):
        image.link(boards.get(str(own)), [source], tmp_path / "image.elf", defines=defines)


@pytest.mark.boards
def test_a_stack_without_a_bound_is_refused(own: Path, tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text("int main(void);\nint main(void) {\n    return 0;\n}\n")
    (own / "board.ini").write_text(OWN.replace("-mthumb", "-mthumb -flto"))
    with pytest.raises(BuildFailed, match="no call graph of main, so its stack has no bound: .*board.ini .*-flto"):
        image.link(boards.get(str(own)), [source], tmp_path / "image.elf")
