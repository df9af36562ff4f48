"""Mosquitto, with what `tasuki gateway init --tls` makes: who gets in by which certificate, and who no more.

Run by `make check-all`. Without Mosquitto these tests fail and say how to install it.
"""

import contextlib
import signal
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from mosquitto_kit import PATIENCE, Mosquitto, free_port
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tasuki.aggregator import fleet
from tasuki.sdk import certificate_request, keys
from tasuki.sdk.connection import tls_context
from tasuki.sdk.enrolment import Tls
from tasuki.sdk.signing import EDDSA, ES256

pytestmark = pytest.mark.mosquitto


@pytest.fixture
def folder(tmp_path: Path, tiny_artifact: Path) -> Path:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    fleet.init(
        tmp_path / "oak", "oak", tiny_artifact, held_out, "127.0.0.1", free_port(), tls=True, root=keys.make_signing()
    )
    return tmp_path / "oak"


@pytest.fixture
def broker(folder: Path) -> Iterator[Mosquitto]:
    made = Mosquitto(folder / "mosquitto" / "mosquitto.conf", fleet.load(folder).port)
    made.start()
    yield made
    made.end()


def lets_in(port: int, tls: Tls, folder: Path) -> bool:
    """Whether an MQTT client with this certificate gets a CONNACK of success."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "probe", protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(tls_context(tls, folder))
    answers: list[bool] = []
    client.on_connect = lambda _c, _u, _f, reason, _p: answers.append(not reason.is_failure)
    try:
        client.connect("127.0.0.1", port)
        for _ in range(int(PATIENCE / 0.1)):
            # TLS 1.3 says only after the handshake that a certificate is refused.
            if answers or client.loop(0.1) != mqtt.MQTT_ERR_SUCCESS:
                break
    except (ssl.SSLError, ConnectionError):
        return False
    finally:
        with contextlib.suppress(OSError):
            client.disconnect()
        line = client.socket()
        if isinstance(line, socket.socket):
            line.close()
    return answers == [True]


@pytest.mark.parametrize("algorithm", [EDDSA, ES256])
def test_a_device_gets_in_by_a_certificate_for_its_own_key(folder: Path, broker: Mosquitto, algorithm: int) -> None:
    signer, stranger = keys.make_signing(algorithm), keys.make_signing(algorithm)
    tls = fleet.enrol(folder, "kitchen", None, request=certificate_request.make("kitchen", signer)).tls
    assert tls is not None
    assert lets_in(broker.port, replace(tls, key=keys.plain_pem(signer)), folder)
    assert not lets_in(broker.port, Tls(tls.ca), folder), "without a certificate"
    with pytest.raises(keys.KeyInvalid, match="can't be used"):
        tls_context(replace(tls, key=keys.plain_pem(stranger)), folder)


def test_a_revoked_certificate_gets_in_no_more(folder: Path, broker: Mosquitto) -> None:
    """The list has to be read anew by the broker: SIGHUP, or a start."""
    tls = {name: fleet.enrol(folder, name, keys.make_signing().public).tls for name in ("kitchen", "attic")}
    kitchen, attic = tls["kitchen"], tls["attic"]
    assert kitchen is not None
    assert attic is not None
    assert lets_in(broker.port, kitchen, folder)
    fleet.revoke(folder, "kitchen")
    broker._process.send_signal(signal.SIGHUP)
    for _ in range(50):
        if not lets_in(broker.port, kitchen, folder):
            break
    assert not lets_in(broker.port, kitchen, folder)
    assert lets_in(broker.port, attic, folder)
    assert lets_in(broker.port, fleet.own_tls(folder), folder), "the gateway's own stays good"
