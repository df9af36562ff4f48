"""The programmers' command lines, and what becomes of them; no real programmer is needed."""

import os
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from firmware.elf_kit import TYPE, image

from tasuki.firmware_bridge.cli import firmware
from tasuki.firmware_bridge.target import boards, flash
from tasuki.firmware_bridge.target.image import link
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


def test_what_a_programmer_complains_of_may_be_anywhere_and_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programmer(tmp_path, "openocd", "printf 'Error: \\377\\n'; exit 1", monkeypatch)
    with pytest.raises(BoardSilent, match="openocd could not write the board: Error: \ufffd"):
        flash.run(flash.command(ELF, "openocd", "target/nrf52.cfg"))


def test_a_programmer_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programmer(tmp_path, "pyocd", "", monkeypatch)
    (tmp_path / "pyocd").write_bytes(b"MZ, something else")
    with pytest.raises(BoardSilent, match="pyocd does not start: Exec format error"):
        flash.run(flash.command(ELF, "pyocd", "nrf52"))


def test_an_image_that_can_not_be_read(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(flash.elf, "read", fail)
    with pytest.raises(InputError, match=r"model-board\.elf can't be read: Permission denied"):
        flash.image_in(built)


def test_a_programmer_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programmer(tmp_path, "pyocd", "exec sleep 60", monkeypatch)
    monkeypatch.setattr(flash, "SECONDS", 0.3)
    with pytest.raises(BoardSilent, match="pyocd did not end in"):
        flash.run(flash.command(ELF, "pyocd", "nrf52"))


def test_a_programmer_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="pyocd is not installed: pip install pyocd"):
        flash.run(flash.command(ELF, "pyocd", "nrf52"))


@pytest.mark.parametrize("board", [board for board in boards.BOARDS if board.machine], ids=lambda board: board.name)
def test_an_image_for_an_emulated_board_is_not_for_a_chip(board: boards.Board, built: Path) -> None:
    assert board.mark is not None
    path = built / "image" / "model-board.elf"
    path.write_bytes(image(board.mark))
    with pytest.raises(InputError, match=f"is for {board.name}, which is emulated: build it with --board FOLDER"):
        flash.image_in(built)
    assert flash.image_in(built, emulated=True) == path


def test_an_object_is_no_image(built: Path) -> None:
    path = built / "image" / "model-board.elf"
    content = bytearray(image())
    content[TYPE] = 1
    path.write_bytes(content)
    with pytest.raises(BuildFailed, match="is no linked image for an Arm core"):
        flash.image_in(built)


@pytest.mark.boards
def test_a_built_image_tells_its_board(tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text("int main(void);\nint main(void) {\n    return 0;\n}\n")
    made = link(boards.get("mps2-an505"), [source], tmp_path / "x.elf")
    with pytest.raises(InputError, match="is for mps2-an505"):
        flash.image_in(made.path)
    done = CliRunner().invoke(firmware, ["flash", str(made.path), "--target", "an505", "--emulated", "--dry-run"])
    assert done.output == f"pyocd flash --target an505 {made.path}\n"
