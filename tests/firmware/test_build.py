"""From a file to a folder of C: whole or not at all, the same for the same input, and never over something else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import causal_kit
import pytest
from firmware import graph_kit

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge import build, folder
from tasuki.sdk.errors import ArtifactCorrupt, ArtifactMissing, FirmwareError, ModelCorrupt, ModelUnsupported

DATA = firmware_models.dyt(0, firmware_models.SMALL)


def _tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_a_bare_model_needs_no_manifest() -> None:
    made = build.generate(DATA, "lamp")
    assert {"lamp.c", "lamp.h", "lamp_selftest.c", "README.md", "Makefile", "firmware.json"} == set(made.files)
    assert made.artifact is None
    assert (made.rounding, made.tflite_bytes) == ("tflm", len(DATA))
    assert made.arena_bytes == made.plans[0].arena
    assert f"TSK_LAMP_ARENA_BYTES {made.arena_bytes}\n".encode() in made.files["lamp.h"]
    assert made.largest[0][1] >= made.largest[-1][1] > 0


def test_an_artifact_brings_its_name_its_text_and_its_origin(tiny_artifact: Path) -> None:
    made = build.generate(tiny_artifact)
    assert made.artifact is not None
    assert {"model_text.c", "model_text.h"} <= set(made.files)
    readme = made.files["README.md"].decode()
    assert readme.startswith("# `model`: tiny\n")
    assert "| seed 7 | Apache-2.0 | random weights | " in readme
    assert "task classify, tier mcu" in readme


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, tiny_artifact: Path) -> None:
    for name in ("one", "two"):
        build.write(build.generate(tiny_artifact).files, tmp_path / name)
    assert _tree(tmp_path / "one") == _tree(tmp_path / "two")
    assert build.generate(tiny_artifact).files == build.generate(tiny_artifact.read_bytes()).files


def test_another_process_gives_the_same_bytes_too() -> None:
    """Sets of strings have another order there."""
    code = (
        "import sys; from tasuki.firmware_bridge import build; from tasuki.benchmarks import firmware_models as m;"
        "print(hash('a'), [(n, build.generate(m.dyt(0, m.SMALL)).files[n]) for n in ('model.c', 'model.h')])"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True,
            timeout=120,
        ).stdout.split(b" ", 1)
        for seed in ("1", "2")
    ]  # fmt: skip
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1]


def test_no_line_of_c_is_longer_than_the_projects_own() -> None:
    """A causal model has a dozen inputs and outputs."""
    for name, content in build.generate(bytes(causal_kit.read().model)).files.items():
        if name.endswith((".c", ".h")):
            assert max(map(len, content.decode().splitlines())) <= 120, name


def test_nothing_of_this_machine_is_in_the_files(tiny_artifact: Path) -> None:
    for content in build.generate(tiny_artifact).files.values():
        assert str(Path.cwd()).encode() not in content
        assert str(tiny_artifact.parent).encode() not in content


def test_the_model_takes_little_more_flash_than_the_file() -> None:
    data = firmware_models.dyt(0)
    made = build.generate(data)
    assert made.model_bytes <= 1.02 * len(data)


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
    (out / "lamp.o").write_bytes(b"left over")
    build.write(build.generate(DATA, "bulb").files, out)
    assert {p.name for p in out.glob("*.[cho]")} == {"bulb.c", "bulb.h", "bulb_selftest.c"}
    assert [p.name for p in out.parent.iterdir()] == ["lamp"]
    facts = json.loads((out / "firmware.json").read_bytes())
    assert (facts["name"], facts["made_by"]) == ("bulb", "tasuki")
    assert facts["files"] == sorted(_tree(out))


def test_a_file_that_somebody_added_is_never_lost(tmp_path: Path) -> None:
    out = tmp_path / "lamp"
    build.write(build.generate(DATA, "lamp").files, out)
    (out / "runtime" / "notes.txt").write_bytes(b"precious")
    before = _tree(tmp_path)
    with pytest.raises(FirmwareError, match="lamp has runtime/notes.txt, which Tasuki did not make: move it away"):
        build.write(build.generate(DATA, "bulb").files, out)
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("there", ["file", "folder", "list", "foreign", "unlisted"])
def test_what_tasuki_did_not_make_is_never_replaced(tmp_path: Path, there: str) -> None:
    out = tmp_path / "mine"
    if there == "file":
        out.write_bytes(b"precious")
    else:
        out.mkdir()
        (out / "thesis.txt").write_bytes(b"precious")
        said = {
            "list": b'["made_by"]',
            "foreign": b'{"made_by": "me", "files": []}',
            "unlisted": b'{"made_by": "tasuki"}',
        }
        if there in said:
            (out / "firmware.json").write_bytes(said[there])
    before = _tree(tmp_path)
    with pytest.raises(FirmwareError, match="was not made by `tasuki firmware`"):
        build.write(build.generate(DATA).files, out)
    assert _tree(tmp_path) == before


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    build.write(build.generate(DATA).files, tmp_path)
    assert (tmp_path / "model.c").exists()


@pytest.mark.parametrize("step", range(4))
def test_a_failure_leaves_what_was_there(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails at every step: while writing, when the old folder moves away, when the new one comes."""
    out = tmp_path / "lamp"
    build.write(build.generate(DATA, "lamp").files, out)
    before = _tree(tmp_path)
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
    assert _tree(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["lamp"]


def test_a_folder_that_can_not_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FirmwareError, match="lamp can't be written: (Not a directory|File exists)"):
        build.write(build.generate(DATA).files, tmp_path / "file" / "lamp")


def test_every_truncation_of_an_artifact_is_refused(tiny_artifact: Path) -> None:
    data = tiny_artifact.read_bytes()
    for size in [*range(0, len(data), 997), *range(len(data) - 40, len(data))]:
        with pytest.raises((ArtifactCorrupt, ModelCorrupt)):
            build.generate(data[:size])


def test_an_altered_artifact_is_refused(tiny_artifact: Path) -> None:
    data = bytearray(tiny_artifact.read_bytes())
    data[len(data) // 3] ^= 1
    with pytest.raises(ArtifactCorrupt):
        build.generate(bytes(data))


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(FirmwareError, match="rounding 'up' is neither of tflm, single"):
        build.generate(DATA, rounding="up")
    with pytest.raises(FirmwareError, match="can't be a model's name in C"):
        build.generate(DATA, name="Lamp!")
    with pytest.raises(ArtifactMissing, match="there is no file"):
        build.generate(tmp_path / "none.tflite")
    with pytest.raises(FirmwareError, match="rounding 'up'"):
        folder.runtime_files("up")


def test_a_float_model_is_refused() -> None:
    g = graph_kit.Builder()
    x = g.input((1, 4), "float32")
    g.output(g.op("ADD", [x, x], (1, 4), "float32"))
    with pytest.raises(ModelUnsupported, match="ADD"):
        build.generate(g.build())


def test_the_runtime_is_copied_with_the_rounding_that_the_model_wants(tmp_path: Path) -> None:
    for rounding, word in (("tflm", b"TFLM"), ("single", b"SINGLE")):
        config = build.runtime_files(rounding)["runtime/include/tsk_config.h"]
        assert b"#define TSK_ROUNDING TSK_ROUNDING_" + word + b"\n" in config
    assert shutil.which("make"), "the Makefile's test needs make"
