"""What a run counts, and how counts of several processes add up."""

import resource
from collections import Counter
from typing import Any

from fuzz_trial import Moment, Trial

from tasuki.sdk.errors import Refusal

Report = dict[str, Any]


class Tally:
    """Counts of one process."""

    def __init__(self) -> None:
        self.messages = 0
        self._counts: Counter[tuple[str, str, str, str]] = Counter()

    def add(self, trial: Trial) -> None:
        """Count one message."""
        self.messages += 1
        self._counts[trial.target, trial.moment.value, trial.stage, trial.status.word] += 1

    def report(self) -> Report:
        """The counts as JSON has them."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "messages": self.messages,
            "peak_bytes": peak,
            "counts": [[*key, number] for key, number in sorted(self._counts.items())],
        }


def merge(reports: list[Report]) -> Report:
    """One summary of several processes' reports."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for one in reports:
        for *key, number in one["counts"]:
            counts[tuple(key)] += number  # type: ignore[index]
    total = sum(counts.values())

    def by(place: int, target: str | None = None) -> dict[str, int]:
        summed: Counter[str] = Counter()
        for key, number in counts.items():
            if (target is None or key[0] == target) and key[place]:
                summed[key[place]] += number
        return dict(summed.most_common())

    outcomes = by(3)
    before = by(1)
    return {
        "messages": total,
        "messages_by_target": by(0),
        "messages_by_moment_of_change": before,
        "share_before_sealing": round(before.get(Moment.BEFORE_SEALING.value, 0) / max(total, 1), 4),
        "updates_admitted": sum(by(3, name).get(Refusal.ADMITTED.word, 0) for name in ("uplink", "gateway")),
        "taken_in_all": outcomes.pop(Refusal.ADMITTED.word, 0),
        "refusals": outcomes,
        "outcomes_by_target": {name: by(3, name) for name in by(0)},
        "stages_of_updates": by(2),
        "peak_bytes_with_atheris": [one["peak_bytes"] for one in reports],
    }
