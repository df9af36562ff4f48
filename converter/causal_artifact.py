"""A trained causal student becomes an artifact: int8 with `decode` and `prefill`, judged on held-out text, packed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tasuki.converter import arena, causal_pack, causal_run, causal_student, causal_train, execute
from tasuki.converter.causal_pack import CausalModel
from tasuki.converter.causal_student import CHUNK, CausalShape
from tasuki.converter.causal_texts import Windows
from tasuki.converter.compile import Compiled, check_micro, compile_graphs
from tasuki.converter.distil_causal import CausalStudent
from tasuki.converter.graph import Floats, Graph
from tasuki.sdk.console import Progress


def convert(student: CausalStudent) -> Compiled:
    """The int8 model. The same student gives the same bytes."""
    return compile_student(student.shape, student.weights, student.calibration, student.recipe.seed)


def compile_student(shape: CausalShape, weights: Mapping[str, Floats], windows: Windows, seed: int) -> Compiled:
    """The int8 model, calibrated with chunks of `windows` at random positions, each with the keys and values before it
    in the cache.
    """
    both = graphs(shape, weights)
    check_micro(both)
    # Every tensor of `decode` is one of this graph.
    prefill = causal_student.lower(shape, weights)
    rng = np.random.default_rng(seed)
    ids = windows[:, :-1]
    cache = {name: np.zeros((len(ids), *size[1:]), np.float32) for name, size in shape.cache().items()}
    for at in range(0, shape.context, CHUNK):
        place = np.full((len(ids), 1), at, np.int32)
        found = execute.run(prefill, {"ids": ids[:, at : at + CHUNK], "position": place, **cache})
        for name, value in cache.items():
            value[:, :, at : at + CHUNK] = found[name]
    position = rng.integers(0, shape.context - CHUNK + 1, (len(ids), 1)).astype(np.int32)
    # Chunks that start with the text are what every text has.
    position[::8] = 0
    chunks = np.take_along_axis(ids, position + np.arange(CHUNK), 1)
    feeds = {"ids": chunks, "position": position, **cache}
    return compile_graphs(both, feeds, np.ones(chunks.shape, np.bool_), measured=prefill)


def graphs(shape: CausalShape, weights: Mapping[str, Floats]) -> dict[str, Graph]:
    """The float graphs by signature, which are one: `prefill` takes one token at a time, as `decode` does.

    TensorFlow Lite Micro runs the first subgraph alone, and gives every tensor of a second one a place of its own.
    """
    decode = causal_student.lower(shape, weights, 1)
    return {"decode": decode, "prefill": decode}


def model(student: CausalStudent, name: str, tier: str) -> CausalModel:
    """The student in integers, ready to be packed. Raises ConversionError."""
    return CausalModel(
        name=name,
        tier=tier,
        compiled=convert(student),
        graphs=graphs(student.shape, student.weights),
        depth=student.shape.layers,
        start=student.start,
        stop=(),
        pad=student.start,
        tokenizer=student.tokenizer,
        activations="int8",
        origin=student.origin,
        calibration={"windows": len(student.calibration), "tokens": student.shape.context},
        notes={"seed": student.recipe.seed},
    )


def artifact(
    student: CausalStudent, name: str, tier: str, progress: Progress, key: Ed25519PrivateKey | None = None
) -> tuple[bytes, dict[str, Any]]:
    """The artifact's bytes, and the student's figures with those of the integers. Raises ConversionError."""
    progress("quantise", 0, 1, "")
    made = model(student, name, tier)
    progress("quantise", 1, 1, "")
    return judged(made, student, progress, key)


def judged(
    made: CausalModel, student: CausalStudent, progress: Progress, key: Ed25519PrivateKey | None = None
) -> tuple[bytes, dict[str, Any]]:
    """The artifact's bytes of `made`, and the figures, on the student's held-out text."""
    progress("measure", 0, 2, "")
    exact = causal_train.loss(student.shape, student.weights, student.held_out)
    whole = causal_run.loss(made.compiled.model, student.held_out)
    figures = {
        **student.figures,
        "perplexity_int8": float(np.exp(whole)),
        "int8_over_float": float(np.exp(whole - exact)),
        "model_bytes": len(made.compiled.model),
        "tokenizer_bytes": len(student.tokenizer),
        "arena_bytes": arena.planned_arena(made.compiled.model).bytes,
        "operators": list(made.compiled.operators),
    }
    progress("measure", 1, 2, f"perplexity {figures['perplexity_int8']:.1f}")
    accuracy = {key: value for key, value in figures.items() if isinstance(value, int | float)}
    data = causal_pack.packed(made, student.validation, accuracy, key)
    progress("measure", 2, 2, "")
    return data, {**figures, "artifact_bytes": len(data)}
