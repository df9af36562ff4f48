"""A device's end of the link, and a gateway that does as the test says."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from protocol_kit import (
    ARTIFACT,
    DEVICE,
    FLEET,
    LABELS,
    WIDTH,
    head,
    moment,
    plain_update,
    sealing,
    signing,
    table,
)

from tasuki.sdk import cbor, cose, downlink, envelope, link, receipt, session, topics, transfer
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.downlink import Announcement
from tasuki.sdk.enrolment import Enrolment, Tls
from tasuki.sdk.envelope import HYBRID, RESUMED, Context
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.receipt import Receipt
from tasuki.sdk.runtime import Outputs
from tasuki.sdk.state import State

PATIENCE = 20.0
KEY, GATEWAY, FORMER = signing("device"), signing("gateway"), signing("former gateway")
PARTS = Artifact(
    hash=ARTIFACT, size=0, model=b"", manifest={}, labels=LABELS, tokens=8, features=WIDTH, temperature=1.0,
    outputs=Outputs((0,), 1), vocabulary=("[PAD]", "[UNK]"), moment=moment(),
)  # fmt: skip


def enrolment_of(
    port: int, device: str = DEVICE, tls: Tls | None = None, host: str = "127.0.0.1", token: str | None = None
) -> Enrolment:
    """The enrolment that the gateway below stands for; the hybrid suite."""
    gateway = GATEWAY.public
    # Only `Device` seals to this key; the link never looks at it.
    return Enrolment(FLEET, device, host, port, ARTIFACT, gateway, HYBRID, b"", tls, token)


def state_of(folder: Path) -> State:
    return State(folder, ARTIFACT)


def spool(state: State, number: int = 0, device: str = DEVICE, **good: float) -> bytes:
    """Seal an update of the head `number` on the state's current version and keep it; `good`: `now` and `lifetime`."""
    version = state.number("version")
    plain = plain_update(head(number))

    def seal(sequence: int) -> bytes:
        bound = Context(FLEET, device, "up", ARTIFACT, version, sequence, HYBRID)
        return envelope.seal(plain, bound, KEY, sealing("gateway", HYBRID).public_key())

    return state.spool(version, seal, **good).message


def adapter_content(version: int) -> bytes:
    """The head `version` as devices get it."""
    return downlink.content(head(version), table())


def adapter_message(
    version: int, key: Any = GATEWAY, expires: int = 0, part: int = 1 << 16, fleet: str = FLEET, issued: int = 0
) -> bytes:
    """The announcement of the head `version`."""
    offered = transfer.offer(adapter_content(version), part)
    return downlink.publish(Announcement(version, issued, expires, offered), fleet, ARTIFACT, key)


def announce_on(client: mqtt.Client, version: int, message: bytes | None = None, part: int = 1 << 16) -> None:
    """Retain the parts of a version, and then its announcement (or `message`)."""
    content = adapter_content(version)
    for index in range(-(-len(content) // part)):
        topic = topics.part_down(FLEET, version, index)
        client.publish(topic, transfer.cut(content, part, index), qos=1, retain=True).wait_for_publish(PATIENCE)
    said = adapter_message(version, part=part) if message is None else message
    client.publish(topics.adapter(FLEET), said, qos=1, retain=True).wait_for_publish(PATIENCE)


def receipt_message(
    message: bytes, status: Refusal = Refusal.ADMITTED, device: str = DEVICE, key: Any = GATEWAY,
    sequence: int = 1, wanted: tuple[int, ...] = (), now: float | None = None,
) -> bytes:  # fmt: skip
    """The gateway's word on `message`."""
    at = int(time.time() if now is None else now)
    word = Receipt(sequence, status, 0, receipt.digest_of(message), at, wanted)
    return receipt.issue(word, FLEET, device, ARTIFACT, key)


def connected(client: mqtt.Client, port: int, properties: Properties | None = None) -> None:
    """Connect and run `client`; back when the broker has answered."""
    up = threading.Event()
    before = client.on_connect

    def on_connect(*arguments: Any) -> None:
        if before is not None:
            before(*arguments)
        up.set()

    client.on_connect = on_connect
    client.connect("127.0.0.1", port, 60, clean_start=properties is None, properties=properties)
    client.loop_start()
    assert up.wait(PATIENCE)


@contextmanager
def peer(port: int, name: str, tls: ssl.SSLContext | None = None) -> Iterator[mqtt.Client]:
    """Anybody else on the broker."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
    if tls is not None:
        client.tls_set_context(tls)
    try:
        connected(client, port)
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def lasting(port: int, name: str) -> mqtt.Client:
    """A running client whose session outlives it."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    connected(client, port, properties)
    return client


class ScriptedGateway:
    """Answers each update that opens; `mute`, `copies` and `status` say how. Announces the version `announced`.

    Inside the context its subscription and its first announcement are with the broker.
    """

    def __init__(
        self,
        port: int,
        announced: int = 0,
        copies: int = 1,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.announced = announced
        self.copies = copies
        self.mute = False
        self.status: Callable[[int], Refusal] = lambda _: Refusal.ADMITTED
        self.hears: Callable[[mqtt.MQTTMessage], None] = lambda _: None
        self.opened: list[tuple[int, bytes]] = []
        self.chains: dict[str, session.Chain] = {}
        self._ready = threading.Event()
        self._announced: list[mqtt.MQTTMessageInfo] = []
        self._port = port
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "test-gateway", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        if tls is not None:
            self._client.tls_set_context(tls)
        if login is not None:
            self._client.username_pw_set(*login)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._received

    def __enter__(self) -> "ScriptedGateway":
        connected(self._client, self._port)
        assert self._ready.wait(PATIENCE)
        for message in self._announced:
            message.wait_for_publish(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def announce(self, version: int | None = None) -> None:
        """Publish a version (the latest, or `version`) as retained."""
        self.announced = self.announced if version is None else version
        message, content = adapter_message(self.announced), adapter_content(self.announced)
        self._announced = [
            self._client.publish(topic, payload, qos=1, retain=True)
            for _ in range(self.copies)
            for topic, payload in (
                (topics.part_down(FLEET, self.announced, 0), content),
                (topics.adapter(FLEET), message),
            )
        ]

    def _connected(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(topics.up(FLEET, "+"), qos=1)
        self.announce()

    def _received(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        device = topics.read(message.topic, FLEET).device
        try:
            signed = cose.parse(message.payload)
            header = signed.header
            bound = Context(FLEET, device, "up", ARTIFACT, header.version, header.sequence, header.code)
            sealed = envelope.authenticate(signed, bound, KEY.public)
            plain = self._decrypt(sealed, bound)
        except Refused:
            return
        status = self.status(header.sequence)
        root = cbor.decode(plain).get(9) if status is Refusal.ADMITTED else None
        if root is not None:
            self.chains[device] = session.found(header.sequence, root)
        self.opened.append((header.sequence, plain))
        self.hears(message)
        if not self.mute:
            for _copy in range(self.copies):
                word = receipt_message(message.payload, status, device, sequence=header.sequence)
                client.publish(topics.receipts(FLEET, device), word, qos=1)

    def _decrypt(self, sealed: bytes, bound: Context) -> bytes:
        if bound.code == RESUMED:
            return session.decrypt(sealed, bound, self.chains.get(bound.device))
        return envelope.decrypt(sealed, bound, sealing("gateway", bound.code))


class StubBroker:
    """Takes connections, keeps each CONNECT packet, answers `answer`, and reads nothing more until the end."""

    def __init__(self, answer: bytes) -> None:
        self.connects: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self._lines: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> "StubBroker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        for line in (*self._lines, self._listener):
            line.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                line, _ = self._listener.accept()
                self._lines.append(line)
                line.settimeout(PATIENCE)
                self.connects.append(line.recv(2)[:1] + line.recv(4096))
                line.sendall(self._answer)


def connack(reason: int) -> bytes:
    """The answer to a CONNECT: no session, no properties (MQTT 5, section 3.2)."""
    return bytes([0x20, 3, 0, reason, 0])


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does; fails instead of waiting for ever."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def sync(state: State, port: int, timeout: float = PATIENCE, **more: Any) -> link.SyncResult:
    return link.sync(state, enrolment_of(port), PARTS, timeout=timeout, **more)
