"""`tasuki firmware` as scripts and people meet it: what it writes and prints, exit codes, and nothing left behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tasuki.benchmarks import firmware_models
from tasuki.benchmarks.tflite_builder import Builder
from tasuki.firmware_bridge import build, cli
from tasuki.firmware_bridge.emit import vectors
from tasuki.firmware_bridge.target import boards, measure, serving
from tasuki.firmware_bridge.target.image import Image
from tasuki.firmware_bridge.text import serial
from tasuki.sdk import errors

PROGRAM = [sys.executable, "-m", "tasuki.sdk", "firmware"]
SIZES = {"arena_bytes", "model_bytes", "tokenizer_bytes", "labels_bytes", "tflite_bytes"}
FLASH = {"code_without_tables_bytes", "table_bytes", "tokenizer_bytes", "labels_bytes", "model_bytes"}
CORE_SIZES = SIZES | FLASH | {"static_bytes", "stack_bytes", "ram_bytes", "flash_bytes"}
PEAKS = {"stack_peak_bytes", "ram_peak_bytes"}


def run(*words: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=240, cwd=cwd, env={**os.environ, **env}
    )


def refused(done: subprocess.CompletedProcess[str], error: type[errors.TasukiError]) -> str:
    """The one line of an error."""
    assert done.returncode == error.exit_code, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
    assert said.startswith("tasuki: error: ")
    assert done.stdout == ""
    return said


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare full-int8 transformer."""
    path = tmp_path_factory.mktemp("model") / "twin.tflite"
    path.write_bytes(firmware_models.dyt(0, firmware_models.SMALL))
    return path


def first(pattern: str, text: str) -> str:
    """The pattern's first group."""
    found = re.search(pattern, text)
    assert found, text
    return found[1]


def scripts(folder: Path, **bodies: str) -> str:
    """A PATH that has only these tools."""
    folder.mkdir(exist_ok=True)
    for name, body in bodies.items():
        script = folder / name.replace("_", "-")
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
    return str(folder)


def test_boards() -> None:
    listed = json.loads(run("boards", "--json").stdout)
    assert list(listed) == sorted(boards.NAMES)
    assert listed["mps3-an547"]["emulator"] == "qemu-system-arm -M mps3-an547"
    said = run("boards").stdout
    assert all(name in said for name in boards.NAMES)


def test_build_for_the_host_writes_c_and_an_image(tiny_artifact: Path, tmp_path: Path) -> None:
    done = run("build", tiny_artifact, "--json", cwd=tmp_path)
    figures = json.loads(done.stdout)
    folder = tmp_path / "build" / "firmware" / "model-host"
    assert set(figures) == SIZES | {"compiler_table_bytes", "board", "folder"}
    assert Path(figures["folder"]) == folder.relative_to(tmp_path)
    for name in ("model.c", "model.h", "model_text.c", "README.md", "runtime/src/tsk_fc.c", "image/main.c"):
        assert (folder / name).exists(), name
    image = folder / "image" / "model-host"
    asked = subprocess.run([image], input=b"turn on the light\n", capture_output=True, timeout=30, check=False)
    assert asked.stdout.startswith(b"ready\t")
    assert len(asked.stdout.splitlines()) == 2
    # Once more, in the place of the first, under another name: that of a person who does not read JSON.
    done = run("build", tiny_artifact, "--name", "lamp", "--out", folder, "--no-image")
    assert "arena" in done.stdout
    assert (folder / "lamp.c").exists()
    assert not (folder / "image").exists()


def test_no_image_needs_no_compiler(model: Path, tmp_path: Path) -> None:
    done = run("build", model, "--board", "mps2-an386", "--no-image", "--out", tmp_path / "out", PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.c").exists()


def test_run_on_the_host(tiny_artifact: Path) -> None:
    words = ("--text", "turn on the light", "--text", "play music")
    answers = json.loads(run("run", tiny_artifact, *words, "--json").stdout)["answers"]
    assert [set(answer) for answer in answers] == [{"label", "confidence", "sure", "milliseconds"}] * 2
    said = run("run", tiny_artifact, *words[:2]).stdout
    assert said.startswith(f"'turn on the light': {answers[0]['label']}, ")


def test_a_bare_model_runs_on_seeded_inputs(model: Path) -> None:
    generated, host = build.generate(model), boards.get("host")
    first, again, other = (serving.run(generated, host, (), seed, 30) for seed in (7, 7, 8))
    assert first == again != other
    assert first["answers"] == []
    assert [len(values) for values in first["outputs"].values()] == [8]
    (port,) = generated.functions[0].outputs
    assert first["output_values"] == {port.name: port.count}
    assert first["seed"] == 7
    said = run("run", model, "--seed", "7").stdout.splitlines()
    assert said[0] == "one call of the model on inputs from seed 7; at most 8 values of each output:"
    ((name, values),) = first["outputs"].items()
    assert said[1] == f"{name}: {' '.join(f'{v:.4g}' for v in values)} (of {first['output_values'][name]:,})"
    said = refused(run("run", model, "--text", "hello"), errors.WrongTask)
    assert "a bare model takes no text" in said


@pytest.mark.boards
@pytest.mark.parametrize("board", [board.name for board in boards.BOARDS if not board.is_host])
def test_build_and_run_on_a_board(tiny_artifact: Path, board: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    figures = json.loads(run("build", tiny_artifact, "--board", board, "--out", out, "--json").stdout)
    assert set(figures) == CORE_SIZES | {"board", "folder"}
    assert figures["ram_bytes"] == figures["static_bytes"] + figures["stack_bytes"]
    assert figures["flash_bytes"] == sum(figures[name] for name in FLASH)
    facts = json.loads((out / "firmware.json").read_text())
    same = ("arena_bytes", "model_bytes", "tokenizer_bytes", "labels_bytes", "tflite_bytes")
    assert [facts[name] for name in same] == [figures[name] for name in same]
    assert (out / "image" / f"model-{board}.elf").exists()
    words = ("--text", "play music", "--text", "turn on the light please", "--text", "play music")
    found = json.loads(run("run", tiny_artifact, "--board", board, *words, "--json").stdout)
    assert set(found) == {"board", "answers"} | PEAKS
    counts = [answer["emulated_instructions"] for answer in found["answers"]]
    assert min(counts) > 10_000
    assert abs(counts[2] - counts[0]) <= 50, "one tick of the clock"
    # All that the built image has, self-test and serial line within, and a stack within its bound.
    assert found["ram_peak_bytes"] == figures["static_bytes"] + found["stack_peak_bytes"]
    assert found["stack_peak_bytes"] <= figures["stack_bytes"]
    on_host = json.loads(run("run", tiny_artifact, *words, "--json").stdout)
    kept = ("label", "confidence", "sure")
    assert [[a[k] for k in kept] for a in found["answers"]] == [[a[k] for k in kept] for a in on_host["answers"]]
    assert {frozenset(answer) for answer in found["answers"]} == {frozenset((*kept, "emulated_instructions"))}


@pytest.mark.boards
def test_the_stack_of_an_answer_is_deeper_than_that_of_the_model_alone(tiny_artifact: Path) -> None:
    generated, board = build.generate(tiny_artifact), boards.get("mps2-an386")
    alone, asked = (serving.run(generated, board, texts, 0, 60) for texts in ((), ("play music",)))
    assert alone["stack_peak_bytes"] + serial.MAX_LINE_BYTES < asked["stack_peak_bytes"], "a line is on the stack"


@pytest.mark.boards
def test_answers_that_are_errors_end_with_1(tiny_artifact: Path) -> None:
    for where in ("host", "mps2-an386"):
        words = ("run", tiny_artifact, "--board", where, "--text", "x" * 257, "--text", "play music", "--text", " ")
        done = run(*words)
        assert done.returncode == 1
        said = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
        why = "long (it has more than 256 bytes, which TSK_SERVE_LINE of the build sets)"
        assert said == [f"tasuki: error: 2 of 3 texts have no answer; the first: {why}"]
        assert "'play music': " in done.stdout
        done = run(*words, "--json")
        assert done.returncode == 1
        first, second, third = json.loads(done.stdout)["answers"]
        assert (first, third) == ({"error": "long"}, {"error": "text"})
        assert second["label"]
    assert "emulated_instructions" in second
    done = run("run", tiny_artifact, "--board", "mps2-an386", "--text", "", "--json")
    assert set(json.loads(done.stdout)) == {"board", "answers"}, "nothing was counted"
    assert run("run", tiny_artifact, "--text", "play music").returncode == 0


@pytest.mark.boards
def test_build_run_and_flash_for_people(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run("build", model, "--board", "mps2-an386", "--out", out).stdout
    assert "of memory on mps2-an386" in said
    assert "of flash on mps2-an386" in said
    assert "emulated instructions" in run("run", model, "--board", "mps2-an386").stdout
    flash = run("flash", out, "--target", "stm32f407vgtx", "--emulated", "--dry-run").stdout
    assert flash == f"pyocd flash --target stm32f407vgtx {out}/image/model-mps2-an386.elf\n"


def test_bad_input_has_its_exit_code_and_leaves_nothing(tiny_artifact: Path, model: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    broken, cut, noise, notes = (tmp_path / f"{name}.tflite" for name in ("broken", "cut", "noise", "notes"))
    content = model.read_bytes()
    broken.write_bytes(content[:200])
    cut.write_bytes(tiny_artifact.read_bytes()[:-100])
    noise.write_bytes(bytes(8) + os.urandom(4096))
    notes.write_bytes(b"turn on the light\n")
    for artifact, error in (
        (broken, errors.ModelCorrupt), (cut, errors.ArtifactCorrupt), (noise, errors.ModelCorrupt),
        (notes, errors.ModelCorrupt), (tmp_path / "no.tflite", errors.ArtifactMissing),
    ):  # fmt: skip
        refused(run("build", artifact, "--out", "out", cwd=work), error)
    refused(run("run", broken, cwd=work), errors.ModelCorrupt)
    refused(run("export", cut, "--as", "cmake", "--out", "out", "--no-compile", cwd=work), errors.ArtifactCorrupt)
    said = refused(run("build", model, "--name", "9lives", "--out", "out", cwd=work), errors.FirmwareError)
    assert "9lives" in said
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("--timeout", "nan"), ("--timeout", "inf"), ("--timeout", "0"), ("--timeout", "-1"), ("--seed", "-1")]
)
def test_numbers_that_can_not_be_are_told_before_anything_is_built(words: tuple[str, str]) -> None:
    done = CliRunner().invoke(cli.firmware, ["run", "no.tflite", *words])
    assert done.exit_code == 2
    assert f"Invalid value for '{words[0]}'" in done.stderr


def dense(kind: str, inputs: int, outputs: int) -> bytes:
    """One FULLY_CONNECTED."""
    whole = kind != "float32"
    scale = 0.01 if whole else None
    g = Builder()
    weights = g.constant(np.ones((outputs, inputs), kind), scale=scale, name="weights")
    g.output(g.op("FULLY_CONNECTED", [g.input((1, inputs), kind, scale), weights, None], (1, outputs), kind, scale))
    return g.build()


def test_a_float_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "float.tflite"
    path.write_bytes(dense("float32", 4, 3))
    said = refused(run("build", path, "--out", tmp_path / "out"), errors.ModelUnsupported)
    assert "FULLY_CONNECTED" in said
    assert "quantise fully" in said
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_too_large_says_by_how_much_and_what_dominates(tmp_path: Path) -> None:
    heavy, wide = tmp_path / "heavy.tflite", tmp_path / "wide.tflite"
    heavy.write_bytes(dense("int8", 2048, 1100))
    g = Builder()
    g.output(g.op("TANH", [g.input((1, 400_000), "int8", 0.05)], (1, 400_000), "int8", 1 / 128))
    wide.write_bytes(g.build())
    # No compiler is there: it is told before anything is compiled.
    words = ("--board", "mps3-an547", "--out", tmp_path / "out")
    said = refused(run("build", heavy, *words, PATH=str(tmp_path)), errors.ModelTooLarge)
    over = int(first(r"takes ([\d,]+) bytes more flash than the 2,097,152 of mps3-an547", said).replace(",", ""))
    assert 0 < over - (2048 * 1100 - (2 << 20)) < 20_000
    assert "weights alone is 2,252,800 bytes" in said
    said = refused(run("build", wide, *words, PATH=str(tmp_path)), errors.ModelTooLarge)
    assert re.search(r"takes [\d,]+ bytes more memory than the 524,288 of mps3-an547: .* alone is 400,000 bytes", said)
    assert not (tmp_path / "out").exists()


def test_missing_tools_say_how_to_install_them(model: Path, tmp_path: Path) -> None:
    empty = scripts(tmp_path / "bin")
    for words, cure in (
        (("build", model, "--out", tmp_path / "out"), "apt-get install gcc"),
        (("build", model, "--board", "mps2-an386", "--out", tmp_path / "out"), "apt-get install gcc-arm-none-eabi"),
        (("export", model, "--as", "pico", "--out", tmp_path / "out"), "apt-get install gcc-arm-none-eabi"),
    ):
        assert cure in refused(run(*words, PATH=empty), errors.ToolMissing)
    assert not (tmp_path / "out").exists()


def test_a_compiler_that_fails_is_quoted(model: Path, tmp_path: Path) -> None:
    path = scripts(tmp_path / "bin", cc="echo 'cc1: error: out of memory' >&2; exit 1")
    said = refused(run("build", model, "--out", tmp_path / "out", PATH=path), errors.BuildFailed)
    assert "cc1: error: out of memory" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    said = refused(run("build", model, "--out", tmp_path, "--no-image"), errors.FirmwareError)
    assert "was not made by" in said
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.boards
def test_a_missing_emulator_and_a_silent_board(model: Path, tmp_path: Path) -> None:
    compiler = shutil.which("arm-none-eabi-gcc")
    assert compiler is not None
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "arm-none-eabi-gcc").symlink_to(compiler)
    words = ("run", model, "--board", "mps2-an386", "--timeout", "0.5")
    assert "apt-get install qemu-system-arm" in refused(run(*words, PATH=str(tools)), errors.ToolMissing)
    scripts(tools, qemu_system_arm="exec /bin/sleep 30")
    assert "said nothing for 0.5 s" in refused(run(*words, PATH=str(tools)), errors.BoardSilent)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo hello; exec /bin/sleep 30", "said 'hello' where 'ready …' was expected"),
        ("echo 'qemu: no such machine' >&2; exit 1", r"ended \(qemu: no such machine\); it never said a word"),
        ("echo ready fffffffc; exec /bin/sleep 30", "the self-test fails with status -4"),
        ("echo ready 0; read x; echo done 1 0 0; exec /bin/sleep 30", "said nothing for 1 s"),
        ("echo ready 0; echo done ffffffff 0 0; head -c 512 /dev/zero; exec /bin/sleep 30", "ends with status -1"),
        ("echo ready zero; exec /bin/sleep 30", "said 'ready zero' where"),
        ("printf '\\377\\376\\n'; exec /bin/sleep 30", "said '\ufffd\ufffd' where"),
        ("echo ready 0; exec /bin/sleep 30 <&-", "mps2-an386 (takes no input|ended|said nothing)"),
    ],
)
def test_a_board_that_answers_otherwise(
    body: str, words: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{scripts(tmp_path / 'bin', qemu_system_arm=body)}:/usr/bin:/bin")
    generated = build.generate(model)
    made = Image(boards.get("mps2-an386"), tmp_path / "image.elf", None, None)
    inputs = vectors.random_inputs(generated.graphs[0], np.random.default_rng(0))
    with pytest.raises(errors.BoardSilent, match=words):
        measure.run(made, generated, [inputs], timeout=1)


@pytest.mark.parametrize(
    ("said", "words"),
    [("took 1", "said 'took 1' where 'took …' was expected"), ("sure\ta\t0.5000\t1", "where 'took …' was expected")],
)
def test_an_answer_without_its_count(
    said: str, words: str, tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"echo 'ready\tmodel'; echo 'sure\ta\t0.5000\t1'; echo '{said}'; exec /bin/sleep 30"
    monkeypatch.setenv("PATH", f"{scripts(tmp_path / 'bin', qemu_system_arm=body)}:/usr/bin:/bin")
    board = boards.get("mps2-an386")
    monkeypatch.setattr(measure, "link", lambda *_: Image(board, tmp_path / "image.elf", None, None))
    with pytest.raises(errors.BoardSilent, match=words):
        serving.run(build.generate(tiny_artifact), board, ("play music",), 0, 2.0)


def test_an_end_from_outside_leaves_nothing(tiny_artifact: Path, tmp_path: Path) -> None:
    ready, folder = tmp_path / "ready", tmp_path / "temporary"
    folder.mkdir()
    path = scripts(tmp_path / "bin", cc=f"echo > {ready}; exec /bin/sleep 3")
    command = [*PROGRAM, "run", str(tiny_artifact), "--text", "play music"]
    with subprocess.Popen(
        command, env={**os.environ, "PATH": path, "TMPDIR": str(folder)}, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        ends = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < ends:
            time.sleep(0.05)
        assert [found.name.startswith("tasuki-") for found in folder.iterdir()]
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    assert list(folder.iterdir()) == []


def test_what_can_not_be_printed_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PROGRAM, "boards"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 74
    assert done.stderr == "tasuki: error: can't write: No space left on device; make room, or write elsewhere\n"


def test_flash_needs_a_programmer(tmp_path: Path) -> None:
    from firmware.elf_kit import image

    path = tmp_path / "lamp.elf"
    path.write_bytes(image())
    done = run("flash", path, "--target", "nrf52", PATH=scripts(tmp_path / "bin"))
    assert "pip install pyocd" in refused(done, errors.ToolMissing)
    refused(run("flash", tmp_path / "no.elf", "--target", "nrf52"), errors.InputError)
