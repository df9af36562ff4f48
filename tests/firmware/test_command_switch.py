"""The example: a command over the serial line, the switch, the answer back."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasuki.converter import pack
from tasuki.firmware_bridge.target import boards, flash, qemu
from tasuki.firmware_bridge.text import serial
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


def _run(*words: str, folder: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(EXAMPLE / "run.py"), *words]
    environment = {**os.environ, **env}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=250, cwd=folder, env=environment
    )  # fmt: skip


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


OWN = """\
[board]
core = Cortex-M4F
flags = -mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mthumb -mfloat-abi=hard -Os -DTSK_SELFTEST=0
flash_at = 0
flash = 4194304
ram_at = 0x20000000
ram = 4194304
hertz = 25000000
"""


@pytest.mark.boards
def test_a_board_of_ones_own_gets_an_image(words: tuple[str, ...], tmp_path: Path) -> None:
    """It has no emulator; this one's happens to be that of a board of ours."""
    shutil.copytree(boards.PORTS / "mps2-an386", tmp_path / "mine")
    (tmp_path / "mine" / "board.ini").write_text(OWN)
    done = _run("turn on", "--board", "mine", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("switch-mine.elf: `tasuki firmware flash` writes it to the board")
    image = flash.image_in(tmp_path / "switch-mine.elf")
    with qemu.running(boards.get("mps2-an386"), image) as line:
        serial.greet(line)
        line.write(serial.encode("turn on the light"))
        assert isinstance(serial.read(line), serial.Labelled)
        assert line.read_line() == "switch\ton"


def test_what_is_missing_is_said_in_a_line(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ModuleNotFoundError('No module', name='tensorflow')")
    for given, said in (
        (("on",), "the demo's student needs tensorflow: pip install 'tasuki[demo]', or name an artifact: --artifact"),
        (("on", *words, "--board", "uno"), "no board 'uno'"),
        (("on", "--board", "host", "--artifact", "no.tflite"), "no.tflite"),
    ):
        done = _run(*given, folder=tmp_path, PYTHONPATH=str(tmp_path))
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("run.py: error: ")
        assert said in line


def test_the_readme_names_what_there_is() -> None:
    readme = (EXAMPLE / "README.md").read_text()
    assert len((EXAMPLE / "main.c").read_text().splitlines()) < 60
    for word in ("examples/command_switch/run.py", "tasuki firmware build", "tsk_port.h"):
        assert word in readme
