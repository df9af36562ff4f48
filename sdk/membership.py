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
from tasuki.sdk.errors import KeyInvalid, NotEnrolled, StateMismatch
from tasuki.sdk.state import State

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tasuki.sdk.enrolment import Enrolment
    from tasuki.sdk.policy import Decision
    from tasuki.sdk.sync_result import SyncResult

KEY_FILE: Final = "device.key"
# How long an update may wait in the spool: the gateway drops older ones as stale anyhow.
LIFETIME_SECONDS: Final = 30 * 24 * 3600.0


class Membership:
    """Enrolment and fleet's adapter of one device, read from its state. The caller has a lock."""

    def __init__(self, parts: Artifact, state: State) -> None:
        self._artifact, self._state = parts, state
        self._key: Ed25519PrivateKey | None = None
        self.enrolment: Enrolment | None = None
        self.version = 0
        self.head = adapter.zero(parts.labels, parts.features) if parts.labels else None
        kept = state.get("enrolment")
        if kept is not None:
            from tasuki.sdk import enrolment

            self.enrolment = enrolment.decode(kept)
        self.load()

    def load(self) -> bool:
        """Take the fleet's adapter as the state has it; whether it is another one than before."""
        kept = self._state.adapter()
        if kept is None or self.enrolment is None or kept[0] == self.version:
            return False
        from tasuki.sdk import downlink, keys

        accepted = downlink.accept(
            kept[1],
            fleet=self.enrolment.fleet,
            artifact=self._artifact.hash,
            labels=self._artifact.labels,
            width=self._artifact.features,
            gateway=keys.verifying(self.enrolment.gateway),
        )
        self.version, self.head = accepted.version, accepted.head
        return True

    @property
    def key(self) -> "Ed25519PrivateKey":
        """The device's signing key; made at first use. Raises KeyInvalid."""
        if self._key is None:
            from tasuki.sdk import keys

            self._key = keys.signing_key(self._state.folder / KEY_FILE)
        return self._key

    def enrol(self, file: str | Path | bytes) -> None:
        """Take an enrolment. Raises KeyInvalid, StateMismatch."""
        from tasuki.sdk import enrolment

        if not isinstance(file, bytes):
            try:
                file = Path(file).read_bytes()
            except OSError as error:
                raise KeyInvalid(f"the enrolment {file!s} can't be read: {error.strerror}") from None
        fresh = enrolment.decode(file)
        if fresh.artifact != self._artifact.hash:
            raise KeyInvalid(
                f"the enrolment is for the artifact {fresh.artifact.hex()[:12]}, not {self._artifact.hash.hex()[:12]}"
            )
        known = self.enrolment
        if known is not None and (known.fleet, known.gateway) != (fresh.fleet, fresh.gateway):
            raise StateMismatch(f"this device is in the fleet {known.fleet}; use a new state directory for another")
        self._state.put("enrolment", file)
        self.enrolment = fresh

    def enrolled(self) -> "Enrolment":
        """The enrolment. Raises NotEnrolled."""
        if self.enrolment is None:
            raise NotEnrolled("this device is in no fleet: tasuki device enrol FILE (made by `tasuki gateway enrol`)")
        return self.enrolment

    def spool(self, learned: int, difference: Callable[[Head], tuple[Head, int] | None]) -> None:
        """Seal what was learned since the last update, if anything was. Raises StateError.

        `learned` counts the examples ever learned. `difference` gives what the examples of public labels add to the
        fleet's head, and how many they are.
        """
        known, head = self.enrolled(), self.head
        marker = self.version.to_bytes(8, "big") + learned.to_bytes(8, "big")
        if head is None or self._state.get("sent") == marker:
            return
        found = difference(head)
        if found is None:
            return
        from tasuki.sdk import keys, update
        from tasuki.sdk.envelope import Context, seal

        plain = update.encode(update.Update(*found))
        recipient = keys.sealing_public(known.suite, known.sealing)

        def sealed(sequence: int) -> bytes:
            bound = Context(known.fleet, known.device, "up", self._artifact.hash, self.version, sequence, known.suite)
            return seal(plain, bound, self.key, recipient)

        self._state.spool(self.version, sealed, marker, now=time.time(), lifetime=LIFETIME_SECONDS)

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

        return link.sync(
            self._state, self.enrolled(), self._artifact, timeout=timeout, wait_version=wait_version,
            keepalive=keepalive, may_send=may_send, cancelled=cancelled,
        )  # fmt: skip
