"""What the documentation shows to an embedded developer runs as it stands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorials" / "board-developer.md"


@pytest.fixture
def desk(tiny_artifact: Path, tmp_path: Path) -> Path:
    """A folder with the artifact under the name that the documentation uses."""
    shutil.copy(tiny_artifact, tmp_path / "lamp.tflite")
    return tmp_path


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_learns(desk: Path) -> None:
    before, after = run(desk, str(ROOT / "examples" / "classify.py"), "lamp.tflite").splitlines()
    assert "movie_night" not in before
    assert "movie_night" in after


def test_the_tutorial_runs(desk: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        said = run(desk, "-c", block.replace("/var/lib/lamp", "state"))
        assert said.splitlines()[-1] == "movie_night"


def test_the_tutorial_names_commands_that_exist(desk: Path) -> None:
    named = set(re.findall(r"^    tasuki (device \w+)", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    for words in named:
        assert "Example: tasuki" in run(desk, "-m", "tasuki.sdk", *words.split(), "--help")
