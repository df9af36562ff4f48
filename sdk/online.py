"""The loop that keeps a device in touch with its fleet for years, beside whatever the program does.

    with device.online(every=3600.0) as loop: ...
    async with device.online() as loop: ...

Every turn asks whether the device may, and syncs. Turns are spread at random, so that a fleet that was switched on
together does not call together; after a failed one the pauses grow with full jitter (Brooker, "Exponential backoff and
jitter", AWS 2015) up to the usual one. Nothing here grows with time: of what happened the last is kept, and counts.
"""

import asyncio
import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final

from tasuki.sdk.errors import InputError, LinkError, SyncCancelled, TasukiError
from tasuki.sdk.policy import Decision
from tasuki.sdk.sync_result import SyncResult

log = logging.getLogger(__name__)
THREAD: Final = "tasuki-online"
_SOON_SECONDS: Final = 10.0
_JITTER: Final = 0.1
_FIRST_CEILING: Final = 5.0
_LONGEST_WORDS: Final = 500


@dataclass(frozen=True)
class Status:
    """The loop as it is. Times are seconds since the epoch by the loop's clock; None: not yet.

    `failed_in_row` counts since the last success. `next_attempt` is None during a sync and after the end.
    `waiting_for` says why the last turn did not sync, empty if it did.
    """

    running: bool = False
    attempts: int = 0
    successes: int = 0
    failures: int = 0
    failed_in_row: int = 0
    last_result: SyncResult | None = None
    last_success: float | None = None
    last_error: str | None = None
    last_failure: float | None = None
    next_attempt: float | None = None
    waiting_for: str = ""


class Online:
    """A background loop around `sync`. A context manager, once, in its plain or its asyncio form.

    `sync` is called with an event that is set when the loop has to end, and should then raise SyncCancelled soon.
    `ready` says whether a turn may sync. Both are called in the loop's own thread (a daemon), one at a time.
    """

    def __init__(
        self,
        sync: Callable[[threading.Event], SyncResult],
        ready: Callable[[], Decision],
        *,
        every: float = 3600.0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`every`: seconds from one sync to the next, at least 1, give or take 10 %. Raises InputError.

        `sleep` takes the place of waiting (tests); it does not hear `wake` or `stop`.
        """
        if isinstance(every, bool) or not isinstance(every, (int, float)) or not 1 <= every < math.inf:
            raise InputError(f"every={every!r}: give the seconds between two syncs, at least 1")
        self._sync = sync
        self._ready = ready
        self._every = float(every)
        self._clock = clock
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._sleep = sleep or self._woken.wait
        self._rng = rng or random.Random()  # noqa: S311  jitter, not a secret
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._status = Status()

    def start(self) -> None:
        """Begin. Raises InputError at the second call: a loop runs once."""
        with self._lock:
            if self._thread is not None:
                raise InputError("this loop has been started before; call device.online() again for another")
            self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
            self._status = replace(self._status, running=True)
            self._thread.start()

    def wake(self) -> None:
        """Sync soon, whatever pause there is; during a sync, once more after it. Never blocks."""
        self._woken.set()

    def stop(self) -> None:
        """End the loop and wait for it: pauses end at once, a sync as soon as it sees its event. May be repeated."""
        self._halt()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def status(self) -> Status:
        """A snapshot. Never blocks for longer than a copy takes."""
        return self._status

    def __enter__(self) -> "Online":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> "Online":
        try:
            await asyncio.to_thread(self.start)
        except asyncio.CancelledError:
            self._halt()  # nobody will call __aexit__
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._halt()  # now, and not when a worker is free
        await asyncio.to_thread(self.stop)

    # --- in the loop's thread -----------------------------------------------------------------------------

    def _halt(self) -> None:
        self._stopped.set()
        self._woken.set()

    def _run(self) -> None:
        try:
            pause = self._rng.uniform(0, min(_SOON_SECONDS, self._every))
            while self._rest(pause):
                pause = self._turn()
        finally:
            self._note(running=False, next_attempt=None)

    def _rest(self, seconds: float) -> bool:
        """Wait; False when the loop has to end."""
        self._note(next_attempt=self._clock() + seconds)
        if not self._stopped.is_set():
            self._sleep(seconds)
        self._woken.clear()
        self._note(next_attempt=None)
        # Last: `stop` sets this before it wakes, so that a wake which was cleared above is not lost.
        return not self._stopped.is_set()

    def _turn(self) -> float:
        """One sync, if it may be; the seconds until the next turn. Raises nothing of what hook and sync raise."""
        try:
            decision = self._ready()
            if not decision.allowed:
                return self._held(decision)
            self._note(attempts=self._status.attempts + 1, waiting_for="")
            result = self._sync(self._stopped)
        except SyncCancelled:
            # Of our own event it is no failure; the attempt stays counted.
            return self._usual()
        except LinkError as error:
            self._failed(error)
            ceiling = min(self._every, _FIRST_CEILING * 2.0 ** min(self._status.failed_in_row - 1, 30))
            return self._rng.uniform(0, ceiling)
        except Exception as error:  # whatever the caller's code raises must not end the loop
            self._failed(error)
            return self._usual()
        if self._status.failed_in_row:
            log.info("in touch again after %d failed attempts", self._status.failed_in_row)
        self._note(
            successes=self._status.successes + 1, failed_in_row=0, last_result=result, last_success=self._clock()
        )
        return self._usual()

    def _usual(self) -> float:
        return self._every * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    def _held(self, decision: Decision) -> float:
        """Not now. Time alone may change that earlier than a turn; never later, for clocks are set while we wait."""
        if decision.reason != self._status.waiting_for:
            log.info("no sync now: %s", decision.reason)
        self._note(waiting_for=decision.reason)
        if decision.retry_after is None or decision.retry_after >= self._every:
            return self._usual()
        return max(0.0, decision.retry_after) + self._rng.uniform(0, _JITTER * self._every)

    def _failed(self, error: Exception) -> None:
        """Keep the error as words: an exception would keep everything alive that its frames hold."""
        words = f"{type(error).__name__}: {error}"[:_LONGEST_WORDS]
        # A year without a broker is one line in the log and not a thousand.
        level = logging.DEBUG if words == self._status.last_error and self._status.failed_in_row else logging.WARNING
        if isinstance(error, TasukiError):
            log.log(level, "sync failed: %s", words)
        else:
            log.log(level, "sync failed unexpectedly: %s", words, exc_info=error)
        self._note(
            failures=self._status.failures + 1,
            failed_in_row=self._status.failed_in_row + 1,
            last_error=words,
            last_failure=self._clock(),
        )

    def _note(self, **changed: object) -> None:
        # Only this thread writes once it runs, and readers get one whole frozen value.
        self._status = replace(self._status, **changed)  # type: ignore[arg-type]
