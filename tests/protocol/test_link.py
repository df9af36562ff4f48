"""The link over a real MQTT 5 broker: whatever is lost, repeated, forged or cut, the end is the same."""

import contextlib
import itertools
import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from link_kit import (
    FORMER,
    PARTS,
    PATIENCE,
    ScriptedGateway,
    StubBroker,
    adapter_content,
    adapter_message,
    announce_on,
    connack,
    enrolment_of,
    lasting,
    peer,
    receipt_message,
    spool,
    state_of,
    sync,
    until,
)
from protocol_kit import DEVICE, FLEET

from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.sdk import connection, cose, link, policy, topics
from tasuki.sdk.errors import (
    BrokerUnreachable,
    InputError,
    KeyInvalid,
    Refusal,
    SyncCancelled,
    SyncTimeout,
    Unauthorised,
)
from tasuki.sdk.policy import Conditions, Decision, Limits
from tasuki.sdk.state import State

# For a sync that has to fail.
SHORT = 1.5


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def port(shared: EmbeddedBroker) -> Iterator[int]:
    """The shared broker, with nothing retained and no session left of the test before."""
    yield shared.port
    shared.kill()
    shared.start()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = state_of(tmp_path / "state")
    yield opened
    opened.close()


def test_an_update_goes_up_and_an_adapter_comes_down(port: int, state: State) -> None:
    message = spool(state)
    with ScriptedGateway(port, announced=2) as gateway:
        result = sync(state, port)
    assert [sequence for sequence, _ in gateway.opened] == [1]
    assert (result.sent, result.admitted, result.refused, result.bytes_up) == (1, 1, [], len(message))
    assert (result.version_before, result.version_after) == (0, 2)
    assert state.spooled() == []
    assert state.adapter() == (2, adapter_content(2))


def test_nothing_to_send_still_brings_the_adapter(port: int, state: State) -> None:
    with ScriptedGateway(port, announced=1):
        assert sync(state, port).version_after == 1
        again = sync(state, port)
    assert (again.sent, again.version_before, again.version_after) == (0, 1, 1)


def test_everything_twice_changes_nothing(port: int, state: State) -> None:
    with ScriptedGateway(port, announced=2, copies=2) as gateway:
        message = spool(state)
        with peer(port, "echo") as echo:
            echo.publish(topics.up(FLEET, DEVICE), message, qos=1)
            result = sync(state, port)
        spool(state, 1)
        second = sync(state, port)
    assert (result.admitted, second.admitted) == (1, 1)
    assert state.spooled() == []
    assert state.adapter() == (2, adapter_content(2))
    assert {sequence for sequence, _ in gateway.opened} == {1, 2}


def test_without_a_receipt_the_update_stays_and_is_sent_again_as_it_was(port: int, tmp_path: Path) -> None:
    first = state_of(tmp_path / "state")
    message = spool(first)
    with ScriptedGateway(port, announced=1) as gateway:
        gateway.mute = True
        with pytest.raises(SyncTimeout, match="without a receipt"):
            sync(first, port, timeout=SHORT)
        first.close()
        # The process is gone; another one opens the same state.
        again = state_of(tmp_path / "state")
        assert [item.message for item in again.spooled()] == [message]
        gateway.mute = False
        assert sync(again, port).admitted == 1
    assert len({plain for _, plain in gateway.opened}) == 1
    assert again.spooled() == []
    spool(again, 1)
    assert [item.sequence for item in again.spooled()] == [2], "a sequence number is never used twice"
    again.close()


def test_a_gateway_that_was_away_gets_the_update_later(port: int, state: State) -> None:
    spool(state)
    with pytest.raises(SyncTimeout):
        sync(state, port, timeout=SHORT)
    assert len(state.spooled()) == 1
    with ScriptedGateway(port):
        assert sync(state, port).admitted == 1


def test_the_broker_restarts_in_mid_sync(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded broker forgets everything; the spool does not."""
    monkeypatch.setattr(link, "_RESEND_SECONDS", 1.0)
    message = spool(state)
    with EmbeddedBroker() as broker, ScriptedGateway(broker.port, announced=3) as gateway:
        gateway.mute = True
        results: list[link.SyncResult] = []
        worker = threading.Thread(target=lambda: results.append(sync(state, broker.port, rng=random.Random(1))))
        worker.start()
        until(lambda: len(gateway.opened) > 0)
        broker.kill()
        gateway.mute = False
        broker.start()
        worker.join(PATIENCE)
    (result,) = results
    assert (result.admitted, result.version_after) == (1, 3)
    assert result.sent >= 2
    assert result.bytes_up == result.sent * len(message)
    assert state.spooled() == []


@pytest.mark.parametrize("status", [Refusal.STALE_BASE, Refusal.REPLAY, Refusal.NORM, Refusal.BAD_SEAL])
def test_a_refusal_is_reported_and_the_update_is_not_sent_again(port: int, state: State, status: Refusal) -> None:
    spool(state)
    with ScriptedGateway(port) as gateway:
        gateway.status = lambda _: status
        result = sync(state, port)
    assert (result.admitted, result.refused) == (0, [status])
    assert state.spooled() == []


def test_a_session_that_was_cut_still_gets_the_retained_adapter(port: int, state: State) -> None:
    """The broker believes that this session has it, and may not send it again; the device was killed before."""
    with ScriptedGateway(port, announced=2):
        got = threading.Event()
        before = lasting(port, connection.client_id(enrolment_of(port)))
        before.on_message = lambda *_: got.set()
        before.subscribe([(topics.adapter(FLEET), 1), (topics.part_down(FLEET, 2, "+"), 1)])
        assert got.wait(PATIENCE)
        before.disconnect()
        before.loop_stop()
        assert sync(state, port).version_after == 2


def test_an_answer_waits_in_the_persistent_session(port: int, state: State) -> None:
    """A receipt that comes while the device is away is the first thing that it hears."""
    message = spool(state)
    with ScriptedGateway(port, announced=1) as gateway:
        gateway.mute = True
        with pytest.raises(SyncTimeout):
            sync(state, port, timeout=SHORT)
        with peer(port, "sender") as sender:
            word = receipt_message(message)
            sender.publish(topics.receipts(FLEET, DEVICE), word, qos=1).wait_for_publish(PATIENCE)
        assert sync(state, port).admitted == 1, "the gateway itself still says nothing"


def test_wait_for_a_version(port: int, state: State) -> None:
    with ScriptedGateway(port, announced=1) as gateway:
        later = threading.Timer(0.5, gateway.announce, [4])
        later.start()
        result = sync(state, port, wait_version=3)
        later.join()
        assert result.version_after == 4
        with pytest.raises(SyncTimeout, match="version 9"):
            sync(state, port, timeout=SHORT, wait_version=9)


def test_an_older_adapter_is_ignored_and_the_newer_one_stays(port: int, state: State) -> None:
    with ScriptedGateway(port, announced=5) as gateway:
        sync(state, port)
        gateway.announce(4)
        with pytest.raises(SyncTimeout, match="no adapter"):
            sync(state, port, timeout=SHORT)
    assert state.adapter() == (5, adapter_content(5))


def test_an_expired_adapter_is_ignored_by_the_clock_of_the_device(port: int, state: State) -> None:
    with peer(port, "publisher") as publisher:
        announce_on(publisher, 2, adapter_message(2, expires=1_000))
        with pytest.raises(SyncTimeout, match="no adapter"):
            sync(state, port, timeout=SHORT, clock=lambda: 1_001.0)
        assert state.adapter() is None
        assert sync(state, port, clock=lambda: 999.0).version_after == 2


def test_foreign_messages_are_counted_and_change_nothing(port: int, state: State) -> None:
    """A former fleet's retained adapter, forged and foreign receipts, garbage and an oversize message."""
    message = spool(state)
    mine, adapters = topics.receipts(FLEET, DEVICE), topics.adapter(FLEET)
    hostile = [
        (adapters, adapter_message(9, FORMER), True),
        (adapters, b"", False),
        (adapters, bytes(cose.MAX_MESSAGE_BYTES + 1), False),
        (adapters, adapter_message(9, fleet="ash"), False),
        (mine, receipt_message(message, key=FORMER), False),
        (mine, receipt_message(message, device="cellar"), False),
        (mine, b"\xd2" + b"\x81" * 10_000, False),
        (mine, adapter_message(9), False),
    ]
    results: list[link.SyncResult] = []
    with peer(port, "stranger") as stranger, ScriptedGateway(port) as gateway:
        gateway.mute = True
        stranger.publish(*hostile[0][:2], qos=1, retain=True).wait_for_publish(PATIENCE)
        worker = threading.Thread(target=lambda: results.append(sync(state, port)))
        worker.start()
        # The broker has the subscriptions: they came before the update, on the same line.
        until(lambda: len(gateway.opened) > 0)
        for topic, payload, retain in hostile[1:]:
            stranger.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE)
        assert worker.is_alive()
        assert len(state.spooled()) == 1
        assert state.adapter() is None
        # The gateway's own word, but on another message: believed, and it removes nothing.
        stranger.publish(mine, receipt_message(b"another message"), qos=1).wait_for_publish(PATIENCE)
        assert len(state.spooled()) == 1
        stranger.publish(mine, receipt_message(message), qos=1).wait_for_publish(PATIENCE)
        gateway.announce(1)
        worker.join(PATIENCE)
    assert [(result.admitted, result.version_after, result.ignored) for result in results] == [(1, 1, len(hostile))]
    because = {"bad signature": 4, "malformed": 2, "oversize": 1, "wrong fleet": 1}
    assert results[0].ignored_because == because
    assert state.counted("ignored.") == because, "and they are kept for the operator"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_broker_is_named_and_nothing_is_lost(state: State) -> None:
    spool(state)
    port = free_port()
    with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}"):
        sync(state, port, timeout=SHORT)
    assert BrokerUnreachable.exit_code == 69
    assert len(state.spooled()) == 1


def test_an_unknown_host_is_named(state: State) -> None:
    with pytest.raises(BrokerUnreachable, match=r"broker\.invalid"):
        link.sync(state, enrolment_of(1883, host="broker.invalid"), PARTS, timeout=SHORT)


def test_a_listener_that_speaks_no_mqtt_is_named(state: State) -> None:
    """Reached, but not a broker: not the gateway's fault."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(BrokerUnreachable):
            sync(state, silent.getsockname()[1], timeout=SHORT)


def test_a_listener_that_hangs_up_is_named(state: State) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:
        stop = threading.Event()

        def hang_up() -> None:
            rude.settimeout(0.2)
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    rude.accept()[0].close()

        worker = threading.Thread(target=hang_up)
        worker.start()
        try:
            with pytest.raises(BrokerUnreachable):
                sync(state, rude.getsockname()[1], timeout=SHORT)
        finally:
            stop.set()
            worker.join()


def test_pauses_are_those_of_the_back_off(state: State) -> None:
    port = free_port()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync(state, port, timeout=1000.0, sleep=sleep, rng=random.Random(3))
    rng = random.Random(3)
    assert pauses == [connection.backoff(rng, attempt) for attempt in range(6)]


def test_back_off_has_full_jitter_under_a_bound_and_repeats_with_a_seed() -> None:
    first = [connection.backoff(random.Random(7), attempt) for attempt in range(40)]
    assert first == [connection.backoff(random.Random(7), attempt) for attempt in range(40)]
    rng = random.Random(1)
    for attempt in range(12):
        ceiling = min(30.0, 0.2 * 2**attempt)
        pauses = [connection.backoff(rng, attempt) for _ in range(400)]
        assert 0 <= min(pauses) < 0.1 * ceiling
        assert 0.9 * ceiling < max(pauses) <= ceiling
    assert all(0 <= connection.backoff(rng, attempt) <= 30.0 for attempt in itertools.chain(range(60), [2000]))


# --- who is let in, how long the line may be silent -----------------------------------------------------------


def test_keep_alive_session_and_token_are_told_to_the_broker(state: State) -> None:
    """MQTT 5, section 3.1: the variable header, then client, last will, user name and password."""
    with StubBroker(connack(0)) as stub:
        enrolment = enrolment_of(stub.port, token="pässword")
        with pytest.raises(SyncTimeout):
            link.sync(state, enrolment, PARTS, timeout=SHORT, keepalive=65535, session_seconds=86_400)
        packet = stub.connects[0]
    after = packet[packet.index(b"\x00\x04MQTT") :]
    assert after[6] == 5
    assert after[7] == 0b1110_0100, "user name, password, a retained will of QoS 0, and no clean start"
    assert after[8:10] == b"\xff\xff"
    assert b"\x11" + (86_400).to_bytes(4, "big") in after
    who, will = f"{FLEET}.{DEVICE}", (f"tasuki/{FLEET}/status/{DEVICE}", "offline")
    payload = strings(who) + b"\x05\x18\x00\x00\x00\x00" + strings(*will) + strings(DEVICE, "pässword")
    assert after.endswith(payload), "the will goes out without delay"


def strings(*words: str) -> bytes:
    """UTF-8 strings as MQTT has them (section 1.5.4)."""
    return b"".join(len(word.encode()).to_bytes(2, "big") + word.encode() for word in words)


def test_without_a_token_no_name_is_told(state: State) -> None:
    with StubBroker(connack(0)) as stub:
        with pytest.raises(SyncTimeout):
            sync(state, stub.port, timeout=SHORT)
        packet = stub.connects[0]
    assert packet[packet.index(b"MQTT") + 5] & 0b1100_0000 == 0


@pytest.mark.parametrize("keepalive", [0, -1, 65536, 1.5, True, None])
def test_a_keep_alive_that_mqtt_can_not_say_is_named(state: State, keepalive: Any) -> None:
    with pytest.raises(InputError, match="keepalive"):
        sync(state, 1, keepalive=keepalive)
    with pytest.raises(InputError, match="session_seconds"):
        sync(state, 1, session_seconds=-1)


@pytest.mark.parametrize("reason", [0x86, 0x87, 0x8A, 0x8C])
def test_who_is_not_let_in_learns_it_at_once(state: State, reason: int) -> None:
    spool(state)
    with StubBroker(connack(reason)) as stub:
        with pytest.raises(Unauthorised, match=DEVICE) as caught:
            link.sync(state, enrolment_of(stub.port, token="old"), PARTS, timeout=PATIENCE)
        assert len(stub.connects) == 1, "asking again with the same token changes nothing"
    assert "old" not in str(caught.value)
    assert len(state.spooled()) == 1


def test_a_broker_that_is_busy_is_asked_again(state: State) -> None:
    with StubBroker(connack(0x88)) as stub:
        with pytest.raises(BrokerUnreachable, match="(?i)unavailable"):
            sync(state, stub.port, timeout=SHORT, sleep=lambda _: None)
        assert len(stub.connects) > 1


def test_a_token_never_goes_in_the_clear(state: State) -> None:
    with pytest.raises(KeyInvalid, match="clear"):
        link.sync(state, enrolment_of(1883, host="192.0.2.1", token="secret"), PARTS, timeout=SHORT)


# --- what a limit holds back ----------------------------------------------------------------------------------

NOON = 1_700_000_000.0
TODAY = policy.day(policy.local(NOON))


def test_an_update_that_may_not_go_stays_and_the_adapter_still_comes(port: int, state: State) -> None:
    spool(state)
    asked: list[int] = []

    def no(size: int) -> Decision:
        asked.append(size)
        return Decision(False, "nothing left today")

    with ScriptedGateway(port, announced=2) as gateway:
        result = sync(state, port, may_send=no, clock=lambda: NOON)
        assert gateway.opened == []
        (item,) = state.spooled()
        assert asked == [len(item.message)]
        assert (result.sent, result.held, result.held_because) == (0, 1, "nothing left today")
        assert result.version_after == 2
        assert state.spent(TODAY) == result.bytes_down == len(adapter_message(2)) + len(adapter_content(2))
        later = sync(state, port, may_send=lambda _: policy.ALLOWED, clock=lambda: NOON)
    assert (later.admitted, later.held, later.held_because) == (1, 0, "")
    assert state.spent(TODAY) == sum((result.bytes_down, later.bytes_up, later.bytes_down))
    assert state.spent(TODAY + 1) == 0


def test_sending_again_counts_again_and_stops_at_the_limit(
    port: int, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went once is waited for: it is not held, even where it may not go a second time."""
    monkeypatch.setattr(link, "_RESEND_SECONDS", 0.2)
    message = spool(state)
    size = len(message)
    asked: list[int] = []

    def twice(size: int) -> Decision:
        asked.append(size)
        return policy.may_send(Limits(bytes_per_day=2 * size), Conditions(), policy.local(NOON), size, spent())

    def spent() -> int:
        return state.spent(TODAY)

    results: list[link.SyncResult] = []
    with ScriptedGateway(port, announced=1) as gateway:
        gateway.mute = True
        worker = threading.Thread(target=lambda: results.append(sync(state, port, may_send=twice, clock=lambda: NOON)))
        worker.start()
        until(lambda: len(asked) >= 4)
        with peer(port, "sender") as sender:
            word = receipt_message(message)
            sender.publish(topics.receipts(FLEET, DEVICE), word, qos=1).wait_for_publish(PATIENCE)
        worker.join(PATIENCE)
    assert [(result.sent, result.held, result.admitted, result.bytes_up) for result in results] == [(2, 0, 1, 2 * size)]


def test_what_came_in_is_counted_though_the_sync_failed(port: int, state: State) -> None:
    with peer(port, "stranger") as stranger:
        stranger.publish(topics.adapter(FLEET), b"x" * 1000, qos=1, retain=True).wait_for_publish(PATIENCE)
        with pytest.raises(SyncTimeout):
            sync(state, port, timeout=SHORT, clock=lambda: NOON)
    assert state.spent(TODAY) == 1000


@pytest.mark.parametrize(
    ("lifetime", "interval"), [(1e300, None), (90.5, 90), (0.25, 1), (4e9, 4 * 10**9), (1e10, None)], ids=str
)
def test_the_broker_is_told_how_long_an_update_is_good(
    port: int, state: State, lifetime: float, interval: int | None
) -> None:
    """Message Expiry Interval (MQTT 5, section 3.3.2.3.3), in whole seconds, at least one; if it is too long, none."""
    heard: list[int | None] = []
    with ScriptedGateway(port) as gateway:
        gateway.hears = lambda message: heard.append(getattr(message.properties, "MessageExpiryInterval", None))
        spool(state, now=NOON, lifetime=lifetime)
        assert sync(state, port, clock=lambda: NOON).admitted == 1
    assert len(heard) == 1
    # The broker takes off how long it had it.
    assert heard[0] == interval or (interval is not None and heard[0] is not None and 0 <= interval - heard[0] < 20)


def test_what_is_over_is_not_sent(port: int, state: State) -> None:
    with ScriptedGateway(port) as gateway:
        spool(state, now=NOON, lifetime=60.0)
        result = sync(state, port, clock=lambda: NOON + 61)
        assert gateway.opened == []
    assert (result.sent, result.held) == (0, 0)
    assert state.dropped()["expired"] == 1


# --- stopping ---------------------------------------------------------------------------------------------------


def test_a_sync_that_is_stopped_before_it_begins_does_not_connect(state: State) -> None:
    stop = threading.Event()
    stop.set()
    with StubBroker(connack(0)) as stub:
        with pytest.raises(SyncCancelled):
            sync(state, stub.port, cancelled=stop)
        assert stub.connects == []


def stopped_after(state: State, port: int, reached: Callable[[], bool]) -> BaseException | None:
    """What a sync without an end raises when it is stopped once `reached`."""
    stop, ends = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            sync(state, port, timeout=1e6, cancelled=stop)
        except BaseException as error:
            ends.append(error)

    worker = threading.Thread(target=run)
    worker.start()
    until(reached)
    stop.set()
    worker.join(PATIENCE)
    return ends[0] if ends else None


def test_a_sync_is_stopped_while_it_waits_for_the_gateway(port: int, state: State) -> None:
    spool(state)
    with ScriptedGateway(port, announced=1) as gateway:
        gateway.mute = True
        assert isinstance(stopped_after(state, port, lambda: len(gateway.opened) > 0), SyncCancelled)
    assert len(state.spooled()) == 1


def test_a_sync_is_stopped_between_two_attempts(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[int] = []

    def long(_rng: random.Random, attempt: int) -> float:
        pauses.append(attempt)
        return 1e6

    monkeypatch.setattr(link, "backoff", long)
    assert isinstance(stopped_after(state, free_port(), lambda: len(pauses) > 0), SyncCancelled)


def test_leaving_a_dead_line_does_not_wait_for_the_keep_alive(state: State) -> None:
    """The other end reads nothing any more: neither the updates nor the goodbye get through."""
    with StubBroker(connack(0)) as stub:
        line = replace(connection.device_line(enrolment_of(stub.port), state.folder), keepalive=65535)
        with connection.opened(line, within=PATIENCE) as (client, inbox):
            assert inbox.get(timeout=PATIENCE).kind == "connected"
            for _ in range(32):
                client.publish("t", bytes(cose.MAX_MESSAGE_BYTES), qos=1)
    assert not any(thread.name.startswith("paho") for thread in threading.enumerate())
