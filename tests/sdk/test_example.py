"""What the documentation shows to an embedded developer runs as it stands."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import causal_kit
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TUTORIAL = ROOT / "docs" / "tutorials" / "board-developer.md"


@pytest.fixture
def desk(tiny_artifact: Path, tmp_path: Path) -> Path:
    """A folder with the artifact under the name that the documentation uses."""
    shutil.copy(tiny_artifact, tmp_path / "lamp.tflite")
    return tmp_path


def run(folder: Path, *words: str, said: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *words], cwd=folder, capture_output=True, text=True, check=False, input=said
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_classify(desk: Path) -> None:
    first, second = run(desk, str(EXAMPLES / "classify.py"), "lamp.tflite", "turn on the light", "play").splitlines()
    assert first.startswith("'turn on the light' is ")
    assert second.startswith("'play' is ")


def test_feedback_is_learned(desk: Path) -> None:
    said = "".join(f"{text}\nmovie_night\n" for text in ("cosy please", "cosy now", "the light cosy", "cosy kitchen"))
    last = run(desk, str(EXAMPLES / "feedback.py"), "lamp.tflite", said=said).splitlines()[-1]
    assert last.startswith("'make it cosy' is movie_night, says the local adapter")


def test_generate(desk: Path) -> None:
    (desk / "talker.tflite").write_bytes(causal_kit.student())
    words = run(desk, str(EXAMPLES / "generate.py"), "talker.tflite", "hello")
    assert "tokens, ended by" in words
    assert "perplexity of the prompt" in words


def test_the_service_answers_and_learns(desk: Path) -> None:
    script = str(EXAMPLES / "service" / "service.py")
    environment = {**os.environ, "STATE_DIRECTORY": str(desk / "state"), "RUNTIME_DIRECTORY": str(desk)}
    with subprocess.Popen([sys.executable, script, "lamp.tflite"], cwd=desk, env=environment) as service:
        try:
            wait_for(desk / "socket")
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(desk / "socket"))
                with line.makefile("rw") as stream:
                    answers = []
                    for text in ("turn on the light", "make it cosy\tmovie_night", " "):
                        stream.write(text + "\n")
                        stream.flush()
                        answers.append(json.loads(stream.readline()))
            assert 0 < answers[0]["probability"] <= 1
            assert answers[1]["label"] == "movie_night"
            assert answers[2] == {"error": "the text is empty"}
        finally:
            service.send_signal(signal.SIGTERM)
        assert service.wait(20) in (0, -signal.SIGTERM)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("file", sorted((ROOT / "examples").rglob("*.py")), ids=lambda file: file.name)
def test_examples_are_short(file: Path) -> None:
    code = [line for line in file.read_text().splitlines() if line.strip()]
    assert len(code) <= 30


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
