"""The fidelity benchmark end to end, in its small form."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasuki.benchmarks import latency
from tasuki.benchmarks.fidelity import KEYS, PARTS

STAMP = ("commit", "seed", "machine", "seconds")


def bench(out: Path, *words: str, timeout: int = 280) -> dict[str, Any]:
    command = [sys.executable, "-m", "tasuki.sdk", "bench", "fidelity", "--quick", "--json", "--out", str(out), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_one_part_measures_its_keys_and_says_why_others_are_missing(tmp_path: Path) -> None:
    figures = bench(tmp_path, "--part", "causal")
    assert figures["causal_distil_gain"] > 0
    assert figures["causal_bytes"] > 10_000
    for part in PARTS:
        for name in KEYS[part]:
            assert (figures[name] is None) == (part != "causal")
            assert part == "causal" or part in figures[f"{name}_why"]
    assert all(figures[name] is not None for name in STAMP)
    assert json.loads((tmp_path / "report.json").read_text())["seconds"] == figures["seconds"]


def test_models_take_turns(tiny_artifact: Path) -> None:
    from tasuki.sdk import artifact

    model = artifact.load(tiny_artifact).model
    spent = latency.side_by_side({"one": model, "same": model}, np.ones((2, 8), np.int32), rounds=5)
    assert set(spent) == {"one", "same"}
    assert min(spent.values()) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_part_measures_its_keys(tmp_path: Path) -> None:
    figures = bench(tmp_path, timeout=1700)
    missing = [name for part in PARTS for name in KEYS[part] if figures[name] is None]
    assert missing == []
    assert figures["minilm_tflm"] is True
    assert figures["minilm_cosine"] > figures["minilm_cosine_plain"]
    for part in ("minilm", "mcu"):
        assert (tmp_path / part / "fidelity.html").is_file()
