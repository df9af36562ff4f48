"""The gateway: the rules of admission, merge and judge on one side, MQTT on the other.

A message is acknowledged to the broker only when its outcome is in the ledger and its receipt is on the way.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt

from tasuki.aggregator import fleet
from tasuki.aggregator.admission import Outcome
from tasuki.aggregator.ledger import Version
from tasuki.aggregator.rules import Rules
from tasuki.sdk import connection, topics
from tasuki.sdk.connection import GATEWAY_RECEIVES, ONLINE, Event, Inbox, Limits, Line, backoff
from tasuki.sdk.errors import BrokerUnreachable, Refusal, Refused, TasukiError
from tasuki.sdk.exchange import WHOLE_BYTES

log = logging.getLogger(__name__)
Tell = Callable[[dict[str, Any]], None]
NAME: Final = "gateway"
_TICK_SECONDS: Final = 0.25
_RECORD_SECONDS: Final = 1.0
# A broker may lose what it retained; and every announcement says that the gateway is there.
_ANNOUNCE_SECONDS: Final = 900.0


class Gateway:
    """The rules beside a broker."""

    def __init__(self, rules: Rules, folder: Path, host: str, port: int, tell: Tell, rng: random.Random) -> None:
        self._rules = rules
        self._fleet = rules.settings.fleet
        self._tell = tell
        self._rng = rng
        tls = connection.tls_context(fleet.own_tls(folder), folder) if rules.settings.tls else None
        self._line = Line(f"{self._fleet}.{NAME}", host, port, tls, status=topics.status(self._fleet, NAME),
                          receives=GATEWAY_RECEIVES)  # fmt: skip
        self._stop = threading.Event()
        self._limits = Limits()
        self._announced_at = self._looked_at = 0.0

    def stop(self) -> None:
        """End `run` soon. Safe from a signal handler."""
        self._stop.set()

    def run(self, share: float, round_seconds: float, patience: float = 30.0) -> None:
        """Serve until `stop`. Raises BrokerUnreachable if no first connection succeeds within `patience` seconds."""
        attempt = 0
        began = time.monotonic()
        connected = False
        try:
            while not self._stop.is_set():
                try:
                    with connection.opened(self._line) as (client, inbox):
                        if self._serve(client, inbox, share, round_seconds):
                            connected, attempt = True, 0
                except (OSError, ValueError) as error:  # refused, unknown host, TLS
                    if not connected and time.monotonic() - began > patience:
                        raise BrokerUnreachable(
                            f"no MQTT broker at {self._line.host}:{self._line.port} ({error});"
                            " start it, or use --embedded-broker"
                        ) from None
                self._stop.wait(backoff(self._rng, attempt))
                attempt += 1
        finally:
            self._rules.ledger.close()

    def _serve(self, client: mqtt.Client, inbox: Inbox, share: float, round_seconds: float) -> bool:
        """One connection, until it is gone; True if it was ever up."""
        up = False
        while not self._stop.is_set():
            try:
                event = inbox.get(timeout=_TICK_SECONDS)
            except queue.Empty:
                event = None
            if event is not None:
                if event.kind == "closed":
                    return up
                if event.kind in ("refused", "kept out"):
                    raise OSError(f"connection refused: {event.text}")
                if event.kind == "connected":
                    up, self._limits = True, event.limits
                    kinds = (topics.up(self._fleet, "+"), f"{topics.up(self._fleet, '+')}/+/+",
                             topics.join(self._fleet, "+"), topics.status(self._fleet, "+"))  # fmt: skip
                    connection.subscribe(client, *kinds)
                    self._announce(client)
                elif event.kind == "subscribed":
                    self._tell({"event": "serving", "version": self._rules.current.version})
                elif event.kind == "message":
                    self._receive(client, event)
                    connection.acknowledge(client, event)
            if up:
                self._tick(client, share, round_seconds)
        return up

    def _tick(self, client: mqtt.Client, share: float, round_seconds: float) -> None:
        """What time brings: a round's end, a new fleet record, an announcement that grows old."""
        former = self._rules.current
        made = self._rules.close_round(share, round_seconds)
        if made is not None:
            self._announce(client)
            self._clear(client, former)
            self._tell({"event": "version", **made.figures()})
        now = time.monotonic()
        if now - self._looked_at > _RECORD_SECONDS:
            self._looked_at = now
            self._look(client)
        if now - self._announced_at > _ANNOUNCE_SECONDS:
            self._announce(client)

    def _look(self, client: mqtt.Client) -> None:
        try:
            changed = self._rules.refresh()
        except TasukiError as error:
            # The keys that were there go on; the operator sees why the new ones don't count.
            log.error("the new fleet record can't be used: %s", error)
            self._tell({"event": "record unusable", "why": str(error)})
            return
        if changed and self._rules.keys.record is not None:
            self._announce(client)
            self._tell({"event": "record", "version": self._rules.keys.record.version})

    def _receive(self, client: mqtt.Client, event: Event) -> None:
        """Judge, store, and only then answer."""
        try:
            heard = topics.read(event.text, self._fleet)
            if heard.kind == "status":
                if heard.device != NAME and self._rules.ledger.key_of(heard.device) is not None:
                    self._rules.ledger.present(heard.device, event.payload == ONLINE, time.time())
                return
            if heard.kind == "join":
                outcome, answer = self._rules.take_join(event.payload, heard.device)
            elif heard.kind == "up" and heard.part is None:
                outcome, answer = self._rules.take(event.payload, heard.device)
            elif heard.kind == "up" and heard.part is not None:
                outcome, answer = self._rules.take_part(event.payload, heard.device, heard.number, heard.part)
            else:
                raise Refused(Refusal.MALFORMED, "topic")
        except Refused as refusal:
            self._rules.ledger.count(refusal.reason)
            log.warning("message on %r refused: %s", event.text[:100], refusal)
            return
        if answer is not None:
            self._publish(client, "receipt", topics.receipts(self._fleet, heard.device), answer, heard.device)
        self._report(heard.kind, heard.device, outcome, len(event.payload))

    def _report(self, kind: str, device: str, outcome: Outcome, size: int) -> None:
        if outcome.repeated or outcome.status is Refusal.PARTS_WANTED:
            return
        if outcome.entry is None and outcome.status is not Refusal.ADMITTED:
            log.warning("message from %s: %s", device, outcome.detail)
            self._tell({"event": "refused", "device": device, "reason": outcome.status.word})
        elif kind == "join":
            self._tell({"event": "joined", "device": device})
        else:
            told = {"device": device, "sequence": outcome.sequence, "status": outcome.status.word}
            self._tell({"event": "update", **told, "bytes": size})

    # --- what is retained ---------------------------------------------------------------------------------

    def _announce(self, client: mqtt.Client) -> None:
        """The fleet record, then the parts of the adapter, then the word that they are there."""
        self._announced_at = time.monotonic()
        version = self._rules.current.version
        if self._rules.keys.wire is not None:
            self._retain(client, "record", topics.record(self._fleet), self._rules.keys.wire)
        message, parts = self._rules.announcement(self._part_bytes(version))
        for index, part in enumerate(parts):
            self._retain(client, "part", topics.part_down(self._fleet, version, index), part)
        self._retain(client, "adapter", topics.adapter(self._fleet), message)

    def _clear(self, client: mqtt.Client, former: Version) -> None:
        """The broker need not keep the parts of a version that nobody is sent to any more."""
        for index in range(-(-len(former.message) // self._part_bytes(former.version))):
            self._retain(client, "part", topics.part_down(self._fleet, former.version, index), b"")

    def _part_bytes(self, version: int) -> int:
        topic = topics.part_down(self._fleet, version, 1 << 10)
        properties = connection.publish_properties("part", self._fleet, NAME)
        most = self._limits.payload(topic, properties if self._limits.protocol == connection.V5 else None)
        return WHOLE_BYTES if most is None else min(WHOLE_BYTES, most)

    def _retain(self, client: mqtt.Client, kind: str, topic: str, payload: bytes) -> None:
        self._publish(client, kind, topic, payload, NAME, retain=True)

    def _publish(
        self, client: mqtt.Client, kind: str, topic: str, payload: bytes, device: str, retain: bool = False
    ) -> None:
        properties = None
        if self._limits.protocol == connection.V5:
            properties = connection.publish_properties(kind, self._fleet, device)
        client.publish(topic, payload, qos=1, retain=retain, properties=properties)
