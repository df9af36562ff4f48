"""What every room's tests share: a tiny artifact made by the real converter, and the embedded broker."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# `make test` draws the same examples each time, so that it says the same of the same tree; `make check-all` explores.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")

TINY_LABELS = ("light_off", "light_on", "music_play", "music_stop")
TINY_WORDS = (
    "switch", "turn", "on", "off", "the", "light", "lamp", "kitchen", "bedroom", "hall",
    "play", "stop", "music", "song", "radio", "please", "make", "it", "cosy", "now",
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real artifact of a very small student with random weights: 8 tokens, 16 features, 4 labels."""
    from tasuki.converter import pack, student
    from tasuki.converter.compile import compile_graphs
    from tasuki.sdk.artifact import MOMENT, VOCABULARY
    from tasuki.sdk.runtime import Body, Outputs
    from tasuki.sdk.tokenizer import Tokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ("[PAD]", "[UNK]", *letters, *(f"##{c}" for c in letters), *TINY_WORDS[1:])
    pieces = tuple(dict.fromkeys(pieces))
    shape = student.StudentShape(len(pieces), tokens=8, labels=4, width=16, layers=1, heads=2, inner=32)
    rng = np.random.default_rng(7)
    weights = student.initial(shape, rng.standard_normal((len(pieces), 16)).astype(np.float32), 7)
    tokenizer = Tokenizer(pieces, shape.tokens)
    texts = [" ".join(rng.choice(TINY_WORDS, rng.integers(2, 7))) for _ in range(64)]
    ids = np.stack([tokenizer.encode(text) for text in texts])
    made = compile_graphs({"classify": student.lower(shape, weights)}, {"ids": ids}, np.ones(ids.shape, np.bool_))
    outputs = Outputs((made.outputs["features.1"],), made.outputs["logits"])
    body = Body(made.model, outputs)
    features = np.stack([body.run(row)[0] for row in ids])
    about = {
        "name": "tiny", "task": "classify", "tier": "mcu", "tokens": 8, "pad": 0, "labels": list(TINY_LABELS),
        "features": [{"depth": 1, "width": 16, "output": outputs.features[0]}],
        "logits": {"output": outputs.logits, "width": 4}, "rounding": "tflm",
        "adapter_kinds": ["bias", "head", "low_rank", "statistics"], "low_rank": {"rank": 8, "seed": 0},
        "activations": "int8", "temperature": 1.0, "conformal": [[0.1, 0.9]], "operators": list(made.operators),
        "shapes": {"ids": [1, 8], "features": [1, 16], "logits": [1, 4]}, "calibration": {"texts": 64},
        "origin": [{"file": "seed 7", "sha256": "00" * 32, "licence": "Apache-2.0", "origin": "random weights"}],
        "accuracy": {"nothing was learned": 0.25}, "notes": {"seed": 7},
    }  # fmt: skip
    path = tmp_path_factory.mktemp("artifact") / "tiny.tflite"
    parts = {VOCABULARY: pack.vocabulary_bytes(pieces), MOMENT: pack.moment_bytes(pack.second_moment(features))}
    pack.write(path, pack.pack(made.model, parts, about))
    return path


@pytest.fixture
def broker() -> Iterator[object]:
    """An embedded broker on a free port."""
    from tasuki.aggregator.broker import EmbeddedBroker

    with EmbeddedBroker() as running:
        yield running
