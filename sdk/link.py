"""The link: MQTT 5, QoS 1, a persistent session. Everything that must survive a restart is in the state, not here.

A sync publishes what is in the spool, waits for the gateway's receipts, and takes in a newer adapter. Publishing again
what was already admitted changes nothing, so after any cut it simply starts over.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tasuki.sdk import downlink, keys, policy, receipt, topics
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.connection import (
    FOUR_BYTES,
    KEEPALIVE_SECONDS,
    SESSION_SECONDS,
    Event,
    Inbox,
    backoff,
    connection,
    session,
    tls_context,
)
from tasuki.sdk.enrolment import Enrolment, check_access
from tasuki.sdk.errors import (
    BrokerUnreachable,
    InputError,
    Refusal,
    Refused,
    SyncCancelled,
    SyncTimeout,
    Unauthorised,
)
from tasuki.sdk.policy import Decision
from tasuki.sdk.state import FOR_EVER, Spooled, State
from tasuki.sdk.sync_result import SyncResult

__all__ = ["KEEPALIVE_SECONDS", "SESSION_SECONDS", "SyncResult", "backoff", "session", "sync", "tls_context"]

log = logging.getLogger(__name__)
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
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] | None = None,
    rng: random.Random | None = None,
) -> SyncResult:
    """Send the spool and take in the fleet's adapter; with `wait_version`, stay until that version is here.

    `timeout` in seconds; `keepalive` (1 to 65,535 s) is how long the line may be silent before either end asks, and
    `session_seconds` how long the broker keeps this device's receipts. `may_send` is asked with an update's bytes
    each time before it goes: what may not go stays in the spool and is counted as `held`. Payload bytes up and down
    are kept as spent (`state.spend`). Once `cancelled` is set this ends soon: an attempt to connect may take 5 s more,
    a name look-up as long as the resolver does. `clock` is what expiry and days are judged by; `rng` draws the jitter
    of the back-off.
    Raises BrokerUnreachable, Unauthorised, SyncTimeout, SyncCancelled; nothing is lost by any. KeyInvalid, InputError.
    """
    _check_seconds("keepalive", keepalive, 1, 65535)
    _check_seconds("session_seconds", session_seconds, 0, FOUR_BYTES)
    check_access(enrolment)
    cancelled = cancelled or threading.Event()
    exchange = _Exchange(state, enrolment, artifact, may_send, clock)
    deadline = time.monotonic() + timeout
    rng = rng or random.Random()  # noqa: S311  jitter, not a secret
    attempt, fresh, reached = 0, False, False
    trouble = "it does not answer as MQTT 5"
    try:
        while not cancelled.is_set():
            end = _End.CLOSED
            exchange.connected = False
            with connection(enrolment, state.folder, deadline) as (client, events):
                try:
                    client.connect(
                        enrolment.host,
                        enrolment.port,
                        keepalive,
                        clean_start=fresh,
                        properties=session(session_seconds),
                    )
                    client.loop_start()
                    end = _converse(exchange, client, events, wait_version, deadline, cancelled)
                except (OSError, ValueError) as error:  # refused, unknown host, TLS
                    trouble = str(error)
            if end is _End.DONE:
                return exchange.result
            # An attempt that the deadline cut says nothing about the broker.
            reached = exchange.connected or (reached and end is _End.LATE)
            left = deadline - time.monotonic()
            if left <= 0 and reached:
                raise exchange.timeout(wait_version)
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


def _check_seconds(name: str, value: int, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"{name}={value!r}: give whole seconds, {least} to {most}")


class _End(Enum):
    """How a connection ended."""

    DONE = auto()
    CLOSED = auto()
    LATE = auto()
    SILENT = auto()


def _converse(
    exchange: "_Exchange",
    client: mqtt.Client,
    events: Inbox,
    wait_version: int | None,
    deadline: float,
    cancelled: threading.Event,
) -> _End:
    """One connection. In a session that the broker resumed, it ends as SILENT when no adapter follows the subscription.

    Some brokers (rumqttd) send the retained adapter only to a new subscription, and a session that was cut still has
    its old one: then a fresh session must ask. That loses nothing, because whatever was queued has come by then.
    """
    adapters = topics.adapter(exchange.names[0])
    resend_at = silent_at = float("inf")
    resumed = False
    while not exchange.done(wait_version):
        now = time.monotonic()
        if now > deadline or cancelled.is_set():
            return _End.LATE
        if now > silent_at and not exchange.heard:
            return _End.SILENT
        if now > resend_at:
            exchange.send(client)
            resend_at = now + _RESEND_SECONDS
        event = _next(events, min(deadline, resend_at, silent_at), cancelled)
        if event is None:
            continue
        if event.kind == "connected":
            exchange.connected, resumed = True, event.resumed
            client.subscribe([(topics.receipts(*exchange.names), _qos1()), (adapters, _qos1())])
            exchange.send(client)
            resend_at = now + _RESEND_SECONDS
        elif event.kind == "subscribed" and resumed:
            silent_at = time.monotonic() + _SILENCE_SECONDS
        elif event.kind == "closed":
            return _End.CLOSED
        elif event.kind == "kept out":
            raise Unauthorised(f"the broker does not let {exchange.names[1]} in ({event.text}); check the enrolment")
        elif event.kind == "refused":
            raise OSError(f"connection refused: {event.text}")
        elif event.kind == "message":
            exchange.receive(event.text, event.payload)
    # While this device is away, the broker need not queue adapters for it: the latest is retained.
    client.unsubscribe(adapters)
    return _End.DONE


def _next(events: Inbox, until: float, cancelled: threading.Event) -> Event | None:
    """What comes before `until` (monotonic seconds), or None then or when `cancelled` is set."""
    while not cancelled.is_set():
        left = until - time.monotonic()
        try:
            return events.get(timeout=min(max(left, 0.01), _CANCEL_SECONDS))
        except queue.Empty:
            if left <= 0:
                break
    return None


class _Exchange:
    """What to send, and what to make of what comes; no socket in here."""

    def __init__(
        self,
        state: State,
        enrolment: Enrolment,
        artifact: Artifact,
        may_send: Callable[[int], Decision] | None,
        clock: Callable[[], float],
    ) -> None:
        self.names = (enrolment.fleet, enrolment.device)
        self._state = state
        self._artifact = artifact
        self._gateway = keys.verifying(enrolment.gateway)
        self._may_send = may_send
        self._clock = clock
        self._sent: set[int] = set()
        self._held: set[int] = set()
        self._unsettled = 0
        self.heard = False
        self.connected = False
        version = state.number("version")
        self.result = SyncResult(version, version)

    def _waiting(self) -> list[Spooled]:
        """What a receipt is still wanted for in this sync."""
        return [item for item in self._state.spooled(now=self._clock()) if item.sequence not in self._held]

    def done(self, wait_version: int | None) -> bool:
        if not self.heard or self._waiting():
            return False
        return wait_version is None or self.result.version_after >= wait_version

    def timeout(self, wait_version: int | None) -> SyncTimeout:
        waiting = len(self._waiting())
        if waiting:
            missing = f"{waiting} update without a receipt (it stays in the spool)"
        elif not self.heard:
            missing = "no adapter announced"
        else:
            missing = f"version {wait_version} not published yet, this device has {self.result.version_after}"
        return SyncTimeout(f"the gateway of {self.names[0]} did not answer in time: {missing}; is it running?")

    def send(self, client: mqtt.Client) -> None:
        for item in self._state.spooled(now=self._clock()):
            size = len(item.message)
            decision = policy.ALLOWED if self._may_send is None else self._may_send(size)
            if not decision.allowed:
                # What went once is waited for, even if it may not go again.
                if item.sequence not in self._sent:
                    self._held.add(item.sequence)
                    self.result.held_because = decision.reason
                    log.info("update %d held: %s", item.sequence, decision.reason)
                continue
            self._held.discard(item.sequence)
            self._sent.add(item.sequence)
            self._spend(size)  # before it goes: a cut may count it without need, but never forget it
            client.publish(topics.up(*self.names), item.message, qos=1, properties=_expiry(item, self._clock()))
            self.result.sent += 1
            self.result.bytes_up += size
        self.result.held = len(self._held)

    def settle(self) -> None:
        """Keep what came in as spent: one write a sync."""
        if self._unsettled:
            self._spend(self._unsettled)
        self._unsettled = 0

    def _spend(self, size: int) -> None:
        self._state.spend(policy.day(policy.local(self._clock())), size)

    def receive(self, topic: str, payload: bytes) -> None:
        self.result.bytes_down += len(payload)
        self._unsettled += len(payload)
        try:
            if topic == topics.receipts(*self.names):
                self._receipt(payload)
            elif topic == topics.adapter(self.names[0]):
                self._adapter(payload)
        except Refused as refusal:
            # Forged, foreign, old or broken: it changes nothing here.
            self.result.ignored += 1
            log.warning("message on %s ignored: %s", topic, refusal)

    def _receipt(self, payload: bytes) -> None:
        fleet, device = self.names
        word = receipt.accept(payload, fleet=fleet, device=device, artifact=self._artifact.hash, gateway=self._gateway)
        if not self._state.unspool(word.sequence, word.status is Refusal.ADMITTED):
            return  # a repeated receipt, or one for an update that a later one has replaced
        if word.status is Refusal.ADMITTED:
            self.result.admitted += 1
        else:
            self.result.refused.append(word.status)
            log.warning("update %d refused by the gateway: %s", word.sequence, word.status.word)

    def _adapter(self, payload: bytes) -> None:
        current = self._state.number("version")
        adapter = downlink.accept(
            payload,
            fleet=self.names[0],
            artifact=self._artifact.hash,
            labels=self._artifact.labels,
            width=self._artifact.features,
            gateway=self._gateway,
            current=current,
            now=self._clock(),
        )
        self.heard = True
        if adapter.version > current:
            self._state.install_adapter(adapter.version, payload)
            self.result.version_after = adapter.version


def _expiry(item: Spooled, now: float) -> Properties | None:
    """How long the broker may keep an update (MQTT 5, section 3.3.2.3.3); None for ever."""
    if item.expires >= FOR_EVER:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = max(1, min(int(item.expires - now), FOUR_BYTES))
    return properties


def _qos1() -> Any:
    return SubscribeOptions(qos=1)
