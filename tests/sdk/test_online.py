"""The loop that runs for years: in simulated time, with whatever can go wrong going wrong."""

import asyncio
import gc
import logging
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "protocol"))

from link_kit import PARTS, ScriptedGateway, enrolment_of, spool, state_of, until

from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.sdk import link, online
from tasuki.sdk.errors import BrokerUnreachable, InputError, NotEnrolled, SyncCancelled
from tasuki.sdk.online import Online
from tasuki.sdk.policy import ALLOWED, Decision
from tasuki.sdk.sync_result import SyncResult

HOUR = 3600.0
QUIET = (12, 13, 14)


class Simulation:
    """Simulated time: each pause ends at once. The loop ends itself after `turns` pauses."""

    def __init__(self, turns: int) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.loop: Online | None = None
        self._left = turns

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        self._left -= 1
        if self._left < 0:
            assert self.loop is not None
            self.loop.stop()

    def run(self, sync: Callable[[threading.Event], SyncResult], **more: Any) -> Online:
        """Run the loop to its end."""
        ready = more.pop("ready", lambda: ALLOWED)
        self.loop = Online(sync, ready, clock=lambda: self.now, sleep=self.sleep, rng=random.Random(5), **more)
        self.loop.start()
        until(lambda: self.loop is not None and not self.loop.status().running)
        self.loop.stop()
        return self.loop


def fine(_: threading.Event) -> SyncResult:
    return SyncResult(1, 2, sent=1)


def away(_: threading.Event) -> SyncResult:
    raise BrokerUnreachable("no MQTT broker")


def script(*steps: Any) -> Callable[[threading.Event], SyncResult]:
    """A sync that does one step after the other: raises it, or gives it back."""
    left = iter(steps)

    def sync(_: threading.Event) -> SyncResult:
        step = next(left)
        if isinstance(step, BaseException):
            raise step
        assert isinstance(step, SyncResult)
        return step

    return sync


def test_the_first_sync_comes_soon_and_the_others_at_their_time() -> None:
    simulation = Simulation(200)
    status = simulation.run(fine, every=HOUR).status()
    first, *others = simulation.pauses
    assert 0 <= first <= 10
    assert min(others) >= 0.9 * HOUR
    assert max(others) <= 1.1 * HOUR
    assert len(set(others)) == len(others), "no two homes in step"
    assert (status.attempts, status.successes, status.failures, status.failed_in_row) == (200, 200, 0, 0)
    assert status.last_result == SyncResult(1, 2, sent=1)
    assert status.last_error is None


def test_pauses_grow_under_full_jitter_up_to_the_usual_one() -> None:
    simulation = Simulation(400)
    status = simulation.run(away, every=HOUR).status()
    pauses = simulation.pauses[1:]
    for turn, pause in enumerate(pauses):
        assert 0 <= pause <= min(HOUR, 5.0 * 2.0 ** min(turn, 30))
    assert max(pauses[20:]) > 0.9 * HOUR
    assert min(pauses[20:]) < 0.1 * HOUR
    assert (status.attempts, status.failures, status.failed_in_row) == (400, 400, 400)
    assert status.last_error == "BrokerUnreachable: no MQTT broker"
    assert status.last_failure is not None
    assert status.last_success is None


def test_a_success_ends_the_back_off_and_the_error_is_remembered() -> None:
    simulation = Simulation(8)
    trouble = BrokerUnreachable("x")
    status = simulation.run(script(*[trouble] * 6, SyncResult(0, 1), trouble), every=HOUR).status()
    assert simulation.pauses[7] >= 0.9 * HOUR
    assert simulation.pauses[8] <= 5.0
    assert (status.successes, status.failures, status.failed_in_row) == (1, 7, 1)
    assert status.last_success is not None
    assert status.last_failure is not None
    assert status.last_success < status.last_failure


def test_what_time_does_not_mend_is_tried_at_the_usual_time(caplog: pytest.LogCaptureFixture) -> None:
    simulation = Simulation(5)
    with caplog.at_level(logging.WARNING):
        status = simulation.run(script(*[NotEnrolled("in no fleet")] * 5), every=HOUR).status()
    assert min(simulation.pauses[1:]) >= 0.9 * HOUR
    assert (status.failures, status.last_error) == (5, "NotEnrolled: in no fleet")
    assert [record.exc_info for record in caplog.records] == [None], "once, and without a traceback"


def test_a_bug_is_logged_with_its_traceback_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        status = Simulation(3).run(script(ZeroDivisionError("bug"), MemoryError(), SyncResult(0, 0))).status()
    assert (status.failures, status.successes, status.failed_in_row) == (2, 1, 0)
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def test_a_policy_that_fails_does_not_end_the_loop() -> None:
    answers: list[Any] = [OSError("no gauge"), ALLOWED]

    def ready() -> Decision:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Decision)
        return answer

    status = Simulation(2).run(fine, ready=ready).status()
    assert (status.attempts, status.successes, status.failures) == (1, 1, 1)


def test_what_may_not_be_now_waits_as_long_as_it_says_and_no_longer_than_usual() -> None:
    simulation = Simulation(4)
    answers = [Decision(False, "hours", 60.0), Decision(False, "hours", 9e9), Decision(False, "battery"), ALLOWED]
    said: list[str] = []

    def ready() -> Decision:
        assert simulation.loop is not None
        said.append(simulation.loop.status().waiting_for)
        return answers.pop(0)

    status = simulation.run(fine, every=HOUR, ready=ready).status()
    _, soon, capped, usual, _ = simulation.pauses
    assert 60.0 <= soon <= 60.0 + 0.1 * HOUR
    assert 0.9 * HOUR <= min(capped, usual) <= max(capped, usual) <= 1.1 * HOUR
    assert said == ["", "hours", "hours", "battery"]
    assert (status.attempts, status.successes, status.failures, status.waiting_for) == (1, 1, 0, "")


def test_a_hundred_thousand_failures_leave_nothing_behind() -> None:
    """Eleven years without a broker. The error's words differ every time, so that nothing is shared."""
    blocks: list[int] = []
    count = 0

    def sync(_: threading.Event) -> SyncResult:
        nonlocal count
        count += 1
        ballast = bytes(10_000)  # what a frame of an error that is kept would keep alive
        if count in (10_000, 100_000):
            gc.collect()
            blocks.append(sys.getallocatedblocks())
        raise BrokerUnreachable(f"attempt {count} of {len(ballast)}")

    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    logging.disable(logging.CRITICAL)  # pytest would keep every line
    try:
        with Online(sync, lambda: ALLOWED, every=HOUR, clock=lambda: now, sleep=sleep, rng=random.Random(1)) as loop:
            until(lambda: count >= 100_000)
    finally:
        logging.disable(logging.NOTSET)
    before, after = blocks
    assert after - before < 1000
    assert loop.status().failed_in_row >= 100_000


def test_a_day_without_a_broker_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Simulation(61).run(script(*[BrokerUnreachable("x")] * 60, SyncResult(0, 0)))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


# --- in real time -----------------------------------------------------------------------------------------------


def test_stop_does_not_wait_for_the_pause() -> None:
    """If it did, this test would take an hour."""
    synced = threading.Event()

    def sync(_: threading.Event) -> SyncResult:
        synced.set()
        return SyncResult(0, 0)

    with Online(sync, lambda: ALLOWED) as loop:
        loop.wake()
        assert synced.wait(20)
        names = [thread.name for thread in threading.enumerate() if thread.daemon]
        assert names.count(online.THREAD) == 1
        until(lambda: loop.status().next_attempt is not None)
    assert not loop.status().running
    assert loop.status().next_attempt is None
    assert online.THREAD not in {thread.name for thread in threading.enumerate()}
    loop.stop()


def test_wake_syncs_soon_and_again_after_a_sync_that_runs() -> None:
    began: list[int] = []
    go = threading.Event()

    def sync(_: threading.Event) -> SyncResult:
        began.append(1)
        assert go.wait(20)
        return SyncResult(0, 0)

    with Online(sync, lambda: ALLOWED, every=1e6) as loop:
        loop.wake()
        until(lambda: len(began) == 1)
        loop.wake()
        go.set()
        until(lambda: loop.status().successes == 2)
        assert len(began) == 2


def test_stop_ends_a_sync_that_listens(caplog: pytest.LogCaptureFixture) -> None:
    inside = threading.Event()

    def sync(cancelled: threading.Event) -> SyncResult:
        inside.set()
        assert cancelled.wait(20)
        raise SyncCancelled("stopped")

    with caplog.at_level(logging.INFO), Online(sync, lambda: ALLOWED) as loop:
        loop.wake()
        assert inside.wait(20)
    assert (loop.status().attempts, loop.status().failures) == (1, 0)
    assert caplog.records == [], "a stop is no trouble"


def test_a_loop_runs_once() -> None:
    with Online(fine, lambda: ALLOWED) as loop:
        with pytest.raises(InputError, match="started before"):
            loop.start()
    with pytest.raises(InputError, match="started before"), loop:
        pass


def test_a_loop_that_was_stopped_before_its_start_does_nothing() -> None:
    loop = Online(away, lambda: ALLOWED)
    loop.stop()
    with loop:
        until(lambda: not loop.status().running)
    assert loop.status().attempts == 0


def test_the_sync_may_stop_its_own_loop() -> None:
    def sync(_: threading.Event) -> SyncResult:
        loop.stop()
        return SyncResult(0, 0)

    loop = Online(sync, lambda: ALLOWED)
    with loop:
        loop.wake()
        until(lambda: not loop.status().running)
    assert loop.status().successes == 1


@pytest.mark.parametrize("every", [0, -1.0, 0.5, float("nan"), float("inf"), "60", None, True])
def test_a_pause_that_is_none_is_named(every: Any) -> None:
    with pytest.raises(InputError, match="every"):
        Online(fine, lambda: ALLOWED, every=every)


def test_an_error_in_the_program_ends_the_loop_and_comes_through() -> None:
    with pytest.raises(KeyError), Online(fine, lambda: ALLOWED) as loop:
        raise KeyError("of the program")
    assert not loop.status().running


# --- asyncio ----------------------------------------------------------------------------------------------------


def test_the_event_loop_runs_while_a_sync_ends() -> None:
    """The sync ends only after the event loop has turned: an exit that blocked it would never come back."""
    turned = threading.Event()

    def sync(cancelled: threading.Event) -> SyncResult:
        assert cancelled.wait(20)
        assert turned.wait(20), "the event loop stood still"
        raise SyncCancelled("stopped")

    async def beat() -> None:
        while loop.status().running:
            if stopping:
                turned.set()
            await asyncio.sleep(0.01)

    async def program() -> None:
        async with loop:
            loop.wake()
            while loop.status().attempts == 0:
                await asyncio.sleep(0.01)
            task = asyncio.create_task(beat())
            stopping.append(True)
        await task

    stopping: list[bool] = []
    loop = Online(sync, lambda: ALLOWED)
    asyncio.run(program())
    assert turned.is_set()
    assert not loop.status().running


def test_a_cancelled_task_leaves_no_loop_behind() -> None:
    async def program() -> None:
        async def member() -> None:
            async with loop:
                await asyncio.sleep(1e6)

        task = asyncio.create_task(member())
        while not loop.status().running:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop = Online(fine, lambda: ALLOWED)
    asyncio.run(program())
    until(lambda: not loop.status().running)


# --- with a link ------------------------------------------------------------------------------------------------


@pytest.fixture
def dead() -> Iterator[int]:
    """A port of which every connection is refused: bound, so that nobody else gets it, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_stop_ends_a_real_sync(dead: int, tmp_path: Path) -> None:
    """Its timeout is a day; between two attempts it is stopped."""
    state = state_of(tmp_path / "state")
    tried = threading.Event()

    def sync(cancelled: threading.Event) -> SyncResult:
        tried.set()
        return link.sync(state, enrolment_of(dead), PARTS, timeout=24 * HOUR, cancelled=cancelled)

    with Online(sync, lambda: ALLOWED) as loop:
        loop.wake()
        assert tried.wait(20)
    assert (loop.status().attempts, loop.status().failures) == (1, 0)
    state.close()


def test_a_day_offline_and_then_the_newest_update_arrives_once(dead: int, tmp_path: Path) -> None:
    """24 simulated hours; every hour but at noon an update that holds all of the one before, good for 90 minutes."""
    state = state_of(tmp_path / "state")
    made: list[bytes] = []
    now = 1_700_000_000.0
    end = now + 24 * HOUR
    next_hour = now + HOUR
    over, back = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        nonlocal now, next_hour
        now += seconds
        while next_hour <= min(now, end):
            hour = 24 - round((end - next_hour) / HOUR)
            if hour not in QUIET:
                made.append(spool(state, len(made), now=next_hour, lifetime=1.5 * HOUR))
            next_hour += HOUR
        if now >= end and not over.is_set():
            over.set()
            assert back.wait(60)
        elif over.is_set() and loop.status().successes:
            loop.stop()

    def sync(cancelled: threading.Event) -> SyncResult:
        where, timeout = (ports[0], 20.0) if ports else (dead, 0.05)
        enrolment = enrolment_of(where)
        return link.sync(state, enrolment, PARTS, timeout=timeout, cancelled=cancelled, clock=lambda: now)

    ports: list[int] = []
    loop = Online(sync, lambda: ALLOWED, every=HOUR, clock=lambda: now, sleep=sleep, rng=random.Random(3))
    with loop:
        assert over.wait(120)
        offline = loop.status()
        (waiting,) = state.spooled(now=now)
        with EmbeddedBroker() as broker, ScriptedGateway(broker.port, announced=1) as gateway:
            ports.append(broker.port)
            back.set()
            until(lambda: not loop.status().running)
            opened = list(gateway.opened)
    assert offline.successes == 0
    assert offline.attempts == offline.failures > 24
    assert len(made) == 24 - len(QUIET)
    assert waiting.message == made[-1]
    result = loop.status().last_result
    assert result is not None
    assert (result.sent, result.admitted, result.refused, result.version_after) == (1, 1, [], 1)
    assert [sequence for sequence, _ in opened] == [len(made)]
    assert state.spooled(now=now) == []
    dropped = state.dropped()
    assert dropped == {"superseded": len(made) - 2, "expired": 1, "bound": 0}
    assert result.admitted + sum(dropped.values()) == len(made)
    state.close()
