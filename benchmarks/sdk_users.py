"""A hundred users with skewed labels: does learning ever hurt, and is the confidence what it says?

Sixteen other homes teach a fleet's adapter first. Each user is a device that enrols, takes that adapter from a broker,
learns what was said in its home, and answers later commands that share no sentence with anything learned. Its answers
are compared, command by command, with those of the fleet's adapter alone.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import paho.mqtt.publish as publish
from numpy.typing import NDArray
from paho.mqtt.client import MQTTv5
from scipy.stats import binomtest

from tasuki.aggregator import fleet, merge
from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.aggregator.ledger import Version
from tasuki.aggregator.rules import Rules
from tasuki.converter.distil import Progress
from tasuki.converter.homes import Command, Home, Split, homes
from tasuki.sdk import Device, adapter, artifact, confidence, downlink, kinds, learned, learner, topics
from tasuki.sdk.prediction import Prediction
from tasuki.sdk.runtime import Body
from tasuki.sdk.update import Update

FLEET: Final = "users"
TEACHERS: Final = 16
USERS: Final = 100
LATER: Final = 120
ROUNDS: Final = 5
PER_ROUND: Final = 12
LEVELS: Final = (0.05, 0.1)
# An update weighs at most so many examples, as a gateway's settings say.
CAP: Final = 64
# One user in a hundred would be called worse by chance at 0.05 / 100.
SIGNIFICANT: Final = 0.05 / 100


@dataclass(frozen=True)
class Answers:
    """One user's held-out answers, right or not: of the fleet's adapter and of the device, with their probabilities."""

    label_count: int
    fleet: NDArray[np.bool_]
    device: NDArray[np.bool_]
    best: NDArray[np.float64]
    before_best: NDArray[np.float64]
    local: NDArray[np.bool_]
    flagged: dict[float, NDArray[np.bool_]]
    before_flagged: dict[float, NDArray[np.bool_]]


def run(parts: Split, file: Path, seed: int, users: int, later: int, progress: Progress) -> dict[str, Any]:
    """The figures for `users` users with `later` held-out commands each, at least 100 for the bars."""
    everybody = homes(parts, TEACHERS + users, seed, ROUNDS, PER_ROUND, later)
    with tempfile.TemporaryDirectory(prefix="tasuki-users-") as work, _fleet(Path(work), parts, file) as port:
        _announce(Path(work), file, everybody[:TEACHERS], port)
        answers = []
        for number, home in enumerate(everybody[TEACHERS:]):
            progress("users", number, users, home.name)
            answers.append(_live(Path(work), file, home))
        progress("users", users, users, "")
    return _figures(answers)


@contextmanager
def _fleet(work: Path, parts: Split, file: Path) -> Iterator[int]:
    """A broker and a gateway's folder; no gateway runs, because nothing is sent."""
    held_out = work / "held-out.jsonl"
    held_out.write_text(json.dumps({"text": parts.gateway[0].text, "label": parts.gateway[0].label}) + "\n")
    with EmbeddedBroker() as broker:
        fleet.init(work / "gateway", FLEET, file, held_out, "127.0.0.1", broker.port)
        yield broker.port


def _announce(work: Path, file: Path, teachers: Sequence[Home], port: int) -> None:
    """The adapter that the teachers' homes make together in `ROUNDS` rounds, retained at the broker."""
    loaded = artifact.load(file)
    tokenizer, body = loaded.tokenizer(), Body(loaded.model, loaded.outputs)
    known = learned.Body(loaded.labels, loaded.temperature, loaded.moment, loaded.conformal)
    kind = kinds.make("head", loaded.features)
    head = adapter.zero(loaded.labels, loaded.features)
    for number in range(1, ROUNDS + 1):
        updates = []
        for home in teachers:
            said = {c.text: c.label for batch in home.rounds[:number] for c in batch if c.label in loaded.labels}
            features, base = zip(*(body.run(tokenizer.encode(text)) for text in said), strict=True)
            lesson = learned.Lesson(np.stack(features), np.stack(base), list(said.values()))
            updates.append(Update(learner.difference(known, kind, head, lesson), len(said)))
        head = merge.merge(head, updates, CAP)
    rules = Rules(work / "gateway")
    content = downlink.content(head, rules.table)
    rules.current = Version(ROUNDS, content, accuracy=0.0, candidate=0.0, devices=len(teachers), published=0.0)
    word, (part,) = rules.announcement(len(content))
    rules.ledger.close()
    retained = {topics.part_down(FLEET, ROUNDS, 0): part, topics.adapter(FLEET): word}
    for topic, payload in retained.items():
        publish.single(topic, payload, qos=1, retain=True, port=port, protocol=MQTTv5)


def _live(work: Path, file: Path, home: Home) -> Answers:
    with Device.open(file, work / home.name) as device:
        device.enrol(_enrolment(work, home.name, device.public_key))
        device.sync(30.0)
        before = [device.predict(c.text, "global") for c in home.later]
        before_flagged = _flagged(device, home.later)
        for command in (c for batch in home.rounds for c in batch):
            device.learn(command.text, command.label, new_label=True, durable=False)
        device.flush()
        after = [device.predict(c.text) for c in home.later]
        return Answers(
            label_count=len({c.label for c in home.later}),
            fleet=_right(before, home.later),
            device=_right(after, home.later),
            best=np.array([answer.probability for answer in after]),
            before_best=np.array([answer.probability for answer in before]),
            local=np.array([answer.answered_by == "local" for answer in after]),
            flagged=_flagged(device, home.later),
            before_flagged=before_flagged,
        )


def _flagged(device: Device, said: Sequence[Command]) -> dict[float, NDArray[np.bool_]]:
    return {level: np.array([device.predict(c.text, level=level).uncertain for c in said]) for level in LEVELS}


def _enrolment(work: Path, name: str, key: bytes) -> Path:
    path = work / f"{name}.enrol.json"
    fleet.write_enrolment(path, fleet.enrol(work / "gateway", name, key))
    return path


def _right(answers: Sequence[Prediction], said: Sequence[Command]) -> NDArray[np.bool_]:
    return np.array([answer.label == command.label for answer, command in zip(answers, said, strict=True)])


def _figures(users: Sequence[Answers]) -> dict[str, Any]:
    gains = np.array([user.device.mean() - user.fleet.mean() for user in users])
    every_right = np.concatenate([user.device for user in users])
    best = np.concatenate([user.best for user in users])
    figures: dict[str, Any] = {
        "users": len(users),
        "commands": len(every_right),
        "labels_per_user": float(np.mean([user.label_count for user in users])),
        "accuracy_global": float(np.mean([user.fleet.mean() for user in users])),
        "accuracy_personalised": float(np.mean([user.device.mean() for user in users])),
        "personalised_worse_users": sum(_worse(user) < SIGNIFICANT for user in users),
        "personalised_gain": float(gains.mean()),
        "personalised_gain_lower": _lower(gains),
        "personalised_gain_least": float(gains.min()),
        "local_answers": float(np.mean([user.local.mean() for user in users])),
        "ece": confidence.calibration_error(best, every_right),
        "ece_before": confidence.calibration_error(
            np.concatenate([user.before_best for user in users]), np.concatenate([user.fleet for user in users])
        ),
    }
    fleet_right = np.concatenate([user.fleet for user in users])
    for level in LEVELS:
        flags = np.concatenate([user.flagged[level] for user in users])
        figures[f"flagged_{level:.2f}"] = float(flags.mean())
        figures[f"error_unflagged_{level:.2f}"] = float((~every_right[~flags]).mean())
        flags = np.concatenate([user.before_flagged[level] for user in users])
        figures[f"flagged_before_{level:.2f}"] = float(flags.mean())
        figures[f"error_unflagged_before_{level:.2f}"] = float((~fleet_right[~flags]).mean())
    return figures


def _worse(user: Answers) -> float:
    """One-sided exact McNemar test (sign test on the commands where the two differ): p of being worse by chance."""
    lost, won = int((user.fleet & ~user.device).sum()), int((user.device & ~user.fleet).sum())
    return float(binomtest(lost, lost + won, alternative="greater").pvalue) if lost + won else 1.0


def _lower(gains: NDArray[np.float64]) -> float:
    """95% lower bound of the mean over users: bootstrap, 4,000 draws, seed 0."""
    rng = np.random.default_rng(0)
    means = [gains[rng.integers(0, len(gains), len(gains))].mean() for _ in range(4000)]
    return float(np.percentile(means, 2.5))
