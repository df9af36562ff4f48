"""From texts to an artifact: teacher, distillation, quantisation, packing; kept in the cache by what went in."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasuki.converter import confidence, distil, pack, student, teacher
from tasuki.converter.compile import check_micro, compile_graphs
from tasuki.converter.distil import QUICK, Progress, Recipe, Student, TeacherHead
from tasuki.converter.homes import Command, Split, split
from tasuki.converter.ngrams import NgramBaseline
from tasuki.converter.sources import HOME_ASSISTANT_INTENTS, MINILM_L6, cache_folder
from tasuki.converter.student import Floats
from tasuki.sdk.artifact import MOMENT, VOCABULARY
from tasuki.sdk.runtime import Body, Outputs

# Raise it when a change of the code changes what comes out.
_RECIPE_VERSION: Final = 5
_CALIBRATION_SENTENCES: Final = 400
REPORTED_SPLIT: Final = 0
TUNING_SPLIT: Final = 1000


@dataclass(frozen=True)
class Built:
    """Paths of the artifact and its figures; `cached` when nothing had to be trained."""

    artifact: Path
    figures: Mapping[str, Any]
    cached: bool


def silent(phase: str, done: int, total: int, note: str) -> None:
    """A progress callback that says nothing."""


def recipe(seed: int = 0, quick: bool = False) -> Recipe:
    """The standard recipe, or a smaller one of the same kind for tests."""
    return replace(QUICK if quick else Recipe(), seed=seed)


def build(split_seed: int = REPORTED_SPLIT, seed: int = 0, quick: bool = False, progress: Progress = silent) -> Built:
    """The standard student of a split, from the cache if it is there."""
    wanted = recipe(seed, quick)
    key = json.dumps([_RECIPE_VERSION, split_seed, asdict(wanted), MINILM_L6.sha256, HOME_ASSISTANT_INTENTS.sha256])
    folder = cache_folder() / "students" / hashlib.sha256(key.encode()).hexdigest()[:16]
    figures = folder / "figures.json"
    if figures.exists():
        return Built(folder / "student.tflite", json.loads(figures.read_text()), True)
    parts = split(split_seed, wanted.per_template)
    trained, measured = make_student(parts, wanted, progress)
    distil.save(trained, folder)
    data, measured = convert(trained, parts, measured, progress)
    pack.write(folder / "student.tflite", data)
    pack.write(figures, json.dumps(measured, indent=1, sort_keys=True).encode())
    return Built(folder / "student.tflite", measured, False)


def make_student(parts: Split, wanted: Recipe, progress: Progress) -> tuple[Student, dict[str, Any]]:
    """A trained float student, and the accuracies (0 to 1) of teacher and student on both held-out roles."""
    began = time.perf_counter()
    head, embeddings = distil.train_teacher(parts, progress)
    trained = distil.distil(parts, head, embeddings, wanted, progress)
    seconds = time.perf_counter() - began
    measured = {
        "distil_seconds": round(seconds, 1),
        "teacher": {name: _teacher_accuracy(head, commands, parts) for name, commands in _tests(parts)},
        "student_float": {
            name: _accuracy(distil.float_logits(trained, _texts(commands)), commands, parts)
            for name, commands in _tests(parts)
        },
    }
    return trained, measured


def convert(
    trained: Student, parts: Split, measured: Mapping[str, Any], progress: Progress
) -> tuple[bytes, dict[str, Any]]:
    """The artifact's bytes, and `measured` with the int8 figures and the n-gram baseline of equal bytes."""
    tokenizer = trained.tokenizer
    texts = _texts(parts.public)
    rng = np.random.default_rng(trained.recipe.seed)
    chosen = rng.permutation(len(texts))[:_CALIBRATION_SENTENCES]
    progress("quantise", 0, 3, "")
    graphs = {"classify": student.lower(trained.shape, trained.weights)}
    check_micro(graphs)
    ids = np.stack([tokenizer.encode(texts[i]) for i in chosen])
    made = compile_graphs(graphs, {"ids": ids}, np.ones(ids.shape, np.bool_))
    outputs = Outputs((made.outputs[f"features.{trained.shape.layers}"],), made.outputs["logits"])
    body = Body(made.model, outputs)
    progress("quantise", 1, 3, "")

    def run(commands: Sequence[Command]) -> tuple[Floats, Floats]:
        features, logits = zip(*(body.run(tokenizer.encode(command.text)) for command in commands), strict=True)
        return np.stack(features), np.stack(logits)

    moment = pack.second_moment(run(parts.public)[0])
    progress("quantise", 2, 3, "")
    int8 = {name: _accuracy(run(commands)[1], commands, parts) for name, commands in _tests(parts)}
    # The conformal thresholds need texts that the temperature was not fitted on.
    logits, targets = run(parts.validation)[1], distil.targets(parts.validation, parts.labels)
    temperature = confidence.fit_temperature(logits[::2], targets[::2])
    thresholds = confidence.conformal_table(logits[1::2], targets[1::2], temperature)
    shape = trained.shape
    about: dict[str, Any] = {
        "name": "smart-home commands",
        "task": "classify",
        "tier": "mcu",
        "tokens": shape.tokens,
        "pad": 0,
        "features": [{"depth": shape.layers, "width": shape.width, "output": outputs.features[0]}],
        "logits": {"output": outputs.logits, "width": len(trained.labels)},
        "labels": list(trained.labels),
        "adapter_kinds": ["head"],
        "rounding": "tflm",
        "activations": "int8",
        "temperature": temperature,
        "conformal": thresholds,
        "operators": list(made.operators),
        "shapes": {"ids": [1, shape.tokens], "features": [1, shape.width], "logits": [1, len(trained.labels)]},
        "calibration": {"texts": len(chosen), "held_out": len(targets)},
        "origin": [_origin(MINILM_L6), _origin(HOME_ASSISTANT_INTENTS)],
        "notes": {"seed": trained.recipe.seed, "split_seed": trained.split_seed},
        "accuracy": {
            **{k: measured[k] for k in ("teacher", "student_float") if k in measured},
            "student_int8": int8,
        },
    }
    content = {VOCABULARY: pack.vocabulary_bytes(trained.vocabulary), MOMENT: pack.moment_bytes(moment)}
    data = pack.pack(made.model, content, about)
    progress("quantise", 3, 3, "")
    progress("n-gram baseline", 0, 1, "")
    baseline = NgramBaseline(texts, distil.targets(parts.public, parts.labels), len(data))
    ngrams = {name: baseline.accuracy(_texts(c), distil.targets(c, parts.labels)) for name, c in _tests(parts)}
    progress("n-gram baseline", 1, 1, "")
    return data, {
        **measured,
        "student_int8": int8,
        "ngrams": ngrams,
        "ngrams_bytes": baseline.bytes,
        "artifact_bytes": len(data),
        "model_bytes": len(made.model),
        "teacher_bytes": (teacher.folder() / "model.safetensors").stat().st_size,
        "parameters": trained.shape.parameters(),
        "operators": list(made.operators),
        "temperature": temperature,
        "public_sentences": len(texts),
    }


def _tests(parts: Split) -> tuple[tuple[str, tuple[Command, ...]], ...]:
    return (("validation", parts.validation), ("unseen", parts.unseen))


def _texts(commands: Sequence[Command]) -> list[str]:
    return [command.text for command in commands]


def _accuracy(logits: Floats, commands: Sequence[Command], parts: Split) -> float:
    return float((logits.argmax(1) == distil.targets(commands, parts.labels)).mean())


def _teacher_accuracy(head: TeacherHead, commands: Sequence[Command], parts: Split) -> float:
    return _accuracy(head.logits(teacher.embed(_texts(commands))), commands, parts)


def _origin(source: Any) -> dict[str, str]:
    return {
        "package": source.requirement,
        "sha256": source.sha256,
        "licence": source.licence,
        "origin": source.origin,
    }
