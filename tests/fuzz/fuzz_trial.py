"""What one trial of a target tells: when its message was changed, what became of it."""

from dataclasses import dataclass
from enum import Enum

from fuzz_dice import Dice

from tasuki.sdk.errors import Refusal


class Moment(Enum):
    """When a message was changed."""

    BEFORE_SEALING = "before sealing"  # an enrolled device sealed and signed the changed update
    BEFORE_SIGNING = "before signing"  # the rightful signer signed the changed payload, header or context
    AFTER_SIGNING = "after signing"  # a finished message was changed, or moved
    NOISE = "noise"  # nobody signed anything


@dataclass(frozen=True)
class Trial:
    """One message of `target`; `status` ADMITTED where it was taken."""

    target: str
    moment: Moment
    status: Refusal
    stage: str = ""


def moment_of(dice: Dice, inside: int) -> Moment:
    """`inside` times in 20 the innermost moment, else one of the others; noise is rare, it gets nowhere."""
    at = dice.below(20)
    if at < inside:
        return Moment.BEFORE_SEALING
    rest = dice.below(8)
    return Moment.BEFORE_SIGNING if rest < 4 else Moment.AFTER_SIGNING if rest < 7 else Moment.NOISE
