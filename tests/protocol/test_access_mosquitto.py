"""A device with its own certificate against Mosquitto and the access list that `tasuki gateway init` makes.

It may write to topics of its own name, and read its own receipts and what is for all; nothing else gets through, and
nothing that it does takes away from another device. Run by `make check-all`.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from link_kit import PATIENCE, connected, peer, until
from mosquitto_kit import Mosquitto, gateway_folder
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from protocol_kit import DEVICE, FLEET

from tasuki.aggregator import certificates, fleet
from tasuki.sdk import connection, topics
from tasuki.sdk.connection import OFFLINE, Line
from tasuki.sdk.enrolment import Tls

pytestmark = pytest.mark.mosquitto
ROGUE = "rogue"
# What a device may write to, and what it may read.
OWN = [
    topics.up(FLEET, ROGUE),
    topics.part_up(FLEET, ROGUE, 7, 0),
    topics.join(FLEET, ROGUE),
    topics.status(FLEET, ROGUE),
]
FOR_ALL = [topics.adapter(FLEET), topics.part_down(FLEET, 3, 0), topics.record(FLEET)]
READABLE = [topics.receipts(FLEET, ROGUE), *FOR_ALL]
# What is another's: another device's, the gateway's, another fleet's, the broker's.
OTHERS = [
    topics.up(FLEET, DEVICE),
    topics.part_up(FLEET, DEVICE, 7, 0),
    topics.join(FLEET, DEVICE),
    topics.status(FLEET, DEVICE),
    topics.status(FLEET, "gateway"),
    topics.receipts(FLEET, DEVICE),
    topics.receipts(FLEET, ROGUE),
    *FOR_ALL,
    topics.up("ash", ROGUE),
    topics.up("ash", DEVICE),
    f"{topics.up(FLEET, ROGUE)}s",
    "tasuki",
    "elsewhere",
    "$SYS/broker/uptime",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path) -> Path:
    """What `tasuki gateway init --tls` makes."""
    return gateway_folder(tmp_path_factory.mktemp("gateway"), FLEET, tiny_artifact)


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    broker = Mosquitto(folder / "mosquitto" / "mosquitto.conf", fleet.load(folder).port)
    for left in (folder / "mosquitto").glob("mosquitto.db*"):
        left.unlink()
    broker.start()
    yield broker.port
    broker.end()


def context_of(folder: Path, name: str) -> ssl.SSLContext:
    tls = Tls((folder / "tls" / "ca.crt").read_text(), *certificates.issue(folder / "tls", name))
    return connection.tls_context(tls, folder)


class Ear:
    """Somebody's subscriptions, and what they bring."""

    def __init__(self, stack: contextlib.ExitStack, port: int, tls: ssl.SSLContext, *filters: str) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self.client = stack.enter_context(peer(port, "", tls))
        self.client.on_message = lambda _c, _d, message: self.heard.append(
            (message.topic, bytes(message.payload), bool(message.retain))
        )
        self.granted: list[bool] = []
        self.client.on_subscribe = lambda _c, _d, _mid, codes, _p: self.granted.extend(
            not code.is_failure for code in codes
        )
        for topic in filters:
            self.client.subscribe(topic, qos=1)
        until(lambda: len(self.granted) == len(filters))


def everything(folder: Path, port: int, stack: contextlib.ExitStack) -> Ear:
    """The gateway's end, with all that it may read."""
    gateway = context_of(folder, "gateway")
    return Ear(stack, port, gateway, topics.up(FLEET, "#"), topics.join(FLEET, "+"), topics.status(FLEET, "+"))


def try_all(port: int, tls: ssl.SSLContext, wanted: list[str], payload: bytes, **more: Any) -> None:
    """Publish to each topic on a line of its own: Mosquitto 2.0.11 hangs up on what is not allowed."""
    for topic in wanted:
        with peer(port, "", tls) as client:
            sent = client.publish(topic, payload, qos=1, **more)
            with contextlib.suppress(RuntimeError, ValueError):
                sent.wait_for_publish(0.1)


def test_a_device_writes_to_its_own_topics_only(port: int, folder: Path) -> None:
    rogue = context_of(folder, ROGUE)
    with contextlib.ExitStack() as stack:
        gateway = everything(folder, port, stack)
        other = Ear(stack, port, context_of(folder, DEVICE), topics.receipts(FLEET, DEVICE), *FOR_ALL)
        try_all(port, rogue, OTHERS, b"forged", retain=True)
        try_all(port, rogue, OTHERS, b"forged")
        try_all(port, rogue, OWN, b"own")
        until(lambda: len(gateway.heard) >= len(OWN))
        time.sleep(0.3)
        assert sorted(topic for topic, _, _ in gateway.heard) == sorted(OWN)
        assert {payload for _, payload, _ in gateway.heard} == {b"own"}
        assert other.heard == []
    with contextlib.ExitStack() as stack:
        # Nothing of it was retained either.
        late = everything(folder, port, stack)
        other = Ear(stack, port, context_of(folder, DEVICE), topics.receipts(FLEET, DEVICE), *FOR_ALL)
        itself = Ear(stack, port, rogue, *READABLE)
        time.sleep(0.3)
        assert late.heard == other.heard == itself.heard == []


FILTERS = [
    "#",
    "+/#",
    "tasuki/#",
    f"tasuki/{FLEET}/#",
    f"tasuki/{FLEET}/+/+",
    f"tasuki/+/receipt/{DEVICE}",
    topics.receipts(FLEET, "+"),
    topics.receipts(FLEET, DEVICE),
    topics.up(FLEET, "+"),
    topics.up(FLEET, "#"),
    topics.up(FLEET, DEVICE),
    f"{topics.up(FLEET, DEVICE)}/#",
    topics.join(FLEET, "+"),
    topics.status(FLEET, "+"),
    f"$share/group/{topics.up(FLEET, '#')}",
    f"$share/group/{topics.receipts(FLEET, DEVICE)}",
    "$SYS/#",
]


@pytest.mark.parametrize("retain", [False, True], ids=["live", "retained"])
def test_a_device_reads_its_own_receipts_and_what_is_for_all(port: int, folder: Path, retain: bool) -> None:
    """Whatever it subscribes to, with wildcards or shared, before or after the message."""
    written = [topics.receipts(FLEET, DEVICE), *READABLE]
    own_of_other = [topics.up(FLEET, DEVICE), topics.part_up(FLEET, DEVICE, 7, 0), topics.status(FLEET, DEVICE)]
    rogue = context_of(folder, ROGUE)
    heard: list[tuple[str, bytes, bool]] = []
    for when in ("before", "after"):
        with contextlib.ExitStack() as stack:
            ear = Ear(stack, port, rogue, *FILTERS, *READABLE)
            if when == "before":
                try_all(port, context_of(folder, "gateway"), written, b"of the gateway", retain=retain)
                try_all(port, context_of(folder, DEVICE), own_of_other, b"of another", retain=retain)
            if when == "before" or retain:
                until(lambda ear=ear: {topic for topic, _, _ in ear.heard} >= set(READABLE))  # type: ignore[misc]
            time.sleep(0.3)
            heard += ear.heard
    assert {topic for topic, _, _ in heard} == set(READABLE)
    assert {payload for _, payload, _ in heard} == {b"of the gateway"}


@pytest.mark.parametrize("topic", [topics.status(FLEET, DEVICE), topics.up(FLEET, DEVICE), topics.adapter(FLEET)])
def test_a_last_will_on_anothers_topic_is_not_published(port: int, folder: Path, topic: str) -> None:
    """Mosquitto 2.0.11 lets in who has such a will; the line is cut, and the will goes nowhere."""
    with contextlib.ExitStack() as stack:
        gateway = everything(folder, port, stack)
        other = Ear(stack, port, context_of(folder, DEVICE), *FOR_ALL)
        for name, will in ((ROGUE, topic), ("cellar", topics.status(FLEET, "cellar"))):
            client = mqtt.Client(
                CallbackAPIVersion.VERSION2, "", protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False
            )
            client.tls_set_context(context_of(folder, name))
            client.will_set(will, OFFLINE, qos=1, retain=True)
            connected(client, port)
            shut(client.socket())
            client.loop_stop()
        until(lambda: (topics.status(FLEET, "cellar"), OFFLINE, False) in gateway.heard)
        assert {heard for heard, _, _ in gateway.heard} == {topics.status(FLEET, "cellar")}
        assert other.heard == []


def shut(line: Any) -> None:
    """Cut a line as a network would."""
    socket.socket.shutdown(line, socket.SHUT_RDWR)


def test_a_device_that_takes_the_name_of_anothers_session_hears_nothing_of_it(port: int, folder: Path) -> None:
    """Neither what waits there nor what comes."""
    device, rogue, gateway = (context_of(folder, name) for name in (DEVICE, ROGUE, "gateway"))
    name = f"{FLEET}.{DEVICE}"
    mine = Line(name, "127.0.0.1", port, device)
    with connection.opened(mine) as (client, inbox):
        assert inbox.get(timeout=PATIENCE).kind == "connected"
        connection.subscribe(client, topics.receipts(FLEET, DEVICE))
        assert inbox.get(timeout=PATIENCE).kind == "subscribed"
    try_all(port, gateway, [topics.receipts(FLEET, DEVICE)], b"waits")
    with connection.opened(Line(name, "127.0.0.1", port, rogue)) as (client, inbox):
        assert inbox.get(timeout=PATIENCE).kind == "connected"
        try_all(port, gateway, [topics.receipts(FLEET, DEVICE)], b"comes")
        time.sleep(0.3)
        assert inbox.empty()
    # What waited is thrown away, and comes again when the device sends again; the line works as before.
    with connection.opened(mine) as (client, inbox):
        assert inbox.get(timeout=PATIENCE).kind == "connected"
        try_all(port, gateway, [topics.receipts(FLEET, DEVICE)], b"again")
        while inbox.get(timeout=PATIENCE).payload != b"again":
            pass
