"""What the SDK costs over calling the interpreter, what learning gains, and what its confidence is worth.

    tasuki bench sdk --json

Parts: `speed` (predict, generate, learning one example, refit), `start` (a fresh process), `users` (a hundred users),
`words` (next words of one's own).
The classifier is the standard `mcu` student of the reported split, the encoder MiniLM with a linear head, the causal
model the standard student of tier `mcu-large`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tasuki.benchmarks import (
    provenance,
    sdk_generate,
    sdk_learn,
    sdk_models,
    sdk_refit,
    sdk_speed,
    sdk_start,
    sdk_users,
    sdk_words,
)
from tasuki.converter import build, homes
from tasuki.converter.distil import Progress
from tasuki.sdk import Device

PARTS: Final = ("speed", "start", "users", "words")
TEXTS: Final = (
    "turn on the kitchen light", "set a timer for ten minutes", "what is the temperature in the bedroom",
    "close the blinds", "is the front door locked", "add milk to the shopping list", "make the hall a little warmer",
    "pause the music in the living room",
)  # fmt: skip


_DEVICES: Final = 7


@dataclass(frozen=True)
class Plan:
    """What to run. `seed` is the homes' partition; those from 100 on were used to choose settings."""

    parts: Sequence[str] = PARTS
    seed: int = 1
    quick: bool = False


def run(plan: Plan, progress: Progress) -> dict[str, Any]:
    """The figures of all parts in one flat object (keys as the documentation of the benchmark names them)."""
    began = time.monotonic()
    built = build.build(build.REPORTED_SPLIT, quick=plan.quick, progress=progress)
    doing: Mapping[str, Callable[[], dict[str, Any]]] = {
        "speed": lambda: _speed(plan, built.artifact, progress),
        "start": lambda: sdk_start.run(built.artifact, 3 if plan.quick else sdk_start.ROUNDS),
        "users": lambda: _users(plan, built.artifact, progress),
        "words": lambda: _words(plan, progress),
    }
    figures: dict[str, Any] = {}
    for number, part in enumerate(plan.parts):
        progress("parts", number, len(plan.parts), part)
        figures |= doing[part]()
    progress("parts", len(plan.parts), len(plan.parts), "")
    return {**figures, **provenance.stamp(began, plan.seed)}


def _speed(plan: Plan, student: Path, progress: Progress) -> dict[str, Any]:
    calls = 200 if plan.quick else sdk_speed.CALLS
    models = {"mcu": (student, calls)}
    if not plan.quick:
        models["minilm"] = (sdk_models.minilm(progress), calls // 2)
    predict = {name: predicted(*model) for name, model in models.items()}
    figures: dict[str, Any] = {"predict": predict}
    figures["predict_ratio"] = max(found["ratio"]["fresh"] for found in predict.values())
    figures["predict_ratio_learned"] = max(found["ratio"]["learned"] for found in predict.values())
    figures |= sdk_generate.run(sdk_models.causal(progress, plan.quick), rounds=3 if plan.quick else 60)
    figures |= sdk_learn.run(student, 8 if plan.quick else 40, plan.seed)
    sizes: dict[str, int] = {"examples": 60, "width": 16, "labels": 8} if plan.quick else {}
    return figures | sdk_refit.run(plan.seed, 2 if plan.quick else sdk_refit.ROUNDS, **sizes)


def predicted(file: Path, calls: int) -> dict[str, Any]:
    """`Device.predict` beside the bare loop: of a fresh device, and of one that has learned.

    Where an interpreter lies in memory makes a percent or two: the run of the median ratio of several is given.
    """
    runs = []
    for _ in range(_DEVICES):
        with TemporaryDirectory(prefix="tasuki-speed-") as work:
            with Device.open(file, f"{work}/fresh") as fresh, Device.open(file, f"{work}/taught") as taught:
                for text in ("make it cosy", "cosy please", "let us get cosy", "time to get cosy", "cosy in here"):
                    taught.learn(text, "movie_night", new_label=True, durable=False)
                sides = {"fresh": fresh.predict, "learned": taught.predict}
                runs.append(sdk_speed.predict_ratio(file, sides, TEXTS, calls // _DEVICES))
    runs.sort(key=lambda found: float(found["ratio"]["fresh"]))
    return {**runs[_DEVICES // 2], "ratios": [found["ratio"] for found in runs]}


def _words(plan: Plan, progress: Progress) -> dict[str, Any]:
    people = 2 if plan.quick else sdk_words.PEOPLE
    return sdk_words.run(sdk_models.causal(progress, plan.quick), "held_out", people, progress)


def _users(plan: Plan, student: Path, progress: Progress) -> dict[str, Any]:
    parts = homes.split(build.REPORTED_SPLIT, build.recipe(quick=plan.quick).per_template)
    users, later = (3, 30) if plan.quick else (sdk_users.USERS, sdk_users.LATER)
    return sdk_users.run(parts, student, plan.seed, users, later, progress)
