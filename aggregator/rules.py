"""Everything that the gateway decides, over its ledger; no network.

The order of every step is the same: commit to the ledger, then tell. What was told can therefore always be told
again, and a gateway that was killed anywhere goes on from the ledger to the same result.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from tasuki.aggregator import admission, fleet, gateway_keys, judge, merge, rounds
from tasuki.aggregator.admission import Desk, Outcome, Stage
from tasuki.aggregator.gateway_keys import GatewayKeys
from tasuki.aggregator.ledger import Ledger, Version
from tasuki.sdk import artifact, cose, downlink, fleet_table, join, offer, receipt, transfer, update
from tasuki.sdk.adapter import Head
from tasuki.sdk.downlink import Announcement
from tasuki.sdk.envelope import SealingPrivateKey
from tasuki.sdk.errors import InputError, Refusal, Refused
from tasuki.sdk.keys import Password, from_environment
from tasuki.sdk.receipt import Receipt

# How long an announcement is good. It is signed anew long before that, so what a device has is never old for long.
ANNOUNCED_SECONDS: Final = 30 * 24 * 3600


class Rules:
    """The rules of one gateway's folder. Not thread-safe: one loop owns it."""

    def __init__(
        self, folder: Path, clock: Callable[[], float] = time.time, password: Password = from_environment
    ) -> None:
        """Open the gateway's `folder`. Raises KeyInvalid, ArtifactError, StateError."""
        self.settings = fleet.load(folder)
        self.artifact = artifact.load(folder / "artifact.tflite")
        self.ledger = Ledger(folder / "ledger.db")
        self._folder, self._password, self._clock = folder, password, clock
        self._held_out = judge.embed(self.artifact, judge.read(folder / "held-out.jsonl", self.artifact.labels))
        self._record_is = self._record_stat()
        self.keys = fleet.load_keys(folder, password)
        parts, record = self.artifact, self.keys.record
        kind = "head" if record is None else record.adapter
        self.table = fleet_table.make(kind, parts.labels, parts.features, parts.moment, parts.manifest)
        self._desk = self._new_desk()
        latest = self.ledger.latest()
        if latest is None:
            accuracy = self._held_out.accuracy(self.table.kind.expand(self.table.zero()))
            latest = self._version(0, self.table.zero(), accuracy, accuracy, 0)
            self.ledger.publish(latest)
        self.current = latest
        self._head = self._published(latest)
        # Small losses must not add up over many rounds: the bar is the best that was ever published.
        self._best = max((version.accuracy for version in self.ledger.versions()), default=latest.accuracy)

    # --- keys ---------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Take up a fleet record that was put in place since; whether there was one. Raises as the constructor."""
        found = self._record_stat()
        if found == self._record_is:
            return False
        self._record_is = found
        self.keys = fleet.load_keys(self._folder, self._password)
        self._desk = self._new_desk()
        return True

    def _record_stat(self) -> tuple[int, int] | None:
        try:
            found = (self._folder / gateway_keys.RECORD).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _new_desk(self) -> Desk:
        return Desk(
            fleet=self.settings.fleet,
            artifact=self.artifact.hash,
            table=self.table,
            sealing=_by_suite(self.keys),
            key_of=self.ledger.key_of,
            revoked=self.ledger.revoked,
            seen=self.ledger.seen,
            highest=self.ledger.highest,
            session=self.ledger.session,
            max_norm=self.settings.limits.max_norm,
        )

    # --- what comes ---------------------------------------------------------------------------------------

    def take(self, message: bytes, sender: str) -> tuple[Outcome, bytes | None]:
        """Admit or refuse an update, or an offer of one in parts; the receipt, if there is one to send.

        When this returns, what is to be kept is in the ledger.
        """
        outcome = admission.admit(message, sender, self.current.version, self._desk)
        if outcome.offer is not None:
            return self._take_offer(message, sender, outcome)
        return self._settle(outcome, sender)

    def _take_offer(self, message: bytes, sender: str, outcome: Outcome) -> tuple[Outcome, bytes | None]:
        earlier = self.ledger.offered(sender)
        if earlier is not None and earlier[0] > outcome.sequence:
            return self._settle(replace(outcome, status=Refusal.TOO_OLD, offer=None), sender)
        wanted = offer.read(cose.parse(message).payload)
        # The same content again goes on where it was; ES256 signs it anew each time, so its offer has other bytes.
        if earlier is None or (earlier[0], offer.read(cose.parse(earlier[1]).payload)) != (outcome.sequence, wanted):
            self.ledger.offer(sender, outcome.sequence, message)
        missing = transfer.missing(wanted, self.ledger.parts(sender))
        if not missing:
            return self._whole(sender, wanted)
        return outcome, self._receipt(outcome, sender, tuple(missing))

    def take_part(self, data: bytes, sender: str, sequence: int, index: int) -> tuple[Outcome, bytes | None]:
        """Keep a part of what `sender` has offered; with the last one, judge the whole."""
        offered = self.ledger.offered(sender)
        try:
            if offered is None or offered[0] != sequence:
                raise Refused(Refusal.MIXED_PARTS, f"a part of {sequence}, which is not offered")
            wanted = offer.read(cose.parse(offered[1]).payload)
            transfer.check(wanted, index, data)
        except Refused as refusal:
            part = Outcome(Stage.RECEIVED, refusal.reason, 0, hashlib.sha256(data).digest(), False, detail=str(refusal))
            return self._settle(part, sender)
        self.ledger.part(sender, index, data)
        if transfer.missing(wanted, self.ledger.parts(sender)):
            return Outcome(Stage.BASED, Refusal.PARTS_WANTED, sequence, wanted.digest, False), None
        return self._whole(sender, wanted)

    def _whole(self, sender: str, wanted: transfer.Offer) -> tuple[Outcome, bytes | None]:
        try:
            message = transfer.join(wanted, self.ledger.content(sender))
            outcome = admission.admit(message, sender, self.current.version, self._desk)
            if outcome.offer is not None:
                raise Refused(Refusal.MALFORMED, "what is offered is an offer itself")
        except Refused as refusal:
            outcome = Outcome(Stage.BASED, refusal.reason, 0, wanted.digest, True, detail=str(refusal))
        settled = self._settle(outcome, sender)
        self.ledger.drop_offer(sender)
        return settled

    def take_join(self, message: bytes, sender: str) -> tuple[Outcome, bytes | None]:
        """Enrol a device that has a one-time token."""
        digest = hashlib.sha256(message).digest()
        told = self.ledger.awaited(sender) or self.ledger.key_of(sender) is not None
        status, detail = Refusal.ADMITTED, ""
        try:
            said = join.read(message, fleet=self.settings.fleet, device=sender, artifacts=(self.artifact.hash,),
                             sealing=self.keys.rings)  # fmt: skip
            if self.ledger.revoked(sender):
                raise Refused(Refusal.REVOKED, sender)
            token = hashlib.sha256(said.token).digest()
            if not self.ledger.use_token(sender, token, said.public, self._clock()):
                raise Refused(Refusal.BAD_TOKEN, f"{sender}: spent, expired or another's")
        except InputError as error:
            status, detail = Refusal.BAD_TOKEN, str(error)
        except Refused as refusal:
            status, detail = refusal.reason, str(refusal)
        return self._settle(Outcome(Stage.RECEIVED, status, 0, digest, told, detail=detail), sender)

    def _settle(self, outcome: Outcome, sender: str) -> tuple[Outcome, bytes | None]:
        """Store, then acknowledge."""
        if outcome.entry is not None:
            self.ledger.record(outcome.entry, self._clock())
        elif outcome.status is not Refusal.ADMITTED and not outcome.repeated:
            self.ledger.count(outcome.status)
        return outcome, self._receipt(outcome, sender) if outcome.told else None

    def _receipt(self, outcome: Outcome, sender: str, wanted: tuple[int, ...] = ()) -> bytes:
        digest = outcome.digest[: receipt.DIGEST_BYTES]
        now = int(self._clock())
        word = Receipt(outcome.sequence, outcome.status, self.current.version, digest, now, wanted)
        return receipt.issue(word, self.settings.fleet, sender, self.artifact.hash, self.keys.signer)

    # --- what goes out ------------------------------------------------------------------------------------

    def announcement(self, part: int) -> tuple[bytes, list[bytes]]:
        """The signed word on the current version, and its content in parts of at most `part` bytes."""
        content = downlink.former_content(self.current.message)
        offered = transfer.offer(content, part)
        now = int(self._clock())
        word = Announcement(self.current.version, now, now + ANNOUNCED_SECONDS, offered)
        message = downlink.publish(word, self.settings.fleet, self.artifact.hash, self.keys.signer)
        return message, [transfer.cut(content, part, index) for index in range(len(offered.hashes))]

    def close_round(self, share: float, round_seconds: float) -> Version | None:
        """Merge, judge and keep the next version if the round is over."""
        waiting, first = self.ledger.waiting(self.current.version)
        needed = rounds.quorum(self.ledger.active(), share)
        if not rounds.closes(len(waiting), needed, first, self._clock(), round_seconds):
            return None
        limits = self.settings.limits
        updates = [update.decode(plain, self.table) for _, plain in waiting]
        candidate = merge.merge(self._head, updates, limits.weight_cap)
        number = self.current.version + 1
        made = self._version(number, candidate, 0.0, 0.0, len(updates))
        # Judge what the devices will have: the table as it was rounded for the way.
        judged = self._held_out.accuracy(self.table.kind.expand(self._published(made)))
        if judged < self._best - limits.tolerance:
            made = self._version(number, self._head, self.current.accuracy, judged, len(updates))
        else:
            made = Version(number, made.message, judged, judged, len(updates), made.published)
        self.ledger.publish(made)
        self.current, self._head = made, self._published(made)
        self._best = max(self._best, made.accuracy)
        return made

    def _version(self, number: int, head: Head, accuracy: float, candidate: float, devices: int) -> Version:
        return Version(number, downlink.content(head, self.table), accuracy, candidate, devices, self._clock())

    def _published(self, version: Version) -> Head:
        """The table that devices read from a version's bytes: the one truth for both sides."""
        return downlink.read_content(downlink.former_content(version.message), self.table)


def _by_suite(held: GatewayKeys) -> dict[int, list[SealingPrivateKey]]:
    """The keys that open, the present ones first."""
    return {suite: [ring[suite] for ring in held.rings if suite in ring] for suite in held.sealing}
