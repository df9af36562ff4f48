"""What a device has learned, taken out of its state directory, so that an image can have it from the start."""

import fcntl
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasuki.sdk import opening
from tasuki.sdk.adapter import Head
from tasuki.sdk.classify import ClassifyTask
from tasuki.sdk.errors import InputError, StateError, StateLocked, StateUnwritable, WrongTask
from tasuki.sdk.learned import Learned as Outcome
from tasuki.sdk.membership import Membership
from tasuki.sdk.scorer import joined
from tasuki.sdk.state import DATABASE

LEVEL: float = 0.1
# The bytes of its file that SQLite locks: shared by every reader, and exclusively by a device that is open.
_LOCKED_AT: Final = 0x40000002
_LOCKED_BYTES: Final = 510


@dataclass(frozen=True, eq=False)
class Learned:
    """An adapter over all features, as `Device.predict` uses it.

    The first labels of `head` are the artifact's. The sum of base logits and adapter is divided by `temperature`. With
    `gate`, a temperature too, the body answers alone where it is confident (a fleet's adapter). Answers below `floor`
    are unsure. `kind` is the local adapter's, which was fitted to `examples` texts, or ``fleet``.
    """

    head: Head
    temperature: float
    gate: float | None
    floor: float
    kind: str = "head"
    examples: int = 0

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that it changes in an answer."""
        numbers = [None if n is None else float(n) for n in (self.temperature, self.gate, self.floor)]
        found = hashlib.sha256(json.dumps([self.head.labels, *numbers]).encode())
        found.update(self.head.joined.astype("<f4").tobytes())
        return found.hexdigest()

    def own(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Its labels that an artifact with `labels` does not have."""
        return self.head.labels[len(labels) :]


def learned(path: str | Path, state: str | Path, kind: str | None = None) -> Learned:
    """What the device with the state directory `state` answers with; `kind` is the adapter that it was opened with.

    The adapter is fitted as the device fits it, from the same examples and above the same fleet's adapter. A table of
    any kind becomes one over all features. That a device prefers its own adapter for the very texts that it was taught,
    where otherwise the fleet's answers, is left out. Nothing is written to the directory, and this process must not
    have the device open.

    Raises as `Device.open`; InputError where there is no state or nothing was learned, WrongTask for a causal model.
    """
    with _copy(Path(state)) as folder:
        opened = opening.open_all(
            path, folder, adapter=kind, limits=None, conditions=None, level=LEVEL, threads=1, delegate=None,
            mapped=False, verify=None, key=None, keep_texts=True, replace=False, seed=0,
        )  # fmt: skip
        try:
            task = opened.task
            if not isinstance(task, ClassifyTask):
                raise WrongTask("a causal model's adapter can't be built in: there is no C for it")
            examples = opened.memory.examples()
            task.fit(examples, Membership(opened.parts, opened.state).head)
            found = from_outcome(task.outcome, task, len(examples))
        finally:
            opened.state.close()
    if not found.head.joined.any() and not found.own(opened.parts.labels):
        raise InputError(
            f"the device of {state} answers as its artifact does ({task.outcome.verdict.reason}): there is nothing to "
            "build in; teach it first, or leave its state out"
        )
    return found


def from_outcome(found: Outcome, task: ClassifyTask, examples: int = 0) -> Learned:
    """The adapter that answers, as one head over all features; the device has learned from `examples` texts."""
    width, usual = task.classifier.grid.width, task.body.temperature
    local = found.local if found.verdict.answers == "local" else None
    parts: list[tuple[Head, None]] = [(found.fleet, None)]
    if local is not None:
        parts.append((task.wanted.make().expand(local), None))
    kind, gate = ("fleet", usual) if local is None else (task.wanted.name, None)
    head, floor = joined(found.labels, width, parts), found.floor(LEVEL)
    return Learned(head, found.temperature, gate, floor, kind, 0 if local is None else examples)


@contextmanager
def _copy(state: Path) -> Iterator[Path]:
    """A copy of the database in `state`, with its log, which opening may change; errors name `state` itself."""
    database = state / DATABASE
    if not database.is_file():
        raise InputError(f"{state} has no {DATABASE}: name the state directory that the device was opened with")
    with tempfile.TemporaryDirectory(prefix="tasuki-") as folder:
        try:
            with database.open("rb") as file:
                try:
                    fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, _LOCKED_BYTES, _LOCKED_AT)
                except OSError:
                    raise StateLocked(f"{database} is open in another process; stop that one first") from None
                Path(folder, DATABASE).write_bytes(file.read())
                log = database.with_name(f"{DATABASE}-wal")
                if log.exists():
                    Path(folder, log.name).write_bytes(log.read_bytes())
        except OSError as error:
            raise StateUnwritable(f"{database} can't be copied: {error.strerror}") from None
        try:
            yield Path(folder)
        except StateError as error:
            raise type(error)(str(error).replace(folder, str(state))) from None
