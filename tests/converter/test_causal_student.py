"""The causal student: chunks with a cache give what the whole text gives, in float and in integers; LiteRT and TFLM."""

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from need import need

from tasuki.converter import causal_artifact, causal_run, causal_student, execute
from tasuki.converter.causal_run import CausalRun
from tasuki.converter.causal_student import CHUNK, CausalShape
from tasuki.converter.compile import Compiled, compile_graphs
from tasuki.converter.graph import Floats
from tasuki.sdk.errors import ConversionError

SHAPE = CausalShape(vocabulary=50, context=24, width=16, layers=2, heads=2, inner=24)


@pytest.fixture(scope="module")
def weights() -> dict[str, Floats]:
    rng = np.random.default_rng(3)
    found = causal_student.initial(SHAPE, 3)
    found["logits.b"] = rng.standard_normal(SHAPE.vocabulary).astype(np.float32)
    return found | {"positions": rng.standard_normal((SHAPE.context, SHAPE.width)).astype(np.float32)}


@pytest.fixture(scope="module")
def texts() -> np.ndarray:
    return np.random.default_rng(4).integers(0, SHAPE.vocabulary, (96, SHAPE.context + 1)).astype(np.int32)


@pytest.fixture(scope="module")
def model(weights: dict[str, Floats], texts: np.ndarray) -> Compiled:
    return causal_artifact.compile_student(SHAPE, weights, texts, 0)


def logits_of(weights: dict[str, Floats], ids: np.ndarray) -> np.ndarray:
    found = execute.run(causal_student.whole(SHAPE, weights), {"ids": ids})["logits"]
    return np.asarray(found).reshape(*ids.shape, -1)


@pytest.mark.parametrize("tokens", [1, CHUNK])
def test_chunks_after_a_cache_give_what_the_whole_text_gives(
    weights: dict[str, Floats], texts: np.ndarray, tokens: int
) -> None:
    ids = texts[:2, :-1]
    wanted = logits_of(weights, ids)
    graph = causal_student.lower(SHAPE, weights, tokens)
    # What lies in slots that are not written yet must not matter.
    rng = np.random.default_rng(0)
    cache = {
        name: rng.standard_normal((2, *shape[1:])).astype(np.float32) for name, shape in SHAPE.cache().items()
    }  # fmt: skip
    for at in range(0, SHAPE.context, tokens):
        part = {"ids": ids[:, at : at + tokens], "position": np.full((2, 1), at, np.int32)}
        found = execute.run(graph, {**part, **cache})
        for name, value in cache.items():
            value[:, :, at : at + tokens] = found[name]
        logits = np.asarray(found["logits"]).reshape(2, tokens, -1)
        np.testing.assert_allclose(logits, wanted[:, at : at + tokens], atol=1e-5)


def test_a_token_does_not_see_what_follows(weights: dict[str, Floats], texts: np.ndarray) -> None:
    ids = texts[:1, :-1]
    changed = ids.copy()
    changed[0, 10] = (changed[0, 10] + 1) % SHAPE.vocabulary
    before, after = logits_of(weights, ids), logits_of(weights, changed)
    np.testing.assert_allclose(before[0, :10], after[0, :10], atol=1e-5)
    assert (np.abs(before[0, 10:] - after[0, 10:]).max(-1) > 1e-3).all()


@pytest.mark.parametrize("tokens", [0, 2, CHUNK + 1])
def test_other_numbers_of_tokens_are_refused(weights: dict[str, Floats], tokens: int) -> None:
    with pytest.raises(ValueError, match=f"{tokens} tokens at once"):
        causal_student.lower(SHAPE, weights, tokens)


@pytest.mark.parametrize(
    "sizes", [{"heads": 3}, {"context": 20}, {"layers": 0}, {"vocabulary": 70_000}, {"width": -4, "heads": 2}]
)
def test_sizes_that_make_no_student_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ConversionError, match="CausalShape"):
        replace(SHAPE, **sizes)


def test_parameters_counts_the_weights(weights: dict[str, Floats]) -> None:
    assert SHAPE.parameters() == sum(value.size for value in weights.values())


def test_the_integers_answer_like_the_float_student(
    model: Compiled, weights: dict[str, Floats], texts: np.ndarray
) -> None:
    exact = logits_of(weights, texts[:, :-1]).astype(np.float64)
    exact -= np.log(np.exp(exact).sum(-1, keepdims=True))
    wanted = -float(np.take_along_axis(exact, texts[:, 1:, None], -1).mean())
    assert abs(causal_run.loss(model.model, texts) - wanted) < 0.05


def test_prefill_is_decode(model: Compiled, texts: np.ndarray) -> None:
    run = CausalRun(model.model)
    read = run.read(texts[0, :-1])
    run.restart()
    np.testing.assert_array_equal(read, np.stack([run.follow(int(token)) for token in texts[0, :-1]]))
    found = schema.Model.GetRootAsModel(model.model, 0)
    assert (found.SubgraphsLength(), found.SignatureDefsLength()) == (1, 2)


def test_scales_of_channels_are_written_once_for_both_subgraphs(weights: dict[str, Floats], texts: np.ndarray) -> None:
    both = {tokens: causal_student.lower(SHAPE, weights, tokens) for tokens in (1, CHUNK)}
    cache = {name: np.zeros((8, *shape[1:]), np.float32) for name, shape in SHAPE.cache().items()}
    feeds = {"ids": texts[:8, :CHUNK], "position": np.zeros((8, 1), np.int32), **cache}
    made = compile_graphs({"a": both[1], "b": both[CHUNK]}, feeds, np.ones((8, CHUNK), np.bool_), measured=both[CHUNK])
    found = schema.Model.GetRootAsModel(made.model, 0)
    places: list[dict[bytes, int]] = []
    for graph in (found.Subgraphs(0), found.Subgraphs(1)):
        tensors = [graph.Tensors(number) for number in range(graph.TensorsLength())]
        grids = {tensor.Name(): tensor.Quantization() for tensor in tensors if tensor.Quantization() is not None}
        for name, grid in grids.items():
            np.testing.assert_array_equal(grid.ScaleAsNumpy(), made.plan.grids[name.decode()].scale)
            assert (grid.ZeroPointAsNumpy() == made.plan.grids[name.decode()].zero).all()
        places.append({name: grid._tab.Pos for name, grid in grids.items() if grid.ScaleLength() > 1})
    assert len(places[0]) == 2 * (6 * SHAPE.layers + 1)
    assert places[0] == places[1]


def test_what_an_earlier_text_left_in_the_cache_does_not_matter(model: Compiled, texts: np.ndarray) -> None:
    run = CausalRun(model.model)
    first = run.read(texts[1, :-1])
    run.restart()
    run.read(texts[0, :-1])
    run.restart()
    np.testing.assert_array_equal(run.read(texts[1, :-1]), first)


def test_two_conversions_give_the_same_bytes(
    model: Compiled, weights: dict[str, Floats], texts: np.ndarray
) -> None:  # fmt: skip
    assert causal_artifact.compile_student(SHAPE, weights, texts, 0).model == model.model


def test_tensorflow_lite_micro_decodes_the_same(model: Compiled, texts: np.ndarray) -> None:
    runtime = need("tflite_micro", "dev").runtime
    micro = runtime.Interpreter.from_bytes(model.model, arena_size=512 << 10)
    run = CausalRun(model.model)
    names = ["ids", "position", *SHAPE.cache()]
    outputs = list(model.outputs)
    cache = {name: np.zeros(shape, np.int8) for name, shape in SHAPE.cache().items()}
    scale, zero = (float(value[0]) for value in (model.plan.grids["logits"].scale, [model.plan.grids["logits"].zero]))
    for at, token in enumerate(texts[2, : SHAPE.context]):
        given = {"ids": np.array([[token]], np.int32), "position": np.array([at], np.int32), **cache}
        for number, name in enumerate(names):
            micro.set_input(given[name], number)
        micro.invoke()
        for name, value in cache.items():
            value[:, :, at] = micro.get_output(outputs.index(name))[:, :, 0]
        logits = (micro.get_output(outputs.index("logits"))[0].astype(np.float32) - zero) * scale
        assert np.abs(logits - run.follow(int(token))).max() <= 3 * scale
