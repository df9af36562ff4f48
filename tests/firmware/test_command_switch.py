"""The example: a command over the serial line, the switch, the answer back."""

import subprocess
import sys
from pathlib import Path

import pytest

from tasuki.converter import pack
from tasuki.sdk import Device, artifact

EXAMPLE = Path(__file__).parents[2] / "examples" / "command_switch"


def _relabelled(source: Path, folder: Path, labels: list[str]) -> Path:
    """The same artifact with other names for its labels."""
    parts = artifact.load(source)
    assert isinstance(parts.model, bytes)
    about = {name: value for name, value in parts.manifest.items() if name not in ("format", "parts")}
    members = {artifact.VOCABULARY: "\n".join(parts.vocabulary).encode(), artifact.MOMENT: parts.moment.tobytes()}
    path = folder / "switch.tflite"
    path.write_bytes(pack.pack(parts.model, members, {**about, "labels": labels}))
    return path


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(EXAMPLE / "run.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)


@pytest.fixture(scope="module")
def words(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What `run.py` is given: a student that knows nothing, and a device of it that has been taught."""
    folder = tmp_path_factory.mktemp("switch")
    path = _relabelled(tiny_artifact, folder, ["turn_off", "turn_on", "play", "stop"])
    with Device.open(path, folder / "state") as device:
        for end in ("", " please", " now", " light", " kitchen", " hall"):
            for text, label in (("turn on", "turn_on"), ("switch off", "turn_off"), ("play music", "play")):
                device.learn(text + end, label)
    return "--artifact", str(path), "--state", str(folder / "state")


def _obeys(words: tuple[str, ...], board: str) -> None:
    texts = ["play music", "turn on the light", "play music please", "switch off now", "turn on", "switch off", ""]
    done = _run(*texts, "--board", board, *words)
    assert done.returncode == 0, done.stderr
    *said, blank = done.stdout.splitlines()
    assert blank == "'': error: text (there is nothing to read in it)"
    stands, changes = "off", 0
    for text, line in zip(texts, said, strict=False):
        answer, switch = line.removeprefix(f"{text!r}: ").split("; switch is ")
        label, *rest = answer.split(", ")
        wanted = stands if "unsure" in rest else {"turn_on": "on", "turn_off": "off"}.get(label, stands)
        changes += wanted != stands
        stands = wanted
        assert switch == stands
    assert changes == 4, said


def test_it_obeys_as_a_process(words: tuple[str, ...]) -> None:
    _obeys(words, "host")


@pytest.mark.boards
def test_it_obeys_in_the_emulator(words: tuple[str, ...]) -> None:
    _obeys(words, "mps2-an386")


def test_labels_that_the_model_lacks_do_not_compile(tiny_artifact: Path) -> None:
    done = _run("on", "--board", "host", "--artifact", str(tiny_artifact))
    assert done.returncode != 0
    assert "TSK_MODEL_LABEL_TURN_ON" in done.stderr


def test_the_readme_names_what_there_is() -> None:
    readme = (EXAMPLE / "README.md").read_text()
    assert len((EXAMPLE / "main.c").read_text().splitlines()) < 60
    for word in ("examples/command_switch/run.py", "tasuki firmware build", "tsk_port.h"):
        assert word in readme
