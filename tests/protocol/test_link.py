"""The link over a real MQTT 5 broker: whatever is lost, repeated, forged or cut, the end is the same."""

import contextlib
import itertools
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from link_kit import (
    FORMER,
    PARTS,
    PATIENCE,
    ScriptedGateway,
    adapter_message,
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
from tasuki.sdk import cose, link, topics
from tasuki.sdk.errors import BrokerUnreachable, Refusal, SyncTimeout
from tasuki.sdk.state import State


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
    assert state.adapter() == (2, adapter_message(2))


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
    assert state.adapter() == (2, adapter_message(2))
    assert {sequence for sequence, _ in gateway.opened} == {1, 2}


def test_without_a_receipt_the_update_stays_and_is_sent_again_as_it_was(port: int, tmp_path: Path) -> None:
    first = state_of(tmp_path / "state")
    message = spool(first)
    with ScriptedGateway(port, announced=1) as gateway:
        gateway.mute = True
        with pytest.raises(SyncTimeout, match="without a receipt"):
            sync(first, port, timeout=1.5)
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
        sync(state, port, timeout=1.0)
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
        before = lasting(port, f"{FLEET}-{DEVICE}")
        before.on_message = lambda *_: got.set()
        before.subscribe(topics.adapter(FLEET), qos=1)
        assert got.wait(PATIENCE)
        before.disconnect()
        before.loop_stop()
        assert sync(state, port).version_after == 2


def test_an_answer_waits_in_the_persistent_session(port: int, state: State) -> None:
    """A receipt that comes while the device is away is the first thing that it hears."""
    spool(state)
    with ScriptedGateway(port, announced=1) as gateway:
        gateway.mute = True
        with pytest.raises(SyncTimeout):
            sync(state, port, timeout=1.0)
        with peer(port, "sender") as sender:
            word = receipt_message(1)
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
            sync(state, port, timeout=1.0, wait_version=9)


def test_an_older_adapter_is_ignored_and_the_newer_one_stays(port: int, state: State) -> None:
    with ScriptedGateway(port, announced=5) as gateway:
        sync(state, port)
        gateway.announce(4)
        with pytest.raises(SyncTimeout, match="no adapter"):
            sync(state, port, timeout=1.0)
    assert state.adapter() == (5, adapter_message(5))


def test_an_expired_adapter_is_ignored_by_the_clock_of_the_device(port: int, state: State) -> None:
    with peer(port, "publisher") as publisher:
        publisher.publish(topics.adapter(FLEET), adapter_message(2, expires=1_000), qos=1, retain=True)
        with pytest.raises(SyncTimeout, match="no adapter"):
            sync(state, port, timeout=1.0, clock=lambda: 1_001.0)
        assert state.adapter() is None
        assert sync(state, port, clock=lambda: 999.0).version_after == 2


def test_foreign_messages_are_counted_and_change_nothing(port: int, state: State) -> None:
    """A former fleet's retained adapter, forged and foreign receipts, garbage and an oversize message."""
    spool(state)
    mine, adapters = topics.receipts(FLEET, DEVICE), topics.adapter(FLEET)
    hostile = [
        (adapters, adapter_message(9, FORMER), True),
        (adapters, b"", False),
        (adapters, bytes(cose.MAX_MESSAGE_BYTES + 1), False),
        (mine, receipt_message(1, key=FORMER), False),
        (mine, receipt_message(1, device="cellar"), False),
        (mine, b"\xd2" + b"\x81" * 10_000, False),
        (mine, adapter_message(9), False),
    ]
    with peer(port, "stranger") as stranger:
        stranger.publish(*hostile[0][:2], qos=1, retain=True).wait_for_publish(PATIENCE)

        def pester() -> None:
            for topic, payload, retain in hostile[1:]:
                stranger.publish(topic, payload, qos=1, retain=retain)

        worker = threading.Timer(0.7, pester)
        worker.start()
        with pytest.raises(SyncTimeout, match="without a receipt"):
            sync(state, port, timeout=2.5)
        worker.join()
    assert len(state.spooled()) == 1
    assert state.adapter() is None
    with ScriptedGateway(port, announced=1):
        result = sync(state, port)
    assert (result.admitted, result.version_after) == (1, 1)


def test_messages_are_counted_as_ignored(port: int, state: State) -> None:
    with ScriptedGateway(port, announced=1), peer(port, "stranger") as stranger:
        later = threading.Timer(
            0.5, stranger.publish, [topics.receipts(FLEET, DEVICE), receipt_message(1, key=FORMER), 1]
        )
        announce = threading.Timer(1.0, stranger.publish, [topics.adapter(FLEET), adapter_message(2), 1])
        later.start()
        announce.start()
        result = sync(state, port, wait_version=2)
        later.join()
        announce.join()
    assert result.ignored == 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_broker_is_named_and_nothing_is_lost(state: State) -> None:
    spool(state)
    port = free_port()
    with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}"):
        sync(state, port, timeout=0.5)
    assert BrokerUnreachable.exit_code == 69
    assert len(state.spooled()) == 1


def test_an_unknown_host_is_named(state: State) -> None:
    with pytest.raises(BrokerUnreachable, match=r"broker\.invalid"):
        link.sync(state, enrolment_of(1883, host="broker.invalid"), PARTS, timeout=0.5)


def test_a_listener_that_speaks_no_mqtt_is_named(state: State) -> None:
    """Reached, but not a broker: not the gateway's fault."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(BrokerUnreachable):
            sync(state, silent.getsockname()[1], timeout=1.0)


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
                sync(state, rude.getsockname()[1], timeout=1.5)
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
    assert pauses == [link.backoff(rng, attempt) for attempt in range(6)]


def test_back_off_has_full_jitter_under_a_bound_and_repeats_with_a_seed() -> None:
    first = [link.backoff(random.Random(7), attempt) for attempt in range(40)]
    assert first == [link.backoff(random.Random(7), attempt) for attempt in range(40)]
    rng = random.Random(1)
    for attempt in range(12):
        ceiling = min(30.0, 0.2 * 2**attempt)
        pauses = [link.backoff(rng, attempt) for _ in range(400)]
        assert 0 <= min(pauses) < 0.1 * ceiling
        assert 0.9 * ceiling < max(pauses) <= ceiling
    assert all(0 <= link.backoff(rng, attempt) <= 30.0 for attempt in itertools.chain(range(60), [2000]))
