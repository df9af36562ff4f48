"""A folder of C: whole or not at all, complete by itself, and never over something else."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from firmware.folder_kit import tree

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.emit import folder
from tasuki.sdk.errors import FirmwareError

DATA = firmware_models.dyt(0, firmware_models.SMALL)


def test_the_folder_makes_a_library_by_itself(tmp_path: Path) -> None:
    out = tmp_path / "lamp"
    build.write(build.generate(DATA, "lamp", "single").files, out)
    subprocess.run(["make", "-s", "-j2", "CFLAGS=-O1 -Wall -Wextra -Werror"], cwd=out, check=True, timeout=120)
    main = b'#include "lamp.h"\nint main(void) { return tsk_lamp_invoke(0, 0, 0) == TSK_E_ARGUMENT ? 0 : 1; }\n'
    (out / "main.c.txt").write_bytes(main)
    subprocess.run(
        ["cc", "-std=c99", "-I.", "-Iruntime/include", "-xc", "main.c.txt", "-xnone", "liblamp.a", "-lm", "-o", "t"],
        cwd=out, check=True, timeout=60,
    )  # fmt: skip
    assert subprocess.run([out / "t"], check=False, timeout=10).returncode == 0


def test_a_folder_of_ours_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "lamp"
    build.write(build.generate(DATA, "lamp").files, out)
    for made in ("build/lamp.o", "image/lamp.elf", "liblamp.a"):
        (out / made).parent.mkdir(exist_ok=True)
        (out / made).write_bytes(b"left over")
    build.write(build.generate(DATA, "bulb").files, out)
    assert {p.name for p in out.glob("*.[cho]")} == {"bulb.c", "bulb.h", "bulb_selftest.c"}
    assert [p.name for p in out.parent.iterdir()] == ["lamp"]
    facts = json.loads((out / "firmware.json").read_bytes())
    assert (facts["name"], facts["made_by"]) == ("bulb", "tasuki")
    assert facts["layout"] == "build"
    assert facts["files"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in tree(out).items() if name != "firmware.json"
    }
    assert list(facts["files"]) == sorted(facts["files"])
    assert not {"build", "image"} & {path.name for path in out.iterdir()}


def test_a_file_that_somebody_added_is_never_lost(tmp_path: Path) -> None:
    out = tmp_path / "lamp"
    build.write(build.generate(DATA, "lamp").files, out)
    (out / "runtime" / "notes.txt").write_bytes(b"precious")
    before = tree(tmp_path)
    wanted = r"lamp would lose runtime/notes.txt \(not Tasuki's\): move it, or choose another --out"
    with pytest.raises(FirmwareError, match=wanted):
        build.write(build.generate(DATA, "bulb").files, out)
    assert tree(tmp_path) == before


def test_a_file_that_somebody_changed_is_never_lost(tmp_path: Path) -> None:
    out = tmp_path / "lamp"
    files = build.generate(DATA, "lamp").files
    build.write(files, out)
    (out / "lamp.c").unlink()
    build.write(files, out)
    assert (out / "lamp.c").exists()
    for name in ("Makefile", "README.md", "lamp.c", "lamp.h"):
        (out / name).write_bytes((out / name).read_bytes() + b"\n")
    (out / "vendor.a").write_bytes(b"precious")
    before = tree(tmp_path)
    changed = (
        r"Makefile \(changed\), README.md \(changed\), lamp.c \(changed\) and 2 more: move it, or choose another --out"
    )
    with pytest.raises(FirmwareError, match=f"lamp would lose {changed}"):
        build.write(files, out)
    assert tree(tmp_path) == before


def test_a_link_in_the_place_of_a_file_is_never_lost(tmp_path: Path) -> None:
    out = tmp_path / "lamp"
    files = build.generate(DATA, "lamp").files
    build.write(files, out)
    (out / "lamp.c").rename(tmp_path / "elsewhere.c")
    (out / "lamp.c").symlink_to(tmp_path / "elsewhere.c")
    with pytest.raises(FirmwareError, match=r"would lose lamp.c \(changed\)"):
        build.write(files, out)
    assert (out / "lamp.c").is_symlink()


def test_a_folder_of_another_layout_is_never_replaced(tmp_path: Path) -> None:
    files = build.generate(DATA, "lamp").files
    folder.place(files, tmp_path, "cmake")
    before = tree(tmp_path)
    with pytest.raises(FirmwareError, match="has the layout 'cmake', not 'build': move it, or choose another --out"):
        build.write(files, tmp_path)
    assert tree(tmp_path) == before


def test_of_a_link_the_folder_that_it_leads_to_is_meant(tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to(tmp_path / "there")
    files = build.generate(DATA, "lamp").files
    for _ in range(2):
        build.write(files, tmp_path / "here")
        assert (tmp_path / "here").is_symlink()
        assert (tmp_path / "there" / "lamp.c").exists()
    (tmp_path / "there" / "lamp.c").write_bytes(b"precious")
    with pytest.raises(FirmwareError, match=r"here would lose lamp.c \(changed\)"):
        build.write(files, tmp_path / "here")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(FirmwareError, match="circle can't be written"):
        build.write(files, tmp_path / "circle")


def test_other_flags_compile_everything_again(tmp_path: Path) -> None:
    out = tmp_path / "lamp"
    build.write(build.generate(DATA, "lamp").files, out)

    def make(flags: str) -> list[str]:
        command = ["make", "-j2", f"CFLAGS={flags}"]
        done = subprocess.run(command, cwd=out, check=True, capture_output=True, text=True, timeout=300)
        return [line for line in done.stdout.splitlines() if " -c " in line]

    sources = len([*out.glob("*.c"), *out.glob("runtime/src/*.c")])
    assert len(make("-O0 -DNOTE='\"two words\"'")) == sources
    assert make("-O0 -DNOTE='\"two words\"'") == []
    assert len(make("-O0")) == sources
    subprocess.run(["make", "-s", "clean"], cwd=out, check=True, timeout=60)
    assert not (out / "build").exists()


@pytest.mark.parametrize("there", ["file", "folder", "list", "foreign", "empty", "unlisted"])
def test_what_tasuki_did_not_make_is_never_replaced(tmp_path: Path, there: str) -> None:
    out = tmp_path / "mine"
    if there == "file":
        out.write_bytes(b"precious")
    else:
        out.mkdir()
        (out / "thesis.txt").write_bytes(b"precious")
        said = {
            "list": b'["made_by"]',
            "foreign": b'{"made_by": "me", "files": ["firmware.json", "thesis.txt"]}',
            "empty": b'{"made_by": "tasuki", "files": []}',
            "unlisted": b'{"made_by": "tasuki"}',
        }
        if there in said:
            (out / "firmware.json").write_bytes(said[there])
    before = tree(tmp_path)
    with pytest.raises(FirmwareError, match="was not made by `tasuki firmware`"):
        build.write(build.generate(DATA).files, out)
    assert tree(tmp_path) == before


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    build.write(build.generate(DATA).files, tmp_path)
    assert (tmp_path / "model.c").exists()


@pytest.mark.parametrize("step", range(4))
def test_a_failure_leaves_what_was_there(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails at every step: while writing, when the old folder moves away, when the new one comes."""
    out = tmp_path / "lamp"
    build.write(build.generate(DATA, "lamp").files, out)
    before = tree(tmp_path)
    left = [3 if step == 0 else 10**6]
    moves = [10**6 if step in (0, 3) else step - 1]
    write_bytes, rename = Path.write_bytes, Path.rename

    def failing_write(self: Path, data: bytes) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return write_bytes(self, data)

    def failing_rename(self: Path, target: Path) -> Path:
        moves[0] -= 1
        if moves[0] == -1:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "write_bytes", failing_write)
    monkeypatch.setattr(Path, "rename", failing_rename)
    if step == 3:
        monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    with pytest.raises(FirmwareError, match="can't be written: (No space|Input/output|Read-only)"):
        build.write(build.generate(DATA, "bulb").files, out)
    monkeypatch.undo()
    assert tree(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["lamp"]


def test_a_folder_that_can_not_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FirmwareError, match="lamp can't be written: (Not a directory|File exists)"):
        build.write(build.generate(DATA).files, tmp_path / "file" / "lamp")


def test_the_runtime_is_copied_with_the_rounding_that_the_model_wants(tmp_path: Path) -> None:
    for rounding, word in (("tflm", b"TFLM"), ("single", b"SINGLE")):
        config = build.runtime_files(rounding)["runtime/include/tsk_config.h"]
        assert b"#define TSK_ROUNDING TSK_ROUNDING_" + word + b"\n" in config
    assert shutil.which("make"), "the Makefile's test needs make"
