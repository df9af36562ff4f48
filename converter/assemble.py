"""A converted classifier, judged on held-out texts and packed: what every path to an artifact ends in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from tasuki.converter import execute, pack, rounding_difference
from tasuki.converter.compile import Compiled
from tasuki.converter.graph import Floats, Graph
from tasuki.converter.texts import Texts
from tasuki.sdk import confidence
from tasuki.sdk.artifact import MOMENT, TextEncoder
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import TextsInvalid
from tasuki.sdk.manifest import ADAPTER_KINDS, LOW_RANK, ROUNDING
from tasuki.sdk.runtime import Body, Outputs

Ids = NDArray[np.int32]
# Half of the held-out texts fit the temperature, the other half the thresholds.
LEAST_HELD_OUT: Final = 20
_BATCH: Final = 64


@dataclass(frozen=True)
class Classifier:
    """A classifier in integers, and what is needed to judge, report and pack it.

    `graph` is the float graph that was quantised, with the outputs ``features.K`` of `depths` and ``logits``.
    `reference` is the float model before it was lowered: ids int32 [n, tokens] to features float32 [n, d] (all depths
    joined, by ascending depth) and logits float32 [n, labels]. `parts` holds ``vocab.txt`` or ``tokenizer.json``;
    `padding_counts` says that padding is an ordinary token to the model. `activations` is `int8`, `int16` or `float`.
    `calibration` and `notes` are for the manifest, `origin` is as SPEC.md has it.
    """

    name: str
    tier: str
    compiled: Compiled
    graph: Graph
    reference: Callable[[Ids], tuple[Floats, Floats]]
    tokenizer: TextEncoder
    pad: int
    padding_counts: bool
    depths: tuple[int, ...]
    labels: tuple[str, ...]
    parts: Mapping[str, bytes]
    activations: str
    origin: tuple[Mapping[str, str], ...]
    calibration: Mapping[str, Any]
    notes: Mapping[str, Any]

    def encode(self, texts: Sequence[str]) -> Ids:
        """Ids int32 [n, tokens]."""
        return np.stack([self.tokenizer.encode(text) for text in texts])

    def real(self, ids: Ids) -> NDArray[np.bool_]:
        """Which ids are tokens that the model reads, bool [n, tokens]."""
        return np.ones(ids.shape, np.bool_) if self.padding_counts else ids != self.pad

    @property
    def outputs(self) -> Outputs:
        """Where the features and the logits are among the model's outputs."""
        numbers = self.compiled.outputs
        return Outputs(tuple(numbers[f"features.{depth}"] for depth in self.depths), numbers["logits"])

    def run(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Features float32 [n, d] and logits float32 [n, labels] of the integers, in the installed runtime."""
        body = Body(self.compiled.model, self.outputs)
        features, logits = zip(*(body.run(ids) for ids in self.encode(texts)), strict=True)
        return np.stack(features), np.stack(logits)

    def float_run(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """The same of the float model."""
        ids = self.encode(texts)
        found = [self.reference(ids[start : start + _BATCH]) for start in range(0, len(ids), _BATCH)]
        features, logits = zip(*found, strict=True)
        return np.concatenate(features), np.concatenate(logits)


def targets(labels: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """Indices into `known`. Raises TextsInvalid if a label is not there."""
    rows = {label: row for row, label in enumerate(known)}
    unknown = sorted(set(labels) - set(rows))
    if unknown:
        raise TextsInvalid(
            f"the texts have the label {unknown[0]!r}, which the model's head has not; its {len(known)} labels are "
            f"{', '.join(known[:5])}{' ...' if len(known) > 5 else ''}: rename the label or leave those texts out"
        )
    return np.array([rows[label] for label in labels], np.int64)


def agreement(features: Floats, wanted: Floats) -> Floats:
    """Cosine of each row with the wanted one, float32 [n]."""
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(wanted, axis=1)
    return np.asarray((features * wanted).sum(1) / np.maximum(lengths, 1e-12), np.float32)


def judge(made: Classifier, tests: Mapping[str, Texts]) -> dict[str, Any]:
    """By role of `tests`: accuracy (0 to 1) of the float model and of the integers, and how near their features are.

    Unlabelled texts have no accuracy, but the share of answers that are the same. Raises TextsInvalid.
    """
    found: dict[str, Any] = {}
    for role, texts in tests.items():
        (features, logits), (wanted, exact) = made.run(texts.texts), made.float_run(texts.texts)
        near = agreement(features, wanted)
        figures: dict[str, Any] = {
            "texts": len(texts.texts),
            "cosine": float(near.mean()),
            "cosine_min": float(near.min()),
            "same_answer": float((logits.argmax(1) == exact.argmax(1)).mean()),
        }
        if texts.labels is not None:
            right = targets(texts.labels, made.labels)
            figures["float"] = float((exact.argmax(1) == right).mean())
            figures["artifact"] = float((logits.argmax(1) == right).mean())
        found[role] = figures
    return found


def _rounding(made: Classifier, public: Sequence[str]) -> dict[str, Any]:
    """What a microcontroller's kernels and this machine's make of the same texts, for the tiers that run there."""
    if not made.tier.startswith("mcu") or made.activations == "float":
        return {}
    ids = made.encode(public[: rounding_difference.TEXTS])
    return {"rounding_difference": rounding_difference.of_classifier(made.compiled.model, ids)}


def classifier(
    made: Classifier,
    public: Sequence[str],
    held_out: Texts,
    accuracy: Mapping[str, Any],
    progress: Progress,
    key: Ed25519PrivateKey | None = None,
) -> bytes:
    """The artifact's bytes. `public` texts give the second moment of the features, `held_out` the confidence.

    `accuracy` goes into the manifest. Held-out texts without labels take the float model's answers for true.
    Raises ConversionError, TextsInvalid.
    """
    if len(held_out.texts) < LEAST_HELD_OUT:
        raise TextsInvalid(f"{len(held_out.texts)} held-out texts, at least {LEAST_HELD_OUT} are needed; give more")
    progress("judge", 0, 2, "")
    moment = pack.second_moment(made.run(public)[0])
    progress("judge", 1, 2, "")
    logits = made.run(held_out.texts)[1]
    if held_out.labels is None:
        right: NDArray[np.int64] = made.float_run(held_out.texts)[1].argmax(1)
    else:
        right = targets(held_out.labels, made.labels)
    temperature = confidence.fit_temperature(logits[::2], right[::2])
    thresholds = confidence.conformal_table(logits[1::2], right[1::2], temperature)
    shapes = execute.shapes(made.graph)
    widths = {depth: shapes[made.graph.outputs[f"features.{depth}"]][1] for depth in made.depths}
    tokens, labels = made.tokenizer.tokens, len(made.labels)
    about: dict[str, Any] = {
        "name": made.name,
        "task": "classify",
        "tier": made.tier,
        "tokens": tokens,
        "pad": made.pad,
        "features": [
            {"depth": depth, "width": widths[depth], "output": output}
            for depth, output in zip(made.depths, made.outputs.features, strict=True)
        ],
        "logits": {"output": made.outputs.logits, "width": labels},
        "labels": list(made.labels),
        "adapter_kinds": list(ADAPTER_KINDS["classify"]),
        "low_rank": dict(LOW_RANK),
        "rounding": ROUNDING,
        "activations": made.activations,
        "temperature": temperature,
        "conformal": thresholds,
        "operators": list(made.compiled.operators),
        "shapes": {
            "ids": [1, tokens],
            **{f"features.{depth}": [1, width] for depth, width in widths.items()},
            "logits": [1, labels],
        },
        "calibration": {**made.calibration, "held_out": len(held_out.texts),
                        "held_out_labels": "given" if held_out.labels is not None else "by the float model",
                        **_rounding(made, public)},
        "origin": [dict(source) for source in made.origin],
        "notes": dict(made.notes),
        "accuracy": dict(accuracy),
    }  # fmt: skip
    data = pack.pack(made.compiled.model, {**made.parts, MOMENT: pack.moment_bytes(moment)}, about, key)
    progress("judge", 2, 2, "")
    return data
