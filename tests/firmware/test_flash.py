"""The programmers' command lines, and what becomes of them; no real programmer is needed."""

import os
import shlex
from pathlib import Path

import pytest
from firmware.elf_kit import image

from tasuki.firmware_bridge import flash
from tasuki.sdk.errors import BoardSilent, BuildFailed, InputError, ToolMissing

ELF = Path("lamp.elf")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder as `tasuki firmware build` leaves it, as far as flashing is concerned."""
    folder = tmp_path / "model-board"
    (folder / "image").mkdir(parents=True)
    (folder / "image" / "model-board.elf").write_bytes(image())
    return folder


def programmer(folder: Path, name: str, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script in the place of a programmer."""
    script = folder / name
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_pyocd() -> None:
    words = flash.command(ELF, "pyocd", "stm32f407vgtx", serial="066AFF")
    assert shlex.join(words) == "pyocd flash --target stm32f407vgtx --uid 066AFF lamp.elf"
    assert flash.command(ELF, "pyocd", "nrf52") == ["pyocd", "flash", "--target", "nrf52", "lamp.elf"]


def test_openocd() -> None:
    words = flash.command(Path("my lamp.elf"), "openocd", "target/stm32f4x.cfg", "interface/stlink.cfg", "066AFF")
    assert words == [
        "openocd", "-f", "interface/stlink.cfg", "-c", "adapter serial {066AFF}", "-f", "target/stm32f4x.cfg",
        "-c", "program {my lamp.elf} verify reset exit",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a} ; exec {rm", "a\nb", "a\\", "-c"])
@pytest.mark.parametrize("probe", flash.PROBES)
def test_names_that_could_be_commands_are_refused(name: str, probe: str) -> None:
    for words in ({"target": name}, {"target": "t", "interface": name}, {"target": "t", "serial": name}):
        with pytest.raises(InputError, match="can't be flashed"):
            flash.command(ELF, probe, **words)
    with pytest.raises(InputError):
        flash.command(Path(name), probe, "t")


def test_a_programmer_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no programmer 'jlink'; there are pyocd, openocd"):
        flash.command(ELF, "jlink", "t")


def test_the_image_of_a_folder(built: Path, tmp_path: Path) -> None:
    found = built / "image" / "model-board.elf"
    assert flash.image_in(built) == flash.image_in(found) == found
    (built / "image" / "another.elf").write_bytes(image())
    with pytest.raises(InputError, match="has 2 images"):
        flash.image_in(built)
    with pytest.raises(InputError, match="has 0 images"):
        flash.image_in(tmp_path)
    with pytest.raises(InputError, match="no such image"):
        flash.image_in(tmp_path / "no.elf")
    found.write_bytes(b"MZ, something else")
    with pytest.raises(BuildFailed, match="is no 32-bit little-endian ELF file"):
        flash.image_in(found)


def test_the_programmer_gets_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programmer(tmp_path, "pyocd", f'printf "%s\\n" "$@" > {tmp_path}/got', monkeypatch)
    flash.run(flash.command(Path("my lamp.elf"), "pyocd", "nrf52"))
    assert (tmp_path / "got").read_text().splitlines() == ["flash", "--target", "nrf52", "my lamp.elf"]


def test_a_board_that_is_not_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programmer(tmp_path, "openocd", "echo 'Info : hello' >&2; echo 'Error: no device found' >&2; exit 1", monkeypatch)
    with pytest.raises(BoardSilent, match="openocd could not write the board: Error: no device found"):
        flash.run(flash.command(ELF, "openocd", "target/nrf52.cfg"))


def test_a_programmer_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programmer(tmp_path, "pyocd", "exec sleep 60", monkeypatch)
    monkeypatch.setattr(flash, "SECONDS", 0.3)
    with pytest.raises(BoardSilent, match="pyocd did not end in"):
        flash.run(flash.command(ELF, "pyocd", "nrf52"))


def test_a_programmer_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="pyocd is not installed: pip install pyocd"):
        flash.run(flash.command(ELF, "pyocd", "nrf52"))
