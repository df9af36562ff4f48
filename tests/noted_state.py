"""A device's state that tells what the gateway's receipts say, before it acts on them."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from tasuki.sdk.state import State

# "admitted" or "refused", the sequence number, and the SHA-256 of the sealed update.
Tell = Callable[[str, int, bytes], object]


class NotedState(State):
    """Calls `tell` for each receipt that lets the device forget an update; `installed` has each adapter it took."""

    def __init__(self, folder: Path, artifact: bytes, tell: Tell) -> None:
        super().__init__(folder, artifact)
        self._tell = tell
        self.installed: list[tuple[int, bytes]] = []

    def install_adapter(self, version: int, message: bytes) -> None:
        super().install_adapter(version, message)
        self.installed.append((version, message))

    def unspool(self, digest: bytes, admitted: bool = True) -> int | None:
        for item in self.spooled():
            whole = hashlib.sha256(item.message).digest()
            if whole.startswith(digest):
                self._tell("admitted" if admitted else "refused", item.sequence, whole)
        return super().unspool(digest, admitted)
