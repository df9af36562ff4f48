"""What a device says: an answer, and why."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Using = Literal["local", "global", "base"]


class Prediction(NamedTuple):
    """An answer.

    `probability` is calibrated: among answers with 0.9, nine of ten are right (on texts like those that it was
    calibrated on). `margin` is the distance to the second best label. `uncertain` says that at the device's error level
    this answer should not be acted on alone: ask the user, or a larger model. `answered_by` is who decided.
    """

    label: str
    probability: float
    margin: float
    uncertain: bool
    answered_by: Using
    latency_ms: float


class Verdict(NamedTuple):
    """Do no harm: which adapter answers, and the evidence.

    `local_loss` and `global_loss` are mean cross entropies in nats over the cached examples, the local one by fits
    that did not see the example; None where nothing could be compared.
    """

    answers: Using
    reason: str
    examples: int = 0
    local_loss: float | None = None
    global_loss: float | None = None


class Explanation(NamedTuple):
    """Which adapter answered a text and why, and what each of the three would have said."""

    text: str
    answered_by: Using
    reason: str
    verdict: Verdict
    answers: Mapping[Using, Prediction]
