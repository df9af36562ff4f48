"""The relay benchmark: real teacher, distilled int8 student, broker, gateway and homes, each a process of its own."""

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from tasuki.aggregator import fleet
from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.benchmarks import arms, provenance
from tasuki.converter.build import REPORTED_SPLIT, Built, build, recipe
from tasuki.converter.distil import Progress
from tasuki.converter.homes import Command, Home, Split, homes, split
from tasuki.sdk.errors import TasukiError

FLEET: Final = "homes"
# Home partitions with seeds from 100 on were used to choose settings (on split 1000); these never were.
FIRST_SEED: Final = 1


@dataclass(frozen=True)
class Plan:
    """Size of a run; `quick` is a smaller one of the same kind."""

    homes: int = 16
    rounds: int = 5
    per_round: int = 12
    later: int = 100
    seeds: int = 3
    quick: bool = False


QUICK: Final = Plan(homes=3, rounds=2, per_round=10, later=30, seeds=1, quick=True)


class RelayFailed(TasukiError):
    """A process of the benchmark failed; the message has its last words."""


def run(plan: Plan, out: Path, progress: Progress, first_seed: int = FIRST_SEED) -> dict[str, Any]:
    """Run the relay for each seed and return the figures (`arms.summary`), also written to `out`/report.json."""
    began = time.monotonic()
    built = build(REPORTED_SPLIT, quick=plan.quick, progress=progress)
    parts = split(REPORTED_SPLIT, recipe(quick=plan.quick).per_template)
    results = []
    for seed in range(first_seed, first_seed + plan.seeds):
        fleet_homes = homes(parts, plan.homes, seed, plan.rounds, plan.per_round, plan.later)
        measured = _one_seed(plan, parts, built, fleet_homes, seed, progress)
        results.append({"seed": seed, **measured, **arms.central(parts, built.artifact, fleet_homes)})
    figures = arms.summary(results, built.figures)
    figures |= provenance.stamp(began, first_seed)
    figures["plan"] = {
        "homes": plan.homes,
        "rounds": plan.rounds,
        "per_round": plan.per_round,
        "later": plan.later,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(figures, indent=1, sort_keys=True))
    return figures


def _one_seed(
    plan: Plan, parts: Split, built: Built, fleet_homes: Sequence[Home], seed: int, progress: Progress
) -> dict[str, Any]:
    """The fleet's processes for one partition; every home's own figures."""
    phase = f"fleet, seed {seed}"
    steps = plan.homes * (2 * plan.rounds + 2)
    done = 0
    progress(phase, 0, steps, "starting")
    with tempfile.TemporaryDirectory(prefix="tasuki-relay-") as work, EmbeddedBroker() as broker:
        folder = Path(work)
        held_out = folder / "held-out.jsonl"
        held_out.write_text("".join(json.dumps({"text": c.text, "label": c.label}) + "\n" for c in parts.gateway))
        fleet.init(folder / "gateway", FLEET, built.artifact, held_out, "127.0.0.1", broker.port)
        with _processes(folder, built.artifact, parts, fleet_homes) as running:
            keys = {name: event["key"] for name, event in running.events(plan.homes, "key")}
            for home in fleet_homes:
                made = fleet.enrol(folder / "gateway", home.name, bytes.fromhex(keys[home.name]))
                fleet.write_enrolment(folder / f"{home.name}.enrol.json", made)
            running.start_gateway(folder / "gateway")
            running.go()
            found: dict[str, dict[str, Any]] = {}
            while len(found) < plan.homes:
                name, event = running.next_event()
                done += 1
                if event["event"] == "figures":
                    found[name] = event
                    done += 1
                note = f"round {event['round']}/{plan.rounds}" if "round" in event else "measuring"
                progress(phase, min(done, steps), steps, note)
            gateway = running.stop_gateway()
    progress(phase, steps, steps, "")
    return {"homes": [found[home.name] for home in fleet_homes], "gateway": gateway}


class _Running:
    """The processes of one fleet and one queue of what they say."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._said: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()
        self._children: dict[str, subprocess.Popen[str]] = {}
        self._gateway_events: list[dict[str, Any]] = []

    def start(self, name: str, command: list[str]) -> None:
        with (self._folder / f"{name}.log").open("w") as log:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self._children[name] = child
        assert child.stdout is not None  # noqa: S101  asked for above
        threading.Thread(target=self._listen, args=(name, child.stdout), daemon=True).start()

    def start_gateway(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tasuki.sdk", "gateway", "run", str(folder), "--json", "--quorum", "1",
                   "--round-seconds", "60"]  # fmt: skip
        self.start("gateway", command)
        # What is sent before it listens is lost, and sent again ten seconds later.
        while True:
            name, event = self._said.get(timeout=60)
            if name == "gateway" and event is None:
                raise RelayFailed(f"the gateway ended; see {self._folder / 'gateway.log'}")
            if name == "gateway" and event is not None and event["event"] == "serving":
                return

    def stop_gateway(self) -> list[dict[str, Any]]:
        child = self._children["gateway"]
        child.terminate()
        child.wait(20)
        return self._gateway_events

    def go(self) -> None:
        for name, child in self._children.items():
            if name != "gateway" and child.stdin is not None:
                child.stdin.write("go\n")
                child.stdin.flush()

    def events(self, count: int, kind: str) -> list[tuple[str, dict[str, Any]]]:
        found: list[tuple[str, dict[str, Any]]] = []
        while len(found) < count:
            name, event = self.next_event()
            if event["event"] == kind:
                found.append((name, event))
        return found

    def next_event(self) -> tuple[str, dict[str, Any]]:
        """The next line of a home; the gateway's are kept aside. Raises RelayFailed if a process ends too early."""
        while True:
            try:
                name, event = self._said.get(timeout=180)
            except queue.Empty:
                raise RelayFailed("the fleet said nothing for 180 s; the machine is too busy") from None
            if name == "gateway" and event is not None:
                self._gateway_events.append(event)
            elif event is not None:
                return name, event
            elif self._children[name].wait(10) != 0:
                words = (self._folder / f"{name}.log").read_text().strip().splitlines() or ["nothing"]
                raise RelayFailed(
                    f"the process {name} ended with {self._children[name].returncode}; it said: {words[-1]}"
                )

    def stop(self) -> None:
        for child in self._children.values():
            if child.poll() is None:
                child.kill()
            child.wait(10)

    def _listen(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            self._said.put((name, json.loads(line)))
        self._said.put((name, None))


@contextmanager
def _processes(folder: Path, artifact: Path, parts: Split, fleet_homes: Sequence[Home]) -> Iterator[_Running]:
    running = _Running(folder)
    unseen = [_row(command, ()) for command in parts.unseen]
    try:
        for home in fleet_homes:
            plan = {
                "artifact": str(artifact),
                "state": str(folder / home.name),
                "enrolment": str(folder / f"{home.name}.enrol.json"),
                "rounds": [[_row(c, home.own_labels) for c in commands] for commands in home.rounds],
                "later": [_row(c, home.own_labels) for c in home.later],
                "unseen": unseen,
            }
            path = folder / f"{home.name}.json"
            path.write_text(json.dumps(plan))
            running.start(home.name, [sys.executable, "-m", "tasuki.benchmarks.home", str(path)])
        yield running
    finally:
        running.stop()


def _row(command: Command, own: Sequence[str]) -> dict[str, Any]:
    return {"text": command.text, "label": command.label, "own": command.label in own}
