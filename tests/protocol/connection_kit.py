"""A broker by hand, and what the tests of the connection say to it."""

import contextlib
import socket
import threading
import time
from typing import Any

from hostile_broker import number, split
from link_kit import PATIENCE

from tasuki.sdk import connection
from tasuki.sdk.connection import Event, Inbox, Line


class Answers:
    """A broker by hand: to the n-th CONNECT it says the n-th of `answers` and hangs up; None says nothing.

    The last answer is said again and again; `linger` leaves the line open until the end.
    """

    def __init__(self, *answers: bytes | None, linger: bool = False) -> None:
        self.connects: list[bytes] = []
        self._answers, self._linger = answers, linger
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> "Answers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        self._listener.close()

    @property
    def levels(self) -> list[int]:
        """The protocol level of each CONNECT (MQTT 5, section 3.1.2.2): it follows the name MQTT."""
        return [packet[packet.index(b"\0\4MQTT") + 6] for packet in self.connects]

    def _serve(self) -> None:
        with contextlib.ExitStack() as lines:
            while not self._stop.is_set():
                with contextlib.suppress(TimeoutError):
                    line, _ = self._listener.accept()
                    line.settimeout(PATIENCE)
                    buffer = bytearray()
                    while not (packets := list(split(buffer))):
                        buffer += line.recv(4096)
                    answer = self._answers[min(len(self.connects), len(self._answers) - 1)]
                    self.connects += packets[:1]
                    with contextlib.suppress(OSError):
                        line.sendall(answer or b"")
                    lines.callback(line.close)
                    if not self._linger:
                        with contextlib.suppress(OSError):
                            line.shutdown(socket.SHUT_RDWR)


def connack(reason: int = 0, properties: bytes = b"", session: bool = False) -> bytes:
    """MQTT 5, section 3.2."""
    body = bytes([session, reason]) + number(len(properties)) + properties
    return b"\x20" + number(len(body)) + body


def line_to(port: int, name: str = "oak.attic", **more: Any) -> Line:
    return Line(name, "127.0.0.1", port, **more)


def heard(inbox: Inbox, kind: str, count: int = 1) -> list[Event]:
    """The next `count` events of `kind`; others are left out."""
    found: list[Event] = []
    end = time.monotonic() + PATIENCE
    while len(found) < count:
        event = inbox.get(timeout=max(0.0, end - time.monotonic()))
        found += [event] if event.kind == kind else []
    return found


def first(line: Line, *, fresh: bool = False) -> Event:
    """How the broker answers one attempt."""
    with connection.opened(line, fresh=fresh) as (_, inbox):
        return inbox.get(timeout=PATIENCE)


def reached(line: Line, most: int = 5) -> tuple[int, Event]:
    """How many attempts it takes to be connected, and the event."""
    for attempt in range(1, most + 1):
        event = first(line)
        if event.kind == "connected":
            return attempt, event
    raise AssertionError("never connected")
