"""Reading an image's sections and functions, and damage to it."""

from contextlib import suppress
from pathlib import Path

import pytest
from firmware.elf_kit import image
from hypothesis import given
from hypothesis import strategies as st

from tasuki.firmware_bridge import elf
from tasuki.sdk.errors import BuildFailed


def test_sections_and_functions(tmp_path: Path) -> None:
    path = tmp_path / "image.elf"
    path.write_bytes(image())
    found = elf.read(path)
    assert found.functions == {"main"}
    sizes = elf.sizes(found)
    assert (sizes.code, sizes.model, sizes.bss, sizes.tables, sizes.data) == (40, 24, 512, 0, 0)
    assert (sizes.flash, sizes.static) == (64, 512)


@given(st.data())
def test_damage_is_named_or_read_without_a_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("elf") / "image.elf"
    content = bytearray(image())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(BuildFailed):
        assert all(size >= 0 for size in elf.read(path).sections.values())


def test_every_cut_is_named(tmp_path: Path) -> None:
    path, content = tmp_path / "image.elf", image()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(BuildFailed):
            elf.read(path)
