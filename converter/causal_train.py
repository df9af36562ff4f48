"""Training of a causal student, with a teacher's next tokens or without.

The target at each place is a mixture: the share `soft` of the teacher's distribution (Hinton et al. 2015, the most
probable tokens scaled up to 1), the rest the token that really follows. Without a teacher the share is 0 and all else
is the same: first weights, texts, their order, rule of the rate. Either ends where its own validation says.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasuki.converter import causal_student, execute, standing
from tasuki.converter.adamw import AdamW
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.causal_teacher import Expected
from tasuki.converter.causal_texts import Windows
from tasuki.converter.graph import Floats
from tasuki.converter.standing import Standing
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import ConversionError

_WARM_UP: Final = 100
_TOLD: Final = 20


@dataclass(frozen=True)
class CausalRecipe:
    """How a causal student is trained; chosen on the validation's people.

    `soft` is the teacher's share of the target, of its distribution at `temperature`; `dropped` is the share of tokens
    replaced by random ones in the input. After an epoch without a better validation the best weights come back and the
    rate is halved; after `halvings` of these, or `epochs`, training ends. `windows` of `context` tokens are the most
    that the teacher reads for the training, `vocabulary` counts the student's tokens; `shape` are the other sizes.
    """

    seed: int = 0
    epochs: int = 16
    batch: int = 32
    rate: float = 2e-3
    decay: float = 0.05
    soft: float = 0.75
    temperature: float = 1.0
    dropped: float = 0.1
    halvings: int = 3
    vocabulary: int = 4096
    context: int = 64
    windows: int = 2400
    shape: dict[str, int] = field(default_factory=dict)

    def sized(self, shape: CausalShape) -> "CausalRecipe":
        """The same for a student of `shape`, such as `tiers` finds; its vocabulary may turn out smaller."""
        sizes = asdict(shape)
        return replace(self, vocabulary=sizes.pop("vocabulary"), context=sizes.pop("context"), shape=sizes)


@dataclass(frozen=True)
class Trained:
    """The best weights, and the validation's mean loss in nats a token after each epoch."""

    weights: dict[str, Floats]
    losses: tuple[float, ...]


@dataclass
class _Course:
    """What a training decides by: its epochs so far, and how often the rate was halved."""

    best_weights: dict[str, Floats]
    rng: np.random.Generator
    losses: list[float] = field(default_factory=list)
    best: float = np.inf
    halved: int = 0


def train(
    shape: CausalShape,
    windows: Windows,
    validation: Windows,
    expected: Expected | None,
    recipe: CausalRecipe,
    progress: Progress,
    file: Path | None = None,
) -> Trained:
    """Learn from `windows` int32 [n, context + 1], the start token first; `expected` None is text alone.

    The same arguments give the same weights on the same machine. With `file` the training is kept there after each
    epoch, and one that was interrupted goes on. Raises ConversionError if there is too little text, or `file` is
    damaged.
    """
    batches = batches_of(windows, recipe)
    tf.config.experimental.enable_op_determinism()
    start = causal_student.initial(shape, recipe.seed)
    counts = np.bincount(windows[:, 1:].ravel(), minlength=shape.vocabulary) + 0.5
    start["logits.b"] = np.log(counts / counts.sum()).astype(np.float32)
    learner = _Learner(shape, start, recipe, 1 if expected is None else expected.ids.shape[-1])
    course = _Course(start, np.random.default_rng(recipe.seed))
    key = "" if file is None else _key(shape, windows, validation, expected, recipe)
    found = None if file is None else standing.find(file, key)
    if found is not None:
        _go_on(learner, course, found)
    phase, steps = "student learns" if expected is not None else "learns from text", recipe.epochs * batches

    while len(course.losses) < recipe.epochs and course.halved <= recipe.halvings:
        order = course.rng.permutation(len(windows))[: batches * recipe.batch].reshape(batches, recipe.batch)
        done = len(course.losses) * batches
        for number, rows in enumerate(order):
            noisy = _noisy(windows[rows], recipe.dropped, shape.vocabulary, course.rng)
            error = learner.step(noisy, expected, rows, course.halved)
            if number % _TOLD == 0:
                progress(phase, done + number, steps, f"loss {float(error):.3f}{_said(course)}")
        course.losses.append(loss(shape, learner.variables, validation, recipe.batch))
        if course.losses[-1] < course.best:
            course.best, course.best_weights = course.losses[-1], learner.weights()
        else:
            course.halved += 1
            learner.restore(course.best_weights)
        if file is not None:
            standing.keep(file, key, _standing(learner, course))
        progress(phase, done + batches, steps, _said(course).strip(", "))
    progress(phase, steps, steps, _said(course).strip(", "))
    return Trained(course.best_weights, tuple(course.losses))


def batches_of(windows: Windows, recipe: CausalRecipe) -> int:
    """How many batches an epoch has. Raises ConversionError if there is none."""
    if len(windows) < recipe.batch:
        raise ConversionError(
            f"{len(windows)} windows of {recipe.context} tokens do not make one batch of {recipe.batch}: give more text"
        )
    return len(windows) // recipe.batch


def loss(shape: CausalShape, weights: Mapping[str, Any], windows: Windows, batch: int = 32) -> float:
    """Mean loss in nats a token of the float student."""
    return float(losses(shape, weights, windows, batch).mean())


def losses(
    shape: CausalShape, weights: Mapping[str, Any], windows: Windows, batch: int = 32
) -> NDArray[np.float64]:  # fmt: skip
    """Mean loss in nats a token of each window, float64 [n]."""
    graph = causal_student.whole(shape, weights)
    found = []
    for start in range(0, len(windows), batch):
        part = windows[start : start + batch]
        logits = execute.run(graph, {"ids": part[:, :-1]}, weights)["logits"]
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(part[:, 1:].ravel(), logits)
        found.append(each.numpy().reshape(len(part), -1).mean(1, dtype=np.float64))
    return np.concatenate(found)


def _said(course: _Course) -> str:
    return f", perplexity {np.exp(course.losses[-1]):.1f}, best {np.exp(course.best):.1f}" if course.losses else ""


def _noisy(windows: Windows, share: float, vocabulary: int, rng: np.random.Generator) -> tuple[Windows, Windows]:
    """Inputs, of which some are random, and what follows; the start token stays."""
    ids = windows[:, :-1]
    random = rng.integers(0, vocabulary, ids.shape, np.int32)
    lost = (rng.random(ids.shape) < share) & (np.arange(ids.shape[1]) > 0)
    return np.where(lost, random, ids), windows[:, 1:]


def _key(
    shape: CausalShape, windows: Windows, validation: Windows, expected: Expected | None, recipe: CausalRecipe
) -> str:
    arrays: dict[str, NDArray[Any]] = {"windows": windows, "validation": validation}
    if expected is not None:
        arrays |= {"ids": expected.ids, "logs": expected.logs}
    return standing.key({"shape": asdict(shape), "recipe": asdict(recipe)}, arrays)


def _standing(learner: "_Learner", course: _Course) -> Standing:
    about = {
        "count": learner.count,
        "losses": course.losses,
        "halved": course.halved,
        "random": course.rng.bit_generator.state,
    }
    return Standing(about, {**learner.optimiser.memory(), **{f"best {k}": v for k, v in course.best_weights.items()}})


def _go_on(learner: "_Learner", course: _Course, found: Standing) -> None:
    learner.optimiser.remember(found.arrays)
    learner.count = found.about["count"]
    course.losses, course.halved = list(found.about["losses"]), found.about["halved"]
    course.best = min(course.losses)
    course.best_weights = {name: found.arrays[f"best {name}"] for name in course.best_weights}
    course.rng.bit_generator.state = found.about["random"]


class _Learner:
    """The student as variables, and one compiled step."""

    def __init__(self, shape: CausalShape, start: Mapping[str, Floats], recipe: CausalRecipe, top: int) -> None:
        self.recipe, self.top, self.count = recipe, top, 0
        self.variables = {name: tf.Variable(value) for name, value in start.items()}
        self.optimiser = AdamW(self.variables, recipe.decay)
        graph = causal_student.whole(shape, self.variables)
        rows, width, warm = recipe.batch * shape.context, shape.vocabulary, recipe.temperature

        @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
        def step(
            ids: tf.Tensor,
            follows: tf.Tensor,
            best: tf.Tensor,
            logs: tf.Tensor,
            share: tf.Tensor,
            rate: tf.Tensor,
            count: tf.Tensor,
        ) -> tf.Tensor:
            with tf.GradientTape() as tape:
                logits = execute.run(graph, {"ids": ids}, self.variables)["logits"]
                places = tf.broadcast_to(tf.range(rows)[:, None], [rows, top])
                places = tf.stack([places, tf.reshape(tf.cast(best, tf.int32), [rows, top])], -1)
                shares = tf.nn.softmax(tf.reshape(tf.cast(logs, tf.float32), [rows, top]) / warm)
                wanted = tf.scatter_nd(places, shares, [rows, width])
                soft = warm**2 * tf.nn.softmax_cross_entropy_with_logits(wanted, logits / warm)
                hard = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.reshape(follows, [-1]), logits)
                error = tf.reduce_mean(share * soft + (1 - share) * hard)
            self.optimiser.apply(tape.gradient(error, list(self.variables.values())), rate, count)
            return error

        self.compiled = step

    def step(
        self, pairs: tuple[Windows, Windows], expected: Expected | None, rows: NDArray[np.int64], halved: int
    ) -> tf.Tensor:
        self.count += 1
        rate = self.recipe.rate * 0.5**halved * min(1.0, self.count / _WARM_UP)
        if expected is None:
            nothing = (*pairs[0].shape, self.top)
            lesson = (np.zeros(nothing, np.uint16), np.zeros(nothing, np.float16), 0.0)
        else:
            lesson = (expected.ids[rows], expected.logs[rows], self.recipe.soft)
        numbers = (tf.constant(number, tf.float32) for number in (lesson[2], rate, self.count))
        return self.compiled(*map(tf.constant, (*pairs, *lesson[:2])), *numbers)

    def weights(self) -> dict[str, Floats]:
        return {name: variable.numpy() for name, variable in self.variables.items()}

    def restore(self, weights: Mapping[str, Floats]) -> None:
        for name, variable in self.variables.items():
            variable.assign(weights[name])
