"""The soak: many devices, a broker and a gateway, each killed again and again; at the end nothing is lost or twice.

    python tests/relay/soak_kit.py --seconds 60 --seed 1 --devices 50 --broker mosquitto

It prints figures as JSON and exits with 1 if anything is wrong. Of each kind of process the moments and the victims
come from the seed; what they meet there does not.
"""

import argparse
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

TESTS = Path(__file__).resolve().parent.parent
# ruff: noqa: E402  (run as a command, it first has to find its neighbours)
sys.path[:0] = [str(TESTS / room) for room in (".", "aggregator", "relay", "protocol")]

import soak_check
from mosquitto_kit import Mosquitto, free_port
from soak_device import STOP, device_key

from tasuki.aggregator import fleet
from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.sdk.envelope import X25519
from tasuki.sdk.state import State

FLEET = "lamps"
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Plan:
    """`seconds` of kills, one every `every` seconds on average; then `patience` seconds to finish.

    `gateway` and `broker_share` are the shares of the kills that hit these. `quorum` and `round_seconds` are the
    gateway's; `pause` is the longest between two syncs of a device.
    """

    seconds: float
    seed: int
    devices: int = 50
    broker: str = "mosquitto"
    every: float = 0.25
    gateway: float = 0.08
    broker_share: float = 0.08
    quorum: float = 0.8
    round_seconds: float = 5.0
    pause: float = 4.0
    patience: float = 300.0

    @property
    def names(self) -> list[str]:
        return [f"d{number:03}" for number in range(self.devices)]


class Broker:
    """Mosquitto with persistence, or the embedded one, which forgets all when it is killed."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._mosquitto: Mosquitto | None = None
        if kind == "embedded":
            self._embedded = EmbeddedBroker()
            self.port = self._embedded.port
            return
        self.port = free_port()
        file = folder / "mosquitto.conf"
        file.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\n"
        )
        self._mosquitto = Mosquitto(file, self.port)

    def start(self) -> None:
        (self._mosquitto or self._embedded).start()

    def kill(self) -> None:
        if self._mosquitto is None:
            self._embedded.kill()
        else:
            self._mosquitto.end(signal.SIGKILL)

    def stop(self) -> None:
        if self._mosquitto is None:
            self._embedded.stop()
        else:
            self._mosquitto.end(signal.SIGKILL)


class Soak:
    """One run's processes. `folder` has all they write."""

    def __init__(self, plan: Plan, folder: Path, artifact: Path) -> None:
        self.plan, self.folder, self.artifact = plan, folder, artifact
        self.kills: Counter[str] = Counter()
        self.bytes: list[int] = []
        self.broker = Broker(plan.broker, folder)
        held_out = folder / "held-out.jsonl"
        held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
        self.gateway_folder = folder / "gateway"
        fleet.init(self.gateway_folder, FLEET, artifact, held_out, port=self.broker.port)
        for name in plan.names:
            made = fleet.enrol(self.gateway_folder, name, device_key(name).public, X25519)
            fleet.write_enrolment(folder / f"{name}.enrol.json", made)
        self._log = (folder / "processes.log").open("a")

    # --- processes ----------------------------------------------------------------------------------------

    def _start_gateway(self) -> None:
        plan = self.plan
        words = ["-m", "tasuki.sdk", "gateway", "run", str(self.gateway_folder), "--json"]
        words += ["--quorum", str(plan.quorum), "--round-seconds", str(plan.round_seconds)]
        self._gateway = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=self._log)

    def _order(self, *words: str) -> Any:
        orders, answers = self._nursery.stdin, self._nursery.stdout
        assert orders is not None
        assert answers is not None
        orders.write(json.dumps(words) + "\n")
        orders.flush()
        answer = answers.readline()
        assert answer, f"the nursery ended: {self.said()}"
        return json.loads(answer)

    def start(self) -> None:
        self.broker.start()
        self._start_gateway()
        words = [str(HERE / "soak_device.py"), str(self.folder), str(self.artifact)]
        words += [str(self.plan.pause), str(self.plan.seed)]
        self._nursery = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        for name in self.plan.names:
            self._order("start", name)

    def close(self) -> None:
        for child, pipe in ((self._nursery, self._nursery.stdin), (self._gateway, None)):
            _end(child, pipe)
        self.broker.stop()
        self._log.close()

    def said(self) -> str:
        self._log.flush()
        return (self.folder / "processes.log").read_text()[-4000:]

    # --- the run ------------------------------------------------------------------------------------------

    def disturb(self) -> None:
        """Kill and start again for the plan's seconds. What was killed stays away for up to a second."""
        plan, rng = self.plan, random.Random(self.plan.seed)
        end = time.monotonic() + plan.seconds
        back: list[tuple[float, str]] = []
        while (now := time.monotonic()) < end:
            for due, who in [item for item in back if item[0] <= now]:
                back.remove((due, who))
                self._bring(who)
            drawn = rng.random()
            who = "gateway" if drawn < plan.gateway else "broker" if drawn < plan.gateway + plan.broker_share else ""
            who = who or rng.choice(plan.names)
            if who not in [gone for _, gone in back]:
                self._kill(who)
                back.append((now + rng.uniform(0.0, 1.0), who))
            time.sleep(rng.uniform(0.0, 2 * plan.every))
        for _, who in back:
            self._bring(who)

    def _kill(self, who: str) -> None:
        self.kills[who if who in ("gateway", "broker") else "device"] += 1
        if who == "gateway":
            assert self._gateway.poll() is None, f"the gateway ended by itself: {self.said()}"
            self._gateway.kill()
            self._gateway.wait()
        elif who == "broker":
            self.broker.kill()
        else:
            self._order("kill", who)

    def _bring(self, who: str) -> None:
        if who == "gateway":
            self._start_gateway()
        elif who == "broker":
            self.broker.start()
        else:
            self._order("start", who)

    def finish(self) -> float:
        """Let every device empty its spool; how many seconds that took."""
        self.bytes = self._order("look")["bytes"]
        (self.folder / STOP).touch()
        began = time.monotonic()
        while (seen := self._order("look"))["running"]:
            assert time.monotonic() - began < self.plan.patience, f"{seen} did not finish: {self.said()}"
            time.sleep(0.2)
        assert not seen["failed"], f"{seen['failed']} failed by themselves: {self.said()}"
        assert self._gateway.poll() is None, f"the gateway ended by itself: {self.said()}"
        self._gateway.send_signal(signal.SIGTERM)
        self._gateway.wait(30)
        return time.monotonic() - began

    def judge(self, drain: float) -> dict[str, Any]:
        """The figures; `problems` is empty if all is well."""
        told, highest, dropped = {}, {}, Counter[str]()
        for name in self.plan.names:
            told[name] = soak_check.Told.read(self.folder / f"{name}.log")
            state = State(self.folder / name, fleet.artifact.load(self.artifact).hash)
            highest[name] = state.number("sequence")
            dropped.update(state.dropped())
            state.close()
        entries = soak_check.rows(self.gateway_folder / "ledger.db")
        problems = soak_check.problems(told, entries, highest)
        problems += [f"{count} dropped from spools: {why}" for why, count in dropped.items() if count]
        made = soak_check.heads(self.gateway_folder)
        if soak_check.replay(self.gateway_folder, self.folder / "replayed") != made:
            problems.append("a replay of the ledger without faults gives other versions")
        return {
            "seconds": self.plan.seconds,
            "seed": self.plan.seed,
            "devices": self.plan.devices,
            "broker": self.plan.broker,
            "kills": dict(self.kills),
            "sealed": sum(highest.values()),
            "admitted": sum(row.status == 0 for row in entries),
            "refused": dict(Counter(row.status for row in entries if row.status)),
            "acknowledged": sum(
                bool(log.admitted[number] or log.refused[number])
                for name, log in told.items()
                for number in range(1, highest[name] + 1)
            ),
            "versions": len(made) - 1,
            "merged": sum(devices for _, devices, _ in made),
            "seconds to empty the spools": round(drain, 1),
            "megabytes a device": round(sum(self.bytes) / max(1, len(self.bytes)) / 1e6, 1),
            "problems": problems,
        }


def _end(child: "subprocess.Popen[Any]", pipe: IO[Any] | None) -> None:
    """The nursery kills its devices and ends when its input does."""
    if pipe is not None:
        pipe.close()
    else:
        child.kill()
    child.wait(30)
    if child.stdout is not None:
        child.stdout.close()


def run(plan: Plan, folder: Path, artifact: Path) -> dict[str, Any]:
    """The whole soak; its figures."""
    soak = Soak(plan, folder, artifact)
    try:
        soak.start()
        soak.disturb()
        drain = soak.finish()
    finally:
        soak.close()
    return soak.judge(drain)


def make_artifact(folder: Path) -> Path:
    """The tests' tiny artifact, made by a process of its own."""
    import conftest

    class Factory:
        def mktemp(self, name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

    return Path(inspect.unwrap(conftest.tiny_artifact)(Factory()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--broker", choices=["mosquitto", "embedded"], default="mosquitto")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tasuki-soak-") as work:
        folder = Path(work)
        (folder / "run").mkdir()
        figures = run(Plan(**vars(given)), folder / "run", make_artifact(folder))
    print(json.dumps(figures, indent=1))
    return 1 if figures["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
