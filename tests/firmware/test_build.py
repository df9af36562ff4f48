"""From a file to a folder of C: whole or not at all, the same for the same input, and never over something else."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import causal_kit
import numpy as np
import pytest
from click.testing import CliRunner
from firmware import graph_kit

from tasuki.benchmarks import firmware_models
from tasuki.converter import pack
from tasuki.firmware_bridge import build, cli
from tasuki.firmware_bridge.compiler.program import Plan
from tasuki.firmware_bridge.emit import folder
from tasuki.firmware_bridge.target import toolchain
from tasuki.firmware_bridge.text import Learned
from tasuki.sdk import Device, artifact
from tasuki.sdk.adapter import Head
from tasuki.sdk.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    FirmwareError,
    InputError,
    ModelCorrupt,
    ModelUnsupported,
)

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


def _repacked(path: Path, **changes: object) -> bytes:
    """The artifact with other fields in its manifest."""
    parts = artifact.load(path)
    about = {name: value for name, value in parts.manifest.items() if name not in ("format", "parts")}
    members = {artifact.VOCABULARY: "\n".join(parts.vocabulary).encode(), artifact.MOMENT: parts.moment.tobytes()}
    return pack.pack(bytes(parts.model), members, {**about, **changes})


def test_float_activations_are_refused_by_name(tiny_artifact: Path) -> None:
    with pytest.raises(ModelUnsupported, match=r"the model has float activations \(tier mcu\): convert it"):
        build.generate(_repacked(tiny_artifact, activations="float"))


def test_the_size_of_the_tflite_is_without_what_is_packed_with_it(tiny_artifact: Path) -> None:
    made = build.generate(tiny_artifact)
    assert made.artifact is not None
    assert made.tflite_bytes == len(made.artifact.model) < tiny_artifact.stat().st_size
    assert json.loads(made.files["firmware.json"])["tflite_bytes"] == made.tflite_bytes


def test_what_a_device_has_learned_is_built_in(tiny_artifact: Path) -> None:
    parts = artifact.load(tiny_artifact)
    head = Head((*parts.labels, "cosy"), np.ones((5, 16), np.float32), np.zeros(5, np.float32))
    made = build.generate(tiny_artifact, learned=Learned(head, 1.0, None, 0.5))
    assert b"TSK_MODEL_LABEL_COSY = 4," in made.files["model_text.h"]


def test_a_build_with_an_adapter_says_so(tiny_artifact: Path) -> None:
    parts = artifact.load(tiny_artifact)
    head = Head((*parts.labels, "cosy"), np.ones((5, 16), np.float32), np.zeros(5, np.float32))
    learned = Learned(head, 1.0, None, 0.5, "bias", 12)
    bare, made = build.generate(tiny_artifact), build.generate(tiny_artifact, learned=learned)
    facts = json.loads(made.files["firmware.json"])
    assert facts["adapter"] == {
        "kind": "bias", "examples": 12, "labels": list(head.labels), "own_labels": ["cosy"], "sha256": learned.digest,
    }  # fmt: skip
    assert (facts["adapter_bytes"], dict(made.text_sizes)["adapter"]) == (5 * 17 * 4, 5 * 17 * 4)
    assert not {"adapter", "adapter_bytes"} & set(json.loads(bare.files["firmware.json"]))
    readme = made.files["README.md"].decode()
    said = f"its own adapter, kind `bias`, fitted to 12 texts. SHA-256 `{learned.digest}`.\n"
    assert f"{said}Labels: 5; that the artifact does not have: cosy.\n" in readme
    assert "| adapter: what the device has learned, flash | 340 |" in readme
    assert "has learned" not in bare.files["README.md"].decode()
    fleet = build.generate(tiny_artifact, learned=Learned(head, 1.0, 1.0, 0.5, "fleet"))
    assert "state of a device: the adapter of its fleet. SHA-256" in fleet.files["README.md"].decode()


def test_the_command_says_what_is_built_in(tiny_artifact: Path, tmp_path: Path) -> None:
    command = ["build", str(tiny_artifact), "--no-image", "--out", str(tmp_path / "out"), "--state"]
    with Device.open(tiny_artifact, tmp_path / "state") as device:
        for times in range(6):
            device.learn(f"make it cosy {'now ' * times}", "cosy", new_label=True)
    found = CliRunner().invoke(cli.firmware, [*command, str(tmp_path / "state"), "--json"], catch_exceptions=False)
    facts = json.loads((tmp_path / "out" / "firmware.json").read_bytes())
    digest = facts["adapter"]["sha256"]
    assert found.stderr.endswith(
        f"built in: adapter head, fitted to 6 texts; 5 labels, of its own: cosy; SHA-256 {digest}\n"
    )  # fmt: skip
    assert json.loads(found.stdout)["folder"] == str(tmp_path / "out")
    with pytest.raises(InputError, match=r"has no state\.db"):
        CliRunner().invoke(cli.firmware, [*command, str(tmp_path)], catch_exceptions=False)


def _sizes(object_file: Path, tool: str = "nm") -> dict[str, tuple[str, int]]:
    """What an object defines, by name: the kind as nm says, and bytes."""
    said = subprocess.run([tool, "-S", object_file], capture_output=True, text=True, check=True, timeout=60).stdout
    rows = [line.split() for line in said.splitlines() if len(line.split()) == 4]
    return {name.partition(".")[0]: (kind, int(size, 16)) for _, size, kind, name in rows}


@pytest.mark.parametrize("room", ["small", "large"])
def test_the_readme_knows_what_the_self_test_takes(tmp_path: Path, room: str) -> None:
    """Of a model whose arena is too small for the kernels' self-test, which then has memory of its own, and not."""
    made = build.generate(DATA if room == "small" else firmware_models.dyt(0), "lamp")
    assert (made.arena_bytes < 4096) == (room == "small")
    folder.write(made.files, tmp_path / "out")
    subprocess.run(
        ["cc", "-std=c99", "-O0", "-I.", "-Iruntime/include", "-c", "lamp_selftest.c", "-o", "../it.o"],
        cwd=tmp_path / "out", check=True, timeout=60,
    )  # fmt: skip
    found = _sizes(tmp_path / "it.o").values()
    rows = dict(re.findall(r"^\| (.*) \| (\d+) \|$", made.files["README.md"].decode(), re.MULTILINE))
    memory = sum(size for kind, size in found if kind in "bBdD")
    vectors = sum(size for kind, size in found if kind in "rR")
    assert int(rows["the self-test's own, RAM; none with `-DTSK_SELFTEST=0`"]) == memory > 0
    assert int(rows["golden vectors of the self-test, flash; none with `-DTSK_SELFTEST=0`"]) == vectors > 0


@pytest.mark.boards
@pytest.mark.parametrize("task", ["classify", "causal"])
def test_the_readme_knows_what_text_takes(tiny_artifact: Path, tmp_path: Path, task: str) -> None:
    parts = artifact.load(tiny_artifact)
    head = Head((*parts.labels, "cosy"), np.ones((5, 16), np.float32), np.ones(5, np.float32))
    learned = Learned(head, 1.0, None, 0.5) if task == "classify" else None
    made = build.generate(tiny_artifact if task == "classify" else causal_kit.student(), "lamp", learned=learned)
    folder.write(made.files, tmp_path / "out")
    subprocess.run(
        [toolchain.find("arm-none-eabi-gcc"), "-mcpu=cortex-m4", "-mthumb", "-std=c99", "-O0", "-I.",
         "-Iruntime/include", "-c", "lamp_text.c", "-o", "../it.o"],
        cwd=tmp_path / "out", check=True, timeout=60,
    )  # fmt: skip
    found = {name: size for name, (_, size) in _sizes(tmp_path / "it.o", toolchain.find("arm-none-eabi-nm")).items()}
    said = dict(made.text_sizes)
    rows = made.files["README.md"].decode()
    assert f"| tokenizer, flash | {said['tokenizer']} |" in rows
    if task == "causal":
        assert said == {"tokenizer": sum(found.get(n, 0) for n in ("merges", "ranks", "letters", "pieces", "offsets"))}
        return
    texts = sum(len(label) + 1 for label in head.labels)
    assert said == {
        "tokenizer": found["first_pieces"] + found["later_pieces"], "labels": found["labels"] + texts,
        "adapter": found["weight"] + found["bias"],
    }  # fmt: skip
    assert f"| labels, on a processor of 32 bits, flash | {said['labels']} |" in rows


def test_every_plan_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.plan, "plan", lambda program: Plan({}, 0, 0))
    with pytest.raises(ValueError, match="has no place in the arena"):
        build.generate(DATA)


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
        name: hashlib.sha256(content).hexdigest() for name, content in _tree(out).items() if name != "firmware.json"
    }
    assert list(facts["files"]) == sorted(facts["files"])
    assert not {"build", "image"} & {path.name for path in out.iterdir()}


def test_a_file_that_somebody_added_is_never_lost(tmp_path: Path) -> None:
    out = tmp_path / "lamp"
    build.write(build.generate(DATA, "lamp").files, out)
    (out / "runtime" / "notes.txt").write_bytes(b"precious")
    before = _tree(tmp_path)
    wanted = r"lamp would lose runtime/notes.txt \(not Tasuki's\): move it, or choose another --out"
    with pytest.raises(FirmwareError, match=wanted):
        build.write(build.generate(DATA, "bulb").files, out)
    assert _tree(tmp_path) == before


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
    before = _tree(tmp_path)
    changed = (
        r"Makefile \(changed\), README.md \(changed\), lamp.c \(changed\) and 2 more: move it, or choose another --out"
    )
    with pytest.raises(FirmwareError, match=f"lamp would lose {changed}"):
        build.write(files, out)
    assert _tree(tmp_path) == before


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
    before = _tree(tmp_path)
    with pytest.raises(FirmwareError, match="has the layout 'cmake', not 'build': move it, or choose another --out"):
        build.write(files, tmp_path)
    assert _tree(tmp_path) == before


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
