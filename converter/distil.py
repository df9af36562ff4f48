"""Distillation: the student learns from the teacher's soft targets and sentence embeddings, and from the labels.

Three losses (Hinton et al. 2015; Romero et al. 2015; Jiao et al. 2020):

    hard     cross entropy with the labels
    soft     cross entropy with the teacher's distribution at temperature T, times T^2
    feature  squared distance of a linear image of the student's features to the teacher's unit embeddings

The linear image exists only during training. The feature loss keeps in the features what the public labels do not need
and a home's own labels will.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tasuki.converter import student, teacher, vocabulary
from tasuki.converter.homes import Command, Split
from tasuki.converter.student import Floats, StudentShape
from tasuki.sdk.errors import ConversionError
from tasuki.sdk.tokenizer import UNKNOWN, Tokenizer

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Recipe:
    """How a student is trained; chosen on split seed 1000. `quick` runs use fewer epochs and sentences."""

    seed: int = 0
    epochs: int = 30
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.01
    temperature: float = 2.0
    soft: float = 0.5
    hard: float = 0.5
    feature: float = 2.0
    dropped_words: float = 0.06
    vocabulary: int = 1408
    tokens: int = 20
    per_template: int = 40
    shape: dict[str, int] = field(default_factory=dict)


QUICK = Recipe(epochs=10, per_template=8)


@dataclass(frozen=True)
class Student:
    """A trained float student with all that the conversion needs."""

    shape: StudentShape
    weights: dict[str, Floats]
    vocabulary: tuple[str, ...]
    labels: tuple[str, ...]
    recipe: Recipe
    split_seed: int

    @property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.vocabulary, self.shape.tokens)


@dataclass(frozen=True)
class TeacherHead:
    """The teacher's classifier on its embeddings: `weight` [labels, 384], `bias` [labels]."""

    weight: Floats
    bias: Floats

    def logits(self, embeddings: Floats) -> Floats:
        return np.asarray(embeddings @ self.weight.T + self.bias, np.float32)


def train_teacher(split: Split, progress: Progress) -> tuple[TeacherHead, Floats]:
    """The teacher's head, trained on the public commands; and their embeddings [n, 384]."""
    texts = [command.text for command in split.public]
    embeddings = teacher.embed(texts, lambda done, total: progress("teacher reads", done, total, ""))
    progress("teacher's head", 0, 1, "")
    head = LogisticRegression(C=30.0, max_iter=300).fit(embeddings, targets(split.public, split.labels))
    progress("teacher's head", 1, 1, "")
    return TeacherHead(head.coef_.astype(np.float32), head.intercept_.astype(np.float32)), embeddings


def targets(commands: Sequence[Command], labels: Sequence[str]) -> NDArray[np.int64]:
    """Indices into `labels`."""
    rows = {label: row for row, label in enumerate(labels)}
    return np.array([rows[command.label] for command in commands], np.int64)


def distil(split: Split, head: TeacherHead, embeddings: Floats, recipe: Recipe, progress: Progress) -> Student:
    """Train a student on the split's public commands. The same arguments give the same weights on the same machine."""
    tf.config.experimental.enable_op_determinism()
    tf.keras.utils.set_random_seed(recipe.seed)
    texts = [command.text for command in split.public]
    pieces = vocabulary.prune(texts, recipe.vocabulary)
    shape = StudentShape(len(pieces), recipe.tokens, len(split.labels), **recipe.shape)
    tokenizer = Tokenizer(pieces, shape.tokens)
    ids = np.stack([tokenizer.encode(text) for text in texts])
    first = 0.5 * vocabulary.embeddings(pieces, shape.width)
    start = student.initial(shape, first, recipe.seed)
    data = (ids, targets(split.public, split.labels), head.logits(embeddings), embeddings)
    weights = _train(shape, start, data, recipe, progress)
    return Student(shape, weights, tuple(pieces), split.labels, recipe, split.seed)


def _train(
    shape: StudentShape, start: dict[str, Floats], data: tuple[Any, ...], recipe: Recipe, progress: Progress
) -> dict[str, Floats]:
    rng = np.random.default_rng(recipe.seed)
    variables = {name: tf.Variable(value, name=name) for name, value in start.items()}
    image = tf.Variable((rng.standard_normal((teacher.WIDTH, shape.width)) / 10).astype(np.float32))
    trained = [*variables.values(), image]
    first = [tf.Variable(tf.zeros_like(v)) for v in trained]
    second = [tf.Variable(tf.zeros_like(v)) for v in trained]

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def step(
        ids: tf.Tensor,
        labels: tf.Tensor,
        soft: tf.Tensor,
        embeddings: tf.Tensor,
        rate: tf.Tensor,
        count: tf.Tensor,
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            features, logits = student.forward(shape, variables, ids)
            warm = recipe.temperature
            softly = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(soft / warm), logits / warm)
            hard = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            apart = tf.reduce_sum((tf.matmul(features, image, transpose_b=True) - embeddings) ** 2, -1)
            loss = tf.reduce_mean(recipe.soft * warm**2 * softly + recipe.hard * hard + recipe.feature * apart)
        slopes = [tf.convert_to_tensor(slope) for slope in tape.gradient(loss, trained)]
        clip = tf.minimum(1.0, 1.0 / (tf.linalg.global_norm(slopes) + 1e-6))
        # AdamW (Loshchilov and Hutter 2019), written out so that XLA compiles it with the rest.
        for variable, slope, m, v in zip(trained, slopes, first, second, strict=True):
            m.assign(0.9 * m + 0.1 * clip * slope)
            v.assign(0.99 * v + 0.01 * tf.square(clip * slope))
            moved = m / (1 - 0.9**count) / (tf.sqrt(v / (1 - 0.99**count)) + 1e-8)
            variable.assign_sub(rate * (moved + (recipe.decay * variable if variable.shape.rank == 2 else 0.0)))
        return loss

    ids, labels, soft, embeddings = data
    batches = len(ids) // recipe.batch
    if batches == 0:
        raise ConversionError(f"{len(ids)} sentences do not fill one batch of {recipe.batch}")
    steps = recipe.epochs * batches
    warmup = min(100, max(1, steps // 10))
    count = 0
    for _ in range(recipe.epochs):
        order = rng.permutation(len(ids))[: batches * recipe.batch].reshape(batches, recipe.batch)
        for rows in order:
            count += 1
            rate = recipe.rate * min(1.0, count / warmup) * 0.5 * (1 + np.cos(np.pi * count / steps))
            noisy = np.where((rng.random((recipe.batch, shape.tokens)) < recipe.dropped_words) & (ids[rows] > 0),
                             np.int32(UNKNOWN), ids[rows])  # fmt: skip
            loss = step(noisy, labels[rows], soft[rows], embeddings[rows], tf.constant(rate, tf.float32),
                        tf.constant(count, tf.float32))  # fmt: skip
            if count % 20 == 0 or count == steps:
                progress("student learns", count, steps, f"loss {float(loss):.2f}")
    return {name: variable.numpy() for name, variable in variables.items()}


def float_logits(trained: Student, texts: Sequence[str]) -> Floats:
    """The float student's logits [n, labels]."""
    tokenizer = trained.tokenizer
    ids = np.stack([tokenizer.encode(text) for text in texts])
    _, logits = student.forward(trained.shape, trained.weights, tf.constant(ids))
    return np.asarray(logits.numpy(), np.float32)


def save(trained: Student, folder: Path) -> None:
    """Write `student.npz` (arrays only) and `student.json` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".student.tmp.npz"
    np.savez(partial, **trained.weights)  # type: ignore[arg-type]
    partial.replace(folder / "student.npz")
    about = {
        "shape": asdict(trained.shape),
        "vocabulary": trained.vocabulary,
        "labels": trained.labels,
        "recipe": asdict(trained.recipe),
        "split_seed": trained.split_seed,
    }
    partial = folder / ".student.tmp.json"
    partial.write_text(json.dumps(about, indent=1, sort_keys=True))
    partial.replace(folder / "student.json")


def load(folder: Path) -> Student:
    """The student in `folder`. Raises ConversionError if it is not one."""
    try:
        about = json.loads((folder / "student.json").read_text())
        with np.load(folder / "student.npz", allow_pickle=False) as arrays:
            weights = {name: arrays[name] for name in arrays.files}
        return Student(
            StudentShape(**about["shape"]),
            weights,
            tuple(about["vocabulary"]),
            tuple(about["labels"]),
            Recipe(**about["recipe"]),
            about["split_seed"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConversionError(
            f"{folder} holds no student ({error}); make one with `tasuki distil --out {folder}`"
        ) from None
