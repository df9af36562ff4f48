"""An image lies where its board has flash and memory, or it is refused: linker scripts of one's own get that wrong."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from tasuki.firmware_bridge.target import boards, image, placement
from tasuki.firmware_bridge.target.boards import PORTS, Board
from tasuki.firmware_bridge.target.elf import Elf, Section, Segment
from tasuki.sdk.errors import BuildFailed, ModelTooLarge

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "firmware-engineer.md"
FLASH, RAM = 0x08000000, 0x20000000
BOARD = Board("mine", "M4", ("-mthumb",), 1 << 20, 128 << 10, FLASH, RAM, 1_000_000, folder=Path("mine"))
TOP, RESET = RAM + (128 << 10), FLASH + 65
TEXT = Section(".text", FLASH + 64, FLASH + 64, 200, True)
DATA = Section(".data", RAM, FLASH + 264, 8, True)
BSS = Section(".bss", RAM + 8, RAM + 8, 100, False)


def found(*sections: Section, vectors: tuple[int, int] = (TOP, RESET), at: int = FLASH) -> Elf:
    """An image with these sections, each in a segment of its own, and with a vector table."""
    table = Section(".vectors", at, at, 64, True)
    stored = [Segment(s.run_at, s.load_at, bytes(s.size)) for s in sections if s.stored]
    content = struct.pack("<II", *vectors) + bytes(56)
    return Elf((table, *sections), (*stored, Segment(at, at, content)), frozenset(("tsk_start", "main")))


GOOD = found(TEXT, DATA, BSS)


def test_what_a_board_starts() -> None:
    placement.check(GOOD, BOARD)
    placement.check(found(TEXT, vectors=(RAM + 8, FLASH + (1 << 20) - 1)), BOARD)
    last = FLASH + (1 << 20) - 16
    placement.check(found(TEXT, Section(".last", last, last, 16, True)), BOARD)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (replace(TEXT, run_at=64, load_at=64), r"\.text, 200 bytes at 0x00000040, .* 0x08000000 to 0x08100000"),
        (replace(TEXT, run_at=FLASH + (1 << 20) - 199), r"\.text, 200 bytes at 0x080fff39"),
        (replace(DATA, load_at=RAM), r"the stored \.data, 8 bytes at 0x20000000"),
        (replace(BSS, run_at=TOP - 99), r"\.bss, 100 bytes at 0x2001ff9d, .* memory 0x20000000 to 0x20020000"),
        (replace(BSS, run_at=RAM - 1), r"\.bss, 100 bytes at 0x1fffffff"),
    ],
)  # fmt: skip
def test_what_is_outside_of_flash_and_memory_is_named(section: Section, words: str) -> None:
    with pytest.raises(BuildFailed, match=rf"mine/link\.ld: {words}.*: the two must agree"):
        placement.check(found(section), BOARD)


def test_a_segment_with_more_than_its_sections() -> None:
    """A linker may put the file's header before the first section, where a boot loader is."""
    wrong = replace(GOOD, segments=(*GOOD.segments, Segment(FLASH - 64, FLASH - 64, bytes(264))))
    with pytest.raises(BuildFailed, match="a segment, 264 bytes at 0x07ffffc0, is outside"):
        placement.check(wrong, BOARD)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ((RAM, RESET), "the stack begins at 0x20000000"),
        ((TOP + 1, RESET), "the stack begins at 0x20020001"),
        ((0x20400000, RESET), "the stack begins at 0x20400000, outside of what mine/board.ini says"),
        ((TOP, RESET - 1), "the reset vector is 0x08000040: no Thumb function"),
        ((TOP, 0x41), "the reset vector is 0x00000041"),
        ((TOP, FLASH + (1 << 20) + 1), "the reset vector is 0x08100001"),
    ],
)
def test_vectors_that_start_nothing(vectors: tuple[int, int], words: str) -> None:
    with pytest.raises(BuildFailed, match=words):
        placement.check(found(TEXT, vectors=vectors), BOARD)


def test_no_vectors_where_the_core_looks() -> None:
    with pytest.raises(BuildFailed, match=r"link\.ld: no vectors at 0x08000000, where the core looks; INCLUDE"):
        placement.check(found(TEXT, at=FLASH + 4096), BOARD)


def test_vectors_outside_of_flash() -> None:
    """As on mps3-an547: there they may be, and nothing else."""
    elsewhere = replace(BOARD, vectors_at=0)
    placement.check(found(TEXT, at=0), elsewhere)
    with pytest.raises(BuildFailed, match=r"\.more, 4 bytes at 0x00000040"):
        placement.check(found(TEXT, Section(".more", 64, 64, 4, True), at=0), elsewhere)


def test_nothing_that_starts() -> None:
    with pytest.raises(BuildFailed, match=r"mine/link\.ld: the image has no tsk_start, so nothing would run"):
        placement.check(replace(GOOD, functions=frozenset(("main",))), BOARD)


def test_the_stack_runs_into_nothing_to_the_byte() -> None:
    free = (128 << 10) - 108
    placement.check_stack(GOOD, BOARD, free)
    with pytest.raises(ModelTooLarge, match=f"1 bytes more memory than mine has, {free + 1} of stack included"):
        placement.check_stack(GOOD, BOARD, free + 1)
    low = found(TEXT, Section(".bss", RAM + 1024, RAM + 1024, 100, False), vectors=(RAM + 1024, RESET))
    placement.check_stack(low, BOARD, 1024)
    with pytest.raises(ModelTooLarge, match="4 bytes more memory"):
        placement.check_stack(low, BOARD, 1028)


INI = """\
[board]
core = Cortex-M4F
flags = -mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mthumb -mfloat-abi=hard
flash_at = 0x08000000
flash = 1048576
ram_at = 0x20000000
ram = 131072
hertz = 168000000
"""
OURS = """\
MEMORY
{
    VECTORS (rx) : ORIGIN = 0x08000000, LENGTH = 64
    FLASH (rx)   : ORIGIN = 0x08000040, LENGTH = 1M - 64
    RAM (rwx)    : ORIGIN = 0x20000000, LENGTH = 128K
}
INCLUDE sections.ld
"""
THEIRS = """\
ENTRY(tsk_start)
MEMORY { FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 1M  RAM (xrw) : ORIGIN = 0x20000000, LENGTH = 128K }
tsk_link_stack_top = ORIGIN(RAM) + LENGTH(RAM);
SECTIONS
{
    .isr_vector : { KEEP(*(.tsk_vectors)) } > FLASH
    .text : { *(.text*) } > FLASH
    .rodata : { *(.rodata*) } > FLASH
    tsk_link_data_load = LOADADDR(.data);
    .data : { tsk_link_data_start = .; *(.data*) . = ALIGN(4); tsk_link_data_end = .; } > RAM AT > FLASH
    .bss : { tsk_link_bss_start = .; *(.bss*) *(COMMON) . = ALIGN(4); tsk_link_bss_end = .; } > RAM
}
"""
MAIN = """\
int main(void);
static int counted = 3;

int main(void) {
    return counted++;
}
"""
MODEL = """\
int main(void);
__attribute__((section(".rodata.tsk_model_data"))) static const volatile int weights[4] = {1, 2, 3, 4};

int main(void) {
    return weights[2];
}
"""


def linked(folder: Path, script: str, main: str = MAIN, ini: str = INI) -> image.Image:
    """An image for a board whose linker script this is."""
    mine = folder / "mine"
    mine.mkdir()
    (mine / "board.ini").write_text(ini)
    (mine / "link.ld").write_text(script)
    (mine / "port.c").write_bytes((PORTS / "mps2-an386" / "port.c").read_bytes())
    (folder / "main.c").write_text(main)
    return image.link(boards.get(str(mine)), [folder / "main.c"], folder / "x.elf")


@pytest.mark.boards
@pytest.mark.parametrize("script", [OURS, THEIRS], ids=["ours", "theirs"])
def test_a_linker_script_that_is_right(script: str, tmp_path: Path) -> None:
    """What it calls the vector table is no matter: its bytes count."""
    sizes = linked(tmp_path, script).sizes
    assert sizes is not None
    assert sizes.code > 64 + 100
    assert (sizes.data, sizes.model) == (4, 0)
    assert sizes.flash == sizes.code + sizes.tables + sizes.data


@pytest.mark.boards
@pytest.mark.parametrize(
    ("script", "before", "after", "words"),
    [
        (THEIRS, "tsk_start)", "Reset_Handler)", r"nothing defines ENTRY\(Reset_Handler\): it is tsk_start"),
        (THEIRS.replace("tsk_vectors", "isr_vector"), "tsk_start)", "main)", "the image has no tsk_start"),
        (THEIRS, "    .isr_vector : { KEEP(*(.tsk_vectors)) } > FLASH\n", "", "the (stack begins|reset vector is)"),
        (THEIRS, "RAM AT > FLASH", "RAM", r"the stored \.data"),
        (OURS, "0x080000", "0x000000", r"\.vectors, 64 bytes at 0x00000000, is outside of what .*board\.ini says"),
        (OURS, "0x20000000", "0x10000000", r"\.data, 4 bytes at 0x10000000"),
        (OURS, "128K", "256K", "the stack begins at 0x20040000"),
    ],
)  # fmt: skip
def test_a_linker_script_that_is_wrong(script: str, before: str, after: str, words: str, tmp_path: Path) -> None:
    assert before in script
    with pytest.raises(BuildFailed, match=rf"mine/link\.ld: {words}"):
        linked(tmp_path, script.replace(before, after))


@pytest.mark.boards
def test_a_model_that_has_no_section_is_not_passed_off_as_none(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"link\.ld: no section \.model, which takes \.rodata\.tsk_model_data"):
        linked(tmp_path, THEIRS, MODEL)


@pytest.mark.boards
def test_the_model_in_a_section_of_its_own_is_counted(tmp_path: Path) -> None:
    sizes = linked(tmp_path, OURS, MODEL).sizes
    assert sizes is not None
    assert sizes.model == 16


@pytest.mark.boards
def test_the_tutorials_board_links(tmp_path: Path) -> None:
    blocks = TUTORIAL.read_text().replace("\n    ", "\n").split("\n\n")
    (script,) = [block + "\n" for block in blocks if block.startswith("MEMORY")]
    (ini,) = [block + "\n" for block in blocks if block.startswith("[board]")]
    assert (script.replace("    ", ""), ini) == (OURS.replace("    ", ""), INI)
    assert linked(tmp_path, script, MODEL, ini).stack
