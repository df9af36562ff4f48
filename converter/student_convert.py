"""A float student becomes a classifier in integers."""

from typing import Final

import numpy as np

from tasuki.converter import execute, pack, student
from tasuki.converter import weights_only as weights
from tasuki.converter.assemble import Classifier, Ids
from tasuki.converter.compile import Compiled, check_micro, compile_graphs
from tasuki.converter.graph import Floats, Graph
from tasuki.converter.quantise import Options
from tasuki.converter.student_folder import Student
from tasuki.sdk.artifact import VOCABULARY
from tasuki.sdk.console import Progress
from tasuki.sdk.tokenizer import PAD

CALIBRATED: Final = 400


def classifier(trained: Student, progress: Progress, options: Options = Options()) -> Classifier:  # noqa: B008  (frozen)
    """The student in integers, calibrated on the first texts that it learned from. Raises ConversionError."""
    graph = student.lower(trained.shape, trained.weights, trained.depths)
    if trained.tier.startswith("mcu"):
        check_micro({"classify": graph}, options)
    texts = trained.learned.texts[:CALIBRATED]
    ids = np.stack([trained.tokenizer.encode(text) for text in texts])
    made = compile_graphs(
        {"classify": graph}, {"ids": ids}, np.ones(ids.shape, np.bool_), options,
        lambda done, total: progress("quantise", done, total, ""),
    )  # fmt: skip
    return _classifier(trained, graph, made, "int16" if options.wide else "int8", len(texts))


def weights_only(trained: Student) -> Classifier:
    """The student with int8 weights and float activations. Raises ConversionError."""
    graph = student.lower(trained.shape, trained.weights, trained.depths)
    made = weights.compile_weights_only({"classify": graph})
    return _classifier(trained, graph, made, weights.ACTIVATIONS, 0)


def _classifier(trained: Student, graph: Graph, made: Compiled, activations: str, texts: int) -> Classifier:
    return Classifier(
        name=trained.name,
        tier=trained.tier,
        compiled=made,
        graph=graph,
        reference=lambda ids: _reference(trained, ids),
        tokenizer=trained.tokenizer,
        pad=PAD,
        padding_counts=True,
        depths=trained.depths,
        labels=trained.labels,
        parts={VOCABULARY: pack.vocabulary_bytes(trained.vocabulary)},
        activations=activations,
        origin=trained.origin,
        calibration={"texts": texts},
        notes={"seed": trained.recipe.seed},
    )


def _reference(trained: Student, ids: Ids) -> tuple[Floats, Floats]:
    found = execute.run(student.lower(trained.shape, trained.weights, trained.depths), {"ids": ids})
    features = [found[f"features.{depth}"].numpy() for depth in trained.depths]
    return np.concatenate(features, 1), np.asarray(found["logits"].numpy(), np.float32)
