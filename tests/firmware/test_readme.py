"""The README of a generated folder: its example is C that compiles, links and runs there."""

import re
import subprocess
from pathlib import Path

import causal_kit
import pytest
from firmware.graph_kit import Builder, small

from tasuki.firmware_bridge import build

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "firmware-engineer.md"


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _written(source: Path | bytes, out: Path) -> str:
    """The README of the folder `out`, which is written."""
    made = build.generate(source, "lamp")
    build.write(made.files, out)
    return made.files["README.md"].decode()


def _said(folder: Path, readme: str, flags: str = "") -> str:
    """What the README's example prints, compiled and linked as the README says."""
    (example,) = re.findall(r"^```c\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    _run(folder, "make", "-s", "-j2", f"CFLAGS=-O1 {flags}")
    warnings = ("-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
    (folder.parent / "main.c").write_text(example)
    include = ("-I.", "-Iruntime/include")
    # Without a port, and without --gc-sections.
    _run(folder, "cc", "-std=c99", *warnings, *flags.split(), *include, "../main.c", "liblamp.a", "-o", "../example")
    return _run(folder, "../example")


@pytest.mark.parametrize("flags", ["", "-DTSK_SELFTEST=0 -DTSK_KERNELS=0 -DTSK_SERVE_LINE=64"])
def test_the_example_of_a_classifier(tiny_artifact: Path, tmp_path: Path, flags: str) -> None:
    readme = _written(tiny_artifact, tmp_path / "lamp")
    assert "tsk_lamp_classify(&memory, text, strlen(text), &answer)" in readme
    assert _said(tmp_path / "lamp", readme, flags) == ""


def test_the_example_of_the_tutorial(tiny_artifact: Path, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```c\n(.*?)^```$", TUTORIAL.read_text(), re.DOTALL | re.MULTILINE)
    _written(tiny_artifact, tmp_path / "lamp")
    assert _said(tmp_path / "lamp", f"```c\n{example.replace('model', 'lamp')}```\n") == ""


def test_the_example_of_a_causal_model(tmp_path: Path) -> None:
    readme = _written(causal_kit.student(), tmp_path / "lamp")
    assert _said(tmp_path / "lamp", readme) != ""


def test_the_example_of_a_bare_model(tmp_path: Path) -> None:
    readme = _written(small().build(), tmp_path / "lamp")
    assert "return tsk_lamp_invoke(arena, x, out);" in readme
    assert "_text" not in readme
    assert _said(tmp_path / "lamp", readme) == ""


def test_tensors_may_be_called_what_they_like(tmp_path: Path) -> None:
    g = Builder()
    x, y = (g.input((1, 3), "int8", 0.1, name=name) for name in ("main", "exp"))
    g.output(
        g.op("ADD", [x, y], (1, 3), "int8", 0.1, name="tsk_lamp_invoke"),
        g.op("TANH", [x], (1, 3), scale=1 / 128, name="arena"),
    )
    assert _said(tmp_path / "lamp", _written(g.build(), tmp_path / "lamp")) == ""
