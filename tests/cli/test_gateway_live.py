"""A gateway that serves while its operator enrols by token, rotates keys and revokes; with real devices."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasuki.aggregator import fleet, gateway, rotation
from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.aggregator.gateway import Gateway
from tasuki.aggregator.rules import Rules
from tasuki.sdk import Device, enrolment, fleet_record, keys
from tasuki.sdk.errors import KeyInvalid, Refusal, Refused, StateMismatch, Unauthorised

ROOT = keys.make_signing()
PATIENCE = 30.0


class Served:
    """A gateway in a thread of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.events = folder, list[dict[str, Any]]()
        self._port, self._ready = port, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self) -> None:
        self._gateway = Gateway(
            Rules(self.folder), self.folder, "127.0.0.1", self._port, self.events.append, random.Random(1)
        )
        self._ready.set()
        self._gateway.run(1.0, 3600.0)

    def stop(self) -> None:
        self._gateway.stop()
        self._thread.join(PATIENCE)

    def step(self, name: str) -> None:
        made = rotation.install(self.folder, fleet_record.issue(rotation.draft(self.folder, name), ROOT))
        until(lambda: {"event": "record", "version": made.version} in self.events)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def served(
    broker: EmbeddedBroker, tmp_path: Path, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    monkeypatch.setattr(gateway, "_RECORD_SECONDS", 0.05)
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    fleet.init(tmp_path / "oak", "oak", tiny_artifact, held_out, "127.0.0.1", broker.port, root=ROOT)
    made = Served(tmp_path / "oak", broker.port)
    yield made
    made.stop()


def learned(device: Device, text: str) -> Device:
    device.learn(text, "light_on")
    return device


def test_a_device_joins_with_its_token_and_nobody_after_it(served: Served, tmp_path: Path, tiny_artifact: Path) -> None:
    made = fleet.enrol(served.folder, "kitchen", None, valid_seconds=600)
    file = tmp_path / "kitchen.json"
    fleet.write_enrolment(file, made)
    with (
        Device.open(tiny_artifact, state=tmp_path / "a") as device,
        Device.open(tiny_artifact, state=tmp_path / "b") as thief,
    ):
        for one in (device, thief):
            one.enrol(file)
        assert learned(device, "lamp please").sync(timeout=PATIENCE).admitted == 1
        with pytest.raises(Unauthorised, match="one-time token"):
            learned(thief, "lamp please").sync(timeout=PATIENCE)
        assert device.sync(timeout=PATIENCE, wait_version=1).version_after == 1
        assert learned(device, "light please").sync(timeout=PATIENCE).admitted == 1, "the token is not asked for again"


def test_keys_change_under_a_running_fleet(served: Served, tmp_path: Path, tiny_artifact: Path) -> None:
    """One device hears of every step, one sleeps through all of them."""
    with (
        Device.open(tiny_artifact, state=tmp_path / "a") as awake,
        Device.open(tiny_artifact, state=tmp_path / "b") as asleep,
    ):
        for name, device in (("awake", awake), ("asleep", asleep)):
            device.enrol(enrolment.encode(fleet.enrol(served.folder, name, device.public_key)))
        fleet.enrol(served.folder, "absent", keys.make_signing().public)  # so that no round closes
        known = 1
        for rotations in (1, 2):
            former = fleet.load_keys(served.folder).signer.public
            for name in (rotation.ANNOUNCE, rotation.FINISH) * rotations:
                served.step(name)
                known += 1
                done = learned(awake, f"lamp {known} please").sync(timeout=PATIENCE)
                assert (done.admitted, done.record) == (1, known)
            assert fleet.load_keys(served.folder).signer.public != former
            done = learned(asleep, f"light {known} please").sync(timeout=PATIENCE)
            if rotations == 1:
                assert (done.admitted, done.record) == (1, known), "the former key still opens"
            else:
                # It was sealed to a key that is gone; the record brings the new one, and the next sync seals anew.
                assert (done.refused, done.record) == ([Refusal.BAD_SEAL], known)
                assert asleep.sync(timeout=PATIENCE).admitted == 1


def test_a_revoked_device_is_told(served: Served, tmp_path: Path, tiny_artifact: Path) -> None:
    with Device.open(tiny_artifact, state=tmp_path / "a") as device:
        device.enrol(enrolment.encode(fleet.enrol(served.folder, "kitchen", device.public_key)))
        assert learned(device, "lamp please").sync(timeout=PATIENCE).admitted == 1
        fleet.revoke(served.folder, "kitchen")
        done = learned(device, "light please").sync(timeout=PATIENCE)
        assert (done.admitted, done.refused) == (0, [Refusal.REVOKED])


def test_a_device_that_knows_its_maker_takes_no_other_root(served: Served, tmp_path: Path, tiny_artifact: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from tasuki.converter import pack

    maker = keys.make_signing()
    signed = tmp_path / "signed.tflite"
    signed.write_bytes(pack.sign(tiny_artifact.read_bytes(), maker.key))  # type: ignore[arg-type]
    public = maker.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "maker.pub").write_bytes(public)
    with Device.open(signed, state=tmp_path / "a", verify=tmp_path / "maker.pub") as device:
        made = fleet.enrol(served.folder, "kitchen", device.public_key)
        with pytest.raises(KeyInvalid, match="not the maker's"):
            device.enrol(enrolment.encode(made))


def test_a_lost_gateway_is_replaced_by_hand(tmp_path: Path, tiny_artifact: Path) -> None:
    """Nobody is left to announce the new key: the same root, and a new enrolment for every device."""
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    for name, root in (("lost", ROOT), ("new", ROOT), ("foreign", keys.make_signing())):
        fleet.init(tmp_path / name, "oak", tiny_artifact, held_out, root=root)
    for name in (rotation.ANNOUNCE, rotation.FINISH):
        rotation.install(tmp_path / "lost", fleet_record.issue(rotation.draft(tmp_path / "lost", name), ROOT))
    with Device.open(tiny_artifact, state=tmp_path / "a") as device:
        lost, new, foreign = (
            fleet.enrol(tmp_path / name, "kitchen", device.public_key) for name in ("lost", "new", "foreign")
        )
        device.enrol(enrolment.encode(lost))
        wire = fleet.load_keys(tmp_path / "new").wire
        known = enrolment.record_of(lost)
        assert wire is not None
        assert known is not None
        with pytest.raises(Refused, match="rollback"):
            fleet_record.advance(wire, ROOT.public, known, time.time())
        device.enrol(enrolment.encode(new))
        with pytest.raises(StateMismatch):
            device.enrol(enrolment.encode(foreign))
