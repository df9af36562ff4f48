"""What a device sends, and what it makes of what comes: the device's half of the protocol, without a socket.

A message is authenticated, checked and kept before it counts, in this order; what fails is named, counted, and changes
nothing. What goes out and what to listen to is given to `Outward`.
"""

import hashlib
import logging
from collections.abc import Callable
from typing import Final, Protocol

from tasuki.sdk import downlink, enrolment, fleet_record, fleet_table, offer, policy, receipt, topics, transfer
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.downlink import Announcement
from tasuki.sdk.enrolment import Enrolment
from tasuki.sdk.errors import KeyInvalid, Refusal, Refused, Unauthorised
from tasuki.sdk.policy import Decision
from tasuki.sdk.receipt import Receipt
from tasuki.sdk.signing import Signer
from tasuki.sdk.state import FOR_EVER, Spooled, State
from tasuki.sdk.state_size import ADAPTER_BYTES
from tasuki.sdk.sync_result import SyncResult

log = logging.getLogger(__name__)
# A clock that is further off than this is wrong.
CLOCK_SECONDS: Final = 86_400.0
# Cloud brokers take 128 KB a message.
WHOLE_BYTES: Final = 120_000


class Outward(Protocol):
    """The way out: an MQTT connection, or a test's."""

    def publish(self, kind: str, topic: str, payload: bytes, expires: float | None) -> None:
        """Send at QoS 1; `expires` is in how many seconds it is of no use any more."""

    def listen(self, topic: str) -> None:
        """Subscribe."""

    def room(self, topic: str) -> int:
        """The largest payload that may go on `topic`."""


class Exchange:
    """One sync's half of the conversation.

    `signer` signs the offer of what must go in parts; `join` is the message that asks to be taken in, None of a member.
    """

    def __init__(
        self,
        state: State,
        member: Enrolment,
        artifact: Artifact,
        may_send: Callable[[int], Decision] | None,
        clock: Callable[[], float],
        signer: Signer | None = None,
        join: bytes | None = None,
    ) -> None:
        self.member = member
        self.names = (member.fleet, member.device)
        self._state, self._artifact = state, artifact
        self._may_send, self._clock = may_send, clock
        self._signer, self._join = signer, join
        self._sent: set[int] = set()
        self._held: set[int] = set()
        self._asked: set[Receipt] = set()
        # Digest of an offer's message to the digest of what it offers.
        self._offers: dict[bytes, bytes] = {}
        self._unsettled = 0
        self._download: tuple[Announcement, dict[int, bytes]] | None = None
        self.heard = False
        version = state.number("version")
        self.result = SyncResult(version, version)
        self._take_record(member)

    def _take_record(self, member: Enrolment) -> None:
        record = enrolment.record_of(member)
        self.member, self._record = member, record
        keys = (member.gateway, None if record is None else record.next_signing)
        self._gateways = [key for key in keys if key is not None]
        name = "head" if record is None else record.adapter
        parts = self._artifact
        self._table = fleet_table.make(name, parts.labels, parts.features, parts.moment, parts.manifest)
        self.result.record = 0 if record is None else record.version

    # --- where it stands ----------------------------------------------------------------------------------

    def _waiting(self) -> list[Spooled]:
        """What a receipt is still wanted for in this sync."""
        return [item for item in self._state.spooled(now=self._clock()) if item.sequence not in self._held]

    def done(self, wait_version: int | None) -> bool:
        """Whether all is said and heard."""
        if not self.heard or self._join is not None or self._download is not None or self._waiting():
            return False
        return wait_version is None or self.result.version_after >= wait_version

    def missing(self, wait_version: int | None) -> str:
        """What the gateway still owes."""
        waiting = len(self._waiting())
        if self._join is not None:
            return "no answer to the request to join"
        if waiting:
            return f"{waiting} update without a receipt (it stays in the spool)"
        if not self.heard:
            return "no adapter announced"
        if self._download is not None:
            return f"version {self._download[0].version} is announced, but not all of its parts came"
        return f"version {wait_version} not published yet, this device has {self.result.version_after}"

    # --- outward ------------------------------------------------------------------------------------------

    def topics(self) -> list[str]:
        """What to listen to from the start."""
        fleet = self.names[0]
        # The record first: it may bring the key that the announcement is signed with.
        record = [] if self._record is None else [topics.record(fleet)]
        return [topics.receipts(*self.names), *record, topics.adapter(fleet)]

    def send(self, out: Outward) -> None:
        """Send the request to join, or what is in the spool; all of it again, whatever went before.

        What must go in parts goes one at a time: the gateway keeps one such content of a device.
        """
        if self._join is not None:
            self._publish(out, "join", topics.join(*self.names), self._join, None)
            return
        topic = topics.up(*self.names)
        offered = False
        for item in self._state.spooled(now=self._clock()):
            decision = policy.ALLOWED if self._may_send is None else self._may_send(len(item.message))
            if not decision.allowed:
                # What went once is waited for, even if it may not go again.
                if item.sequence not in self._sent:
                    self._hold(item, decision.reason)
                continue
            whole = len(item.message) <= min(out.room(topic), WHOLE_BYTES)
            if not whole and offered:
                continue
            offered = offered or not whole
            payload = item.message if whole else self._offer(item, out)
            if len(payload) > out.room(topic):
                self._hold(item, f"the broker takes no packet of {len(payload)} bytes; raise its limit")
                continue
            self._held.discard(item.sequence)
            self._sent.add(item.sequence)
            self._publish(out, "update" if whole else "offer", topic, payload, self._left(item), item.sequence)
            self.result.sent += 1
        self.result.held = len(self._held)

    def _hold(self, item: Spooled, reason: str) -> None:
        self._held.add(item.sequence)
        self.result.held_because = reason
        log.info("update %d held: %s", item.sequence, reason)

    def _offer(self, item: Spooled, out: Outward) -> bytes:
        if self._signer is None:
            raise Unauthorised(f"update {item.sequence} must go in parts, and there is no key to sign their offer with")
        made = offer.sign(
            item.message, self._part_bytes(item, out), *self.names, self._artifact.hash, item.base_version,
            item.sequence, self._signer,
        )  # fmt: skip
        self._offers[receipt.digest_of(made)] = receipt.digest_of(item.message)
        return made

    def _part_bytes(self, item: Spooled, out: Outward) -> int:
        return min(WHOLE_BYTES, out.room(topics.part_up(*self.names, item.sequence, transfer.MAX_PARTS)))

    def _send_parts(self, word: Receipt, out: Outward) -> None:
        """The gateway asks for parts of what is in the spool; in the same words again, it is the broker's echo."""
        if word in self._asked:
            return
        self._asked.add(word)
        for item in self._state.spooled(now=self._clock()):
            if receipt.digest_of(item.message) != word.digest:
                continue
            part = self._part_bytes(item, out)
            for index in word.wanted:
                data = transfer.cut(item.message, part, index)
                if data:
                    topic = topics.part_up(*self.names, item.sequence, index)
                    self._publish(out, "part", topic, data, self._left(item))

    def _publish(
        self, out: Outward, kind: str, topic: str, payload: bytes, expires: float | None, going: int = 0
    ) -> None:
        self._spend(len(payload), going)  # before it goes: a cut may count it without need, but never forget it
        out.publish(kind, topic, payload, expires)
        self.result.bytes_up += len(payload)

    def _left(self, item: Spooled) -> float | None:
        return None if item.expires >= FOR_EVER else item.expires - self._clock()

    # --- inward -------------------------------------------------------------------------------------------

    def receive(self, topic: str, payload: bytes, out: Outward) -> None:
        """Take in a message; when this returns, what it led to is on disk."""
        self.result.bytes_down += len(payload)
        self._unsettled += len(payload)
        try:
            heard = topics.read(topic, self.names[0])
            match heard.kind:
                case "receipt" if heard.device == self.names[1]:
                    self._receipt(payload, out)
                case "adapter" if heard.part is None:
                    self._announcement(payload, out)
                case "adapter" if heard.part is not None:
                    self._part(heard.number, heard.part, payload)
                case "record":
                    self._record_comes(payload)
                case _:
                    raise Refused(Refusal.MALFORMED, "topic")
        except Refused as refusal:
            # Forged, foreign, old or broken: it changes nothing here.
            self.result.ignored += 1
            self.result.ignored_because[refusal.reason.word] += 1
            log.warning("message on %r ignored: %s", topic[:100], refusal)

    def _receipt(self, payload: bytes, out: Outward) -> None:
        fleet, device = self.names
        word = receipt.accept(
            payload, fleet=fleet, device=device, artifact=self._artifact.hash, gateways=self._gateways
        )
        if self._join is not None and word.digest == receipt.digest_of(self._join):
            self._joined(word, out)
            return
        if word.status is Refusal.PARTS_WANTED:
            self._send_parts(word, out)
            return
        admitted = word.status is Refusal.ADMITTED
        # An offer that is refused before it is read is answered by its own digest.
        digest = word.digest if admitted else self._offers.get(word.digest, word.digest)
        sequence = self._state.unspool(digest, admitted)
        if sequence is None:
            return  # a repeated receipt, or one for an update that a later one has replaced
        self._set_clock(word)
        if not self._sent.issuperset(item.sequence for item in self._waiting()):
            self.send(out)  # the next one that must go in parts
        if admitted:
            self.result.admitted += 1
            return
        self.result.refused.append(word.status)
        if word.status in (Refusal.NO_SESSION, Refusal.BAD_SEAL):
            self._state.remove("session")
        self._state.journal("refused", f"update {sequence}: {word.status.word}", self._clock())
        log.warning("update %d refused by the gateway: %s", sequence, word.status.word)

    def _joined(self, word: Receipt, out: Outward) -> None:
        if word.status is not Refusal.ADMITTED:
            raise Unauthorised(
                f"the gateway does not take {self.names[1]} in ({word.status.word}): get a new one-time token from"
                " `tasuki gateway enrol --one-time`"
            )
        self._join = None
        self._state.put("joined", hashlib.sha256(self.member.join or b"").digest())
        self.send(out)

    def _set_clock(self, word: Receipt) -> None:
        """A receipt for what was just sent is fresh, so it tells the time."""
        off = word.time - self._clock()
        if abs(off) > CLOCK_SECONDS:
            self.result.clock_off = off
            log.warning("this device's clock is off by %.0f s; the gateway's is taken for expiry", off)

    def _announcement(self, payload: bytes, out: Outward) -> None:
        current = self._state.number("version")
        said = downlink.accept(
            payload,
            fleet=self.names[0],
            artifact=self._artifact.hash,
            gateways=self._gateways,
            most=ADAPTER_BYTES,
            current=current,
            now=self._clock() + self.result.clock_off,
        )
        self.heard = True
        self._state.put("fresh", said.expires.to_bytes(8, "big"))
        if said.version <= current:
            return
        if self._download is not None and said.version < self._download[0].version:
            raise Refused(Refusal.ROLLBACK, f"version {said.version}, {self._download[0].version} is announced")
        if self._download is None or self._download[0].offer.digest != said.offer.digest:
            self._download = (said, {})
        out.listen(topics.part_down(self.names[0], said.version, "+"))

    def _part(self, version: int, index: int, data: bytes) -> None:
        if not data:
            return  # a retained part that was cleared
        if self._download is None:
            return  # of a version that is here already
        said, parts = self._download
        if version != said.version:
            raise Refused(Refusal.MIXED_PARTS, f"a part of version {version}, {said.version} is announced")
        transfer.check(said.offer, index, data)
        parts[index] = data
        if transfer.missing(said.offer, parts):
            return
        self._download = None
        content = transfer.join(said.offer, parts)
        downlink.read_content(content, self._table)
        self._state.install_adapter(said.version, content)
        self.result.version_after = said.version

    def _record_comes(self, payload: bytes) -> None:
        if self._record is None or self.member.root is None:
            return  # enrolled without a root key: the enrolment's keys hold
        now = self._clock() + self.result.clock_off
        record, signed = fleet_record.advance(payload, self.member.root, self._record, now)
        if record.version == self._record.version:
            return
        try:
            member = enrolment.with_record(self.member, signed)
        except KeyInvalid as error:
            raise Refused(Refusal.WRONG_SUITE, str(error)) from None
        self._state.put("enrolment", enrolment.encode(member))
        self._take_record(member)
        log.info("fleet record %d taken", record.version)

    # --- at the end ---------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Keep what came in as spent, and what was refused: one write each a sync."""
        if self._unsettled:
            self._spend(self._unsettled)
        self._unsettled = 0
        if self.result.ignored_because:
            self._state.count({f"ignored.{word}": times for word, times in self.result.ignored_because.items()})

    def _spend(self, size: int, going: int = 0) -> None:
        self._state.spend(policy.day(policy.local(self._clock())), size, going)
