"""One line to an MQTT broker, for devices and for the gateway: session, TLS or token, last will, and what was agreed.

MQTT 5 is spoken where the broker speaks it, else MQTT 3.1.1. That loses message expiry, user properties and the
bounds on what may come at once; it loses no secrecy and no authenticity, because these do not rest on the broker. Which
of the two a broker speaks is remembered for the process. paho's callbacks only put into a queue: `Inbox`.
"""

import contextlib
import math
import queue
import random
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
DEVICE_RECEIVES: Final = 16
GATEWAY_RECEIVES: Final = 64
MAX_PACKET: Final = cose.MAX_MESSAGE_BYTES + 1024
ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
FOUR_BYTES: Final = (1 << 32) - 1
V5: Final = MQTTProtocolVersion.MQTTv5
V311: Final = MQTTProtocolVersion.MQTTv311
_CONNECT_SECONDS: Final = 5.0
# A broker that says nothing to a CONNECT for so long won't: some read the properties of MQTT 5 as something else.
_ANSWER_SECONDS: Final = 10.0
_LEAVE_SECONDS: Final = 1.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 30.0
# The inbox holds this many times what may be unacknowledged: not every broker keeps to that. On top of it, what is of
# QoS 1 waits outside, and what is of QoS 0, which nobody here sends, is dropped.
_INBOX: Final = 4
_ROOM_SECONDS: Final = 0.01
# What goes out at QoS 1 before the first acknowledgement: some brokers take no more at once (HiveMQ: 10).
_IN_FLIGHT: Final = 10
# MQTT 5, section 3.2.2.2: unsupported protocol version (paho gives it for code 1 of MQTT 3.1.1, section 3.2.2.3, too).
_OTHER_PROTOCOL: Final = 0x84
# Bad user name or password, not authorised, banned, bad authentication method (MQTT 5, section 3.2.2.2).
_KEPT_OUT: Final = (0x86, 0x87, 0x8A, 0x8C)
# The fixed header of a PUBLISH of QoS 2, whatever its DUP and RETAIN (MQTT 5, section 3.3.1).
_PUBLISH_2, _PUBLISH_MASK = 0x34, 0xF6


@dataclass(frozen=True)
class Limits:
    """What the broker said in its CONNACK (MQTT 5, section 3.2.2.3), or what holds where it said nothing.

    `packet` is the largest packet in bytes that it takes, None for no bound; `receive` how many unacknowledged messages
    of QoS 1 it takes; `keepalive` the seconds that hold instead of what was asked for, None if that holds.
    """

    protocol: MQTTProtocolVersion = V311
    packet: int | None = None
    receive: int = 65535
    keepalive: int | None = None

    def payload(self, topic: str, properties: Properties | None = None) -> int | None:
        """The largest payload in bytes that a PUBLISH at QoS 1 on `topic` may have; None for no bound."""
        if self.packet is None:
            return None
        named = 1 if properties is None else len(properties.pack())  # type: ignore[no-untyped-call]
        # Fixed header: 1 and up to 4; topic's length: 2; packet identifier: 2 (section 3.3).
        return max(0, self.packet - 9 - len(topic.encode()) - named)


@dataclass(frozen=True)
class Event:
    """`kind` is connected, subscribed, message, closed, refused or kept out; `text` is a topic or a reason.

    A message that came with `qos` 1 is the broker's until `acknowledge`. `resumed` and `limits` are of connected.
    """

    kind: str
    text: str = ""
    payload: bytes = b""
    resumed: bool = False
    limits: Limits = Limits()
    mid: int = 0
    qos: int = 0
    retained: bool = False


Inbox = queue.Queue[Event]


@dataclass(frozen=True)
class Line:
    """Who connects where, and how.

    `receives` is how many unacknowledged messages may come at once (Receive Maximum); `session_seconds` how long the
    broker keeps the session and its queue; `status` the topic where ``online`` and ``offline`` (last will) are
    retained; with `manual` a message is acknowledged by `acknowledge` only; `keepalive` in seconds.
    """

    client_id: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = None
    status: str | None = None
    receives: int = DEVICE_RECEIVES
    manual: bool = True
    session_seconds: int = SESSION_SECONDS
    keepalive: int = KEEPALIVE_SECONDS

    @property
    def broker(self) -> tuple[str, int]:
        """What is remembered of a broker is kept under this."""
        return self.host, self.port


def device_line(enrolment: Enrolment, folder: Path, status: str | None = None) -> Line:
    """The line of an enrolled device; certificates pass through files in `folder`. Raises KeyInvalid."""
    return Line(
        client_id(enrolment),
        enrolment.host,
        enrolment.port,
        None if enrolment.tls is None else tls_context(enrolment.tls, folder),
        None if enrolment.token is None else enrolment.device,
        enrolment.token,
        status,
    )


def backoff(rng: random.Random, attempt: int) -> float:
    """Seconds to wait before attempt `attempt` + 1: full jitter under a doubling, bounded ceiling."""
    return rng.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt, 30)))


def client_id(enrolment: Enrolment) -> str:
    """The name of the device's session. No name has a dot, so no two devices share one."""
    return f"{enrolment.fleet}.{enrolment.device}"


# --- which protocol ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """What is known of a broker: the protocol that worked, and how often it hung up on a CONNECT since."""

    worked: MQTTProtocolVersion | None = None
    hung_up: int = 0
    receive: int = 65535

    def protocol(self) -> MQTTProtocolVersion:
        """What to speak next. A broker that twice hung up without a word is asked in either tongue, in turn.

        One that ever spoke MQTT 5 is not: it may be restarting behind a proxy.
        """
        usual, other = (V311, V5) if self.worked == V311 else (V5, V311)
        doubtful = self.worked != V5 and self.hung_up >= 2
        return other if doubtful and self.hung_up % 2 == 0 else usual


_KNOWN: Final[dict[tuple[str, int], _Known]] = {}


def _known(line: Line) -> _Known:
    return _KNOWN.get(line.broker, _Known())


def forget_brokers() -> None:
    """Know nothing of any broker, as a new process does."""
    _KNOWN.clear()


# --- the line ----------------------------------------------------------------------------------------------------


class _Client(mqtt.Client):
    """paho's client, which reads no packet that was never to come: too large, or of QoS 2."""

    def _sock_recv(self, bufsize: int) -> bytes:
        # Once a packet's length is known, paho asks for all that is left of it.
        if bufsize > MAX_PACKET or self._in_packet["command"] & _PUBLISH_MASK == _PUBLISH_2:
            raise ConnectionAbortedError(f"the broker sends a packet of {bufsize} bytes or QoS 2, which was not agreed")
        return super()._sock_recv(bufsize)


@contextlib.contextmanager
def opened(line: Line, *, fresh: bool = False, within: float = _CONNECT_SECONDS) -> Iterator[tuple[mqtt.Client, Inbox]]:
    """Connect `within` seconds and run; the client and its inbox, whose first event tells how the broker answered.

    With `fresh` the broker forgets an earlier session. None of paho's own memory outlives the context; at its end
    ``offline`` is said, and goodbye. Raises OSError or ValueError: refused, unknown host, TLS.
    """
    wire = _Wire(line, fresh)
    try:
        wire.connect(min(_CONNECT_SECONDS, max(0.1, within)))
        yield wire.client, wire.inbox
    finally:
        wire.leave()


class _Wire:
    """paho's client for one connection; its callbacks run in a thread of its own."""

    def __init__(self, line: Line, fresh: bool) -> None:
        known = _known(line)
        self._line, self._fresh, self._protocol = line, fresh, known.protocol()
        self.inbox: Inbox = queue.Queue()
        self._room = _INBOX * line.receives
        self._answered, self._leaving, self._closed = threading.Event(), threading.Event(), threading.Event()
        self.client = client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=line.client_id,
            protocol=self._protocol,
            # In MQTT 3.1.1 a session that is not clean has no end, and one that is clean ends with the connection.
            clean_session=(fresh or line.session_seconds == 0) if self._protocol == V311 else None,
            reconnect_on_failure=False,  # the back-off with jitter is ours
            manual_ack=line.manual,
        )
        client.max_inflight_messages_set(min(_IN_FLIGHT, known.receive))
        client.on_connect = self._on_connect
        client.on_subscribe = lambda *_: self._put(Event("subscribed"))
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        if line.tls is not None:
            client.tls_set_context(line.tls)
        if line.user is not None:
            client.username_pw_set(line.user, line.password)
        if line.status is not None:
            client.will_set(line.status, OFFLINE, retain=True, properties=_will() if self._protocol == V5 else None)
        self._impatience = threading.Timer(_ANSWER_SECONDS, self._hang_up)

    def connect(self, within: float) -> None:
        line, self.client.connect_timeout = self._line, within
        if self._protocol == V5:
            properties = session(line.session_seconds, line.receives)
            self.client.connect(line.host, line.port, line.keepalive, clean_start=self._fresh, properties=properties)
        else:
            self.client.connect(line.host, line.port, line.keepalive)
        self._impatience.start()
        self.client.loop_start()

    def leave(self) -> None:
        """Say goodbye; if that does not get through because the line is dead, hang up."""
        self._leaving.set()
        self._impatience.cancel()
        if self._answered.is_set() and self._line.status is not None and self.client.is_connected():
            # Who says goodbye has no last will (MQTT 5, section 3.1.2.5).
            self.client.publish(self._line.status, OFFLINE, retain=True)
        line = self.client.socket()
        if self.client.disconnect() == mqtt.MQTT_ERR_SUCCESS and line and not self._closed.wait(_LEAVE_SECONDS):
            # Else paho's thread would wait for the keep-alive to fail.
            _shut(line)
        self.client.loop_stop()
        if line is not None:
            line.close()

    def _hang_up(self) -> None:
        if not self._answered.is_set():
            _shut(self.client.socket())

    # --- paho's callbacks ---------------------------------------------------------------------------------

    def _put(self, event: Event) -> None:
        if self.inbox.qsize() < self._room:
            self.inbox.put(event)

    def _on_connect(
        self, _client: object, _data: object, flags: mqtt.ConnectFlags, reason: ReasonCode, said: Properties | None
    ) -> None:
        self._answered.set()
        self._impatience.cancel()
        line = self._line
        if reason.is_failure:
            if reason.value == _OTHER_PROTOCOL:
                # Straight to the other one.
                _KNOWN[line.broker] = _Known(hung_up=2)
            self._put(Event("kept out" if reason.value in _KEPT_OUT else "refused", str(reason)))
            return
        limits = _limits(self._protocol, said)
        _KNOWN[line.broker] = _Known(self._protocol, 0, limits.receive)
        if line.status is not None:
            self.client.publish(line.status, ONLINE, retain=True)
        self._put(Event("connected", resumed=flags.session_present, limits=limits))

    def _on_disconnect(self, _client: object, _data: object, _flags: object, reason: ReasonCode, _said: object) -> None:
        if not self._answered.is_set() and not self._leaving.is_set():
            known = _known(self._line)
            _KNOWN[self._line.broker] = replace(known, hung_up=known.hung_up + 1)
        self._closed.set()
        self.inbox.put(Event("closed", str(reason)))

    def _on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        # Whoever takes out of the inbox sets the pace: what is not read stays with the broker, as TCP has it.
        while message.qos and self.inbox.qsize() >= self._room and not self._leaving.wait(_ROOM_SECONDS):
            pass
        with contextlib.suppress(UnicodeDecodeError):
            what = (message.topic, bytes(message.payload))
            self._put(Event("message", *what, mid=message.mid, qos=message.qos, retained=bool(message.retain)))


def _shut(line: object) -> None:
    # Not TLS's own shutdown: it is not thread-safe.
    if isinstance(line, socket.socket):
        with contextlib.suppress(OSError):
            socket.socket.shutdown(line, socket.SHUT_RDWR)


def acknowledge(client: mqtt.Client, message: Event) -> None:
    """Let the broker forget `message`: what it led to is on disk, or it leads to nothing."""
    client.ack(message.mid, message.qos)


def subscribe(client: mqtt.Client, *topics: str) -> None:
    """Subscribe to `topics` at QoS 1, in one packet."""
    client.subscribe([(topic, 1) for topic in topics])


def _limits(protocol: MQTTProtocolVersion, said: Properties | None) -> Limits:
    return Limits(
        protocol,
        getattr(said, "MaximumPacketSize", None),
        getattr(said, "ReceiveMaximum", 65535),
        getattr(said, "ServerKeepAlive", None),
    )


# --- what is said ------------------------------------------------------------------------------------------------


def session(seconds: int = SESSION_SECONDS, receives: int = DEVICE_RECEIVES) -> Properties:
    """A session that outlives the connection by `seconds`, and bounds on what may come: at once, and in one packet."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = seconds
    properties.ReceiveMaximum = receives
    properties.MaximumPacketSize = MAX_PACKET
    return properties


def publish_properties(kind: str, fleet: str, device: str, expiry: float = math.inf) -> Properties:
    """User properties that brokers can route by, and how many seconds the broker may keep the message.

    `expiry` from 2^32 seconds on is for ever. MQTT 5, sections 3.3.2.3.3 and 3.3.2.3.7; paho leaves all of it out
    in MQTT 3.1.1. Whoever receives must not believe them: the broker can write here what it likes.
    """
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = [("fleet", fleet), ("device", device), ("kind", kind)]
    if expiry < FOUR_BYTES:
        properties.MessageExpiryInterval = max(1, int(expiry))
    return properties


def _will() -> Properties:
    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.WillDelayInterval = 0
    return properties


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
