"""Distillation of a classifier: from a teacher and texts to a trained float student.

The teacher reads the texts, and new ones made of them (`lessons`); the student learns from what it says and from the
labels (`losses`, `training`), then with simulated integers (`qat`), if that is better on held-out text.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import assemble, lessons, qat, student, teacher, training, vocabulary
from tasuki.converter.data import SMART_HOME, Data, find_data, smart_home, user_texts
from tasuki.converter.graph import Floats
from tasuki.converter.lessons import Taught
from tasuki.converter.open_checkpoint import open_checkpoint
from tasuki.converter.recipe import Recipe
from tasuki.converter.student import StudentShape
from tasuki.converter.student_convert import classifier
from tasuki.converter.student_folder import Student, float_logits, is_student, load, run, save
from tasuki.converter.teacher import Teacher
from tasuki.converter.texts import Texts
from tasuki.converter.training import Lesson, Trained, score
from tasuki.sdk.console import Progress

__all__ = [
    "SMART_HOME", "Data", "Progress", "Recipe", "Student", "StudentShape", "accuracy", "distil", "find_data",
    "find_teacher", "float_logits", "load", "of_student", "save", "smart_home", "user_texts",
]  # fmt: skip

_STANDINGS: Final = (".training.npz", ".tuning.npz")
# Texts that go with a student: for calibration, the second moment of its features, and the n-grams beside it.
_KEPT: Final = 20000


def find_teacher(which: str | Path) -> Teacher:
    """`minilm`, the folder of a published checkpoint of the BERT family, or that of a student of ours.

    Raises SourceUnavailable, CheckpointMissing, CheckpointCorrupt, CheckpointUnsupported.
    """
    if is_student(Path(which)):
        return of_student(load(Path(which)))
    return teacher.of_checkpoint(*open_checkpoint(str(which)))


def of_student(trained: Student) -> Teacher:
    """A student of ours as a teacher: its features of the last layer are its embeddings."""

    def read(texts: Sequence[str], progress: Callable[[int, int], None]) -> tuple[Floats, Floats]:
        features, logits = run(trained, texts)
        progress(len(texts), len(texts))
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9), logits

    digest = hashlib.sha256(b"".join(value.tobytes() for _, value in sorted(trained.weights.items()))).hexdigest()
    origin = {"file": trained.name, "sha256": digest, "licence": "unknown", "origin": "a distilled student"}
    pieces, table = trained.vocabulary[2:], trained.weights["pieces"][2:]
    return Teacher(trained.name, trained.labels, pieces, table, origin, read)


def distil(
    who: Teacher, data: Data, shape: StudentShape, recipe: Recipe, progress: Progress, work: Path | None = None,
    tier: str = "mcu",
) -> Student:  # fmt: skip
    """A student of `shape`, of which `vocabulary` is the most pieces it may have and `labels` is found out.

    The same arguments give the same weights on the same machine. In `work` the training is kept after each epoch, and
    one that was interrupted goes on. Raises TextsInvalid, ConversionError.
    """
    began = time.perf_counter()
    school, train, validation = lessons.open_school(who, data.train, data.validation, progress)
    new = lessons.invent(school, train, data.slots, recipe, progress)
    rest = school.teach(data.held_out, progress, "teacher reads the rest")
    pieces = vocabulary.prune(train.texts, shape.vocabulary, who.pieces)
    shape = replace(shape, vocabulary=len(pieces), labels=len(school.labels))
    heads = shape.heads if recipe.relation and who.relate and who.table.shape[1] % shape.heads == 0 else 0
    learn = lessons.lesson(school, [train, new] if new else [train], pieces, shape, heads, progress)
    hold = lessons.lesson(school, [validation], pieces, shape, 0, progress)
    start = student.initial(shape, lessons.first_weights(who, pieces, shape.width), recipe.seed)
    files = [None if work is None else work / name for name in _STANDINGS]
    trained = training.train(shape, start, learn, hold, recipe, progress, files[0])
    rows = np.random.default_rng(recipe.seed).permutation(len(train.texts))[:_KEPT]
    found = Student(
        name=data.name, tier=tier, shape=shape, weights=trained.weights, vocabulary=tuple(pieces), labels=school.labels,
        depths=(shape.layers,), recipe=recipe, learned=_labelled(train, school.labels, rows),
        validation=_labelled(validation, school.labels), held_out=_labelled(rest, school.labels), tests=data.tests,
        origin=(who.origin, *data.origin), figures={},
    )  # fmt: skip
    found, tuned = _tuned(found, trained, learn, hold, progress, files[1])
    seconds = round(time.perf_counter() - began, 1)
    taught = {"validation": validation, "held_out": rest}
    taught |= {name: school.teach(texts, progress, f"teacher reads {name}") for name, texts in data.tests.items()}
    parts = {"validation": found.validation, "held_out": found.held_out, **data.tests}
    figures = {
        "teacher": {name: float(_right(part, part.logits).mean()) for name, part in taught.items()},
        "student_float": {name: accuracy(found, part) for name, part in parts.items() if part.labels is not None},
        "texts": len(train.texts),
        "new_texts": len(new.texts) if new else 0,
        "epochs": len(trained.loss),
        "best_epoch": trained.best + 1,
        "parameters": shape.parameters(),
        "distil_seconds": seconds,
        **tuned,
    }
    for file in files:
        if file is not None:
            file.unlink(missing_ok=True)
    return replace(found, figures=figures)


def accuracy(found: Student, texts: Texts) -> float:
    """Share of right answers of the float student on labelled texts. Raises TextsInvalid if it lacks a label."""
    right = assemble.targets(texts.labels or (), found.labels)
    return float((float_logits(found, texts.texts).argmax(1) == right).mean())


def _tuned(
    found: Student, trained: Trained, learn: Lesson, hold: Lesson, progress: Progress, file: Path | None
) -> tuple[Student, dict[str, Any]]:
    """The student after some epochs with simulated integers, if its real integers then answer more right; figures."""
    recipe = found.recipe
    if not recipe.tuning:
        return found, {"tuned": False}
    before = classifier(found, _quiet)
    course = replace(recipe, epochs=recipe.tuning, rate=recipe.tuning_rate, patience=1.0)
    better = training.train(
        found.shape, found.weights, learn, hold, course, progress, file, "learns integers",
        qat.simulate(before.compiled.plan), trained.image,
    )  # fmt: skip
    tuned = replace(found, weights=better.weights)
    scores = [score(made.run(found.validation.texts)[1], hold) for made in (before, classifier(tuned, _quiet))]
    keep = (scores[1][0], -scores[1][1]) > (scores[0][0], -scores[0][1])
    told = {"tuned": keep, "validation_int8_before_tuning": scores[0][0], "validation_int8_tuned": scores[1][0]}
    return tuned if keep else found, told


def _right(said: Taught, logits: Floats) -> NDArray[np.bool_]:
    """Which answers are those of the labels, or the teacher's where there is none."""
    return np.asarray(logits.argmax(1) == np.where(said.targets >= 0, said.targets, said.logits.argmax(1)))


def _quiet(phase: str, done: int, total: int, note: str) -> None:
    pass


def _labelled(said: Taught, labels: tuple[str, ...], rows: NDArray[np.int64] | None = None) -> Texts:
    """The texts with their labels, the teacher's where they have none; those of `rows` alone."""
    numbers = np.where(said.targets >= 0, said.targets, said.logits.argmax(1))
    chosen = range(len(said.texts)) if rows is None else rows
    return Texts(tuple(said.texts[row] for row in chosen), tuple(labels[numbers[row]] for row in chosen))
