"""From a file to C: what is in it, the same for the same input, and what is refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import causal_kit
import numpy as np
import pytest
from click.testing import CliRunner
from firmware import graph_kit
from firmware.folder_kit import tree

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
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
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
