"""The standard student: smart-home commands, MiniLM-L6, tier `mcu`; kept in the cache by what went in."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from tasuki.converter import assemble, distil, pack, student_convert, student_folder, teacher
from tasuki.converter.assemble import Classifier
from tasuki.converter.distil import Data, Student, StudentShape
from tasuki.converter.homes import split
from tasuki.converter.ngrams import NgramBaseline
from tasuki.converter.recipe import Recipe
from tasuki.converter.sources import HOME_ASSISTANT_INTENTS, MINILM_L6, cache_folder
from tasuki.converter.texts import Texts
from tasuki.sdk import artifact
from tasuki.sdk.console import Progress

# Raise one when a change of the code changes what comes out: of training, or of conversion alone.
_RECIPE_VERSION: Final = 8
_CONVERSION_VERSION: Final = 4
REPORTED_SPLIT: Final = 0
TUNING_SPLIT: Final = 1000
# `labels` and the real number of pieces are found out from the texts.
SHAPE: Final = StudentShape(vocabulary=1408, tokens=20, labels=1)
QUICK: Final = Recipe(epochs=10, growth=0.0, tuning=1, per_template=8)


@dataclass(frozen=True)
class Built:
    """The artifact in the student's folder, and its figures; `cached` when nothing had to be trained."""

    artifact: Path
    figures: Mapping[str, Any]
    cached: bool

    @property
    def folder(self) -> Path:
        """The student's folder."""
        return self.artifact.parent


def silent(phase: str, done: int, total: int, note: str) -> None:
    """A progress callback that says nothing."""


def recipe(seed: int = 0, quick: bool = False) -> Recipe:
    """The standard recipe, or a smaller one of the same kind for tests."""
    return replace(QUICK if quick else Recipe(), seed=seed)


def build(split_seed: int = REPORTED_SPLIT, seed: int = 0, quick: bool = False, progress: Progress = silent) -> Built:
    """The standard student of a split, from the cache if it is there."""
    wanted = recipe(seed, quick)
    about = [_RECIPE_VERSION, split_seed, asdict(wanted), asdict(SHAPE)]
    key = json.dumps([*about, MINILM_L6.sha256, HOME_ASSISTANT_INTENTS.sha256])
    folder = cache_folder() / "students" / hashlib.sha256(key.encode()).hexdigest()[:16]
    figures = folder / "figures.json"
    known = json.loads(figures.read_text()) if figures.exists() else {}
    if known.get("conversion") == _CONVERSION_VERSION:
        return Built(folder / "student.tflite", known, True)
    texts = distil.smart_home(split(split_seed, wanted.per_template))
    if not student_folder.is_student(folder):
        distil.save(distil.distil(distil.find_teacher("minilm"), texts, SHAPE, wanted, progress, folder), folder)
    made, measured = convert(student_folder.load(folder), texts, progress)
    measured["conversion"] = _CONVERSION_VERSION
    pack.write(folder / "student.tflite", made)
    pack.write(figures, json.dumps(measured, indent=1, sort_keys=True).encode())
    return Built(folder / "student.tflite", measured, False)


def convert(trained: Student, texts: Data, progress: Progress) -> tuple[bytes, dict[str, Any]]:
    """The artifact's bytes; the student's figures with those of the integers and of the n-grams with as many bytes."""
    made = student_convert.classifier(trained, progress)
    int8 = {name: _accuracy(made, part) for name, part in _tests(trained, texts).items()}
    shown = {name: trained.figures[name] for name in ("teacher", "student_float") if name in trained.figures}
    packed = assemble.classifier(
        made, trained.learned.texts, trained.unlearned, {**shown, "student_int8": int8}, progress
    )
    progress("n-gram baseline", 0, 1, "")
    baseline = NgramBaseline(texts.train.texts, assemble.targets(texts.train.labels or (), trained.labels), len(packed))
    progress("n-gram baseline", 1, 1, "")
    return packed, {
        **trained.figures,
        "student_int8": int8,
        "ngrams": {
            name: baseline.accuracy(part.texts, assemble.targets(part.labels or (), trained.labels))
            for name, part in _tests(trained, texts).items()
        },
        "ngrams_bytes": baseline.bytes,
        "artifact_bytes": len(packed),
        "model_bytes": len(made.compiled.model),
        "teacher_bytes": (teacher.folder() / "model.safetensors").stat().st_size,
        "operators": list(made.compiled.operators),
        "temperature": artifact.parse(packed).temperature,
        "public_sentences": len(texts.train.texts),
    }


def _tests(trained: Student, texts: Data) -> dict[str, Texts]:
    return {"validation": trained.validation, "held_out": trained.held_out, **texts.tests}


def _accuracy(made: Classifier, texts: Texts) -> float:
    return float((made.run(texts.texts)[1].argmax(1) == assemble.targets(texts.labels or (), made.labels)).mean())
