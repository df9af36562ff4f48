"""The task `classify`: answers from the body and its adapters, refitted on the cached examples."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from tasuki.sdk import adapter, learned
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.cache import Example, digest
from tasuki.sdk.classifier import Classifier, Raw, checked_text
from tasuki.sdk.errors import InputError
from tasuki.sdk.learned import Learned, Lesson
from tasuki.sdk.prediction import Explanation, Prediction, Using, Verdict
from tasuki.sdk.runtime import Options
from tasuki.sdk.scorer import Scorer, Scores, joined
from tasuki.sdk.wanted import Wanted

if TYPE_CHECKING:
    from tasuki.sdk.kinds import Kind

_clock: Final = time.perf_counter
_new: Final = tuple.__new__
_TAUGHT: Final = "this very text was taught"


class Side(NamedTuple):
    """One adapter's answers: how to score, and the floor below which they are uncertain at the usual level."""

    name: Using
    score: Callable[[Raw], Scores]
    labels: tuple[str, ...]
    features: bool
    floor: float


class Answering(NamedTuple):
    """All that an answer needs, swapped as a whole. Texts whose digest is `taught` are the local adapter's anyway."""

    learned: Learned
    best: Side
    sides: dict[str, Side]
    taught: frozenset[bytes]


class ClassifyTask:
    """A classifier that learns. Thread-safe: an answer uses the last finished fit, and waits only for the model.

    `level` is the error level of `Prediction.uncertain`. Raises as `Classifier` does.
    """

    def __init__(self, parts: Artifact, options: Options, wanted: Wanted, level: float) -> None:
        self.wanted = wanted
        self.level = level
        self.classifier = Classifier(parts, options)
        self.body = learned.Body(parts.labels, parts.temperature, parts.moment, parts.conformal)
        self._columns: Floats | None = None
        self._run = self.classifier.run
        self.known = set(parts.labels)
        self._now = self._answering(learned.untaught(self.body, adapter.zero(parts.labels, parts.features)), ())

    @property
    def runtime(self) -> str:
        """Name of the interpreter's package."""
        return self.classifier.runtime

    @property
    def outcome(self) -> Learned:
        """What the answers stand on."""
        return self._now.learned

    @property
    def verdict(self) -> Verdict:
        """Which adapter answers, and why."""
        return self._now.learned.verdict

    @property
    def temperature(self) -> float:
        """What the logits of the adapter that answers are divided by."""
        return self._now.learned.temperature

    @property
    def own_labels(self) -> tuple[str, ...]:
        """The labels that this device has added."""
        return self._now.learned.labels[len(self.body.labels) :]

    def reset(self, examples: Sequence[Example]) -> None:
        """`known` is what the artifact and `examples` name; `learn` adds to it."""
        self.known = {*self.body.labels, *(example.label for example in examples)}

    def predict(self, text: str, began: float, using: Using, level: float | None) -> Prediction:
        """The label of `text`; `began` is what `time.perf_counter` said. Raises InputError."""
        text, now = checked_text(text), self._now
        if using == "local":
            side = now.sides["local"] if now.taught and digest(text) in now.taught else now.best
        elif using in now.sides:
            side = now.sides[using]
        else:
            raise InputError(f"using={using!r} is not one of local, global, base")
        return self._said(now, side, text, began, level)

    def _said(self, now: Answering, side: Side, text: str, began: float, level: float | None) -> Prediction:
        """What `side` says of the checked `text`."""
        name, score, labels, features, floor = side
        best, share, second = score(self._run(text, features))
        if level is not None:
            floor = self._floor(now, side, level)
        doubt = share < floor or second >= floor
        # What the named tuple's own constructor does, without its call.
        return _new(Prediction, (labels[best], share, share - second, doubt, name, (_clock() - began) * 1e3))

    def explain(self, text: str) -> Explanation:
        """Who answers the checked `text` and why, and what each adapter says."""
        now = self._now
        taught = bool(now.taught) and digest(text) in now.taught
        side = now.sides["local"] if taught else now.best
        verdict = now.learned.verdict
        answers = {one.name: self._said(now, one, text, _clock(), None) for one in now.sides.values()}
        return Explanation(text, side.name, _TAUGHT if taught else verdict.reason, verdict, answers)

    def embed(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Features float32 [n, d] and base logits float32 [n, C] of checked `texts`."""
        rows = [self.classifier.embed(text) for text in texts]
        width, count = self.classifier.grid.width, self.classifier.base.width
        features = np.array([row[0] for row in rows], np.float32).reshape(-1, width)
        return features, np.array([row[1] for row in rows], np.float32).reshape(-1, count)

    def example(self, text: str, label: str, keep_text: bool) -> Example:
        """What is kept of the checked `text`."""
        raw = self._run(text)
        features, scale = self.classifier.grid.pack(raw[1])
        base, base_scale = self.classifier.base.pack((raw[0],))
        return Example(digest(text), text if keep_text else None, label, features, base, scale, base_scale)

    def lesson(self, examples: Sequence[Example]) -> Lesson:
        """The examples as arrays."""
        return Lesson(
            self.classifier.grid.unpack([e.features for e in examples], [e.scale for e in examples]),
            self.classifier.base.unpack([e.base for e in examples], [e.base_scale for e in examples]),
            [e.label for e in examples],
        )

    def fit(self, examples: Sequence[Example], fleet: Head | None) -> None:
        """Refit on `examples` above the fleet's head, and answer with the outcome from now on."""
        if fleet is None:
            fleet = adapter.zero(self.body.labels, self.classifier.grid.width)
        if not examples:
            self._now = self._answering(learned.untaught(self.body, fleet), ())
            return
        from tasuki.sdk import learner

        kind = self.wanted.make()
        self._columns = kind.project(np.eye(self.classifier.grid.width, dtype=np.float32)).T
        found = learner.learn(self.body, kind, fleet, self.lesson(examples), self._now.learned.local)
        self._now = self._answering(found, examples)

    def difference(self, examples: Sequence[Example], kind: "Kind", fleet: Head) -> tuple[Head, int] | None:
        """What the examples of public labels add to the fleet's head, as a table of `kind`, and how many they are.

        None without any.
        """
        public = [e for e in examples if e.label in set(self.body.labels)]
        if not public:
            return None
        from tasuki.sdk import learner

        return learner.difference(self.body, kind, fleet, self.lesson(public)), len(public)

    # --- inside -------------------------------------------------------------------------------------------

    def _answering(self, found: Learned, examples: Sequence[Example]) -> Answering:
        base, grid = self.classifier.base, self.classifier.grid
        usual, width = self.body.temperature, grid.width
        local = found.verdict.answers == "local"
        plain = adapter.zero(found.labels, width)
        fleet = found.fleet if found.fleet.joined.any() or len(found.labels) > len(self.body.labels) else None
        scorers = {
            "global": Scorer(base, grid, usual if local else found.temperature, fleet, usual),
            "base": Scorer(base, grid, usual, None if fleet is None else plain),
        }
        if found.local is not None:
            above = joined(found.labels, width, [(found.fleet, None), (found.local, self._columns)])
            # Where the fleet's adapter answers, the temperature is fitted to its answers.
            scorers["local"] = Scorer(base, grid, found.temperature if local else usual, above)
        answers = "local" if local else "global"
        table = learned.untaught(self.body, found.fleet).floor(self.level)
        floor = found.floor(self.level)
        sides: dict[str, Side] = {
            name: Side(
                name,
                scorers[name].score,
                found.labels,
                scorers[name].needs_features,
                floor if name == answers else table,
            )
            for name in ("local", "global", "base")
            if name in scorers
        }
        sides.setdefault("local", sides["global"])
        taught = frozenset() if local else frozenset(e.digest for e in examples)
        return Answering(found, sides[answers], sides, taught)

    def _floor(self, now: Answering, side: Side, level: float) -> float:
        if not 0 < level < 1:
            raise InputError(f"the error level {level!r} is not between 0 and 1")
        if side is now.best:
            return now.learned.floor(level)
        return learned.untaught(self.body, now.learned.fleet).floor(level)
