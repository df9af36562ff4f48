"""The line to a broker: what is asked for, what was agreed, and that a broker can't make it hang or grow."""

import math
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from connection_kit import Answers, connack, first, heard, line_to
from hostile_broker import Publish, number
from hypothesis import given, settings
from hypothesis import strategies as st
from link_kit import PATIENCE, until
from paho.mqtt.enums import MQTTProtocolVersion

from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.sdk import connection
from tasuki.sdk.connection import MAX_PACKET, OFFLINE, V5, V311, Limits

STATUS = "tasuki/oak/status/attic"


@pytest.fixture(autouse=True)
def unknown() -> None:
    connection.forget_brokers()


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


# --- what is asked for, and what was agreed ------------------------------------------------------------------------


def test_the_connect_packet_asks_for_a_session_bounds_and_a_last_will() -> None:
    """Byte for byte, MQTT 5, section 3.1."""
    line = line_to(0, status=STATUS, user="attic", password="word", session_seconds=3600, receives=16, keepalive=90)
    with Answers(connack()) as broker:
        first(connection.replace(line, port=broker.port))
    text = lambda value: len(value).to_bytes(2, "big") + value  # noqa: E731
    properties = b"\x11" + (3600).to_bytes(4, "big") + b"\x21\0\x10" + b"\x27" + MAX_PACKET.to_bytes(4, "big")
    body = text(b"MQTT") + b"\5" + bytes([0b1110_0100]) + (90).to_bytes(2, "big") + number(len(properties)) + properties
    body += (
        text(b"oak.attic") + b"\5\x18\0\0\0\0" + text(STATUS.encode()) + text(OFFLINE) + text(b"attic") + text(b"word")
    )
    assert broker.connects == [b"\x10" + number(len(body)) + body]


@pytest.mark.parametrize(("fresh", "seconds"), [(False, 60), (True, 60), (False, 0)])
def test_in_the_older_protocol_a_session_without_end_is_not_clean(fresh: bool, seconds: int) -> None:
    """MQTT 3.1.1, section 3.1.2.4: flag 1 is Clean Session."""
    with Answers(b"\x20\2\0\1", b"\x20\2\0\0") as broker:
        line = line_to(broker.port, session_seconds=seconds)
        first(line)
        assert first(line, fresh=fresh).limits == Limits(V311)
    assert broker.levels == [5, 4]
    flags = broker.connects[1][broker.connects[1].index(b"MQTT") + 5]
    assert bool(flags & 2) is (fresh or seconds == 0)


def test_the_broker_says_what_it_takes() -> None:
    said = b"\x21\0\x0b" + b"\x27" + (131_072).to_bytes(4, "big") + b"\x13\0\x1e"
    with Answers(connack(0, said, session=True)) as broker:
        event = first(line_to(broker.port))
    assert (event.kind, event.resumed, event.limits) == ("connected", True, Limits(V5, 131_072, 11, 30))


def test_a_broker_that_says_nothing_takes_what_the_standard_says() -> None:
    with Answers(connack()) as broker:
        event = first(line_to(broker.port))
    assert (event.resumed, event.limits) == (False, Limits(V5, None, 65535, None))


def test_what_the_broker_takes_at_once_is_kept_to() -> None:
    """A broker may hang up on whoever exceeds it (section 4.9); the first connection does not know of it yet."""
    with Answers(connack(0, b"\x21\0\3")) as broker:
        sizes = []
        for _ in range(2):
            with connection.opened(line_to(broker.port)) as (client, inbox):
                heard(inbox, "connected")
                sizes.append(client.max_inflight_messages)
    assert sizes == [10, 3]


@given(
    topic=st.text("abc/é", min_size=1, max_size=60),
    packet=st.integers(200, 300_000),
    named=st.booleans(),
    expiry=st.sampled_from([math.inf, 90.0]),
)
def test_the_largest_payload_fits_into_the_largest_packet(topic: str, packet: int, named: bool, expiry: float) -> None:
    """Checked against an encoder of our own; at most three bytes are left over, the length's."""
    properties = connection.publish_properties("update", "oak", "attic", expiry) if named else None
    payload = Limits(V5, packet).payload(topic, properties)
    assert payload is not None
    packed = b"\0" if properties is None else properties.pack()
    inside = packed[1 if len(packed) < 129 else 2 :]
    made = Publish(topic.encode(), bytes(payload), 1, 7, properties=inside).encode()
    assert packet - 3 <= len(made) <= packet
    assert Limits(V5).payload(topic, properties) is None


@given(st.floats(min_value=-1e3, max_value=1e20))
def test_the_expiry_is_whole_seconds_that_the_packet_can_hold(seconds: float) -> None:
    """Section 3.3.2.3.3: four bytes; 0 would be expired at once."""
    properties = connection.publish_properties("update", "oak", "attic", seconds)
    interval = getattr(properties, "MessageExpiryInterval", None)
    if interval is None:
        assert seconds >= 2**32 - 1
    else:
        assert 1 <= interval < 2**32 - 1
        assert interval <= max(1.0, seconds) < interval + 1


def test_user_properties_reach_whoever_routes(embedded: EmbeddedBroker) -> None:
    with connection.opened(line_to(embedded.port, "watch")) as (watch, _):
        seen: queue.Queue[Any] = queue.Queue()
        watch.message_callback_add("tasuki/#", lambda _c, _d, message: seen.put(message.properties))
        connection.subscribe(watch, "tasuki/oak/up/+")
        with connection.opened(line_to(embedded.port)) as (client, inbox):
            heard(inbox, "connected")
            named = connection.publish_properties("update", "oak", "attic", 90.0)
            client.publish("tasuki/oak/up/attic", b"sealed", qos=1, properties=named)
            got = seen.get(timeout=PATIENCE)
    assert got.UserProperty == [("fleet", "oak"), ("device", "attic"), ("kind", "update")]
    assert 80 <= got.MessageExpiryInterval <= 90


# --- what a broker can't do -------------------------------------------------------------------------------------


def publish(payload: bytes = b"x", **more: Any) -> bytes:
    return Publish(b"t", payload, **{"mid": 1, **more}).encode()


HUGE = b"\x32" + number(200_000_000)


@pytest.mark.parametrize(
    "said",
    [HUGE, publish(qos=2), publish(bytes(MAX_PACKET), qos=0), b"\x32" + b"\xff" * 5],
    ids=lambda said: said[:6].hex(),
)
def test_what_was_not_agreed_ends_the_line(said: bytes) -> None:
    """Larger than Maximum Packet Size, or of QoS 2, which nobody subscribed to: it is not even read."""
    with Answers(connack() + said, linger=True) as broker:
        with connection.opened(line_to(broker.port)) as (_, inbox):
            assert [inbox.get(timeout=PATIENCE).kind for _ in range(2)] == ["connected", "closed"]


def test_a_topic_that_is_no_text_is_left_out() -> None:
    foreign = Publish(b"\xff\xfe", b"x", 1, 1).encode()
    with Answers(connack() + foreign + publish(mid=2), linger=True) as broker:
        with connection.opened(line_to(broker.port)) as (_, inbox):
            (message,) = heard(inbox, "message")
    assert (message.text, message.mid) == ("t", 2)


def test_a_full_inbox_holds_the_broker_back_and_loses_nothing(embedded: EmbeddedBroker) -> None:
    """rumqttd does not keep to Receive Maximum."""
    line = line_to(embedded.port, "slow", receives=4)
    count = 90
    with connection.opened(line) as (client, inbox):
        connection.subscribe(client, "flood")
        heard(inbox, "subscribed")
        with connection.opened(line_to(embedded.port, "fast")) as (fast, told):
            heard(told, "connected")
            for index in range(count):
                fast.publish("flood", b"%d" % index, qos=1)
            until(lambda: inbox.qsize() >= 4)
            time.sleep(0.3)
            assert inbox.qsize() <= 4 * 4
            got = []
            for _ in range(count):
                (event,) = heard(inbox, "message")
                connection.acknowledge(client, event)
                got.append(event.payload)
    assert got == [b"%d" % index for index in range(count)]


def test_leaving_with_a_full_inbox_does_not_wait_for_anybody() -> None:
    flood = b"".join(publish(qos=1, mid=mid) for mid in range(1, 500))
    with Answers(connack() + flood, linger=True) as broker:
        with connection.opened(line_to(broker.port, receives=4)) as (_, inbox):
            until(lambda: inbox.qsize() == 16)
    assert not any(thread.name.startswith("paho") for thread in threading.enumerate())


def test_a_flood_without_acknowledgements_is_cut() -> None:
    """Of QoS 0, which nobody here sends; that the line is closed is not lost."""
    flood = publish(qos=0) * 20_000
    with Answers(connack() + flood) as broker:
        with connection.opened(line_to(broker.port)) as (_, inbox):
            until(lambda: inbox.qsize() >= 64)
            until(lambda: inbox.queue[-1].kind == "closed")
            kinds = [inbox.get_nowait().kind for _ in range(inbox.qsize())]
    assert kinds == ["connected"] + ["message"] * 63 + ["closed"]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.booleans(), st.sampled_from([V5, V311]))
def test_whatever_a_broker_says_the_line_only_ends(said: bytes, greeted: bool, protocol: MQTTProtocolVersion) -> None:
    connection.forget_brokers()
    with Answers((connack() if greeted else b"") + said) as broker:
        line = line_to(broker.port)
        connection._KNOWN[line.broker] = connection._Known(protocol)
        with connection.opened(line) as (_, inbox):
            heard(inbox, "closed")
