"""The SDK on an Arm board: Debian's Python for arm64 under qemu-user, with the wheels that pip gives such a board."""

import json
import shutil
import subprocess
from pathlib import Path

import causal_kit
import numpy as np
import pytest

from tasuki.sdk import Device

ROOT = Path(__file__).resolve().parents[2]
BOARD = ROOT / ".venv" / "board-aarch64"
TEXTS = ["turn on the kitchen light", "please stop the music", "cosy", "switch the lamp off now"]
SCRIPT = """
import json, platform, sys
from tasuki.sdk import Device
texts = json.loads(sys.argv[4])
with Device.open(sys.argv[1], sys.argv[3] + "/state") as device:
    features, logits = device.embed(texts)
    answers = [device.predict(text).label for text in texts]
    for text in ("make it cosy", "cosy please", "cosy now", "the light cosy"):
        device.learn(text, "movie_night", new_label=True, durable=False)
    device.flush()
    learned = device.predict("cosy kitchen")._asdict()
    status = device.status()
with Device.open(sys.argv[1], sys.argv[3] + "/state") as device:
    again = device.predict("cosy kitchen").label
with Device.open(sys.argv[2], sys.argv[3] + "/talker") as device:
    text = "".join(device.generate("hello", max_tokens=8))
    nats = device.score("the door is on").nats
print(json.dumps({"machine": platform.machine(), "runtime": status["runtime"], "features": features.tolist(),
                  "logits": logits.tolist(), "answers": answers, "learned": learned, "again": again, "text": text,
                  "nats": nats}))
"""


def on_board(*words: str) -> dict:
    """What SCRIPT prints on the board."""
    emulator = shutil.which("qemu-aarch64-static")
    if emulator is None or not (BOARD / "packages").is_dir():
        pytest.fail("no Arm board: run `make board-aarch64` (as root, or after its apt-get command) first")
    root = BOARD / "root"
    environment = {
        "QEMU_LD_PREFIX": str(root), "PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(BOARD / "packages"),
        "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [emulator, "-cpu", "cortex-a72", str(root / "usr/bin/python3.11"), "-W", "error", "-c", SCRIPT, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
def test_a_board_answers_learns_and_writes_as_this_machine_does(tiny_artifact: Path, tmp_path: Path) -> None:
    talker = tmp_path / "talker.tflite"
    talker.write_bytes(causal_kit.student())
    seen = on_board(str(tiny_artifact), str(talker), str(tmp_path), json.dumps(TEXTS))
    assert (seen["machine"], seen["runtime"]) == ("aarch64", "ai_edge_litert")
    assert seen["learned"]["label"] == seen["again"] == "movie_night"
    with Device.open(tiny_artifact, tmp_path / "here") as device:
        features, logits = device.embed(TEXTS)
        answers = [device.predict(text).label for text in TEXTS]
    # Arm's kernels may round a product the other way: a few steps of int8 at most.
    for theirs, ours in ((seen["features"], features), (seen["logits"], logits)):
        assert np.abs(np.array(theirs) - ours).max() <= 4 / 127 * np.abs(ours).max()
    assert seen["answers"] == answers
    with Device.open(talker, tmp_path / "talk-here") as device:
        assert seen["nats"] == pytest.approx(device.score("the door is on").nats, rel=0.05)
    # A state made on the board opens here: bytes are the same whatever the processor.
    with Device.open(tiny_artifact, tmp_path / "state") as device:
        assert device.predict("cosy kitchen").label == "movie_night"
