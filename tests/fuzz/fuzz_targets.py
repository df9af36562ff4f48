"""All targets, and how often each gets a message."""

import logging
import warnings
from collections.abc import Callable

from fuzz_announce import Announcements
from fuzz_device import DeviceSide
from fuzz_dice import Dice
from fuzz_downlink import Receipts, Records
from fuzz_gateway import Gateway
from fuzz_items import Items
from fuzz_join import Joins
from fuzz_parts import Parts
from fuzz_trial import Moment, Trial
from fuzz_uplink import Uplink
from fuzz_world import World

# Of the second message of each input.
_SHARES = (
    ("cbor", 5),
    ("uplink", 34),
    ("receipts", 12),
    ("records", 13),
    ("announcements", 13),
    ("parts", 12),
    ("join", 8),
    ("gateway", 1),
    ("device", 2),
)


def strict() -> None:
    """From now on in this process warnings are errors, and nothing is logged."""
    logging.disable()
    warnings.simplefilter("error")


class Targets:
    """One fleet and everything that takes messages in it."""

    def __init__(self) -> None:
        self._world = World()
        self._uplink = Uplink(self._world)
        self._targets: dict[str, Callable[[Dice], Trial]] = {
            "uplink": self._uplink,
            "receipts": Receipts(self._world),
            "records": Records(self._world),
            "announcements": Announcements(self._world),
            "parts": Parts(),
            "cbor": Items(),
            "join": Joins(self._world),
            "gateway": Gateway(self._world),
            "device": DeviceSide(self._world),
        }
        self._turns = [self._targets[name] for name, share in _SHARES for _ in range(share)]

    def of(self, name: str, data: bytes) -> Trial:
        """One message of the target `name`."""
        self._world.forget()
        return self._targets[name](Dice(data))

    def two(self, data: bytes) -> tuple[Trial, Trial]:
        """The two messages that `data` decides on. Whatever is raised but a named refusal is a bug.

        The first is always an update that was changed before it was sealed: a fuzzer that looks for what is new would
        soon leave these aside, because most of their way is the same.
        """
        self._world.forget()
        dice = Dice(data)
        first = self._uplink.at(Moment.BEFORE_SEALING, dice)
        return first, dice.pick(self._turns)(dice)
