"""The link: MQTT at QoS 1, a persistent session. Everything that must survive a restart is in the state, not here.

A sync publishes what is in the spool, waits for the gateway's receipts, and takes in a newer adapter. Publishing again
what was already admitted changes nothing, so after any cut it simply starts over.
"""

import math
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Final

import paho.mqtt.client as mqtt

from tasuki.sdk import connection, keys, topics
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.connection import (
    FOUR_BYTES,
    KEEPALIVE_SECONDS,
    MAX_PACKET,
    SESSION_SECONDS,
    Event,
    Inbox,
    Limits,
    backoff,
)
from tasuki.sdk.enrolment import Enrolment, check_access
from tasuki.sdk.errors import BrokerUnreachable, InputError, SyncCancelled, SyncTimeout, Unauthorised
from tasuki.sdk.exchange import Exchange
from tasuki.sdk.policy import Decision
from tasuki.sdk.signing import Signer
from tasuki.sdk.state import State
from tasuki.sdk.sync_result import SyncResult

_RESEND_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 2.0
_CANCEL_SECONDS: Final = 0.2


def sync(
    state: State,
    enrolment: Enrolment,
    artifact: Artifact,
    *,
    timeout: float,
    wait_version: int | None = None,
    keepalive: int = KEEPALIVE_SECONDS,
    session_seconds: int = SESSION_SECONDS,
    may_send: Callable[[int], Decision] | None = None,
    cancelled: threading.Event | None = None,
    signer: Signer | None = None,
    join: bytes | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] | None = None,
    rng: random.Random | None = None,
) -> SyncResult:
    """Send the spool and take in the fleet's adapter; with `wait_version`, stay until that version is here.

    `timeout` in seconds; `keepalive` (1 to 65,535 s) is how long the line may be silent before either end asks, and
    `session_seconds` how long the broker keeps this device's receipts. `may_send` is asked with an update's bytes
    each time before it goes: what may not go stays in the spool and is counted as `held`. Payload bytes up and down
    are kept as spent (`state.spend`). Once `cancelled` is set this ends soon: an attempt to connect may take 5 s more,
    a name look-up as long as the resolver does. `signer` signs the offer of an update that is too large for the broker,
    `join` asks to be taken in first. `clock` is what expiry and days are judged by; `rng` draws the back-off's jitter.
    Raises BrokerUnreachable, Unauthorised, SyncTimeout, SyncCancelled; nothing is lost by any. KeyInvalid, InputError.
    """
    _check_seconds("keepalive", keepalive, 1, 65535)
    _check_seconds("session_seconds", session_seconds, 0, FOUR_BYTES)
    check_access(enrolment)
    cancelled = cancelled or threading.Event()
    enrolment = _with_own_key(enrolment, signer)
    exchange = Exchange(state, enrolment, artifact, may_send, clock, signer, join)
    line = connection.device_line(enrolment, state.folder, topics.status(enrolment.fleet, enrolment.device))
    line = replace(line, keepalive=keepalive, session_seconds=session_seconds)
    deadline = time.monotonic() + timeout
    rng = rng or random.Random()  # noqa: S311  jitter, not a secret
    attempt, fresh, reached = 0, False, False
    trouble = "it does not answer as MQTT 5 nor as MQTT 3.1.1"
    try:
        while not cancelled.is_set():
            talk = _Talk(exchange, wait_version, deadline, cancelled)
            end = _End.CLOSED
            try:
                with connection.opened(line, fresh=fresh, within=deadline - time.monotonic()) as (client, events):
                    end = talk.run(client, events)
            except (OSError, ValueError) as error:  # refused, unknown host, TLS
                trouble = str(error)
            if end is _End.DONE:
                return exchange.result
            # An attempt that the deadline cut says nothing about the broker.
            reached = talk.connected or (reached and end is _End.LATE)
            left = deadline - time.monotonic()
            if left <= 0 and reached:
                raise SyncTimeout(
                    f"the gateway of {enrolment.fleet} did not answer in time: {exchange.missing(wait_version)};"
                    " is it running?"
                )
            if left <= 0:
                raise BrokerUnreachable(
                    f"no MQTT broker at {enrolment.host}:{enrolment.port} ({trouble}); the next sync tries again"
                )
            fresh = fresh or end is _End.SILENT
            (sleep or cancelled.wait)(min(backoff(rng, attempt), left))
            attempt += 1
        raise SyncCancelled("the sync was stopped; what was not sent stays in the spool")
    finally:
        exchange.settle()


def _with_own_key(enrolment: Enrolment, signer: Signer | None) -> Enrolment:
    """Where the certificate is for the device's own key, TLS uses that key. Raises KeyInvalid."""
    tls = enrolment.tls
    if tls is None or tls.certificate is None or tls.key is not None or signer is None:
        return enrolment
    return replace(enrolment, tls=replace(tls, key=keys.plain_pem(signer)))


def _check_seconds(name: str, value: int, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"{name}={value!r}: give whole seconds, {least} to {most}")


class _End(Enum):
    """How a connection ended."""

    DONE = auto()
    CLOSED = auto()
    LATE = auto()
    SILENT = auto()


class _Talk:
    """One connection: the exchange's way out, and the loop over what comes in."""

    def __init__(
        self, exchange: Exchange, wait_version: int | None, deadline: float, cancelled: threading.Event
    ) -> None:
        self.connected = False
        self._exchange, self._wait_version = exchange, wait_version
        self._deadline, self._cancelled = deadline, cancelled
        self._limits = Limits()
        self._listening: set[str] = set()

    # --- the way out --------------------------------------------------------------------------------------

    def publish(self, kind: str, topic: str, payload: bytes, expires: float | None) -> None:
        properties = None
        if self._limits.protocol == connection.V5:
            left = math.inf if expires is None else expires
            properties = connection.publish_properties(kind, *self._exchange.names, left)
        self._client.publish(topic, payload, qos=1, properties=properties)

    def listen(self, topic: str) -> None:
        if topic not in self._listening:
            self._listening.add(topic)
            connection.subscribe(self._client, topic)

    def room(self, topic: str) -> int:
        properties = connection.publish_properties("update", *self._exchange.names, 0)
        most = self._limits.payload(topic, properties if self._limits.protocol == connection.V5 else None)
        return MAX_PACKET if most is None else most

    # --- the way in ---------------------------------------------------------------------------------------

    def run(self, client: mqtt.Client, events: Inbox) -> _End:
        """In a session that the broker resumed, it ends as SILENT when no adapter follows the subscription.

        Some brokers (rumqttd) send the retained adapter only to a new subscription, and a session that was cut still
        has its old one: then a fresh session must ask. That loses nothing, because whatever was queued has come by
        then.
        """
        exchange, self._client = self._exchange, client
        resend_at = silent_at = math.inf
        resumed = False
        while not exchange.done(self._wait_version):
            now = time.monotonic()
            if now > self._deadline or self._cancelled.is_set():
                return _End.LATE
            if now > silent_at and not exchange.heard:
                return _End.SILENT
            if now > resend_at:
                exchange.send(self)
                resend_at = now + _RESEND_SECONDS
            event = self._next(events, min(self._deadline, resend_at, silent_at))
            if event is None:
                continue
            if event.kind == "connected":
                self.connected, resumed, self._limits = True, event.resumed, event.limits
                connection.subscribe(client, *exchange.topics())
                exchange.send(self)
                resend_at = now + _RESEND_SECONDS
            elif event.kind == "subscribed" and resumed:
                silent_at = min(silent_at, time.monotonic() + _SILENCE_SECONDS)
            elif event.kind == "closed":
                return _End.CLOSED
            elif event.kind == "kept out":
                name = exchange.names[1]
                raise Unauthorised(f"the broker does not let {name} in ({event.text}); check the enrolment")
            elif event.kind == "refused":
                raise OSError(f"connection refused: {event.text}")
            elif event.kind == "message":
                exchange.receive(event.text, event.payload, self)
                connection.acknowledge(client, event)
        # While this device is away, the broker need not queue what is retained anyway.
        client.unsubscribe([*exchange.topics()[1:], *sorted(self._listening)])
        return _End.DONE

    def _next(self, events: Inbox, until: float) -> Event | None:
        """What comes before `until` (monotonic seconds), or None then or when the sync is cancelled."""
        while not self._cancelled.is_set():
            left = until - time.monotonic()
            try:
                return events.get(timeout=min(max(left, 0.01), _CANCEL_SECONDS))
            except queue.Empty:
                if left <= 0:
                    break
        return None
