"""A causal student learns what a teacher expects after each token of a text.

The student's vocabulary is the teacher's, pruned to what the text needs; the teacher reads the text once and what it
expects is kept in the cache (`causal_teacher`); then the student is trained on it (`causal_train`).
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

from tasuki.converter import causal_student, causal_teacher, causal_train, pack
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.causal_teacher import Expected
from tasuki.converter.causal_texts import Corpus, Windows, windows
from tasuki.converter.causal_train import CausalRecipe
from tasuki.converter.families import Checkpoint
from tasuki.converter.graph import Floats
from tasuki.converter.pruned import Pruned, prune
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import ConversionError

TASK: Final = "causal"
# Windows of the training text that go with a student, for the calibration.
_CALIBRATED: Final = 512
# Validation and held-out text, as shares of the windows for training.
_MEASURED: Final = 1 / 6
_ARRAYS, _ABOUT, _WORDS, _TRAINING = "student.npz", "student.json", "tokenizer.json", ".training.npz"
_TEXTS: Final = ("calibration", "validation", "held_out")


@dataclass(frozen=True)
class Lesson:
    """What a student learns from: windows int32 [n, context + 1] of its ids by role, and what the teacher expects."""

    vocabulary: Pruned
    train: Windows
    validation: Windows
    held_out: Windows
    expected: Expected


@dataclass(frozen=True)
class CausalStudent:
    """A trained float student with all that the conversion needs.

    `tokenizer` is the content of a ``tokenizer.json`` and `start` the id that it begins a text with. Windows are int32
    [n, context + 1]: `calibration` is text that the student learned from, `validation` ended the training, `held_out`
    is for figures alone. `origin` is as SPEC.md has it. `figures` has perplexities a token of the student's.
    """

    shape: CausalShape
    weights: dict[str, Floats]
    tokenizer: bytes
    start: int
    recipe: CausalRecipe
    calibration: Windows
    validation: Windows
    held_out: Windows
    origin: tuple[Mapping[str, str], ...]
    figures: Mapping[str, Any]


def prepare(teacher: Checkpoint, corpus: Corpus, recipe: CausalRecipe, progress: Progress) -> Lesson:
    """The vocabulary, and what `teacher` expects in the text; neither sees `validation` or `held_out`.

    The teacher's reading is the long part. It is kept in the cache, and goes on where it was interrupted. Raises
    ConversionError if the teacher is no decoder with a byte-level BPE and a start token, or the text is too short.
    """
    bos, eos = (getattr(teacher.config, name, None) for name in ("bos", "eos"))
    if bos is None:
        raise ConversionError(f"{teacher.name} has no start token, and a causal student needs one")
    CausalShape(recipe.vocabulary, recipe.context, **recipe.shape)
    vocabulary = prune(teacher.tokenizer, corpus.train, recipe.vocabulary, bos, [] if eos is None else [eos])
    tokenizer, few = vocabulary.load(), max(1, round(recipe.windows * _MEASURED))
    train, validation, held_out = (
        windows(tokenizer, texts, recipe.context, vocabulary.start, most)
        for texts, most in ((corpus.train, recipe.windows), (corpus.validation, few), (corpus.held_out, few))
    )
    causal_train.batches_of(train, recipe)
    expected = causal_teacher.study(teacher, vocabulary.kept, train, held_out, progress=progress)
    return Lesson(vocabulary, train, validation, held_out, expected)


def distil(
    teacher: Checkpoint,
    corpus: Corpus,
    recipe: CausalRecipe,
    progress: Progress,
    folder: Path | None = None,
    origin: tuple[Mapping[str, str], ...] = (),
) -> CausalStudent:
    """A student of `recipe`; the same arguments give the same weights on the same machine.

    In `folder`, where `save` will put it, the training is kept after each epoch, and an interrupted one goes on.
    `origin` says where the texts are from. Raises ConversionError.
    """
    lesson = prepare(teacher, corpus, recipe, progress)
    return learn(lesson, recipe, progress, folder, (source_of(teacher), *origin))


def learn(
    lesson: Lesson,
    recipe: CausalRecipe,
    progress: Progress,
    folder: Path | None,
    origin: tuple[Mapping[str, str], ...],
    taught: bool = True,
) -> CausalStudent:
    """The student of `lesson`, `taught` by the teacher or from the text alone."""
    shape = CausalShape(len(lesson.vocabulary.kept), recipe.context, **recipe.shape)
    trained = causal_train.train(
        shape, lesson.train, lesson.validation, lesson.expected if taught else None, recipe, progress,
        None if folder is None else folder / _TRAINING,
    )  # fmt: skip
    losses = {
        "student": causal_train.loss(shape, trained.weights, lesson.held_out),
        "teacher": lesson.expected.plain,
        "teacher_adapted": lesson.expected.adapted,
    }
    figures = {
        **{f"perplexity_{name}": float(np.exp(value)) for name, value in losses.items()},
        "perplexity_validation": float(np.exp(min(trained.losses))),
        "epochs": len(trained.losses),
        "train_tokens": int(lesson.train[:, 1:].size),
        "held_out_tokens": int(lesson.held_out[:, 1:].size),
        "characters_a_token": _characters(lesson.vocabulary.load(), lesson.held_out),
        "parameters": shape.parameters(),
    }
    rows = np.random.default_rng(recipe.seed).permutation(len(lesson.train))[:_CALIBRATED]
    return CausalStudent(
        shape, trained.weights, lesson.vocabulary.tokenizer, lesson.vocabulary.start, recipe,
        lesson.train[rows], lesson.validation, lesson.held_out, origin, figures,
    )  # fmt: skip


def source_of(teacher: Checkpoint) -> dict[str, str]:
    """The teacher as an entry of the manifest's `origin`."""
    return {"file": teacher.name, "sha256": teacher.sha256, "licence": teacher.licence, "origin": "teacher"}


def save(student: CausalStudent, folder: Path) -> None:
    """Write ``student.npz`` (arrays only), ``tokenizer.json`` and ``student.json`` to `folder`, that one last."""
    content = io.BytesIO()
    np.savez(content, **student.weights, **{f"text {name}": getattr(student, name) for name in _TEXTS})  # type: ignore[arg-type]
    pack.write(folder / _ARRAYS, content.getvalue())
    pack.write(folder / _WORDS, student.tokenizer)
    about = {
        "task": TASK,
        "shape": asdict(student.shape),
        "start": student.start,
        "recipe": asdict(student.recipe),
        "origin": [dict(source) for source in student.origin],
        "figures": dict(student.figures),
    }
    pack.write(folder / _ABOUT, json.dumps(about, indent=1, sort_keys=True).encode())
    (folder / _TRAINING).unlink(missing_ok=True)


def is_causal(folder: Path) -> bool:
    """Whether the student in `folder` is a causal one; False if there is none."""
    try:
        about = json.loads((folder / _ABOUT).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("task") == TASK


def load(folder: Path) -> CausalStudent:
    """The student in `folder`. Raises ConversionError if it is not a whole one."""
    try:
        about = json.loads((folder / _ABOUT).read_bytes())
        if about.get("task") != TASK:
            raise ValueError("it is no causal one")
        with np.load(io.BytesIO((folder / _ARRAYS).read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        found = CausalStudent(
            CausalShape(**about["shape"]),
            {name: value for name, value in arrays.items() if not name.startswith("text ")},
            (folder / _WORDS).read_bytes(),
            about["start"],
            CausalRecipe(**about["recipe"]),
            arrays["text calibration"],
            arrays["text validation"],
            arrays["text held_out"],
            tuple(about["origin"]),
            about["figures"],
        )
        _check(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ConversionError(
            f"{folder} holds no causal student ({error}); make one with `tasuki distil --out {folder}`"
        ) from None
    return found


def _check(student: CausalStudent) -> None:
    wanted = {name: value.shape for name, value in causal_student.initial(student.shape, 0).items()}
    if {name: value.shape for name, value in student.weights.items()} != wanted:
        raise ValueError("weights of another shape")
    if Tokenizer.from_buffer(student.tokenizer).get_vocab_size() != student.shape.vocabulary:
        raise ValueError("a tokenizer of another size")


def _characters(tokenizer: Tokenizer, found: Windows) -> float:
    return sum(len(tokenizer.decode(row[1:].tolist())) for row in found) / found[:, 1:].size
