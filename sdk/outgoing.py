"""One update on its way out: compressed with error feedback, then sealed. What is to be remembered comes beside it.

What compression leaves out is kept and added to the next difference (error feedback: Seide et al. 2014, Karimireddy et
al. 2019). The difference itself is made anew from the examples each time. So an update that was refused leaves the
memory as it was before it: nothing is lost, and nothing counts twice. And part of what was left out is in the next
difference anyway: the memory fades, else it would grow with every round.
"""

import secrets
from collections.abc import Callable
from typing import Final

from tasuki.sdk import adapter, compression, downlink, session, update
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.enrolment import Enrolment, record_of
from tasuki.sdk.envelope import RESUMED, Context, SealingPublicKey, seal
from tasuki.sdk.errors import NotAvailable, Refused
from tasuki.sdk.fleet_table import FleetTable
from tasuki.sdk.session import Chain
from tasuki.sdk.signing import Signer

# What a message has beyond the compressed table: header, signature, encapsulation (X25519) and tag.
_AROUND: Final = 160
# How much of the memory stays. Chosen on split 1000, home partitions from 100 on.
_FADE: Final = 0.9
_SMALLEST: Final = 64
_RATIO: Final = 30
_MAX_NORM: Final = 20.0


class Outgoing:
    """Seals one update. `read` gives what was kept under a key; `keep` is what to keep once `seal` has been called."""

    def __init__(
        self,
        member: Enrolment,
        artifact: bytes,
        version: int,
        table: FleetTable,
        signer: Signer,
        read: Callable[[str], bytes | None],
        budget: int | None,
    ) -> None:
        """`budget` bounds the compressed table in bytes. Raises NotAvailable where the gateway reads no such update."""
        self._member, self._artifact, self._version = member, artifact, version
        self._table, self._signer, self._read = table, signer, read
        self._budget = budget or max(_SMALLEST, table.float32_bytes // _RATIO - _AROUND)
        record = record_of(member)
        if record is not None and update.FORMAT not in record.formats:
            known = ", ".join(map(str, record.formats))
            raise NotAvailable(f"the gateway reads updates of number {known}, not {update.FORMAT}: update the gateway")
        self._bound = _MAX_NORM if record is None else record.max_norm
        self.keep: dict[str, bytes] = {}

    def seal(self, delta: Head, samples: int, sequence: int, recipient: SealingPublicKey) -> bytes:
        """The sealed message of the table `delta`, which `samples` examples led to."""
        before = self._before()
        whole = delta.joined + self._memory(before)
        wanted = compression.clip(whole, self._bound, self._table.metric)
        packed, _ = compression.auto(wanted, self._budget, self._table.metric, sequence, self._bound)
        told = compression.decompress(packed, *self._table.joined_shape, self._table.metric)
        # What the clip took away is not remembered: it would come back each time.
        left = adapter.from_joined(self._table.labels, _FADE * (wanted - told))
        self.keep["pending.memory"] = _remember(self._version, before, downlink.content(left, self._table))
        chain = self._chain(sequence)
        if chain is not None:
            plain = update.encode(self._table, packed, samples)
            message, after = session.seal(plain, self._context(sequence, RESUMED), chain, self._signer)
            self.keep["session"] = self._tag() + after.encode()
            return message
        root = secrets.token_bytes(session.ROOT_BYTES)
        self.keep["pending.session"] = self._tag() + session.found(sequence, root).encode()
        plain = update.encode(self._table, packed, samples, root)
        return seal(plain, self._context(sequence, self._member.suite), self._signer, recipient)

    def _before(self) -> bytes:
        """The memory as it was before any update of this base version: of these only the last one counts."""
        version, before, after = _recall(self._read("memory") or b"")
        return before if version == self._version else after

    def _memory(self, kept: bytes) -> Floats:
        """What was left out of the updates before; of another table, or damaged, it is nothing."""
        try:
            return downlink.read_content(kept, self._table).joined
        except Refused:
            return self._table.zero().joined

    def _chain(self, sequence: int) -> Chain | None:
        """The chain to go on with; None where there is none, or it is at its end, or for another sealing key."""
        kept = self._read("session") or b""
        tag = self._tag()
        chain = session.decode(kept[len(tag) :]) if kept.startswith(tag) else None
        return chain if chain is not None and session.reaches(chain, sequence) else None

    def _tag(self) -> bytes:
        """Names the sealing key that a chain was founded under."""
        return self._member.sealing[-8:]

    def _context(self, sequence: int, suite: int) -> Context:
        member = self._member
        return Context(member.fleet, member.device, "up", self._artifact, self._version, sequence, suite)


def _remember(version: int, before: bytes, after: bytes) -> bytes:
    return version.to_bytes(8, "big") + len(before).to_bytes(4, "big") + before + after


def _recall(kept: bytes) -> tuple[int, bytes, bytes]:
    """The base version of the last admitted update, and the memories (int8 rows) before and after it."""
    size = int.from_bytes(kept[8:12], "big")
    return int.from_bytes(kept[:8], "big"), kept[12 : 12 + size], kept[12 + size :]
