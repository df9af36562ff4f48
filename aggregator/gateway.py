"""The gateway: the rules of admission, merge and judge on one side, MQTT on the other.

The order of every step is the same: commit to the ledger, then tell. What was told can therefore always be told
again, and a gateway that was killed anywhere goes on from the ledger to the same result.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tasuki.aggregator import admission, fleet, judge, merge, rounds
from tasuki.aggregator.admission import Desk, Entry
from tasuki.aggregator.ledger import Ledger, Version
from tasuki.sdk import adapter, artifact, downlink, keys, receipt, topics, update
from tasuki.sdk.adapter import Head
from tasuki.sdk.downlink import Adapter
from tasuki.sdk.errors import BrokerUnreachable, Refused
from tasuki.sdk.link import KEEPALIVE_SECONDS, backoff, session, tls_context
from tasuki.sdk.receipt import Receipt

log = logging.getLogger(__name__)
Event = Callable[[dict[str, Any]], None]
Inbox = queue.Queue[mqtt.MQTTMessage | str]
_TICK_SECONDS: Final = 0.25


class Rules:
    """Everything that the gateway decides, over its ledger; no network."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the gateway's `folder`. Raises KeyInvalid, ArtifactError, StateError."""
        self.settings = fleet.load(folder)
        self.artifact = artifact.load(folder / "artifact.tflite")
        self.ledger = Ledger(folder / "ledger.db")
        self._signing = keys.load_signing(folder / "keys" / "signing.pem")
        self._held_out = judge.embed(self.artifact, judge.read(folder / "held-out.jsonl", self.artifact.labels))
        self._clock = clock
        self._desk = Desk(
            fleet=self.settings.fleet,
            artifact=self.artifact,
            sealing=keys.load_sealing(folder / "keys"),
            key_of=self.ledger.key_of,
            seen=self.ledger.seen,
            max_norm=self.settings.limits.max_norm,
        )
        latest = self.ledger.latest()
        if latest is None:
            zero = adapter.zero(self.artifact.labels, self.artifact.features)
            accuracy = self._held_out.accuracy(zero)
            latest = self._version(0, zero, accuracy, accuracy, 0)
            self.ledger.publish(latest)
        self.current = latest
        self._head = self._published(latest)
        # Small losses must not add up over many rounds: the bar is the best that was ever published.
        self._best = max((version.accuracy for version in self.ledger.versions()), default=latest.accuracy)

    def take(self, message: bytes, sender: str) -> tuple[Entry, bytes]:
        """Admit or refuse; the entry is in the ledger and its receipt ready when this returns.

        Raises Refused, counted, for what gets no receipt.
        """
        try:
            entry = admission.admit(message, sender, self.current.version, self._desk)
        except Refused as refusal:
            self.ledger.count(refusal.reason)
            raise
        if not entry.repeated:
            self.ledger.record(entry, self._clock())
        word = Receipt(entry.sequence, entry.status, self.current.version)
        return entry, receipt.issue(word, self.settings.fleet, sender, self.artifact.hash, self._signing)

    def close_round(self, share: float, round_seconds: float) -> Version | None:
        """Merge, judge and keep the next version if the round is over."""
        waiting, first = self.ledger.waiting(self.current.version)
        needed = rounds.quorum(len(self.ledger.devices()), share)
        if not rounds.closes(len(waiting), needed, first, self._clock(), round_seconds):
            return None
        limits = self.settings.limits
        updates = [update.decode(plain, self.artifact.labels, self.artifact.features) for _, plain in waiting]
        candidate = merge.merge(self._head, updates, limits.weight_cap)
        number = self.current.version + 1
        made = self._version(number, candidate, 0.0, 0.0, len(updates))
        # Judge what the devices will have: the head as it was rounded for the way.
        judged = self._held_out.accuracy(self._published(made))
        if judged < self._best - limits.tolerance:
            made = self._version(number, self._head, self.current.accuracy, judged, len(updates))
        else:
            made = Version(number, made.message, judged, judged, len(updates), made.published)
        self.ledger.publish(made)
        self.current, self._head = made, self._published(made)
        self._best = max(self._best, made.accuracy)
        return made

    def _version(self, number: int, head: Head, accuracy: float, candidate: float, devices: int) -> Version:
        message = downlink.publish(Adapter(number, head), self.settings.fleet, self.artifact.hash, self._signing)
        return Version(number, message, accuracy, candidate, devices, self._clock())

    def _published(self, version: Version) -> Head:
        """The head that devices read from a version's bytes: the one truth for both sides."""
        return downlink.accept(
            version.message,
            fleet=self.settings.fleet,
            artifact=self.artifact.hash,
            labels=self.artifact.labels,
            width=self.artifact.features,
            gateway=self._signing.public_key(),
        ).head


class Gateway:
    """The rules beside a broker."""

    def __init__(self, rules: Rules, folder: Path, host: str, port: int, event: Event, rng: random.Random) -> None:
        self._rules = rules
        self._address = (host, port)
        self._event = event
        self._rng = rng
        self._tls = tls_context(fleet.own_tls(folder), folder) if rules.settings.tls else None
        self._stop = threading.Event()

    def stop(self) -> None:
        """End `run` soon. Safe from a signal handler."""
        self._stop.set()

    def run(self, share: float, round_seconds: float, patience: float = 30.0) -> None:
        """Serve until `stop`. Raises BrokerUnreachable if no first connection succeeds within `patience` seconds."""
        attempt = 0
        began = time.monotonic()
        connected = False
        while not self._stop.is_set():
            with self._connection() as (client, inbox):
                try:
                    client.connect(*self._address, KEEPALIVE_SECONDS, clean_start=False, properties=session())
                    client.loop_start()
                    if self._serve(client, inbox, share, round_seconds):
                        connected, attempt = True, 0
                except (OSError, ValueError) as error:  # refused, unknown host, TLS
                    if not connected and time.monotonic() - began > patience:
                        raise BrokerUnreachable(
                            f"no MQTT broker at {self._address[0]}:{self._address[1]} ({error});"
                            " start it, or use --embedded-broker"
                        ) from None
            self._stop.wait(backoff(self._rng, attempt))
            attempt += 1
        self._rules.ledger.close()

    @contextmanager
    def _connection(self) -> Iterator[tuple[mqtt.Client, Inbox]]:
        """A client for one connection: packet ids and what paho remembers end with it."""
        inbox: Inbox = queue.Queue()
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{self._rules.settings.fleet}.gateway",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,  # the back-off with jitter is ours
            manual_ack=True,
        )
        client.on_connect = lambda _c, _u, _f, reason, _p: inbox.put(
            f"connection refused: {reason}" if reason.is_failure else "connected"
        )
        client.on_disconnect = lambda *_: inbox.put("closed")
        client.on_message = lambda _c, _u, message: inbox.put(message)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        try:
            yield client, inbox
        finally:
            client.disconnect()
            client.loop_stop()

    def _serve(self, client: mqtt.Client, inbox: Inbox, share: float, round_seconds: float) -> bool:
        """One connection, until it is gone; True if it was ever up."""
        up = False
        while not self._stop.is_set():
            try:
                item = inbox.get(timeout=_TICK_SECONDS)
            except queue.Empty:
                item = ""
            if item == "closed":
                return up
            if item == "connected":
                up = True
                client.subscribe(topics.up(self._rules.settings.fleet, "+"), qos=1)
                self._announce(client)
            elif isinstance(item, str):
                if item:
                    raise OSError(item)
            else:
                self._receive(client, item)
            if up:
                made = self._rules.close_round(share, round_seconds)
                if made is not None:
                    self._announce(client)
                    self._event({"event": "version", **made.figures()})
        return up

    def _receive(self, client: mqtt.Client, message: mqtt.MQTTMessage) -> None:
        sender = topics.sender(message.topic)
        try:
            entry, answer = self._rules.take(bytes(message.payload), sender)
        except Refused as refusal:
            log.warning("message from %s refused: %s", sender, refusal)
            self._event({"event": "refused", "device": sender, "reason": refusal.reason.word})
        else:
            client.publish(topics.receipts(self._rules.settings.fleet, sender), answer, qos=1)
            if not entry.repeated:
                told = {"device": sender, "sequence": entry.sequence, "status": entry.status.word}
                self._event({"event": "update", **told, "bytes": len(message.payload)})
        # Only now may the broker forget it: the outcome is in the ledger.
        client.ack(message.mid, message.qos)

    def _announce(self, client: mqtt.Client) -> None:
        current = self._rules.current
        client.publish(topics.adapter(self._rules.settings.fleet), current.message, qos=1, retain=True)
