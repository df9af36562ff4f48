"""The rooms' import directions and the project's own promises about its tree."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_imports_run_one_way() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_pickle_eval_or_shell() -> None:
    forbidden = ("import pickle", "pickle.load", " eval(", "shell=True", "os.system(")
    rooms = ("sdk", "converter", "aggregator", "firmware_bridge", "benchmarks", "examples")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert files
    found = [(path.name, word) for path in files for word in forbidden if word in path.read_text()]
    assert not found
