"""What a user installs: the sdist, the wheel built from it, and the editable install, each in an empty environment."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ["sdk", "converter", "aggregator", "firmware_bridge", "benchmarks"]
PARTS = {".c", ".h", ".j2", ".ld"}
BOARD_MODULES_FORBIDDEN = {
    "tensorflow",
    "keras",
    "hassil",
    "iotcore",
    "matplotlib",
    "sklearn",
    "flask",
    "django",
    "fastapi",
}


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd="/", check=False)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel built from that sdist and not from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT)
    return out


@pytest.fixture(scope="module")
def board(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pip install tasuki` from the wheel, without any extra."""
    bin_ = environment(tmp_path_factory.mktemp("board"))
    (wheel,) = distributions.glob("*.whl")
    run(bin_ / "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    return bin_


def test_wheel_and_sdist_hold_every_room_and_no_tests(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    (wheel,) = distributions.glob("*.whl")
    names = run(sys.executable, "-m", "zipfile", "-l", wheel).stdout
    for room in ROOMS:
        assert f"tasuki/{room}/__init__.py" in names
        assert f"tasuki/{room}/py.typed" in names
    assert "tests/" not in names
    assert sdist.stat().st_size < 4_000_000


def test_the_wheel_has_all_that_an_image_is_made_of(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    folder = ROOT / "firmware_bridge"
    files = [path for part in ("runtime", "ports", "templates") for path in (folder / part).rglob("*")]
    wanted = {f"tasuki/firmware_bridge/{path.relative_to(folder)}" for path in files if path.suffix in PARTS}
    assert len(wanted) > 100
    assert wanted <= packed, sorted(wanted - packed)


def test_board_install_imports_the_sdk_and_nothing_heavy(board: Path) -> None:
    script = "import json, sys, tasuki.sdk; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    loaded = set(json.loads(run(board / "python", "-W", "error", "-c", script).stdout))
    assert "tasuki" in loaded
    assert not loaded & BOARD_MODULES_FORBIDDEN
    assert "ai_edge_litert" not in loaded, "the runtime is loaded when a device is opened, not at import"


def test_board_install_pulls_only_what_a_board_needs(board: Path) -> None:
    listed = json.loads(run(board / "pip", "list", "--format", "json", "--disable-pip-version-check").stdout)
    installed = {entry["name"].lower().replace("_", "-") for entry in listed}
    assert {"tasuki", "numpy", "paho-mqtt", "cryptography", "cbor2", "ai-edge-litert"} <= installed
    assert not installed & {
        "tensorflow",
        "tensorflow-cpu",
        "keras",
        "hassil",
        "iotcore",
        "matplotlib",
        "scikit-learn",
        "tokenizers",
    }


@pytest.mark.parametrize(
    ("command", "extra"),
    [("distil", "converter"), ("convert", "converter"), ("firmware", "firmware"), ("demo", "demo"), ("bench", "demo")],
)
def test_a_room_that_is_not_installed_names_its_extra(board: Path, command: str, extra: str) -> None:
    done = run(board / "tasuki", command, "--help", check=False)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, "one line"
    assert f"tasuki[{extra}]" in done.stderr


def test_the_gateway_runs_without_its_extra_beside_a_broker_of_your_own(board: Path) -> None:
    assert run(board / "tasuki", "gateway", "--help").returncode == 0
    script = "from tasuki.aggregator.broker import EmbeddedBroker; EmbeddedBroker()"
    assert "tasuki[aggregator]" in run(board / "python", "-c", script, check=False).stderr


def test_command_answers_on_a_board(board: Path) -> None:
    assert run(board / "tasuki", "--version").stdout.strip().endswith("0.1.0")
    assert "predict" in run(board / "tasuki", "device", "--help").stdout


def test_editable_install_imports_the_checkout(tmp_path: Path) -> None:
    bin_ = environment(tmp_path / "editable")
    run(bin_ / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--editable", ROOT)
    spec = f"import importlib.util as u; print(*(u.find_spec('tasuki.' + r).origin for r in {ROOMS}), sep='\\n')"
    origins = run(bin_ / "python", "-c", spec).stdout.split()
    assert origins == [str(ROOT / room / "__init__.py") for room in ROOMS]
