"""A device killed at any moment: what it said was kept is there when it is opened again, and nothing is half.

A child process learns, flushes and syncs for ever, and says what it has done once it is done; the test kills it, and
opens the device itself. The gateway here answers every update and publishes a new adapter all the time.
"""

import dataclasses
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__)
sys.path.insert(0, str(HERE.parents[1] / "protocol"))

import link_kit  # noqa: E402
import protocol_kit  # noqa: E402

from tasuki.sdk import Device, adapter, artifact, enrolment, keys  # noqa: E402
from tasuki.sdk.envelope import HYBRID  # noqa: E402
from tasuki.sdk.errors import LinkError  # noqa: E402
from tasuki.sdk.state import State  # noqa: E402

TEXTS = 240
LABELS = ("light_off", "light_on", "music_play", "music_stop")
BATCH = 5


def taught(number: int) -> tuple[str, str]:
    """What is learned as the `number`th: the texts come again and again, each time under the next label."""
    return f"cosy song {number % TEXTS}", LABELS[number // TEXTS % len(LABELS)]


# --- the child --------------------------------------------------------------------------------------------


def say(what: str, number: int) -> None:
    sys.stdout.write(f"{what} {number}\n")
    sys.stdout.flush()


def life(path: str, folder: str, number: int) -> None:
    """Learn from the `number`th on, in turns durably and in batches, and sync between."""
    spool = State.spool

    def spooled(self: State, *given: Any, **more: Any) -> Any:
        item = spool(self, *given, **more)
        say("spooled", item.sequence)
        return item

    State.spool = spooled  # type: ignore[method-assign]
    device = Device.open(path, folder)
    say("opened", device.version)
    for turn in range(10**9):
        for _ in range(BATCH):
            device.learn(*taught(number), durable=turn % 2 == 0)
            number += 1
            if turn % 2 == 0:
                say("learned", number)
        device.flush()
        say("learned", number)
        try:
            device.sync(timeout=10.0)
        except LinkError as error:
            print(f"sync: {error}", file=sys.stderr)
        say("version", device.version)


# --- the gateway ------------------------------------------------------------------------------------------


class Gateway(link_kit.ScriptedGateway):
    """Knows which sequence number came with which message; every update is answered with a newer adapter too."""

    def __init__(self, port: int) -> None:
        super().__init__(port, announced=1)
        self.messages: dict[int, set[bytes]] = {}
        self.hears = self._keep

    def _keep(self, message: Any) -> None:
        sequence, _ = self.opened[-1]
        self.messages.setdefault(sequence, set()).add(bytes(message.payload))
        self.announce(self.announced + 1)


@pytest.fixture
def gateway(tiny_artifact: Path, broker: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    parts = artifact.load(tiny_artifact)
    weight = np.ones((len(parts.labels), parts.features), np.float32)

    def head(version: int) -> adapter.Head:
        return adapter.Head(parts.labels, weight * (version % 7) / 64, np.zeros(len(parts.labels), np.float32))

    monkeypatch.setattr(link_kit, "ARTIFACT", parts.hash)
    monkeypatch.setattr(link_kit, "head", head)
    with Gateway(broker.port) as running:
        yield running


def enrol(path: Path, folder: Path, port: int) -> None:
    folder.mkdir()
    keys.save(folder / "device.key", link_kit.KEY.key)
    halves = protocol_kit.hybrid("gateway")
    sealing = halves.lattice.public_key().public_bytes_raw() + halves.curve.public_key().public_bytes_raw()
    made = dataclasses.replace(link_kit.enrolment_of(port), sealing=sealing, suite=HYBRID)
    with Device.open(path, folder) as device:
        device.enrol(enrolment.encode(made))


# --- the test ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Said:
    """What all children together have acknowledged."""

    learned: int = 0
    spooled: int = 0
    version: int = 0

    def take(self, lines: list[str]) -> None:
        for line in lines:
            what, _, number = line.partition(" ")
            if line.endswith("\n") and what in ("learned", "spooled", "version"):
                setattr(self, what, max(getattr(self, what), int(number)))


def check(path: Path, folder: Path, said: Said, gateway: Gateway) -> int:
    """Open the device as it was left; returns how many it has learned."""
    with Device.open(path, folder) as device:
        state = device._state
        kept = {example.text: example.label for example in device._memory.examples()}
        # Killed while a batch was on its way: all of it is there, or nothing of it.
        learned = state.number("learned")
        assert said.learned <= learned <= said.learned + BATCH
        assert kept == dict(taught(number) for number in range(max(0, learned - TEXTS), learned))
        waiting = [item.sequence for item in state.spooled()]
        assert len(waiting) <= 1
        assert state.number("sequence") >= said.spooled
        if said.spooled and not any(sequence >= said.spooled for sequence in waiting):
            assert said.spooled in gateway.messages, "neither in the spool nor with the gateway"
        found = state.adapter()
        assert device.version >= said.version
        if found is not None:
            assert found == (device.version, link_kit.adapter_content(device.version))
            assert device.version <= gateway.announced
        assert sum(state.damaged().values()) == 0
        assert device.predict("play music").label in LABELS
        return learned


@pytest.mark.parametrize("kills", [12, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_a_killed_device_has_all_that_it_acknowledged(
    tiny_artifact: Path, tmp_path: Path, gateway: Gateway, broker: Any, kills: int
) -> None:
    rng = random.Random(kills)
    folder = tmp_path / "state"
    enrol(tiny_artifact, folder, broker.port)
    said, learned, reached = Said(), 0, set()
    for _ in range(kills):
        command = [sys.executable, HERE, tiny_artifact, folder, str(learned)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("opened"), first
            # Soon after one of the first things it does, or at any time.
            after = rng.choice((0, rng.randrange(30)))
            lines = [process.stdout.readline() for _ in range(after)]
            time.sleep(rng.uniform(0, 0.01 if after else 0.5))
            process.send_signal(signal.SIGKILL)
            lines += process.stdout
        assert process.returncode == -signal.SIGKILL
        reached.add(lines[-1].partition(" ")[0] if lines else "opened")
        said.take(lines)
        learned = check(tiny_artifact, folder, said, gateway)
    assert learned > kills
    assert said.version > 1
    assert reached >= {"learned", "spooled"}, "the kills hit what is done in different moments"
    assert all(len(messages) == 1 for messages in gateway.messages.values()), "a sequence number names one message"


if __name__ == "__main__":
    life(sys.argv[1], sys.argv[2], int(sys.argv[3]))
