"""What a classifier learns from its cached examples: the local adapter, whether it may answer, and how sure it is.

Do no harm: the local adapter answers only where its held-out loss on the cache is lower than the loss of the fleet's
adapter on the same examples. Calibration follows: temperature and floors are fitted anew on the same held-out answers.
"""

from typing import Final

import numpy as np

from tasuki.sdk import adapter, confidence, held_out
from tasuki.sdk.adapter import Head
from tasuki.sdk.kinds import Kind
from tasuki.sdk.learned import Body, Learned, Lesson
from tasuki.sdk.prediction import Verdict
from tasuki.sdk.problem import Problem

# Weight of the pull towards the fleet's adapter, in examples' worth of public text: what stays on the device may be
# bold, what travels to every home is careful. A label of the device's own is pulled least: neither body nor fleet knows
# anything of it that could be lost. Chosen on split seeds 1000 to 1004.
LOCAL_STRENGTH: Final = 1.0
OWN_STRENGTH: Final = 0.1
FLEET_STRENGTH: Final = 5.0
# What the artifact's temperature weighs against the cache, in examples' worth. Chosen on split 1000.
PRIOR_EXAMPLES: Final = 5.0


def learn(body: Body, kind: Kind, fleet: Head, lesson: Lesson, start: Head | None = None) -> Learned:
    """Fit the local adapter on top of `fleet` and compare the two; `start` is where the search begins."""
    own = sorted(set(lesson.named) - set(body.labels))
    labels = (*body.labels, *own)
    below = adapter.select(fleet, labels)
    problem = _problem(body, below, lesson, LOCAL_STRENGTH)
    local = kind.fit(problem, None if start is None else adapter.select(start, labels))
    aside = held_out.held_out(kind, problem)
    beside = adapter.fleet_logits(below, lesson.features, lesson.base, body.temperature)
    local_t, global_t = (
        confidence.fit_temperature(scores, problem.targets, PRIOR_EXAMPLES, body.temperature)
        for scores in (aside, beside)
    )
    local_loss, global_loss = (
        float(held_out.losses(np.asarray(scores / np.float32(t), np.float32), problem.targets).mean())
        for scores, t in ((aside, local_t), (beside, global_t))
    )
    helps = local_loss < global_loss
    verdict = Verdict(
        "local" if helps else "global",
        f"on {len(lesson.named)} cached examples that its fit did not see, the local adapter's loss is "
        f"{local_loss:.3f}, the fleet's {global_loss:.3f}",
        len(lesson.named),
        local_loss,
        global_loss,
    )
    temperature = local_t if helps else global_t
    shares = adapter.probabilities(np.asarray((aside if helps else beside) / np.float32(temperature), np.float32))
    best, right = shares.max(1).astype(np.float64), shares.argmax(1) == problem.targets
    return Learned(labels, below, local, verdict, temperature, body.conformal, best, right)


def difference(body: Body, kind: Kind, fleet: Head, lesson: Lesson) -> Head:
    """What the examples of public labels add to `fleet`, for the gateway: fitted from nothing, with the strong pull.

    It depends on the examples alone, not on their order nor on what was fitted before.
    """
    return kind.fit(_problem(body, fleet, lesson, FLEET_STRENGTH))


def _problem(body: Body, below: Head, lesson: Lesson, strength: float) -> Problem:
    rows = {label: row for row, label in enumerate(below.labels)}
    pulls = np.full(len(rows), OWN_STRENGTH)
    pulls[: len(body.labels)] = strength
    return Problem(
        labels=below.labels,
        features=lesson.features,
        offset=adapter.logits(below, lesson.features, lesson.base),
        targets=np.array([rows[label] for label in lesson.named], np.intp),
        moment=body.moment,
        pulls=pulls,
    )
