"""The relay with real processes: whatever is killed or repeated in mid-round, the fleet ends with the same adapter."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tasuki.aggregator import fleet
from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.aggregator.ledger import Ledger, Version
from tasuki.sdk import keys

NAMES = ("attic", "cellar", "den")
ROUNDS = 2
# One home: learn, sync, wait for the next version. Started again after a kill, it goes on where its state is.
HOME = """
import sys, time
from tasuki.sdk import Device
from tasuki.sdk.errors import LinkError
artifact, state, enrolment, name, rounds = sys.argv[1:6]
says = {"attic": ["turn on the light", "lamp on please"], "cellar": ["turn off the light", "lamp off"],
        "den": ["play music", "song please"]}
means = {"attic": "light_on", "cellar": "light_off", "den": "music_play"}
with Device.open(artifact, state=state) as device:
    device.enrol(enrolment)
    while device.version < int(rounds):
        number = device.version
        print("round", number, flush=True)
        device.learn(says[name][number], means[name])
        time.sleep(0.3)
        try:
            device.sync(timeout=60, wait_version=number + 1)
        except LinkError as error:
            print(error, file=sys.stderr, flush=True)
    print("done", device.version, device.status()["spooled"], flush=True)
"""


class Relay:
    """Broker, gateway and homes as processes of their own."""

    def __init__(self, folder: Path, artifact: Path) -> None:
        self.folder, self.artifact = folder, artifact
        self.broker = EmbeddedBroker().start()
        held_out = folder / "held-out.jsonl"
        held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
        self.gateway_folder = folder / "gateway"
        fleet.init(self.gateway_folder, "lamps", artifact, held_out, port=self.broker.port)
        self.children: dict[str, subprocess.Popen[str]] = {}
        self.said: dict[str, list[str]] = {}
        for name in NAMES:
            (folder / name).mkdir()
            key = Ed25519PrivateKey.generate()
            keys.save(folder / name / "device.key", key)
            made = fleet.enrol(self.gateway_folder, name, key.public_key().public_bytes_raw())
            fleet.write_enrolment(folder / f"{name}.enrol.json", made)

    def start(self, name: str) -> None:
        if name == "gateway":
            words = ["-m", "tasuki.sdk", "gateway", "run", str(self.gateway_folder), "--json", "--quorum", "1"]
        else:
            enrolment = str(self.folder / f"{name}.enrol.json")
            words = ["-c", HOME, str(self.artifact), str(self.folder / name), enrolment, name, str(ROUNDS)]
        with (self.folder / f"{name}.log").open("a") as log:
            child = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=log, text=True)
        self.children[name] = child
        lines = self.said.setdefault(name, [])
        assert child.stdout is not None
        threading.Thread(target=_listen, args=(child.stdout, lines), daemon=True).start()

    def kill(self, name: str) -> None:
        self.children[name].send_signal(signal.SIGKILL)
        self.children[name].wait()

    def wait_for(self, name: str, words: str) -> None:
        deadline = time.monotonic() + 90
        while not any(words in line for line in self.said.get(name, ())):
            assert time.monotonic() < deadline, f"{name} never said {words!r}: {self.log(name)}"
            time.sleep(0.02)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-2000:]

    def finish(self) -> list[Version]:
        """Wait until every home has the last version; check that nothing acknowledged is missing."""
        for name in NAMES:
            self.wait_for(name, f"done {ROUNDS} 0")
        ledger = Ledger(self.gateway_folder / "ledger.db")
        for version in range(ROUNDS):
            assert [device for device, _ in ledger.waiting(version)[0]] == sorted(NAMES)
        versions = ledger.versions()
        ledger.close()
        assert [v.devices for v in versions] == [0, *[len(NAMES)] * ROUNDS]
        return versions

    def close(self) -> None:
        for child in self.children.values():
            child.kill()
            child.wait()
        self.broker.stop()


def _listen(stream: IO[str], lines: list[str]) -> None:
    with stream:
        for line in stream:
            lines.append(line)  # noqa: PERF402  each line as it comes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path) -> list[bytes]:
    """What the gateway publishes when nothing goes wrong: the adapters, without the fleet's own signatures."""
    relay = Relay(tmp_path_factory.mktemp("undisturbed"), tiny_artifact)
    try:
        for name in ("gateway", *NAMES):
            relay.start(name)
        return heads(relay.finish())
    finally:
        relay.close()


def heads(versions: list[Version]) -> list[bytes]:
    return [version.message for version in versions]


@pytest.fixture
def relay(tmp_path: Path, tiny_artifact: Path) -> Iterator[Relay]:
    made = Relay(tmp_path, tiny_artifact)
    yield made
    made.close()


def kill_device(relay: Relay) -> None:
    relay.wait_for("den", "round 0")
    relay.kill("den")
    relay.said["den"].clear()
    relay.start("den")


def kill_device_while_it_waits(relay: Relay) -> None:
    relay.wait_for("gateway", '"device": "attic"')
    relay.kill("attic")
    relay.said["attic"].clear()
    relay.start("attic")


def kill_gateway(relay: Relay) -> None:
    relay.wait_for("gateway", '"event": "update"')
    relay.kill("gateway")
    relay.start("gateway")


def kill_gateway_after_a_version(relay: Relay) -> None:
    relay.wait_for("gateway", '"event": "version"')
    relay.kill("gateway")
    relay.start("gateway")


def restart_broker(relay: Relay) -> None:
    relay.wait_for("gateway", '"event": "update"')
    relay.broker.kill()
    time.sleep(0.5)
    relay.broker.start()


def kill_everything(relay: Relay) -> None:
    relay.wait_for("gateway", '"event": "update"')
    for name in (*NAMES, "gateway"):
        relay.kill(name)
        relay.said[name].clear()
    relay.broker.kill()
    relay.broker.start()
    for name in ("gateway", *NAMES):
        relay.start(name)


@pytest.mark.parametrize(
    "fault",
    [
        kill_device,
        kill_device_while_it_waits,
        kill_gateway,
        kill_gateway_after_a_version,
        restart_broker,
        kill_everything,
    ],
)
def test_a_fault_in_mid_round_changes_no_result(
    relay: Relay, undisturbed: list[bytes], fault: Callable[[Relay], None]
) -> None:
    for name in ("gateway", *NAMES):
        relay.start(name)
    fault(relay)
    assert heads(relay.finish()) == undisturbed


def test_every_message_twice_changes_nothing(relay: Relay, undisturbed: list[bytes]) -> None:
    seen: set[tuple[str, bytes]] = set()

    def again(client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        told = (message.topic, bytes(message.payload))
        if told not in seen:
            seen.add(told)
            kind = message.topic.split("/")[2]
            client.publish(message.topic, message.payload, qos=1, retain=kind in ("adapter", "record", "status"))

    parrot = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="parrot", protocol=MQTTProtocolVersion.MQTTv5)
    parrot.on_message = again
    parrot.connect("127.0.0.1", relay.broker.port)
    parrot.subscribe("tasuki/#", qos=1)
    parrot.loop_start()
    try:
        for name in ("gateway", *NAMES):
            relay.start(name)
        assert heads(relay.finish()) == undisturbed
    finally:
        parrot.loop_stop()
        parrot.disconnect()
    kinds = {topic.split("/")[2] for topic, _ in seen}
    assert kinds == {"up", "receipt", "adapter", "record", "status"}
    parts = {topic.split("/")[3] for topic, payload in seen if topic.count("/") == 4 and payload}
    assert parts == {str(version) for version in range(ROUNDS + 1)}, "and the parts of every version"
