"""Real causal artifacts of random weights, made by the real converter in seconds; the same bytes each time."""

import functools

import numpy as np

from tasuki.converter import causal_artifact, causal_pack, causal_student, causal_toy, decoder
from tasuki.converter.causal_pack import CausalModel
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.causal_texts import windows
from tasuki.converter.decoder import DecoderSettings
from tasuki.converter.pruned import prune
from tasuki.sdk import artifact
from tasuki.sdk.artifact import Artifact

ORIGIN = ({"file": "words", "sha256": "0" * 64, "licence": "CC0-1.0", "origin": "made up"},)
CONTEXT = 24
CHUNK = 6


@functools.cache
def student() -> bytes:
    """A student: `prefill` is `decode`, texts begin with the id 0, and every byte has a token."""
    teacher, corpus = causal_toy.teacher(0), causal_toy.talk(0)
    vocabulary = prune(teacher.tokenizer, corpus.train, 300, 0, [1])
    shape = CausalShape(vocabulary=300, context=CONTEXT, width=16, layers=2, heads=2, inner=24)
    weights = causal_student.initial(shape, 1)
    rng = np.random.default_rng(1)
    weights["logits.b"] = rng.standard_normal(300).astype(np.float32)
    # Another token follows at each place, so that texts do not turn in circles.
    weights["positions"] = rng.standard_normal((CONTEXT, 16)).astype(np.float32)
    text = windows(vocabulary.load(), corpus.train, CONTEXT, vocabulary.start, 48)
    made = CausalModel(
        name="toy student", tier="mcu-large", compiled=causal_artifact.compile_student(shape, weights, text, 0),
        graphs=causal_artifact.graphs(shape, weights), depth=shape.layers, start=vocabulary.start, stop=(1,),
        pad=vocabulary.start, tokenizer=vocabulary.tokenizer, activations="int8", origin=ORIGIN,
        calibration={"windows": len(text)}, notes={},
    )  # fmt: skip
    return causal_pack.packed(made, text[:8], {})


@functools.cache
def published(activations: str = "int8") -> bytes:
    """A checkpoint's decoder: `prefill` takes 6 tokens, the start token is inside, and 1 ends a text."""
    settings = DecoderSettings(context=CONTEXT, chunk=CHUNK, windows=8, tokens=20, measured=4, activations=activations)
    found = decoder.convert(causal_toy.teacher(3), causal_toy.talk(3).train, settings)
    made = CausalModel(
        name="toy decoder", tier="board", compiled=found.compiled, graphs=found.graphs, depth=1, start=None, stop=(1,),
        pad=found.start, tokenizer=found.tokenizer, activations=activations, origin=ORIGIN,
        calibration=found.calibration, notes={},
    )  # fmt: skip
    return causal_pack.packed(made, np.zeros((0, 2), np.int32), {})


@functools.cache
def read(which: str = "student") -> Artifact:
    """The artifact `student`, `published` or `wide` (published, with int16 activations), parsed."""
    return artifact.parse({"student": student, "published": published, "wide": lambda: published("int16")}[which]())
