"""The link against Debian's Mosquitto, with the TLS and the access list that `tasuki gateway init` makes.

Run by `make check-all`. Without Mosquitto these tests fail and say how to install it.
"""

import random
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from link_kit import (
    PARTS,
    PATIENCE,
    ScriptedGateway,
    adapter_content,
    announce_on,
    connected,
    enrolment_of,
    lasting,
    peer,
    spool,
    state_of,
    sync,
    until,
)
from mosquitto_kit import Mosquitto, free_port, gateway_folder, plain_mosquitto
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from protocol_kit import DEVICE, FLEET

from tasuki.aggregator import certificates, fleet
from tasuki.sdk import connection, link, topics
from tasuki.sdk.enrolment import Enrolment, Tls
from tasuki.sdk.errors import BrokerUnreachable, KeyInvalid, SyncTimeout, Unauthorised
from tasuki.sdk.state import State

pytestmark = pytest.mark.mosquitto
TOKEN = "open sesame, ünd more"
# paho leaves the socket of a failed handshake to the garbage collector.
failed_handshake = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = state_of(tmp_path / "state")
    yield opened
    opened.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Mosquitto]:
    with plain_mosquitto(tmp_path, "persistence true", f"persistence_location {tmp_path}/") as broker:
        yield broker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path) -> Path:
    """What `tasuki gateway init --tls` makes."""
    return gateway_folder(tmp_path_factory.mktemp("gateway"), FLEET, tiny_artifact)


@pytest.fixture
def secured(folder: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(folder / "mosquitto" / "mosquitto.conf", fleet.load(folder).port)
    broker.start()
    yield broker
    broker.end()


@pytest.fixture
def with_tokens(folder: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker of somebody else: TLS without client certificates, and a password file."""
    tool = shutil.which("mosquitto_passwd")
    assert tool, "mosquitto_passwd is missing: apt-get install mosquitto"
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    for name, word in ((DEVICE, TOKEN), ("gateway", "of the gateway")):
        subprocess.run([tool, "-b", str(passwords), name, word], check=True, capture_output=True)
    port = free_port()
    file = tmp_path / "mosquitto.conf"
    tls = folder / "tls"
    file.write_text(
        f"listener {port} 127.0.0.1\ncafile {tls}/ca.crt\ncertfile {tls}/broker.crt\nkeyfile {tls}/broker.key\n"
        f"allow_anonymous false\npassword_file {passwords}\nacl_file {folder}/mosquitto/acl\n"
    )
    broker = Mosquitto(file, port)
    broker.start()
    yield broker
    broker.end()


def tls_of(folder: Path, name: str) -> Tls:
    return Tls((folder / "tls" / "ca.crt").read_text(), *certificates.issue(folder / "tls", name))


def context_of(folder: Path, name: str) -> ssl.SSLContext:
    return connection.tls_context(tls_of(folder, name), folder)


def test_up_and_down_and_again(plain: Mosquitto, state: State) -> None:
    spool(state)
    with ScriptedGateway(plain.port, announced=2, copies=2):
        first = sync(state, plain.port)
        spool(state, 1)
        second = sync(state, plain.port)
    assert (first.admitted, first.version_after) == (1, 2)
    assert (second.admitted, second.version_before, second.version_after) == (1, 2, 2)
    assert state.adapter() == (2, adapter_content(2))


def test_a_retained_adapter_comes_at_every_sync(plain: Mosquitto, state: State) -> None:
    with peer(plain.port, "publisher") as publisher:
        announce_on(publisher, 1)
    began = time.monotonic()
    assert [sync(state, plain.port).version_after for _ in range(3)] == [1, 1, 1]
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_broker_restarts_in_mid_sync(
    plain: Mosquitto, state: State, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_RESEND_SECONDS", 1.0)
    spool(state)
    with ScriptedGateway(plain.port, announced=3) as gateway:
        gateway.mute = True
        results: list[link.SyncResult] = []
        worker = threading.Thread(target=lambda: results.append(sync(state, plain.port, rng=random.Random(1))))
        worker.start()
        until(lambda: len(gateway.opened) > 0)
        plain.end(how)
        gateway.mute = False
        plain.start()
        worker.join(PATIENCE)
    assert [(result.admitted, result.version_after) for result in results] == [(1, 3)]
    assert state.spooled() == []


def test_the_broker_forgets_an_update_whose_time_is_over(plain: Mosquitto, state: State) -> None:
    """The gateway is away for longer than the first update is good for; of the second it hears."""
    away = lasting(plain.port, "away")
    away.subscribe(topics.up(FLEET, "+"), qos=1)
    with peer(plain.port, "announcer") as announcer:
        announce_on(announcer, 0)
    away.disconnect()
    away.loop_stop()
    messages, now = [], time.time()
    for number, lifetime in enumerate((1.0, 3600.0)):
        messages.append(spool(state, number, now=now, lifetime=lifetime))
        with pytest.raises(SyncTimeout, match="without a receipt"):
            sync(state, plain.port, timeout=1.5, clock=lambda at=now: at)
        now += 2.0  # its time is over for the device, too: it does not send it again
    time.sleep(1.0)
    heard: list[bytes] = []
    back = mqtt.Client(CallbackAPIVersion.VERSION2, "away", protocol=MQTTProtocolVersion.MQTTv5)
    back.on_message = lambda _c, _u, message: heard.append(message.payload)
    connected(back, plain.port, connection.session())
    until(lambda: len(heard) > 0)
    back.disconnect()
    back.loop_stop()
    assert heard == messages[1:]


def test_over_tls_with_client_certificates(secured: Mosquitto, folder: Path, state: State) -> None:
    spool(state)
    enrolment = enrolment_of(secured.port, tls=tls_of(folder, DEVICE))
    with ScriptedGateway(secured.port, announced=2, tls=context_of(folder, "gateway")):
        result = link.sync(state, enrolment, PARTS, timeout=PATIENCE)
    assert (result.admitted, result.version_after) == (1, 2)


@failed_handshake
def test_wrong_certificates_do_not_get_in(secured: Mosquitto, folder: Path, state: State, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    certificates.make_authority(other, "ash")
    theirs = Tls((other / "ca.crt").read_text(), *certificates.issue(other, DEVICE))
    mine = tls_of(folder, DEVICE)
    for wrong in (
        theirs,  # another fleet's device does not even believe the broker
        Tls(mine.ca, theirs.certificate, theirs.key),  # the broker does not believe another fleet's device
        None,  # no TLS at all
    ):
        with pytest.raises(BrokerUnreachable):
            link.sync(state, enrolment_of(secured.port, tls=wrong), PARTS, timeout=1.0)
    with pytest.raises(KeyInvalid, match="TLS"):
        link.sync(state, enrolment_of(secured.port, tls=Tls(mine.ca, "", "")), PARTS, timeout=1.0)


@failed_handshake
def test_the_name_in_the_brokers_certificate_is_checked(secured: Mosquitto, folder: Path, state: State) -> None:
    enrolment = enrolment_of(secured.port, tls=tls_of(folder, DEVICE), host="localhost")
    with pytest.raises(BrokerUnreachable, match=r"(?i)certificate"):
        link.sync(state, enrolment, PARTS, timeout=1.0)


def with_token(port: int, folder: Path, token: str | None, **more: Any) -> Enrolment:
    return enrolment_of(port, tls=Tls((folder / "tls" / "ca.crt").read_text()), token=token, **more)


def test_a_token_over_tls_gets_in(with_tokens: Mosquitto, folder: Path, state: State) -> None:
    """Under the device's name: the access list of `tasuki gateway init` fits as it is."""
    spool(state)
    ca = context_of(folder, "anybody")
    gateway = ScriptedGateway(with_tokens.port, announced=2, tls=ca, login=("gateway", "of the gateway"))
    with gateway:
        result = link.sync(state, with_token(with_tokens.port, folder, TOKEN), PARTS, timeout=PATIENCE)
    assert (result.admitted, result.version_after) == (1, 2)


@pytest.mark.parametrize("token", ["wrong", TOKEN[:-1], TOKEN + " "])
def test_a_wrong_token_is_named_at_once(with_tokens: Mosquitto, folder: Path, state: State, token: str) -> None:
    spool(state)
    with pytest.raises(Unauthorised, match=DEVICE) as caught:
        link.sync(state, with_token(with_tokens.port, folder, token), PARTS, timeout=PATIENCE)
    assert token not in str(caught.value)
    assert len(state.spooled()) == 1


def test_a_token_of_another_device_is_not_enough(with_tokens: Mosquitto, folder: Path, state: State) -> None:
    with pytest.raises(Unauthorised, match="cellar"):
        link.sync(state, with_token(with_tokens.port, folder, TOKEN, device="cellar"), PARTS, timeout=PATIENCE)


def test_neither_token_nor_certificate_is_named_before_connecting(folder: Path, state: State) -> None:
    with pytest.raises(KeyInvalid, match="neither"):
        link.sync(state, with_token(1, folder, None), PARTS, timeout=PATIENCE)
