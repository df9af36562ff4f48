"""What came of a conversion: the artifact's bytes, its figures, and the fidelity report of a classifier."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tasuki.converter import arena, assemble, fidelity, fidelity_report, plain
from tasuki.converter.assemble import Classifier
from tasuki.converter.fidelity_report import Figures, Row
from tasuki.converter.graph import Floats
from tasuki.converter.ngrams import NgramBaseline
from tasuki.converter.plain import Function
from tasuki.converter.texts import Texts
from tasuki.sdk import artifact as artifacts
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import ConversionError, MissingExtra

# Held-out texts whose layers are compared, public ones that calibrate the plain conversion, and those of the moment.
_LOOKED_AT: Final = 16
_PLAIN: Final = 200
_MOMENT: Final = 4000
# The n-grams are a rival of small artifacts; with more bytes they only grow slow.
_NGRAMS: Final = 2_000_000


@dataclass(frozen=True)
class Material:
    """Texts by role: `public` ones calibrated, `held_out` ones give the confidence, `tests` the figures."""

    public: Texts
    held_out: Texts
    tests: Mapping[str, Texts]


@dataclass(frozen=True)
class Outcome:
    """`report` is None where none was asked for."""

    artifact: bytes
    figures: dict[str, Any]
    report: Figures | None = None


def classifier(
    made: Classifier,
    material: Material,
    progress: Progress,
    key: Ed25519PrivateKey | None = None,
    before: Mapping[str, Any] | None = None,
    ordinary: Function | None = None,
    command: str | None = None,
) -> Outcome:
    """Judge `made` and pack it; with a `command`, which makes the report again, there is a report.

    `before` has figures from the training, such as ``teacher``: accuracy by role. `ordinary` is the float model as one
    would write it, for the plain conversion; else it is the lowered graph. Raises ConversionError, TextsInvalid.
    """
    progress("measure", 0, 1, "")
    judged = assemble.judge(made, material.tests)
    progress("measure", 1, 1, "")
    accuracy = {**({"teacher": before["teacher"]} if before and "teacher" in before else {}), **judged}
    public = material.public.texts[:_MOMENT]
    data = assemble.classifier(made, public, material.held_out, accuracy, progress, key)
    figures: dict[str, Any] = {
        **(before or {}),
        "judged": judged,
        "artifact_bytes": len(data),
        "model_bytes": len(made.compiled.model),
        "activations": made.activations,
        "operators": list(made.compiled.operators),
        "multiply_accumulates": made.compiled.multiply_accumulates,
        "temperature": artifacts.parse(data).temperature,
    }
    if command is None:
        return Outcome(data, figures)
    rows = _rows(made, material, judged, len(data), before or {}, ordinary, progress)
    return Outcome(data, figures, _report(made, material, data, rows, progress, command))


def working_memory(model: bytes) -> int | None:
    """Bytes of arena that TensorFlow Lite Micro takes, or None if it is not installed or can't run the model."""
    try:
        return arena.reported_arena(model)
    except (MissingExtra, ConversionError):
        return None


def plain_run(made: Classifier, model: bytes, function: Function, texts: Texts) -> tuple[Floats, Floats]:
    """Features of all depths, joined, and logits of a plain conversion."""
    found = plain.Run(model, function)({"ids": made.encode(texts.texts)})
    return np.concatenate([found[f"features.{depth}"] for depth in made.depths], 1), found["logits"]


def _rows(
    made: Classifier,
    material: Material,
    judged: Mapping[str, Any],
    size: int,
    before: Mapping[str, Any],
    ordinary: Function | None,
    progress: Progress,
) -> list[Row]:
    tests = material.tests
    cosine = (np.mean([found["cosine"] for found in judged.values()]), min(f["cosine_min"] for f in judged.values()))
    rows = []
    if before.get("teacher"):
        shares = {role: share for role, share in before["teacher"].items() if role in tests}
        rows.append(fidelity_report.row("teacher", "teacher", accuracy=shares))
    rows.append(fidelity_report.row("float model", "float", accuracy=_of(judged, "float")))
    function = ordinary or plain.of_graph(made.graph)
    progress("plain conversion", 0, 1, "")
    feeds = {"ids": made.encode(material.public.texts[:_PLAIN])}
    try:
        model = plain.convert(function, "int8", feeds)
        rows.append(_plain_row(made, model, function, tests))
    except ConversionError as error:
        rows.append(fidelity_report.row("plain TFLite int8", "plain", note=str(error)))
    progress("plain conversion", 1, 1, "")
    rows.append(
        fidelity_report.row(
            f"Tasuki {made.activations}", "ours", size, _of(judged, "artifact"), _of(judged, "same_answer"),
            (float(cosine[0]), float(cosine[1])),
        )
    )  # fmt: skip
    labelled = material.public.labels is not None
    if size <= _NGRAMS and labelled and all(texts.labels is not None for texts in tests.values()):
        progress("n-gram baseline", 0, 1, "")
        found = ngrams(material.public, tests, made.labels, size)
        rows.append(fidelity_report.row("hashed n-grams, as many bytes", "baseline", size, found))
        progress("n-gram baseline", 1, 1, "")
    return rows


def ngrams(train: Texts, tests: Mapping[str, Texts], labels: tuple[str, ...], size: int) -> dict[str, float]:
    """Accuracy by role of a logistic regression on hashed n-grams that takes `size` bytes."""
    baseline = NgramBaseline(train.texts, assemble.targets(train.labels or (), labels), size)
    return {
        role: baseline.accuracy(texts.texts, assemble.targets(texts.labels or (), labels))
        for role, texts in tests.items()
    }


def _of(judged: Mapping[str, Any], name: str) -> dict[str, float]:
    return {role: found[name] for role, found in judged.items() if name in found}


def _plain_row(made: Classifier, model: bytes, function: Function, tests: Mapping[str, Texts]) -> Row:
    accuracy, same, near = {}, {}, []
    for role, texts in tests.items():
        (features, logits), (wanted, exact) = plain_run(made, model, function, texts), made.float_run(texts.texts)
        near.append(assemble.agreement(features, wanted))
        same[role] = float((logits.argmax(1) == exact.argmax(1)).mean())
        if texts.labels is not None:
            accuracy[role] = float((logits.argmax(1) == assemble.targets(texts.labels, made.labels)).mean())
    all_near = np.concatenate(near)
    cosine = (float(all_near.mean()), float(all_near.min()))
    return fidelity_report.row("plain TFLite int8", "plain", len(model), accuracy, same, cosine)


def _report(
    made: Classifier, material: Material, data: bytes, rows: list[Row], progress: Progress, command: str
) -> Figures:
    texts = [text for found in material.tests.values() for text in found.texts][:_LOOKED_AT]
    ids = made.encode(texts)
    layers = []
    if made.compiled.plan.types:  # not where TFLite's converter made it: its tensors have other names
        layers = fidelity.layers(
            made.compiled, made.graph, {"ids": ids}, made.real(ids),
            lambda done, total: progress("compare layers", done, total, ""),
        )  # fmt: skip
    fields = artifacts.parse(data).manifest
    return {
        "name": made.name,
        "tier": made.tier,
        "task": "classify",
        "activations": made.activations,
        "artifact_bytes": len(data),
        "conversion": fidelity.summary(made.compiled, made.graph, layers, working_memory),
        "rows": rows,
        "roles": {role: {"texts": len(found.texts), "about": "held out"} for role, found in material.tests.items()},
        "confidence": {
            "temperature": fields["temperature"],
            "conformal": fields["conformal"],
            "held_out": len(material.held_out.texts),
        },
        "calibration": fields["calibration"],
        "origin": fields["origin"],
        "notes": fields.get("notes", {}),
        "command": command,
        "layer_texts": len(texts),
        "layers": fidelity_report.layer_rows(layers),
    }
