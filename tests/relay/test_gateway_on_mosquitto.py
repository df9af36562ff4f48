"""The real gateway and real devices over Mosquitto with TLS, client certificates and the generated access list.

Run by `make check-all`. Without Mosquitto these tests fail and say how to install it.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mosquitto_kit import Mosquitto, free_port

from tasuki.aggregator import fleet
from tasuki.aggregator.ledger import Ledger
from tasuki.sdk import Device
from tasuki.sdk.errors import SyncTimeout

pytestmark = pytest.mark.mosquitto


def test_a_round_over_tls_with_a_restart_of_the_broker(tmp_path: Path, tiny_artifact: Path) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    folder = tmp_path / "gateway"
    port = free_port()
    fleet.init(folder, "lamps", tiny_artifact, held_out, "localhost", port, tls=True)
    broker = Mosquitto(folder / "mosquitto" / "mosquitto.conf", port)
    broker.start()
    command = [sys.executable, "-m", "tasuki.sdk", "gateway", "run", str(folder), "--quorum", "1"]
    devices = []
    try:
        for name in ("attic", "cellar"):
            device = Device.open(tiny_artifact, state=tmp_path / name)
            devices.append(device)
            from tasuki.sdk import enrolment

            device.enrol(enrolment.encode(fleet.enrol(folder, name, device.public_key)))
            device.learn(f"{name} light please", "light_on")
        # No gateway yet: the update reaches the broker and waits there and in the spool.
        with pytest.raises(SyncTimeout):
            devices[0].sync(timeout=3)
        broker.end(signal.SIGKILL)
        broker.start()
        gateway = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            results = [device.sync(timeout=60) for device in devices]
            assert [result.admitted for result in results] == [1, 1]
            assert [device.sync(timeout=60, wait_version=1).version_after for device in devices] == [1, 1]
        finally:
            gateway.terminate()
            _, said = gateway.communicate(timeout=20)
        assert "refused" not in said
    finally:
        for device in devices:
            device.close()
        broker.end()
    ledger = Ledger(folder / "ledger.db")
    assert [version.devices for version in ledger.versions()] == [0, 2]
    assert ledger.refusals() == {}
    ledger.close()
