"""A causal model in integers, a student's or a published decoder's, with its confidence, packed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from tasuki.converter import causal_manifest, pack, rounding_difference
from tasuki.converter.causal_run import CausalRun
from tasuki.converter.causal_texts import Windows
from tasuki.converter.compile import Compiled
from tasuki.converter.graph import Floats, Graph
from tasuki.sdk import confidence
from tasuki.sdk.artifact import TOKENIZER_JSON

# Predictions for each of temperature and thresholds: enough for the rarest level, and bounded where the vocabulary is
# large.
_SURE: Final = 24
_VALUES: Final = 20_000_000


@dataclass(frozen=True)
class CausalModel:
    """A causal model before packing; `graphs` are the float graphs by signature, in the order of the file.

    `depth` counts the layers. `start` is the id that the caller begins a text with, None where it is inside the model;
    `stop` are ids that end a text, `pad` fills a chunk. `tokenizer` is the content of a ``tokenizer.json``.
    """

    name: str
    tier: str
    compiled: Compiled
    graphs: Mapping[str, Graph]
    depth: int
    start: int | None
    stop: tuple[int, ...]
    pad: int
    tokenizer: bytes
    activations: str
    origin: tuple[Mapping[str, str], ...]
    calibration: Mapping[str, Any]
    notes: Mapping[str, Any]


def packed(
    made: CausalModel, validation: Windows, accuracy: Mapping[str, Any], key: Ed25519PrivateKey | None = None
) -> bytes:
    """The artifact's bytes; `validation` windows int32 [n, tokens + 1] give the confidence. Raises ConversionError."""
    temperature, thresholds = sureness(made.compiled.model, validation)
    about = {
        **causal_manifest.fields(
            made.name, made.tier, made.compiled, made.graphs, made.depth, made.pad, made.activations
        ),
        **({} if made.start is None else {"start": made.start}),
        **({"stop": sorted(set(made.stop))} if made.stop else {}),
        "temperature": temperature,
        "conformal": thresholds,
        "calibration": {**made.calibration, **_rounding(made, validation)},
        "origin": [dict(source) for source in made.origin],
        "accuracy": dict(accuracy),
        "notes": dict(made.notes),
    }
    return pack.pack(made.compiled.model, {TOKENIZER_JSON: made.tokenizer}, about, key)


def _rounding(made: CausalModel, windows: Windows) -> dict[str, Any]:
    """What a microcontroller's kernels and this machine's make of the same text, for the tiers that run there."""
    if not made.tier.startswith("mcu") or made.activations == "float":
        return {}
    compiled = made.compiled
    return {"rounding_difference": rounding_difference.of_causal(compiled.model, compiled.outputs, windows)}


def sureness(model: bytes, validation: Windows) -> tuple[float, list[list[float]]]:
    """Temperature and conformal table of the integers, each from its own windows of `validation`."""
    if len(validation) < 2:
        return 1.0, confidence.conformal_table(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), 1.0)
    run = CausalRun(model)

    def answers(windows: Windows) -> tuple[Floats, NDArray[np.int64]]:
        logits: list[Floats] = []
        for window in windows[:_SURE]:
            run.restart()
            logits.append(run.read(window[:-1]))
            if sum(part.size for part in logits) > _VALUES:
                break
        follows = windows[: len(logits), 1:].ravel().astype(np.int64)
        return np.concatenate(logits), follows

    temperature = confidence.fit_temperature(*answers(validation[::2]))
    return temperature, confidence.conformal_table(*answers(validation[1::2]), temperature)
