"""A trained float student with all that its conversion needs, and the folder that it is kept in."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from tasuki.converter import pack, student
from tasuki.converter.graph import Floats
from tasuki.converter.recipe import Recipe
from tasuki.converter.student import StudentShape
from tasuki.converter.texts import Texts
from tasuki.sdk.errors import ConversionError
from tasuki.sdk.tokenizer import Tokenizer

TASK: Final = "classify"
_ARRAYS, _ABOUT, _TEXTS = "student.npz", "student.json", "texts.jsonl"
_ROLES: Final = ("learned", "validation", "held_out")
_TEST: Final = "test "
_BATCH: Final = 256


@dataclass(frozen=True)
class Student:
    """A trained float student.

    `depths` are those whose features it gives. `learned` are texts that it learned from, for calibration; `validation`
    ended its training, so figures come from `held_out` and `tests`, and confidence from all that is not `learned`.
    Where texts had no labels, the teacher's stand there. `origin` is as SPEC.md has it; `figures` has accuracies (0 to
    1) and seconds.
    """

    name: str
    tier: str
    shape: StudentShape
    weights: dict[str, Floats]
    vocabulary: tuple[str, ...]
    labels: tuple[str, ...]
    depths: tuple[int, ...]
    recipe: Recipe
    learned: Texts
    validation: Texts
    held_out: Texts
    tests: Mapping[str, Texts]
    origin: tuple[Mapping[str, str], ...]
    figures: Mapping[str, Any]

    @property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.vocabulary, self.shape.tokens)

    @property
    def unlearned(self) -> Texts:
        """The texts that it did not learn from, for confidence: half of few phrasings may be all right or all wrong."""
        labels = (self.validation.labels, self.held_out.labels)
        joined = None if labels[0] is None or labels[1] is None else labels[0] + labels[1]
        return Texts(self.validation.texts + self.held_out.texts, joined)


def run(trained: Student, texts: Sequence[str]) -> tuple[Floats, Floats]:
    """Features float32 [n, width] of the last layer, and logits float32 [n, labels]."""
    ids = np.stack([trained.tokenizer.encode(text) for text in texts])
    parts = [
        student.forward(trained.shape, trained.weights, tf.constant(ids[start : start + _BATCH]))
        for start in range(0, len(ids), _BATCH)
    ]
    features, logits = (np.concatenate([part[k].numpy() for part in parts]) for k in (0, 1))
    return features, logits


def float_logits(trained: Student, texts: Sequence[str]) -> Floats:
    """The float student's logits [n, labels]."""
    return run(trained, texts)[1]


def save(trained: Student, folder: Path) -> None:
    """Write ``student.npz`` (arrays only), ``texts.jsonl`` and ``student.json`` to `folder`, that one last."""
    content = io.BytesIO()
    np.savez(content, **trained.weights)  # type: ignore[arg-type]
    pack.write(folder / _ARRAYS, content.getvalue())
    lines = []
    parts = {role: getattr(trained, role) for role in _ROLES} | {_TEST + name: t for name, t in trained.tests.items()}
    for role, texts in parts.items():
        for text, label in zip(texts.texts, texts.labels or [None] * len(texts.texts), strict=True):
            lines.append(json.dumps({"text": text, "label": label, "role": role}) + "\n")
    pack.write(folder / _TEXTS, "".join(lines).encode())
    about = {
        "task": TASK,
        **{name: getattr(trained, name) for name in ("name", "tier", "vocabulary", "labels", "depths", "figures")},
        "shape": asdict(trained.shape),
        "recipe": asdict(trained.recipe),
        "origin": [dict(source) for source in trained.origin],
    }
    pack.write(folder / _ABOUT, json.dumps(about, indent=1, sort_keys=True).encode())


def is_student(folder: Path) -> bool:
    """Whether there is a student in `folder`, be it damaged."""
    return (folder / _ABOUT).is_file()


def load(folder: Path) -> Student:
    """The student in `folder`. Raises ConversionError if it is not a whole one."""
    try:
        about = json.loads((folder / _ABOUT).read_bytes())
        if about.pop("task", None) != TASK:
            raise ValueError("it is no classifier")
        content = io.BytesIO((folder / _ARRAYS).read_bytes())
        with np.load(content, allow_pickle=False) as arrays:
            weights = {name: arrays[name] for name in arrays.files}
        rows = [json.loads(line) for line in (folder / _TEXTS).read_text(encoding="utf-8").split("\n") if line]
        tests = dict.fromkeys(row["role"] for row in rows if row["role"].startswith(_TEST))
        shape = StudentShape(**about.pop("shape"))
        found = Student(
            name=about["name"],
            tier=about["tier"],
            shape=shape,
            weights=weights,
            vocabulary=tuple(about["vocabulary"]),
            labels=tuple(about["labels"]),
            depths=tuple(about["depths"]),
            recipe=Recipe(**about["recipe"]),
            learned=_texts(rows, "learned"),
            validation=_texts(rows, "validation"),
            held_out=_texts(rows, "held_out"),
            tests={role.removeprefix(_TEST): _texts(rows, role) for role in tests},
            origin=tuple(about["origin"]),
            figures=about["figures"],
        )
        _check(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ConversionError(
            f"{folder} holds no student ({error}); make one with `tasuki distil --out {folder}`"
        ) from None
    return found


def _check(found: Student) -> None:
    """Raises ValueError if the parts do not fit each other."""
    shape = found.shape
    if (shape.vocabulary, shape.labels) != (len(found.vocabulary), len(found.labels)):
        raise ValueError("the shape does not fit the vocabulary or the labels")
    wanted = student.initial(shape, np.zeros((shape.vocabulary, shape.width), np.float32), 0)
    for name, value in wanted.items():
        given = found.weights.get(name)
        if given is None or given.shape != value.shape or given.dtype != np.float32 or not np.isfinite(given).all():
            raise ValueError(f"the weights of {name} are missing, of another shape, or not finite")


def _texts(rows: Sequence[Mapping[str, Any]], role: str) -> Texts:
    mine = [row for row in rows if row["role"] == role]
    labels = [row["label"] for row in mine]
    return Texts(tuple(row["text"] for row in mine), None if None in labels else tuple(labels))
