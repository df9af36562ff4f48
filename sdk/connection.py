"""One MQTT 5 connection: session, TLS or token, and a client whose callbacks only put into a queue."""

import contextlib
import queue
import random
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tasuki.sdk import cose, keys
from tasuki.sdk.enrolment import Enrolment, Tls
from tasuki.sdk.errors import KeyInvalid

SESSION_SECONDS: Final = 7 * 24 * 3600
KEEPALIVE_SECONDS: Final = 60
FOUR_BYTES: Final = (1 << 32) - 1
_CONNECT_SECONDS: Final = 5.0
_LEAVE_SECONDS: Final = 1.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 30.0
# What may wait to be looked at. What comes on top is dropped: the broker or the gateway brings it again.
_INBOX: Final = 64
# Bad user name or password, not authorised, banned, bad authentication method (MQTT 5, section 3.2.2.2).
_KEPT_OUT: Final = (0x86, 0x87, 0x8A, 0x8C)


@dataclass(frozen=True)
class Event:
    """`kind` is connected, subscribed, message, closed, refused or kept out; `text` is a topic or a reason."""

    kind: str
    text: str = ""
    payload: bytes = b""
    resumed: bool = False


Inbox = queue.Queue[Event]


def backoff(rng: random.Random, attempt: int) -> float:
    """Seconds to wait before attempt `attempt` + 1: full jitter under a doubling, bounded ceiling."""
    return rng.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt, 30)))


def client_id(enrolment: Enrolment) -> str:
    """The name of the device's session. No name has a dot, so no two devices share one."""
    return f"{enrolment.fleet}.{enrolment.device}"


@contextlib.contextmanager
def connection(enrolment: Enrolment, folder: Path, deadline: float) -> Iterator[tuple[mqtt.Client, Inbox]]:
    """A client for one connection: none of paho's own memory outlives it. Its callbacks only put into the queue."""
    events: Inbox = queue.Queue()
    closed = threading.Event()
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id(enrolment),
        protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=False,  # the back-off with jitter is ours
    )
    client.connect_timeout = min(_CONNECT_SECONDS, max(0.1, deadline - time.monotonic()))

    def on_connect(_client: object, _data: object, flags: mqtt.ConnectFlags, reason: ReasonCode, _more: object) -> None:
        if reason.is_failure:
            events.put(Event("kept out" if reason.value in _KEPT_OUT else "refused", str(reason)))
        else:
            events.put(Event("connected", resumed=flags.session_present))

    def on_disconnect(_client: object, _data: object, _flags: object, reason: ReasonCode, _more: object) -> None:
        closed.set()
        events.put(Event("closed", str(reason)))

    def on_message(_client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        if events.qsize() < _INBOX:
            events.put(Event("message", message.topic, bytes(message.payload)))

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: events.put(Event("subscribed"))
    client.on_disconnect = on_disconnect
    client.on_message = on_message
    if enrolment.tls is not None:
        client.tls_set_context(tls_context(enrolment.tls, folder))
    if enrolment.token is not None:
        client.username_pw_set(enrolment.device, enrolment.token)
    try:
        yield client, events
    finally:
        _leave(client, closed)


def _leave(client: mqtt.Client, closed: threading.Event) -> None:
    """Say goodbye; if that does not get through because the line is dead, hang up."""
    line = client.socket()
    if (
        client.disconnect() == mqtt.MQTT_ERR_SUCCESS
        and isinstance(line, socket.socket)
        and not closed.wait(_LEAVE_SECONDS)
    ):
        # Else paho's thread would wait for the keep-alive to fail. Not TLS's own shutdown: it is not thread-safe.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(line, socket.SHUT_RDWR)
    client.loop_stop()


def tls_context(tls: Tls, folder: Path) -> ssl.SSLContext:
    """TLS 1.2 or later with the fleet's CA and, if there is one, the client's certificate. Raises KeyInvalid."""
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=tls.ca)
        if tls.certificate is None or tls.key is None:
            return context
        # The ssl module takes certificate and key only as files.
        with tempfile.TemporaryDirectory(dir=folder) as work:
            certificate, key = Path(work) / "certificate.pem", Path(work) / "key.pem"
            certificate.write_text(tls.certificate)
            keys.write_private(key, tls.key.encode())
            context.load_cert_chain(certificate, key)
    except (ssl.SSLError, ValueError) as error:
        raise KeyInvalid(f"the enrolment's TLS certificates can't be used: {error}") from None
    return context


def session(seconds: int = SESSION_SECONDS) -> Properties:
    """A session that outlives the connection by `seconds`, and a bound on what may come in one packet."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = seconds
    properties.MaximumPacketSize = cose.MAX_MESSAGE_BYTES + 1024
    return properties
