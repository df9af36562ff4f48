"""Which protocol is spoken with a broker, and that either of the two does what is needed."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from connection_kit import Answers, connack, first, heard, line_to, reached
from link_kit import PATIENCE

from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.sdk import connection
from tasuki.sdk.connection import OFFLINE, ONLINE, V5, V311, Inbox

STATUS = "tasuki/oak/status/attic"


@pytest.fixture(autouse=True)
def unknown() -> None:
    connection.forget_brokers()


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


# --- who is there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [5, 4])
def test_online_and_offline_are_retained_however_the_line_ends(version: Any) -> None:
    with EmbeddedBroker(version=version) as broker:
        reached(line_to(broker.port, "first"))
        with connection.opened(line_to(broker.port, "watch")) as (watch, seen):
            connection.subscribe(watch, STATUS)
            heard(seen, "subscribed")
            line = line_to(broker.port, status=STATUS)
            for how in ("goodbye", "cut"):
                with connection.opened(line) as (client, inbox):
                    heard(inbox, "connected")
                    assert heard(seen, "message")[0].payload == ONLINE
                    if how == "cut":
                        client.socket().shutdown(socket.SHUT_RDWR)
                        assert heard(seen, "message")[0].payload == OFFLINE
                if how == "goodbye":
                    assert heard(seen, "message")[0].payload == OFFLINE
        with connection.opened(line_to(broker.port, "late")) as (late, seen):
            connection.subscribe(late, STATUS)
            (message,) = heard(seen, "message")
            assert (message.payload, message.retained) == (OFFLINE, True)


# --- which protocol ---------------------------------------------------------------------------------------------


RECEIPTS = "tasuki/oak/receipt/attic"


def listens(port: int, stack: contextlib.ExitStack) -> tuple[Any, Inbox]:
    """The device's end, with its subscription."""
    client, inbox = stack.enter_context(connection.opened(line_to(port)))
    heard(inbox, "connected")
    connection.subscribe(client, RECEIPTS)
    heard(inbox, "subscribed")
    return client, inbox


def tell(port: int) -> None:
    """The gateway's end: one receipt."""
    with connection.opened(line_to(port, "oak.gateway")) as (client, inbox):
        heard(inbox, "connected")
        named = connection.publish_properties("receipt", "oak", "attic")
        client.publish(RECEIPTS, b"word", qos=1, properties=named).wait_for_publish(PATIENCE)


def hears(client: Any, inbox: Inbox) -> None:
    (message,) = heard(inbox, "message")
    assert (message.text, message.payload, message.qos) == (RECEIPTS, b"word", 1)
    connection.acknowledge(client, message)


def works_at_once(port: int) -> None:
    with contextlib.ExitStack() as stack:
        end = listens(port, stack)
        tell(port)
        hears(*end)


def works_while_away(port: int) -> None:
    """The session outlives its connection."""
    with contextlib.ExitStack() as stack:
        listens(port, stack)
    tell(port)
    with connection.opened(line_to(port)) as (client, inbox):
        assert heard(inbox, "connected")[0].resumed
        hears(client, inbox)


def test_a_broker_of_mqtt_5_is_spoken_to_in_mqtt_5(embedded: EmbeddedBroker) -> None:
    attempts, event = reached(line_to(embedded.port))
    assert (attempts, event.limits.protocol) == (1, V5)
    works_at_once(embedded.port)
    works_while_away(embedded.port)


def test_a_broker_that_hangs_up_on_mqtt_5_is_spoken_to_in_the_older_one() -> None:
    """rumqttd's listener for MQTT 3.1.1 closes without a word."""
    with EmbeddedBroker(version=4) as broker:
        attempts, event = reached(line_to(broker.port))
        assert (attempts, event.limits.protocol) == (3, V311)
        assert reached(line_to(broker.port))[0] == 1
        works_at_once(broker.port)
        works_while_away(broker.port)


def test_a_broker_that_takes_mqtt_5_for_something_else_is_spoken_to_in_the_older_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """amqtt speaks MQTT 3.1.1 only. It takes the properties for the client's name, and waits for the rest."""
    monkeypatch.setattr(connection, "_ANSWER_SECONDS", 0.5)
    with older_broker() as port:
        attempts, event = reached(line_to(port))
        assert (attempts, event.limits.protocol) == (3, V311)
        assert reached(line_to(port))[0] == 1
        works_at_once(port)


@contextlib.contextmanager
def older_broker() -> Iterator[int]:
    import asyncio

    from amqtt.broker import Broker

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, loop).result(PATIENCE)

    async def made() -> Broker:
        plugin = "amqtt.plugins.authentication.AnonymousAuthPlugin"
        listener = {"type": "tcp", "bind": f"127.0.0.1:{port}"}
        broker = Broker({"listeners": {"default": listener}, "plugins": {plugin: {"allow_anonymous": True}}})
        await broker.start()
        return broker

    try:
        broker = wait(made())
        try:
            yield port
        finally:
            wait(broker.shutdown())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


@pytest.mark.parametrize(
    ("answers", "levels"),
    [
        # MQTT 5, section 3.2.2.2: 0x84. MQTT 3.1.1, section 3.2.2.3: 1.
        ((connack(0x84), b"\x20\2\0\0"), [5, 4, 4, 4]),
        ((b"\x20\2\0\1", b"\x20\2\0\0"), [5, 4, 4, 4]),
        # Nobody answers: both in turn, and MQTT 5 twice first.
        ((None,), [5, 5, 4, 5, 4, 5]),
        # It worked once; then it hangs up, as it does while it starts behind a proxy.
        ((connack(), None), [5, 5, 5, 5, 5]),
        # Another reason to refuse is no reason to change.
        ((connack(0x87),), [5, 5, 5]),
        # The older one worked; then the broker was replaced by one that only speaks the newer.
        ((connack(0x84), b"\x20\2\0\0", None, None, connack()), [5, 4, 4, 4, 5, 5]),
    ],
)
def test_which_protocol_is_spoken_next(answers: tuple[bytes | None, ...], levels: list[int]) -> None:
    with Answers(*answers) as broker:
        for _ in levels:
            first(line_to(broker.port))
    assert broker.levels == levels


def test_a_broker_without_a_word_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_ANSWER_SECONDS", 0.1)
    with Answers(None, linger=True) as broker:
        assert [first(line_to(broker.port)).kind for _ in range(3)] == ["closed"] * 3
    assert broker.levels == [5, 5, 4]


def test_what_is_known_is_of_one_broker() -> None:
    with Answers(connack(0x84)) as one, Answers(connack()) as other:
        first(line_to(one.port))
        first(line_to(other.port))
        assert first(line_to(one.port)).kind != "connected"
    assert (one.levels, other.levels) == ([5, 4], [5])
