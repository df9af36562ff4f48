"""What a sync did. Apart from the link, so that whoever reads a result needs neither MQTT nor keys."""

from dataclasses import dataclass, field

from tasuki.sdk.errors import Refusal


@dataclass
class SyncResult:
    """What one sync did. Bytes are MQTT payloads; `refused` has the gateway's reasons.

    `held` is how many updates the policy kept back; they stay in the spool, and `held_because` says why.
    """

    version_before: int
    version_after: int
    sent: int = 0
    admitted: int = 0
    refused: list[Refusal] = field(default_factory=list)
    ignored: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    held: int = 0
    held_because: str = ""
