"""Good plans of real programs, damaged: the checker finds what changes an answer; C proves what it lets pass."""

from dataclasses import replace

import numpy as np
import pytest
from firmware import host_kit, random_graphs
from numpy.typing import NDArray

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.compiler import plan_check
from tasuki.firmware_bridge.compiler.program import ALIGNMENT, Plan
from tasuki.firmware_bridge.emit import model_files, vectors

PLANS = 60


def _damaged(plan: Plan, rng: np.random.Generator) -> Plan:
    """One buffer, or the scratch, somewhere else inside the arena; it may end up behind its end."""
    place = int(rng.integers(0, plan.arena // ALIGNMENT + 1)) * ALIGNMENT
    numbers = sorted(plan.offsets)
    chosen = int(rng.integers(-1, len(numbers)))
    if chosen < 0:
        return replace(plan, scratch=place)
    return replace(plan, offsets={**plan.offsets, numbers[chosen]: place})


def _passes(model: Generated, plan: Plan) -> bool:
    try:
        plan_check.check(model.programs[0], plan)
    except ValueError:
        return False
    return True


def _with_plan(model: Generated, plan: Plan, name: str) -> Generated:
    """`model` as it would be with another plan."""
    program = replace(model.programs[0], name=name)
    golden = vectors.make(model.graphs[0], "tflm", 1, 0)
    made = model_files.write(model_files.Model(name, "tflm", model.graphs, [program], [plan], [golden], "damaged"))
    return replace(model, name=name, files=made.files, functions=made.functions)


@pytest.mark.parametrize("which", ["dyt", "layernorm", "random"])
def test_a_plan_that_passes_gives_the_right_bits(which: str) -> None:
    small = firmware_models.SMALL
    data = random_graphs.graph(11) if which == "random" else firmware_models.MODELS[which](5, small)
    model, rng = build.generate(data, "good"), np.random.default_rng(3)
    plans = [_damaged(model.plans[0], rng) for _ in range(PLANS)]
    passed = [plan for plan in plans if _passes(model, plan)]
    # Chance puts some where they do no harm, and most where they do.
    assert len(passed) < PLANS * 3 // 4
    others = [_with_plan(model, plan, f"m{number}") for number, plan in enumerate(passed[:6])]
    image = host_kit.image([model, *others], ("-O1", "-g0"))
    runs = [vectors.random_inputs(model.graphs[0], rng) for _ in range(3)]
    right = image.run("good", runs)
    for other in others:
        for mine, wanted in zip(image.run(other.name, runs), right, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(mine, wanted, strict=True)), other.name


def test_a_plan_that_changes_the_answer_is_caught() -> None:
    """The other way round: every damaged plan whose C answers otherwise was caught."""
    model, rng = build.generate(firmware_models.dyt(5, firmware_models.SMALL), "good"), np.random.default_rng(4)
    plans = [_damaged(model.plans[0], rng) for _ in range(PLANS)]
    caught = [
        plan for plan in plans
        if not _passes(model, plan) and all(_inside(model, plan, number) for number in plan.offsets)
    ][:6]  # fmt: skip
    others = [_with_plan(model, plan, f"m{number}") for number, plan in enumerate(caught)]
    image = host_kit.image([model, *others], ("-O1", "-g0"))
    runs = [vectors.random_inputs(model.graphs[0], rng) for _ in range(3)]
    right = _joined(image, "good", runs)
    wrong = sum(not np.array_equal(_joined(image, other.name, runs), right) for other in others)
    assert wrong >= len(others) // 2


def _joined(image: host_kit.Image, name: str, runs: host_kit.Runs) -> NDArray[np.uint8]:
    return np.concatenate([out.view(np.uint8) for outputs in image.run(name, runs) for out in outputs])


def _inside(model: Generated, plan: Plan, number: int) -> bool:
    sizes = {buffer.number: buffer.bytes for buffer in model.programs[0].buffers}
    room = max((step.scratch for step in _steps(model)), default=0)
    return plan.offsets[number] + sizes[number] <= plan.arena and plan.scratch + room <= plan.arena


def _steps(model: Generated) -> list[plan_check.Step]:
    return [step for part in model.programs[0].body for step in getattr(part, "steps", (part,))]
