"""Training of a student on a lesson: batches in a seeded order, a rate that falls to zero, the best weights win."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasuki.converter import execute, losses, standing, student
from tasuki.converter.adamw import AdamW
from tasuki.converter.graph import Floats, Graph, Node
from tasuki.converter.recipe import Recipe
from tasuki.converter.standing import Standing
from tasuki.converter.student import StudentShape
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import ConversionError
from tasuki.sdk.tokenizer import UNKNOWN

Ids = NDArray[np.int32]
# Replaces the constants and the values of a graph while it runs; the identity in float training.
Disguise = Callable[[Graph, Mapping[str, Any]], tuple[Mapping[str, Any], execute.Hook | None]]
_TOLD: Final = 20
_WARM_UP: Final = 100
# The standard length of a training: few texts are read more often.
_EPOCHS: Final = 12
_STEPS: Final = 1200
# With fewer steps, compiling would take longer than training.
_WORTH_IT: Final = 400


@dataclass(frozen=True)
class Lesson:
    """Texts as a student reads them, and what its teacher says of each.

    `ids` int32 [n, tokens]; `targets` int32 [n], -1 where a text has no label; `logits` float32 [n, labels];
    `embeddings` float32 [n, width] of unit length; `relations` float16 [n, heads, tokens, tokens] and `same` bool [n,
    tokens], which marks the places of sentences whose pieces are the teacher's. Without a teacher's relations there
    are no heads.
    """

    ids: Ids
    targets: NDArray[np.int32]
    logits: Floats
    embeddings: Floats
    relations: NDArray[np.float16]
    same: NDArray[np.bool_]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def batch(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The texts `rows`."""
        return {name: value[rows] for name, value in self.arrays().items()}


@dataclass(frozen=True)
class Trained:
    """The best weights; share of right answers and cross entropy on the validation after each epoch.

    `image` float32 [teacher's width, width] is the last linear image of the features (`losses.feature`).
    """

    weights: dict[str, Floats]
    image: Floats
    accuracy: tuple[float, ...]
    loss: tuple[float, ...]
    best: int


@dataclass
class _Course:
    weights: dict[str, Floats]
    rng: np.random.Generator
    count: int = 0
    best: int = -1
    accuracy: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)

    def over(self, epochs: int, patience: float) -> bool:
        done = len(self.loss)
        return done >= epochs or done - 1 - self.best >= patience * epochs


def plainly(graph: Graph, variables: Mapping[str, Any]) -> tuple[Mapping[str, Any], None]:
    """No disguise: float training."""
    return variables, None


def train(
    shape: StudentShape,
    start: Mapping[str, Floats],
    lesson: Lesson,
    validation: Lesson,
    recipe: Recipe,
    progress: Progress,
    file: Path | None = None,
    phase: str = "student learns",
    disguise: Disguise = plainly,
    image: Floats | None = None,
) -> Trained:
    """Weights from `start` by the losses of `recipe`; those of the last epoch that answers most of `validation` right.

    `image` is that of an earlier training. It ends after `recipe.epochs`, or too many epochs without a better one. The
    same arguments give the same weights on the same machine. With `file` the training is kept there after each epoch,
    and one that was interrupted goes on. Raises ConversionError if there is too little text, or `file` is damaged.
    """
    batches = len(lesson.ids) // recipe.batch
    if batches == 0:
        raise ConversionError(f"{len(lesson.ids)} texts do not fill one batch of {recipe.batch}; give more")
    tf.config.experimental.enable_op_determinism()
    rng = np.random.default_rng(recipe.seed)
    if image is None:
        image = np.zeros((lesson.embeddings.shape[1], shape.width), np.float32)
    epochs = recipe.epochs or max(_EPOCHS, round(_STEPS / batches))
    steps = epochs * batches
    learner = _Learner(shape, start, image, lesson, recipe, disguise, steps >= _WORTH_IT)
    course = _Course(dict(start), rng)
    wanted = "" if file is None else _key(shape, {**start, "image": image}, lesson, validation, recipe, phase)
    found = None if file is None else standing.find(file, wanted)
    if found is not None:
        _go_on(learner, course, found)
    warm_up = min(_WARM_UP, max(1, steps // 10))
    while not course.over(epochs, recipe.patience):
        order = course.rng.permutation(len(lesson.ids))[: batches * recipe.batch].reshape(batches, recipe.batch)
        for rows in order:
            course.count += 1
            rate = min(1.0, course.count / warm_up) * 0.5 * (1 + np.cos(np.pi * course.count / steps))
            batch = lesson.batch(rows)
            lost = (course.rng.random(batch["ids"].shape) < recipe.dropped_words) & (batch["ids"] > 0)
            batch["ids"] = np.where(lost, np.int32(UNKNOWN), batch["ids"])
            error = learner.step(batch, recipe.rate * rate, course.count)
            if course.count % _TOLD == 0:
                progress(phase, course.count, steps, f"loss {float(error):.2f}{_said(course)}")
        _judge(learner, course, validation)
        if file is not None:
            standing.keep(file, wanted, _standing(learner, course))
    progress(phase, steps, steps, _said(course).strip(", "))
    return Trained(course.weights, learner.image.numpy(), tuple(course.accuracy), tuple(course.loss), course.best)


def _judge(learner: "_Learner", course: _Course, validation: Lesson) -> None:
    logits = learner.answer(validation.ids)
    right, loss = score(logits, validation)
    course.accuracy.append(right)
    course.loss.append(loss)
    # Of equals the later one, when the rate was lower.
    if course.best < 0 or right >= course.accuracy[course.best]:
        course.best, course.weights = len(course.loss) - 1, learner.weights()


def score(logits: Floats, lesson: Lesson) -> tuple[float, float]:
    """Share of right answers and mean cross entropy; the teacher's answer is right where a text has no label."""
    right = np.where(lesson.targets >= 0, lesson.targets, lesson.logits.argmax(1))
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float((logits.argmax(1) == right).mean()), float(-logs[np.arange(len(right)), right].mean())


def _said(course: _Course) -> str:
    return f", held out {100 * course.accuracy[-1]:.1f}" if course.accuracy else ""


class _Learner:
    """The student as variables, and one compiled step."""

    def __init__(
        self,
        shape: StudentShape,
        start: Mapping[str, Floats],
        image: Floats,
        lesson: Lesson,
        recipe: Recipe,
        disguise: Disguise,
        compiled: bool,
    ) -> None:
        self.variables = {name: tf.Variable(value) for name, value in start.items()}
        self.image = tf.Variable(image)
        trained = {**self.variables, "image": self.image}
        self.optimiser = AdamW(trained, recipe.decay)
        graph = student.lower(shape, self.variables)
        last = f"features.{shape.layers}"
        heads = lesson.relations.shape[1]
        weights = recipe.losses() | ({} if heads else {"relation": 0.0})

        def run(ids: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            constants, hook = disguise(graph, self.variables)
            seen: dict[str, tf.Tensor] = {}

            def note(node: Node, y: tf.Tensor) -> tf.Tensor:
                seen[node.output] = y
                return hook(node, y) if hook else y

            found = execute.run(graph, {"ids": ids}, constants, note)
            return found, seen[f"{shape.layers - 1}.v"]

        @tf.function(jit_compile=compiled, autograph=False)  # type: ignore[untyped-decorator]
        def step(batch: dict[str, tf.Tensor], rate: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                found, values = run(batch["ids"])
                parts: dict[str, Callable[[], tf.Tensor]] = {
                    "hard": lambda: losses.hard(found["logits"], batch["targets"]),
                    "soft": lambda: losses.soft(found["logits"], batch["logits"], recipe.temperature),
                    "feature": lambda: losses.feature(
                        tf.matmul(found[last], self.image, transpose_b=True), batch["embeddings"]
                    ),
                    "alike": lambda: losses.alike(found[last], batch["embeddings"]),
                    "relation": lambda: losses.relation(
                        tf.reshape(values, [-1, shape.tokens, shape.width]),
                        tf.cast(batch["relations"], tf.float32), batch["same"],
                    ),
                }  # fmt: skip
                error = tf.add_n([weight * parts[name]() for name, weight in weights.items() if weight])
            slopes = tape.gradient(error, list(trained.values()), unconnected_gradients="zero")
            self.optimiser.apply(slopes, rate, count)
            return error

        @tf.function(jit_compile=compiled, autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
        def answer(ids: tf.Tensor) -> tf.Tensor:
            return run(ids)[0]["logits"]

        self._step, self._answer, self._batch = step, answer, recipe.batch

    def step(self, batch: Mapping[str, NDArray[Any]], rate: float, count: int) -> tf.Tensor:
        numbers = (tf.constant(number, tf.float32) for number in (rate, count))
        return self._step({name: tf.constant(value) for name, value in batch.items()}, *numbers)

    def answer(self, ids: Ids) -> Floats:
        """Logits float32 [n, labels]; always in batches of one size, so nothing is compiled twice."""
        padded = np.concatenate([ids, np.zeros((-len(ids) % self._batch, ids.shape[1]), np.int32)])
        parts = [self._answer(tf.constant(part)).numpy() for part in np.split(padded, len(padded) // self._batch)]
        return np.asarray(np.concatenate(parts)[: len(ids)], np.float32)

    def weights(self) -> dict[str, Floats]:
        return {name: variable.numpy() for name, variable in self.variables.items()}


def _key(
    shape: StudentShape, start: Mapping[str, Floats], lesson: Lesson, validation: Lesson, recipe: Recipe, phase: str
) -> str:
    arrays = {f"first {name}": value for name, value in start.items()}
    arrays |= {f"{role} {name}": v for role, each in (("learn", lesson), ("hold", validation))
               for name, v in each.arrays().items()}  # fmt: skip
    return standing.key({"shape": asdict(shape), "recipe": asdict(recipe), "phase": phase}, arrays)


def _standing(learner: _Learner, course: _Course) -> Standing:
    about = {
        "count": course.count,
        "best": course.best,
        "accuracy": course.accuracy,
        "loss": course.loss,
        "random": course.rng.bit_generator.state,
    }
    return Standing(about, {**learner.optimiser.memory(), **{f"best {k}": v for k, v in course.weights.items()}})


def _go_on(learner: _Learner, course: _Course, found: Standing) -> None:
    learner.optimiser.remember(found.arrays)
    course.weights = {name: found.arrays[f"best {name}"] for name in course.weights}
    course.count, course.best = found.about["count"], found.about["best"]
    course.accuracy, course.loss = list(found.about["accuracy"]), list(found.about["loss"])
    course.rng.bit_generator.state = found.about["random"]
