"""A hostile broker: it stands between the clients and an honest one, reads MQTT 5, and does what it likes.

Until `heal` each PUBLISH meets what a seeded draw says: it passes, is dropped, swallowed (dropped, but acknowledged),
repeated, delayed (and so reordered), truncated, altered, spliced with another, joined by a forgery or by one that was
recorded, or redirected to another topic, or the line is cut. After it everything passes as it is. It keeps all that it
reads. The MQTT in here is written from the standard (OASIS MQTT 5.0, sections 2.1, 3.3 and 3.4), not with paho.
"""

import contextlib
import random
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

PATIENCE = 20.0
_CONNECT, _PUBLISH, _PUBACK = 1, 3, 4
# Packet identifiers from here on are of packets that this broker made; nobody else comes that far.
_OWN = 60_000
_POLL = 0.02
UP, DOWN = "up", "down"
# What is done to a PUBLISH, and how often of 100 times.
ODDS = {
    "pass": 40, "drop": 6, "swallow": 7, "repeat": 8, "delay": 10, "truncate": 5, "alter": 6, "splice": 4, "forge": 5,
    "replay": 6, "redirect": 2, "cut": 1,
}  # fmt: skip

# Of the adapter there are few messages, and they are for everybody.
SELDOM_PASS = 10


def number(value: int) -> bytes:
    """A variable byte integer (section 1.5.5)."""
    made = bytearray()
    while True:
        value, low = divmod(value, 128)
        made.append(low | (0x80 if value else 0))
        if not value:
            return bytes(made)


def read_number(data: bytes, at: int) -> tuple[int, int] | None:
    """A variable byte integer at `at` and where it ends; None if there is more to come."""
    value = 0
    for place in range(4):
        if at + place >= len(data):
            return None
        value |= (data[at + place] & 0x7F) << (7 * place)
        if data[at + place] < 0x80:
            return value, at + place + 1
    raise ValueError("a variable byte integer of more than four bytes")


def split(buffer: bytearray) -> Iterator[bytes]:
    """Take the whole packets off the front of `buffer`."""
    while len(buffer) >= 2 and (length := read_number(buffer, 1)) is not None:
        size, start = length
        if len(buffer) < start + size:
            return
        packet = bytes(buffer[: start + size])
        del buffer[: start + size]
        yield packet


@dataclass(frozen=True)
class Publish:
    """A PUBLISH packet; `properties` as they are on the wire, without their length."""

    topic: bytes
    payload: bytes
    qos: int = 1
    mid: int = 0
    retain: bool = False
    dup: bool = False
    properties: bytes = b""

    @classmethod
    def read(cls, packet: bytes) -> "Publish":
        first = packet[0]
        found = read_number(packet, 1)
        assert found is not None
        at = found[1]
        end = at + 2 + int.from_bytes(packet[at : at + 2], "big")
        topic, at, mid = packet[at + 2 : end], end, 0
        if first >> 1 & 3:
            mid, at = int.from_bytes(packet[at : at + 2], "big"), at + 2
        found = read_number(packet, at)
        assert found is not None
        size, at = found
        properties, payload = packet[at : at + size], packet[at + size :]
        return cls(topic, payload, first >> 1 & 3, mid, bool(first & 1), bool(first & 8), properties)

    def encode(self) -> bytes:
        body = len(self.topic).to_bytes(2, "big") + self.topic
        if self.qos:
            body += self.mid.to_bytes(2, "big")
        body += number(len(self.properties)) + self.properties + self.payload
        first = _PUBLISH << 4 | self.dup << 3 | self.qos << 1 | self.retain
        return bytes([first]) + number(len(body)) + body

    @property
    def kind(self) -> str:
        """The third level of the topic."""
        return [*self.topic.decode().split("/"), "", "", ""][2]


def acknowledgement(mid: int) -> bytes:
    """A PUBACK: success, no properties."""
    return bytes([_PUBACK << 4, 2]) + mid.to_bytes(2, "big")


class _Side:
    """One end of a line; two threads write to it."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self._lock = threading.Lock()

    def send(self, data: bytes) -> None:
        with self._lock:
            self.line.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.line.shutdown(socket.SHUT_RDWR)


Forger = Callable[[str, Publish, random.Random], bytes | None]


class HostileBroker:
    """Listens on `port` and talks to the honest broker on `behind`. Context manager.

    `stored` are messages by kind of topic that it has from elsewhere: of an earlier run, of another fleet. `forger` is
    given the direction and a message that passes, and makes a better forgery than random bytes, or none.
    """

    def __init__(
        self, behind: int, seed: int, stored: dict[str, Sequence[bytes]] | None = None, forger: Forger | None = None
    ) -> None:
        self.did: Counter[str] = Counter()
        self.heard: list[tuple[str, Publish]] = []
        self._behind, self._rng, self._forger = behind, random.Random(seed), forger
        self._recorded: dict[str, list[bytes]] = defaultdict(list)
        for kind, messages in (stored or {}).items():
            self._recorded[kind] += messages
        self._stored = {kind: set(messages) for kind, messages in (stored or {}).items()}
        self._own = _OWN
        self._lock = threading.Lock()
        self._hostile, self._stop = threading.Event(), threading.Event()
        self._hostile.set()
        self._sides: list[_Side] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_POLL)
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> "HostileBroker":
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._cut_all()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        for side in self._sides:
            side.line.close()
        self._listener.close()

    def heal(self) -> None:
        """Be honest from now on. Every line is cut once, so that everybody comes back and says all again."""
        self._hostile.clear()
        self._cut_all()

    def wire(self) -> bytes:
        """Every topic, property and payload that it has read, one after the other."""
        with self._lock:
            return b"\n".join(b"\n".join((one.topic, one.properties, one.payload)) for _, one in self.heard)

    # --- lines --------------------------------------------------------------------------------------------

    def _run(self, what: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _cut_all(self) -> None:
        for side in list(self._sides):
            side.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                line, _ = self._listener.accept()
                try:
                    onward = socket.create_connection(("127.0.0.1", self._behind), timeout=PATIENCE)
                except OSError:
                    line.close()
                    continue
                client, broker = _Side(line), _Side(onward)
                self._sides += [client, broker]
                self._run(self._pump, UP, client, broker)
                self._run(self._pump, DOWN, broker, client)

    def _pump(self, way: str, source: _Side, sink: _Side) -> None:
        buffer = bytearray()
        held: list[tuple[float, bytes]] = []
        source.line.settimeout(_POLL)
        with contextlib.suppress(OSError):
            while not self._stop.is_set():
                with contextlib.suppress(TimeoutError):
                    data = source.line.recv(1 << 16)
                    if not data:
                        break
                    buffer += data
                for packet in split(buffer):
                    for made in self._handle(way, packet, source, held):
                        sink.send(made)
                for due, made in [one for one in held if one[0] <= time.monotonic() or not self._hostile.is_set()]:
                    held.remove((due, made))
                    sink.send(made)
        source.close()
        sink.close()

    # --- packets ------------------------------------------------------------------------------------------

    def _handle(self, way: str, packet: bytes, source: _Side, held: list[tuple[float, bytes]]) -> list[bytes]:
        """What goes on instead of `packet`."""
        kind = packet[0] >> 4
        if kind == _PUBACK and int.from_bytes(packet[2:4], "big") >= _OWN:
            return []  # for a packet of this broker's own
        if kind != _PUBLISH:
            return [packet]
        publish = Publish.read(packet)
        with self._lock:
            self.heard.append((way, publish))
            recorded = self._recorded[publish.kind]
            recorded.append(publish.payload)
            if not self._hostile.is_set():
                return [packet]
            odds = {**ODDS, "pass": SELDOM_PASS} if publish.kind == "adapter" else ODDS
            action = self._rng.choices(list(odds), list(odds.values()))[0]
            self.did[action] += 1
            return self._do(action, way, publish, recorded, source, held)

    def _do(
        self, action: str, way: str, publish: Publish, recorded: list[bytes], source: _Side,
        held: list[tuple[float, bytes]],
    ) -> list[bytes]:  # fmt: skip
        rng, payload, packet = self._rng, publish.payload, publish.encode()
        if action == "drop":
            return []
        if action == "swallow":
            if publish.qos:
                source.send(acknowledgement(publish.mid))
            return []
        if action == "repeat":
            return [packet, *(self._made(publish) for _ in range(rng.randint(1, 3)))]
        if action == "delay":
            held.append((time.monotonic() + rng.uniform(0.0, 0.4), packet))
            return []
        if action == "truncate":
            return [replace(publish, payload=payload[: rng.randrange(len(payload) + 1)]).encode()]
        if action == "alter" and payload:
            changed = bytearray(payload)
            changed[rng.randrange(len(payload))] ^= 1 << rng.randrange(8)
            return [replace(publish, payload=bytes(changed)).encode()]
        if action == "splice":
            at = rng.randrange(len(payload) + 1)
            return [replace(publish, payload=payload[:at] + rng.choice(recorded)[at:]).encode()]
        if action == "forge":
            forged = None if self._forger is None else self._forger(way, publish, rng)
            return [self._made(replace(publish, payload=forged or rng.randbytes(rng.randrange(600)))), packet]
        if action == "replay":
            stored = sorted(self._stored.get(publish.kind, ()))
            chosen = rng.choice(stored) if stored and rng.random() < 0.5 else rng.choice(recorded)
            return [self._made(replace(publish, payload=chosen)), packet]
        if action == "redirect":
            topics = sorted({one.topic for _, one in self.heard})
            return [replace(publish, topic=rng.choice(topics)).encode()]
        if action == "cut":
            source.close()
            return []
        return [packet]

    def _made(self, publish: Publish) -> bytes:
        """A packet of its own, under an identifier of its own."""
        self._own = _OWN + (self._own + 1 - _OWN) % 5000
        return replace(publish, mid=self._own, dup=False).encode()
