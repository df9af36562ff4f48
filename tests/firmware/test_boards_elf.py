"""Reading an image's sections and functions, and damage to it."""

from contextlib import suppress
from pathlib import Path

import pytest
from firmware.elf_kit import MACHINE, TYPE, image
from hypothesis import given
from hypothesis import strategies as st

from tasuki.firmware_bridge.target import elf
from tasuki.firmware_bridge.target.elf import Section, Segment
from tasuki.sdk.errors import BuildFailed


def test_sections_and_functions(tmp_path: Path) -> None:
    path = tmp_path / "image.elf"
    path.write_bytes(image())
    found = elf.read(path)
    assert found.functions == {"main"}
    assert found.absolute == {"mark"}
    sizes = elf.sizes(found)
    assert (sizes.code, sizes.model, sizes.bss, sizes.tables, sizes.data) == (40, 24, 512, 0, 8)
    assert (sizes.flash, sizes.static) == (72, 520)


def test_where_it_runs_and_where_it_is_loaded_from(tmp_path: Path) -> None:
    path = tmp_path / "image.elf"
    path.write_bytes(image())
    found = elf.read(path)
    assert found.sections == (
        Section(".text", 0x1000, 0x1000, 40, True), Section(".model", 0x1028, 0x1028, 24, True),
        Section(".data", 0x2000, 0x1040, 8, True), Section(".bss", 0x2008, 0x2008, 512, False),
    )  # fmt: skip
    assert found.segments[2] == Segment(0x2000, 0x1040, bytes(range(8)))
    assert [(one.load_at, len(one.content)) for one in found.segments] == [(0x1000, 40), (0x1028, 24), (0x1040, 8)]


def test_names_of_sections(tmp_path: Path) -> None:
    path = tmp_path / "image.o"
    content = bytearray(image())
    content[TYPE] = 1
    path.write_bytes(content)
    assert elf.section_names(path) == {"", ".text", ".model", ".data", ".bss", ".symtab", ".strtab", ".shstrtab"}
    path.write_bytes(content[:-1])
    with pytest.raises(BuildFailed, match=r"image\.o is cut or damaged"):
        elf.section_names(path)


@pytest.mark.parametrize(("at", "value"), [(TYPE, 1), (TYPE, 3), (MACHINE, 3)], ids=["object", "shared", "x86"])
def test_what_is_no_linked_image_for_an_arm_core(at: int, value: int, tmp_path: Path) -> None:
    path = tmp_path / "image.elf"
    content = bytearray(image())
    content[at] = value
    path.write_bytes(content)
    with pytest.raises(BuildFailed, match=r"image\.elf is no linked image for an Arm core"):
        elf.read(path)


def test_what_counts_as_flash_and_as_memory() -> None:
    """What a linker script of one's own calls otherwise counts, too."""
    names = (".text", ".init_array", ".rodata", ".model")
    stored = [Section(name, 0, 0, 1 << place, True) for place, name in enumerate(names)]
    copied = [Section(name, 0x2000, 0, 1 << place, True) for place, name in enumerate((".data", ".ramfunc"), 4)]
    memory = [Section(name, 0x2000, 0x2000, 1 << place, False) for place, name in enumerate((".bss", ".heap"), 6)]
    sizes = elf.sizes(elf.Elf((*stored, *copied, *memory)))
    assert (sizes.code, sizes.tables, sizes.model, sizes.data, sizes.bss) == (1 + 2, 4, 8, 16 + 32, 64 + 128)
    assert (sizes.flash, sizes.static) == (1 + 2 + 4 + 8 + 16 + 32, 16 + 32 + 64 + 128)


def test_a_name_that_is_no_ascii_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "image.elf"
    path.write_bytes(image().replace(b"\0main", b"\0m\xffin"))
    with pytest.raises(BuildFailed, match=r"image\.elf is cut or damaged"):
        elf.read(path)


@given(st.data())
def test_damage_is_named_or_read_without_a_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("elf") / "image.elf"
    content = bytearray(image())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(BuildFailed):
        assert all(one.size > 0 for one in elf.read(path).sections)


def test_every_cut_is_named(tmp_path: Path) -> None:
    path, content = tmp_path / "image.elf", image()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(BuildFailed):
            elf.read(path)
