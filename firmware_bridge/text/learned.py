"""What a device has learned, taken out of its state directory, so that an image can have it from the start."""

from dataclasses import dataclass
from pathlib import Path

from tasuki.sdk import opening
from tasuki.sdk.adapter import Head
from tasuki.sdk.classify import ClassifyTask
from tasuki.sdk.errors import InputError, WrongTask
from tasuki.sdk.learned import Learned as Outcome
from tasuki.sdk.membership import Membership
from tasuki.sdk.scorer import joined

LEVEL: float = 0.1


@dataclass(frozen=True, eq=False)
class Learned:
    """An adapter over all features, as `Device.predict` uses it.

    The first labels of `head` are the artifact's. The sum of base logits and adapter is divided by `temperature`. With
    `gate`, a temperature too, the body answers alone where it is confident (a fleet's adapter). Answers below `floor`
    are unsure.
    """

    head: Head
    temperature: float
    gate: float | None
    floor: float


def learned(path: str | Path, state: str | Path, kind: str | None = None) -> Learned:
    """What the device with the state directory `state` answers with; `kind` is the adapter that it was opened with.

    The adapter is fitted as the device fits it, from the same examples and above the same fleet's adapter. A table of
    any kind becomes one over all features. That a device prefers its own adapter for the very texts that it was taught,
    where otherwise the fleet's answers, is left out. Raises as `Device.open`; InputError where there is no such
    directory, WrongTask for a causal model.
    """
    if not Path(state).is_dir():
        raise InputError(f"there is no state directory {state}")
    opened = opening.open_all(
        path, state, adapter=kind, limits=None, conditions=None, level=LEVEL, threads=1, delegate=None, mapped=False,
        verify=None, key=None, keep_texts=True, replace=False, seed=0,
    )  # fmt: skip
    try:
        task = opened.task
        if not isinstance(task, ClassifyTask):
            raise WrongTask("a causal model's adapter can't be built in: there is no C for it")
        task.fit(opened.memory.examples(), Membership(opened.parts, opened.state).head)
        return from_outcome(task.outcome, task)
    finally:
        opened.state.close()


def from_outcome(found: Outcome, task: ClassifyTask) -> Learned:
    """The adapter that answers, as one head over all features."""
    width, usual = task.classifier.grid.width, task.body.temperature
    local = found.local if found.verdict.answers == "local" else None
    parts: list[tuple[Head, None]] = [(found.fleet, None)]
    if local is not None:
        parts.append((task.wanted.make().expand(local), None))
    return Learned(
        joined(found.labels, width, parts), found.temperature, None if local is not None else usual, found.floor(LEVEL)
    )
