"""The link: MQTT 5, QoS 1, a persistent session. Everything that must survive a restart is in the state, not here.

A sync publishes what is in the spool, waits for the gateway's receipts, and takes in a newer adapter. Publishing again
what was already admitted changes nothing, so after any cut it simply starts over.
"""

import contextlib
import logging
import queue
import random
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tasuki.sdk import cose, downlink, keys, receipt, topics
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.enrolment import Enrolment, Tls
from tasuki.sdk.errors import BrokerUnreachable, KeyInvalid, Refusal, Refused, SyncTimeout
from tasuki.sdk.state import State

log = logging.getLogger(__name__)
SESSION_SECONDS: Final = 7 * 24 * 3600
KEEPALIVE_SECONDS: Final = 60
_RESEND_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 5.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 30.0


@dataclass
class SyncResult:
    """What one sync did. Bytes are MQTT payloads; `refused` has the gateway's reasons."""

    version_before: int
    version_after: int
    sent: int = 0
    admitted: int = 0
    refused: list[Refusal] = field(default_factory=list)
    ignored: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


def backoff(rng: random.Random, attempt: int) -> float:
    """Seconds to wait before attempt `attempt` + 1: full jitter under a doubling, bounded ceiling."""
    return rng.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt, 30)))


def sync(
    state: State,
    enrolment: Enrolment,
    artifact: Artifact,
    *,
    timeout: float,
    wait_version: int | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
) -> SyncResult:
    """Send the spool and take in the fleet's adapter; with `wait_version`, stay until that version is here.

    `timeout` in seconds; `clock` is what expiry is judged by; `rng` draws the jitter of the back-off.
    Raises BrokerUnreachable, SyncTimeout; nothing is lost by either.
    """
    exchange = _Exchange(state, enrolment, artifact, clock)
    deadline = time.monotonic() + timeout
    rng = rng or random.Random()  # noqa: S311  jitter, not a secret
    attempt, fresh = 0, False
    while True:
        trouble = "it does not answer as MQTT 5"
        end = _End.CLOSED
        exchange.connected = False
        with _client(enrolment, state.folder, deadline) as (client, events):
            try:
                client.connect(
                    enrolment.host, enrolment.port, KEEPALIVE_SECONDS, clean_start=fresh, properties=session()
                )
                client.loop_start()
                end = _converse(exchange, client, events, wait_version, deadline, patient=fresh)
            except (OSError, ValueError) as error:  # refused, unknown host, TLS
                trouble = str(error)
        if end is _End.DONE:
            return exchange.result
        left = deadline - time.monotonic()
        if left <= 0 and exchange.connected:
            raise exchange.timeout(wait_version)
        if left <= 0:
            raise BrokerUnreachable(
                f"no MQTT broker at {enrolment.host}:{enrolment.port} ({trouble}); the next sync tries again"
            )
        fresh = fresh or end is _End.SILENT
        sleep(min(backoff(rng, attempt), left))
        attempt += 1


class _End(Enum):
    """How a connection ended."""

    DONE = auto()
    CLOSED = auto()
    LATE = auto()
    SILENT = auto()


def _converse(
    exchange: "_Exchange",
    client: mqtt.Client,
    events: "queue.Queue[_Event]",
    wait_version: int | None,
    deadline: float,
    patient: bool,
) -> _End:
    """One connection. Unless `patient`, it ends as SILENT when no adapter comes after the subscription.

    Some brokers (rumqttd) send the retained adapter only to a new subscription, and a session that was cut still has
    its old one: then a fresh session must ask. That loses nothing, because whatever was queued has come by then.
    """
    adapters = topics.adapter(exchange.names[0])
    resend_at = silent_at = float("inf")
    while not exchange.done(wait_version):
        now = time.monotonic()
        if now > deadline:
            return _End.LATE
        if now > silent_at and not (patient or exchange.heard):
            return _End.SILENT
        if now > resend_at:
            exchange.send(client)
            resend_at = now + _RESEND_SECONDS
        try:
            event = events.get(timeout=max(0.01, min(deadline, resend_at, silent_at, now + 1.0) - now))
        except queue.Empty:
            continue
        if event.kind == "connected":
            exchange.connected = True
            client.subscribe([(topics.receipts(*exchange.names), _qos1()), (adapters, _qos1())])
            exchange.send(client)
            resend_at, silent_at = now + _RESEND_SECONDS, now + _SILENCE_SECONDS
        elif event.kind == "closed":
            return _End.CLOSED
        elif event.kind == "refused":
            raise OSError(f"connection refused: {event.topic}")
        else:
            exchange.receive(event.topic, event.payload)
    # While this device is away, the broker need not queue adapters for it: the latest is retained.
    client.unsubscribe(adapters)
    return _End.DONE


@dataclass(frozen=True)
class _Event:
    kind: str
    topic: str = ""
    payload: bytes = b""


class _Exchange:
    """What to send, and what to make of what comes; no socket in here."""

    def __init__(self, state: State, enrolment: Enrolment, artifact: Artifact, clock: Callable[[], float]) -> None:
        self.names = (enrolment.fleet, enrolment.device)
        self._state = state
        self._artifact = artifact
        self._gateway = keys.verifying(enrolment.gateway)
        self._clock = clock
        self.heard = False
        self.connected = False
        version = state.number("version")
        self.result = SyncResult(version, version)

    def done(self, wait_version: int | None) -> bool:
        if not self.heard or self._state.spooled():
            return False
        return wait_version is None or self.result.version_after >= wait_version

    def timeout(self, wait_version: int | None) -> SyncTimeout:
        waiting = len(self._state.spooled())
        if waiting:
            missing = f"{waiting} update without a receipt (it stays in the spool)"
        elif not self.heard:
            missing = "no adapter announced"
        else:
            missing = f"version {wait_version} not published yet, this device has {self.result.version_after}"
        return SyncTimeout(f"the gateway of {self.names[0]} did not answer in time: {missing}; is it running?")

    def send(self, client: mqtt.Client) -> None:
        for item in self._state.spooled():
            client.publish(topics.up(*self.names), item.message, qos=1)
            self.result.sent += 1
            self.result.bytes_up += len(item.message)

    def receive(self, topic: str, payload: bytes) -> None:
        self.result.bytes_down += len(payload)
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


@contextlib.contextmanager
def _client(enrolment: Enrolment, folder: Path, deadline: float) -> Iterator[tuple[mqtt.Client, "queue.Queue[_Event]"]]:
    """A client for one connection: none of paho's own memory outlives it."""
    events: queue.Queue[_Event] = queue.Queue()
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"{enrolment.fleet}.{enrolment.device}",
        protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=False,  # the back-off with jitter is ours
    )
    client.connect_timeout = min(_CONNECT_SECONDS, max(0.1, deadline - time.monotonic()))
    client.on_connect = lambda _c, _u, _f, reason, _p: events.put(
        _Event("refused", str(reason)) if reason.is_failure else _Event("connected")
    )
    client.on_disconnect = lambda _c, _u, _f, reason, _p: events.put(_Event("closed", str(reason)))
    client.on_message = lambda _c, _u, message: events.put(_Event("message", message.topic, bytes(message.payload)))
    if enrolment.tls is not None:
        client.tls_set_context(tls_context(enrolment.tls, folder))
    try:
        yield client, events
    finally:
        client.disconnect()
        client.loop_stop()


def tls_context(tls: Tls, folder: Path) -> ssl.SSLContext:
    """TLS 1.2 or later with the fleet's CA and the client's certificate. Raises KeyInvalid."""
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=tls.ca)
        # The ssl module takes certificate and key only as files.
        with tempfile.TemporaryDirectory(dir=folder) as work:
            certificate, key = Path(work) / "certificate.pem", Path(work) / "key.pem"
            certificate.write_text(tls.certificate)
            keys.write_private(key, tls.key.encode())
            context.load_cert_chain(certificate, key)
    except (ssl.SSLError, ValueError) as error:
        raise KeyInvalid(f"the enrolment's TLS certificates can't be used: {error}") from None
    return context


def session() -> Properties:
    """A session that outlives the connection, and a bound on what may come in one packet."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_SECONDS
    properties.MaximumPacketSize = cose.MAX_MESSAGE_BYTES + 1024
    return properties


def _qos1() -> Any:
    return SubscribeOptions(qos=1)
