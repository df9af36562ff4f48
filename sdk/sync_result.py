"""What a sync did. Apart from the link, so that whoever reads a result needs neither MQTT nor keys."""

from collections import Counter
from dataclasses import dataclass, field

from tasuki.sdk.errors import Refusal


@dataclass
class SyncResult:
    """What one sync did. Bytes are MQTT payloads; `refused` has the gateway's reasons.

    `held` is how many updates the policy kept back; they stay in the spool, and `held_because` says why. `ignored` is
    how many messages this device refused, and `ignored_because` how many for each reason. `record` is the version of
    the fleet record, 0 without one. `clock_off` is how many seconds the gateway's clock is ahead, where that is over a
    day and a fresh receipt says so.
    """

    version_before: int
    version_after: int
    sent: int = 0
    admitted: int = 0
    refused: list[Refusal] = field(default_factory=list)
    ignored: int = 0
    ignored_because: Counter[str] = field(default_factory=Counter)
    bytes_up: int = 0
    bytes_down: int = 0
    held: int = 0
    held_because: str = ""
    record: int = 0
    clock_off: float = 0.0
