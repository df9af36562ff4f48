"""The gateway: the rules of admission, merge and judge on one side, MQTT on the other.

The order of every step is the same: commit to the ledger, then tell. What was told can therefore always be told
again, and a gateway that was killed anywhere goes on from the ledger to the same result.
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
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tasuki.aggregator import admission, fleet, judge, merge, rounds
from tasuki.aggregator.admission import Desk, Entry
from tasuki.aggregator.ledger import Ledger, Version
from tasuki.sdk import adapter, artifact, cose, downlink, keys, receipt, topics, update
from tasuki.sdk.adapter import Head
from tasuki.sdk.downlink import Adapter
from tasuki.sdk.errors import BrokerUnreachable, Refused
from tasuki.sdk.link import KEEPALIVE_SECONDS, SESSION_SECONDS, backoff, tls_context
from tasuki.sdk.receipt import Receipt

log = logging.getLogger(__name__)
Event = Callable[[dict[str, Any]], None]
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
        self._inbox: queue.Queue[tuple[int, mqtt.MQTTMessage] | str] = queue.Queue()
        self._connection = 0
        self._stop = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{rules.settings.fleet}-gateway",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client.on_connect = lambda _c, _u, _f, reason, _p: self._connected(reason)
        self._client.on_disconnect = lambda *_: self._inbox.put("closed")
        self._client.on_message = lambda _c, _u, message: self._inbox.put((self._connection, message))
        if rules.settings.tls:
            self._client.tls_set_context(tls_context(fleet.own_tls(folder), folder))

    def stop(self) -> None:
        """End `run` soon. Safe from a signal handler."""
        self._stop.set()

    def run(self, share: float, round_seconds: float, patience: float = 30.0) -> None:
        """Serve until `stop`. Raises BrokerUnreachable if no first connection succeeds within `patience` seconds."""
        attempt = 0
        began = time.monotonic()
        connected = False
        while not self._stop.is_set():
            try:
                self._client.connect(*self._address, KEEPALIVE_SECONDS, clean_start=False, properties=_session())
                self._client.loop_start()
                connected = self._serve(share, round_seconds) or connected
                attempt = 0
            except (OSError, ValueError) as error:
                if not connected and time.monotonic() - began > patience:
                    raise BrokerUnreachable(
                        f"no MQTT broker at {self._address[0]}:{self._address[1]} ({error});"
                        " start it, or use --embedded-broker"
                    ) from None
            finally:
                self._client.loop_stop()
            self._stop.wait(backoff(self._rng, attempt))
            attempt += 1
        self._client.disconnect()
        self._rules.ledger.close()

    def _serve(self, share: float, round_seconds: float) -> bool:
        """One connection, until it is gone; True if it was ever up."""
        up = False
        while not self._stop.is_set():
            try:
                item = self._inbox.get(timeout=_TICK_SECONDS)
            except queue.Empty:
                item = ""
            if item == "closed":
                return up
            if item == "connected":
                up = True
                self._client.subscribe(topics.up(self._rules.settings.fleet, "+"), qos=1)
                self._announce()
            elif isinstance(item, str):
                if item:
                    raise OSError(item)
            else:
                self._receive(*item)
            if up:
                made = self._rules.close_round(share, round_seconds)
                if made is not None:
                    self._announce()
                    self._event(
                        {
                            "event": "version",
                            "version": made.version,
                            "devices": made.devices,
                            "accuracy": made.accuracy,
                            "candidate": made.candidate,
                            "kept": made.kept,
                        }
                    )
        return up

    def _connected(self, reason: Any) -> None:
        self._connection += 1
        self._inbox.put(f"connection refused: {reason}" if reason.is_failure else "connected")

    def _receive(self, connection: int, message: mqtt.MQTTMessage) -> None:
        sender = topics.sender(message.topic)
        try:
            entry, answer = self._rules.take(bytes(message.payload), sender)
        except Refused as refusal:
            log.warning("message from %s refused: %s", sender, refusal)
            self._event({"event": "refused", "device": sender, "reason": refusal.reason.word})
        else:
            self._client.publish(topics.receipts(self._rules.settings.fleet, sender), answer, qos=1)
            if not entry.repeated:
                self._event({"event": "update", "device": sender, "sequence": entry.sequence,
                             "status": entry.status.word, "bytes": len(message.payload)})  # fmt: skip
        # Only now may the broker forget it: the outcome is in the ledger. Packet ids are of one connection.
        if connection == self._connection:
            self._client.ack(message.mid, message.qos)

    def _announce(self) -> None:
        current = self._rules.current
        self._client.publish(topics.adapter(self._rules.settings.fleet), current.message, qos=1, retain=True)


def _session() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_SECONDS
    properties.MaximumPacketSize = cose.MAX_MESSAGE_BYTES + 1024
    return properties
