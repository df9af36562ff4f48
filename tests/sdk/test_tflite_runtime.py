"""The predecessor's runtime for real: tflite-runtime 2.14 (CPython 3.11, NumPy 1) in an environment of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasuki.sdk import Device

ROOT = Path(__file__).resolve().parents[2]
# What a board with the predecessor installs; LiteRT is left out, so the seam has to take tflite-runtime.
PACKAGES = ("tflite-runtime==2.14.0", "numpy<2", "cbor2>=5.6", "click>=8.1", "cryptography>=50", "paho-mqtt>=2.1",
            "rich>=13")  # fmt: skip
TEXTS = ("turn on the light", "switch off the lamp", "play music in the kitchen", "stop", "please make it cosy now")
BOARD = """
import json, sys
from tasuki.sdk import Device
texts = json.loads(sys.argv[3])
with Device.open(sys.argv[1], state=sys.argv[2]) as device:
    features, logits = device.embed(texts)
    for text in ("make it cosy", "cosy please", "cosy now"):
        device.learn(text, "movie_night", new_label=True)
    print(json.dumps({"runtime": device.status()["runtime"], "features": features.tolist(), "logits": logits.tolist(),
                      "learned": device.predict("make it cosy").label,
                      "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def python_3_11() -> str:
    """Path of a working CPython 3.11; fails with how to get one."""
    for candidate in (sys.executable, shutil.which("python3.11")):
        if candidate is None:
            continue
        words = [candidate, "-c", "import sys; print(sys.version_info[:2] == (3, 11))"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.stdout.strip() == "True":
            return candidate
    pytest.fail("no CPython 3.11: apt-get install python3.11 python3.11-venv, or pyenv install 3.11")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with tflite-runtime and without LiteRT; `tasuki` is on its path as source."""
    folder = tmp_path_factory.mktemp("board")
    subprocess.run([python_3_11(), "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"pip could not install {', '.join(PACKAGES)}: {done.stderr[-2000:]}"
    packages = next((folder / "env" / "lib").glob("python3.11/site-packages"))
    (packages / "tasuki").symlink_to(ROOT)
    return python


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_board_with_tflite_runtime_answers_as_litert_does(board: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    words = [board, "-W", "error", "-c", BOARD, tiny_artifact, tmp_path / "board", json.dumps(TEXTS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["runtime"] == "tflite_runtime"
    assert "ai_edge_litert" not in seen["modules"]
    assert seen["learned"] == "movie_night"
    with Device.open(tiny_artifact, state=tmp_path / "here") as device:
        assert device.status()["runtime"] == "ai_edge_litert"
        features, logits = device.embed(TEXTS)
    # The kernels round differently, by one step of int8 an operator; later operators carry that on.
    for theirs, ours in ((seen["features"], features), (seen["logits"], logits)):
        apart = np.abs(np.array(theirs) - ours)
        assert apart.max() <= 4 / 127 * np.abs(ours).max()
