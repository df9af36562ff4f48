"""The fidelity benchmark: what conversion and distillation lose, on real models and held-out texts.

Each part runs in a process of its own, so that its seconds and its peak of memory are those of a user's call.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tasuki.benchmarks import provenance
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import TasukiError

PARTS: Final = ("minilm", "mcu", "smollm2", "causal")
# What the bench promises (null, with NAME_why, where it was not measured).
KEYS: Final = {
    "minilm": ("minilm_cosine", "minilm_cosine_min", "minilm_cosine_plain", "minilm_points_lost",
               "minilm_latency_ratio", "minilm_bytes", "minilm_tflm"),
    "mcu": ("mcu_bytes", "mcu_arena_bytes", "mcu_int8_points_lost", "mcu_points_below_teacher", "distil_gain_points",
            "ngram_margin_points"),
    "smollm2": ("smollm2_perplexity_ratio",),
    "causal": ("causal_distil_gain",),
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """`parts` to run; `data` and `test` are files of labelled human text for a student of its own."""

    parts: tuple[str, ...] = PARTS
    data: Path | None = None
    test: Path | None = None
    seed: int = 0
    quick: bool = False


class FidelityFailed(TasukiError):
    """A part of the benchmark failed; the message has its last words."""


def run(plan: Plan, out: Path, progress: Progress) -> dict[str, Any]:
    """The figures of every part, also written to `out`/report.json. Raises FidelityFailed."""
    began = time.monotonic()
    figures: dict[str, Any] = {}
    for part in PARTS:
        if part in plan.parts:
            figures |= _part(part, plan, out / part, progress)
        else:
            figures |= dict.fromkeys(KEYS[part])
            figures |= {f"{name}_why": f"the part {part} was left out" for name in KEYS[part]}
    figures |= provenance.stamp(began, plan.seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(figures, indent=1, sort_keys=True))
    return figures


def _part(part: str, plan: Plan, folder: Path, progress: Progress) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "figures.json"
    result.unlink(missing_ok=True)
    options = ["--seed", str(plan.seed), *(["--quick"] if plan.quick else [])]
    if part == "mcu":
        options += _given("--data", plan.data) + _given("--test", plan.test)
    progress(part, 0, 1, "")
    command = [sys.executable, "-m", "tasuki.benchmarks.fidelity_parts", part, "--out", str(folder), *options]
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    if done.returncode != 0 or not result.is_file():
        words = (folder / "log.txt").read_text().strip().splitlines() or ["nothing"]
        raise FidelityFailed(f"the part {part} ended with {done.returncode}; it said: {words[-1][:300]}")
    progress(part, 1, 1, "")
    found: dict[str, Any] = json.loads(result.read_bytes())
    return found


def _given(option: str, path: Path | None) -> list[str]:
    return [] if path is None else [option, str(path)]
