"""What a broker loses without a word: a full queue, and sessions that ended while the gateway was away for a week.

On Debian's Mosquitto; without it these tests fail and say how to install it.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from link_kit import ScriptedGateway, lasting, spool, state_of, sync, until
from mosquitto_kit import Mosquitto, plain_mosquitto
from protocol_kit import FLEET

from tasuki.sdk import link, topics
from tasuki.sdk.errors import SyncTimeout
from tasuki.sdk.state import State

pytestmark = pytest.mark.mosquitto
WEEK = 7 * 24 * 3600.0


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = state_of(tmp_path / "state")
    yield opened
    opened.close()


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Mosquitto]:
    """Keeps two messages for a client that is away, and nothing over a restart."""
    with plain_mosquitto(tmp_path, "max_queued_messages 2", "persistence false") as broker:
        yield broker


def test_what_the_queue_drops_is_sent_again_and_counts_once(forgetful: Mosquitto, state: State) -> None:
    # The gateway was here once, so its session queues; then it is away.
    gone = lasting(forgetful.port, "test-gateway")
    gone.subscribe(topics.up(FLEET, "+"), qos=1)
    time.sleep(0.2)
    gone.disconnect()
    gone.loop_stop()
    messages = []
    for number in range(5):
        messages.append(spool(state, number))
        with pytest.raises(SyncTimeout):
            sync(state, forgetful.port, timeout=0.6)
    # What went out is not superseded: each waits for its receipt.
    assert [item.message for item in state.spooled()] == messages
    with ScriptedGateway(forgetful.port, announced=1) as gateway:
        result = sync(state, forgetful.port, timeout=30.0)
        until(lambda: {sequence for sequence, _ in gateway.opened} == {1, 2, 3, 4, 5})
    assert (result.admitted, result.refused) == (5, [])
    assert state.spooled() == []


def test_a_gateway_that_was_away_for_a_week_gets_everything(forgetful: Mosquitto, state: State) -> None:
    now = time.time()
    message = spool(state, now=now, lifetime=4 * WEEK)
    with pytest.raises(SyncTimeout):
        sync(state, forgetful.port, timeout=0.6, clock=lambda: now)
    # A week later every session is over and every queue is gone: the broker knows of nothing.
    forgetful.end()
    forgetful.start()
    now += WEEK + 60
    assert [item.message for item in state.spooled(now=now)] == [message]
    with ScriptedGateway(forgetful.port, announced=1) as gateway:
        result = sync(state, forgetful.port, timeout=30.0, clock=lambda: now)
        opened = [sequence for sequence, _ in gateway.opened]
    assert opened == [1]
    assert (result.admitted, result.version_after, state.spooled(now=now)) == (1, 1, [])
    # The receipt tells the device that its clock, which the test moved, is a week ahead.
    assert abs(result.clock_off + WEEK) < 600
    assert link.SESSION_SECONDS == WEEK
