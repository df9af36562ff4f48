"""What a device may do now: its limits, asked with the conditions, the clock and the bytes spent as they are.

The policy itself is loaded when it is first asked: a device that only answers does without.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasuki.sdk.policy import Decision, Hook, Limits, Sensor


class Permissions:
    """Limits and conditions of one device. `spent` gives the bytes of a day. Thread-safe."""

    def __init__(self, limits: "Limits | None", hook: "Hook | None", spent: Callable[[int], int]) -> None:
        self._limits, self._hook, self._spent = limits, hook, spent
        self._sensor: Sensor | None = None

    @property
    def limits(self) -> "Limits":
        """The limits; without any, nothing is forbidden."""
        if self._limits is None:
            from tasuki.sdk.policy import Limits

            self._limits = Limits()
        return self._limits

    def learn(self) -> "Decision":
        """Whether a fit may be made now."""
        from tasuki.sdk import policy

        return policy.may_learn(self.limits, self._asked().read(), policy.local(time.time()))

    def connect(self) -> "Decision":
        """Whether to look for the broker now."""
        from tasuki.sdk import policy

        return policy.may_connect(self.limits, self._asked().read(), policy.local(time.time()))

    def send(self, size: int) -> "Decision":
        """Whether an update of `size` bytes may go now."""
        from tasuki.sdk import policy

        now = policy.local(time.time())
        return policy.may_send(self.limits, self._asked().read(), now, size, self._spent(policy.day(now)))

    def bytes_today(self) -> int:
        """What was spent on this local calendar day."""
        from tasuki.sdk import policy

        return self._spent(policy.day(policy.local(time.time())))

    def _asked(self) -> "Sensor":
        if self._sensor is None:
            from tasuki.sdk.policy import Sensor

            self._sensor = Sensor(self._hook)
        return self._sensor
