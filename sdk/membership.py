"""A device's place in a fleet: enrolment, the fleet's adapter, and the updates that it seals.

Cryptography and MQTT are loaded when a fleet is first spoken of: a device that only answers needs neither.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasuki.sdk import adapter
from tasuki.sdk.adapter import Head
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.errors import KeyInvalid, NotEnrolled, Refused, StateMismatch
from tasuki.sdk.saying import say
from tasuki.sdk.state import State

if TYPE_CHECKING:
    from tasuki.sdk.enrolment import Enrolment
    from tasuki.sdk.fleet_table import FleetTable
    from tasuki.sdk.kinds import Kind
    from tasuki.sdk.policy import Decision
    from tasuki.sdk.signing import Signer
    from tasuki.sdk.sync_result import SyncResult

KEY_FILE: Final = "device.key"
# How long an update may wait in the spool: the gateway drops older ones as stale anyhow.
LIFETIME_SECONDS: Final = 30 * 24 * 3600.0
# Of the fleet's table over a kind's columns, what the examples of public labels add to the fleet's adapter.
Difference = Callable[["Kind", Head], tuple[Head, int] | None]


class Membership:
    """Enrolment and fleet's adapter of one device, read from its state. The caller has a lock.

    `maker` is the raw key that the artifact had to be signed by, if any: then it is the fleet's root, too. `key` refers
    to the device's signing key; by default it is a file in the state directory.
    """

    def __init__(self, parts: Artifact, state: State, maker: bytes | None = None, key: str | None = None) -> None:
        self._artifact, self._state, self._maker, self._key = parts, state, maker, key
        self._signer: Signer | None = None
        self._table: FleetTable | None = None
        self.enrolment: Enrolment | None = None
        self.version = 0
        self.head = adapter.zero(parts.labels, parts.features) if parts.labels else None
        self._read()
        self.load()

    def _read(self) -> None:
        kept = self._state.get("enrolment")
        if kept is None:
            return
        from tasuki.sdk import enrolment, fleet_table

        self.enrolment = enrolment.decode(kept)
        record = enrolment.record_of(self.enrolment)
        parts = self._artifact
        kind = "head" if record is None else record.adapter
        self._table = fleet_table.make(kind, parts.labels, parts.features, parts.moment, parts.manifest)

    @property
    def record(self) -> int:
        """Version of the fleet record; 0 without one."""
        from tasuki.sdk import enrolment

        record = None if self.enrolment is None else enrolment.record_of(self.enrolment)
        return 0 if record is None else record.version

    @property
    def announced_until(self) -> int | None:
        """Until when the last word on the fleet's adapter is good, in seconds since 1970; None before the first.

        If that is past, somebody may be holding back the gateway's messages.
        """
        kept = self._state.get("fresh")
        return None if kept is None else int.from_bytes(kept, "big")

    def load(self) -> bool:
        """Take the fleet's adapter as the state has it; whether it is another one than before."""
        kept = self._state.adapter()
        if kept is None or self._table is None or kept[0] == self.version:
            return False
        from tasuki.sdk import downlink

        table = downlink.read_content(downlink.former_content(kept[1]), self._table)
        self.version, self.head = kept[0], self._table.kind.expand(table)
        return True

    @property
    def signer(self) -> "Signer":
        """The device's signing key; made at first use. Raises KeyInvalid."""
        if self._signer is None:
            from tasuki.sdk import keys

            if self._key is None:
                self._signer = keys.signing_key(self._state.folder / KEY_FILE)
            else:
                self._signer = keys.open_signer(self._key)
        return self._signer

    def enrol(self, file: str | Path | bytes) -> None:
        """Take an enrolment. Raises KeyInvalid, StateMismatch."""
        from tasuki.sdk import enrolment, fleet_record

        if not isinstance(file, bytes):
            try:
                file = Path(file).read_bytes()
            except OSError as error:
                raise KeyInvalid(f"the enrolment {file!s} can't be read: {error.strerror}") from None
        fresh = enrolment.decode(file)
        if self._maker is not None:
            enrolment.check_root(fresh, self._maker)
        artifacts: tuple[bytes, ...] = (fresh.artifact,)
        if fresh.root is not None and fresh.record is not None:
            try:
                artifacts = fleet_record.accept(fresh.record, fresh.root, fresh.fleet, time.time()).artifacts
            except Refused as refusal:
                raise KeyInvalid(f"the enrolment's fleet record is {refusal.reason.word}: get a new one") from None
        if self._artifact.hash not in artifacts:
            raise KeyInvalid(
                f"the enrolment is for the artifact {artifacts[0].hex()[:12]}, not {self._artifact.hash.hex()[:12]}"
            )
        known = self.enrolment
        if known is not None and not _same_fleet(known, fresh):
            raise StateMismatch(f"this device is in the fleet {known.fleet}; use a new state directory for another")
        # What was agreed with the former keys ends with them.
        self._state.remove("session")
        self._state.put("enrolment", enrolment.encode(fresh))
        self._read()

    def enrolled(self) -> "Enrolment":
        """The enrolment. Raises NotEnrolled."""
        if self.enrolment is None:
            raise NotEnrolled("this device is in no fleet: tasuki device enrol FILE (made by `tasuki gateway enrol`)")
        return self.enrolment

    def spool(self, learned: int, difference: Difference, budget: int | None = None) -> None:
        """Seal what was learned since the last update, if anything was. Raises StateError.

        `learned` counts the examples ever learned. `budget` is how many bytes the compressed table may take, by default
        what makes the whole message a thirtieth of the table in float32.
        """
        known, head, table = self.enrolled(), self.head, self._table
        marker = self.version.to_bytes(8, "big") + learned.to_bytes(8, "big")
        if head is None or table is None or self._state.get("sent") == marker:
            return
        found = difference(table.kind, head)
        if found is None:
            return
        from tasuki.sdk import sealing
        from tasuki.sdk.outgoing import Outgoing

        outgoing = Outgoing(known, self._artifact.hash, self.version, table, self.signer, self._state.get, budget)
        recipient = sealing.sealing_public(known.suite, known.sealing)
        self._state.spool(
            self.version, lambda sequence: outgoing.seal(*found, sequence, recipient), marker, now=time.time(),
            lifetime=LIFETIME_SECONDS, keep=lambda: outgoing.keep,
        )  # fmt: skip

    def sync(
        self,
        timeout: float,
        wait_version: int | None,
        keepalive: int,
        may_send: "Callable[[int], Decision]",
        cancelled: threading.Event | None,
    ) -> "SyncResult":
        """Talk to the gateway; see `tasuki.sdk.link.sync`."""
        from tasuki.sdk import link

        try:
            return link.sync(
                self._state, self.enrolled(), self._artifact, timeout=timeout, wait_version=wait_version,
                keepalive=keepalive, may_send=may_send, cancelled=cancelled, signer=self.signer, join=self._join(),
            )  # fmt: skip
        finally:
            self._read()  # a fleet record may have come

    def _join(self) -> bytes | None:
        """The request to be taken in by the enrolment's one-time token, until it was answered."""
        known = self.enrolled()
        if known.join is None:
            return None
        import hashlib

        from tasuki.sdk import join, sealing

        if self._state.get("joined") == hashlib.sha256(known.join).digest():
            return None
        say(__name__, "info", "asking %s to take %s in", known.fleet, known.device)
        return join.make(
            known.join, fleet=known.fleet, device=known.device, artifact=self._artifact.hash, suite=known.suite,
            recipient=sealing.sealing_public(known.suite, known.sealing), signer=self.signer,
        )  # fmt: skip


def _same_fleet(known: "Enrolment", fresh: "Enrolment") -> bool:
    """Whether both are of one fleet: the same root key, or, where the former named none, the same gateway."""
    same = fresh.gateway == known.gateway if known.root is None else fresh.root == known.root
    return known.fleet == fresh.fleet and same
