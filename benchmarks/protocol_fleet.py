"""The relay's federation in one process, without a broker: what becomes of the fleet's accuracy on the way of updates.

Each text is read by the body once. A round is that of the relay: every home fits what its own examples add to the
fleet's head, a wire makes bytes of it, and the gateway merges, judges and rounds what it reads from the bytes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tasuki.aggregator import merge
from tasuki.aggregator.fleet import Limits
from tasuki.aggregator.judge import HeldOut
from tasuki.converter.homes import Command, Home, Split
from tasuki.sdk import adapter, codec, compression, downlink, fleet_table, learner
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.classifier import Classifier
from tasuki.sdk.fleet_table import FleetTable
from tasuki.sdk.learned import Body, Lesson
from tasuki.sdk.update import Update

# A home's way to the gateway: from its place in the fleet, the version, its difference and its number of examples to
# the bytes that travel and the table that the gateway reads from them.
Wire = Callable[[int, int, Head, int], tuple[bytes, Head]]
# What a table float32 [C, d + 1] becomes with a seed: its bytes, and the table that is read from them.
Codec = Callable[[Floats, int], tuple[bytes, Floats]]
LIMITS: Final = Limits()
_PERCENT: Final = 100.0


class Lived(NamedTuple):
    """One home as arrays: what it has learned by the end of each round (public labels only), and its test.

    `later` features float32 [n, d], `base` logits float32 [n, C], `targets` [n], -1 for a label that the home has never
    named. `labels` are the body's and those of its own that it has named: an answer can fall on either.
    """

    lessons: tuple[Lesson, ...]
    labels: tuple[str, ...]
    later: Floats
    base: Floats
    targets: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Fleet:
    """A body, the table that the homes exchange, the gateway's held-out texts, and the homes."""

    body: Body
    table: FleetTable
    judge: HeldOut
    homes: tuple[Lived, ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """`right` bool [homes, later], and `sizes`, the bytes of each update. `kept` rounds were let pass by the judge."""

    right: NDArray[np.bool_]
    sizes: tuple[int, ...]
    kept: int

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return float(self.right.mean())


class Reader:
    """Features and base logits of texts; every text is run once. `parts` is the artifact."""

    def __init__(self, parts: Artifact) -> None:
        self.body = Body(parts.labels, parts.temperature, parts.moment, parts.conformal)
        self.table = fleet_table.make("head", parts.labels, parts.features, parts.moment, parts.manifest)
        self._classifier = Classifier(parts)
        self._known: dict[str, tuple[Floats, Floats]] = {}

    def read(self, texts: Iterable[str]) -> tuple[Floats, Floats]:
        """Features float32 [n, d] and base logits float32 [n, C]."""
        rows = [self._known.get(text) or self._run(text) for text in texts]
        features = np.array([row[0] for row in rows], np.float32).reshape(-1, self._classifier.grid.width)
        return features, np.array([row[1] for row in rows], np.float32).reshape(-1, self._classifier.base.width)

    def _run(self, text: str) -> tuple[Floats, Floats]:
        found = self._known[text] = self._classifier.embed(text)
        return found

    def fleet(self, parts: Split, homes: Sequence[Home]) -> Fleet:
        """The homes and the gateway's texts of `parts`, read."""
        rows = {label: row for row, label in enumerate(self.body.labels)}
        features, base = self.read(c.text for c in parts.gateway)
        targets = np.array([rows[c.label] for c in parts.gateway], np.intp)
        held_out = HeldOut(features, base, targets, self.body.temperature)
        return Fleet(self.body, self.table, held_out, tuple(self._lived(home) for home in homes))

    def _lived(self, home: Home) -> Lived:
        public = set(self.body.labels)
        said: dict[str, Command] = {}
        lessons = []
        for commands in home.rounds:
            said |= {c.text: c for c in commands}
            shared = [c for c in said.values() if c.label in public]
            lessons.append(Lesson(*self.read(c.text for c in shared), [c.label for c in shared]))
        labels = (*self.body.labels, *sorted({c.label for c in said.values()} - public))
        rows = {label: row for row, label in enumerate(labels)}
        targets = np.array([rows.get(c.label, -1) for c in home.later], np.intp)
        return Lived(tuple(lessons), labels, *self.read(c.text for c in home.later), targets)


def run(fleet: Fleet, wire: Wire, veto: bool = True) -> Outcome:
    """All rounds of `fleet` over `wire`. Without `veto` every candidate is published, whatever the judge says."""
    body, table = fleet.body, fleet.table
    head = table.zero()
    best = fleet.judge.accuracy(head)
    sizes: list[int] = []
    kept = 0
    for version in range(len(fleet.homes[0].lessons)):
        updates = []
        for place, home in enumerate(fleet.homes):
            lesson = home.lessons[version]
            if lesson.named:
                delta = learner.difference(body, table.kind, head, lesson)
                message, told = wire(place, version, delta, len(lesson.named))
                sizes.append(len(message))
                updates.append(Update(told, len(lesson.named)))
        candidate = rounded(merge.merge(head, updates, LIMITS.weight_cap), table)
        judged = fleet.judge.accuracy(candidate)
        if not veto or judged >= best - LIMITS.tolerance:
            head, kept, best = candidate, kept + 1, max(best, judged)
    return Outcome(right(fleet, head), tuple(sizes), kept)


def right(fleet: Fleet, head: Head) -> NDArray[np.bool_]:
    """Whether the fleet's `head` answers each later command right, bool [homes, later]."""
    found = []
    for home in fleet.homes:
        above = adapter.select(head, home.labels)
        scores = adapter.fleet_logits(above, home.later, home.base, fleet.body.temperature)
        found.append(scores.argmax(1) == home.targets)
    return np.stack(found)


def rounded(head: Head, table: FleetTable) -> Head:
    """The head as devices read it from the gateway's bytes."""
    return downlink.read_content(downlink.content(head, table), table)


def coded(made: Codec, seed: int, decay: float = 0.0) -> Wire:
    """A wire of the codec `made` alone; `seed` is the partition's.

    `decay` is the share of what the codec has left out that a home adds to its next table (error feedback, Seide et al.
    2014): 0 forgets it.
    """
    memories: dict[int, Floats] = {}

    def wire(place: int, version: int, delta: Head, samples: int) -> tuple[bytes, Head]:
        table = delta.joined
        if place in memories:
            table = table + np.float32(decay) * memories[place]
        # Another seed for each update.
        data, told = made(table, (seed * 1000 + version) * 1000 + place)
        memories[place] = table - told
        return data, adapter.from_joined(delta.labels, told)

    return wire


def float32(table: Floats, seed: int) -> tuple[bytes, Floats]:
    """The table as it is, four bytes a number: what other codecs are compared with."""
    return table.astype("<f4").tobytes(), table


def int8_rows(table: FleetTable) -> Codec:
    """Int8 rows with float32 scales and bias (`tasuki.sdk.codec`): an update's format 1."""

    def made(joined: Floats, seed: int) -> tuple[bytes, Floats]:
        fields = codec.pack(adapter.from_joined(table.labels, joined), table.number)
        data = b"".join(value for value in fields.values() if isinstance(value, bytes))
        return data, codec.unpack(fields, table).joined

    return made


def within(table: FleetTable, budget: int) -> Codec:
    """The compression that errs least in at most `budget` bytes (`tasuki.sdk.compression.auto`)."""

    def made(joined: Floats, seed: int) -> tuple[bytes, Floats]:
        data, _ = compression.auto(joined, budget, table.metric, seed, LIMITS.max_norm)
        return data, compression.decompress(data, *table.joined_shape, table.metric)

    return made


def compressed(table: FleetTable, setting: compression.Setting) -> Codec:
    """The compression of one setting."""

    def made(joined: Floats, seed: int) -> tuple[bytes, Floats]:
        data = compression.compress(joined, setting, table.metric, seed)
        return data, compression.decompress(data, *table.joined_shape, table.metric)

    return made


def points_lost(reference: Sequence[Outcome], tested: Sequence[Outcome]) -> dict[str, float]:
    """How many points `tested` is below `reference`, seed by seed: the mean and its 95% interval.

    The homes of a seed hold one head, so a seed's mean counts once; the interval is Student's over the seeds, and of no
    width for one seed.
    """
    apart = np.array([_PERCENT * (r.accuracy - t.accuracy) for r, t in zip(reference, tested, strict=True)])
    mean, count, half = float(apart.mean()), len(apart), 0.0
    if count > 1:
        half = float(stats.t.ppf(0.975, count - 1) * apart.std(ddof=1) / np.sqrt(count))
    return {"mean": mean, "lower95": mean - half, "upper95": mean + half}
