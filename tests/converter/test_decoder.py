"""A decoder in integers: near the float model, the same by chunks and by tokens, in LiteRT and TFLM, and repeatable."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from need import need
from tokenizers import Tokenizer

from tasuki.converter import causal_run, causal_toy, decoder, decoder_scales, llama
from tasuki.converter.causal_run import CausalRun
from tasuki.converter.causal_texts import windows
from tasuki.converter.compile import check_micro
from tasuki.converter.decoder import Decoder, DecoderSettings
from tasuki.converter.families import BertConfig, Checkpoint, LlamaConfig
from tasuki.sdk.errors import CheckpointUnsupported, ConversionError

SETTINGS = DecoderSettings(context=24, chunk=6, windows=24, tokens=20, measured=12)
CORPUS = causal_toy.talk(3)


@pytest.fixture(scope="module")
def teacher() -> Checkpoint:
    """Its logits are large enough for an expectation, and one channel of its norms is loud."""
    made = causal_toy.teacher(3)
    tensors = {name: value.copy() for name, value in made.tensors.items()}
    tensors["model.norm.weight"] *= 1.5
    tensors["model.layers.0.input_layernorm.weight"][5] = 30.0
    tensors["model.layers.0.self_attn.q_proj.weight"][:, 5] /= 30.0
    tensors["model.layers.0.self_attn.k_proj.weight"][:, 5] /= 30.0
    tensors["model.layers.0.self_attn.v_proj.weight"][:, 5] /= 30.0
    return replace(made, tensors=tensors)


@pytest.fixture(scope="module")
def made(teacher: Checkpoint) -> Decoder:
    return decoder.convert(teacher, CORPUS.train, SETTINGS)


@pytest.fixture(scope="module")
def held_out(teacher: Checkpoint) -> np.ndarray:
    return windows(Tokenizer.from_buffer(teacher.tokenizer), CORPUS.held_out, 20, 0, 12)[:, 1:]


def real_logits(model: Decoder, ids: Sequence[int]) -> np.ndarray:
    return CausalRun(model.compiled.model).read(np.array(ids, np.int32))


def exact_logits(teacher: Checkpoint, ids: np.ndarray) -> np.ndarray:
    """After each of `ids`, which follow the start token, in float."""
    assert isinstance(teacher.config, LlamaConfig)
    graph = llama.lower(teacher.config, teacher.tensors, len(ids), 1)
    cache = llama.start_cache(teacher.config, teacher.tensors, 0)
    found = llama.execute.run(graph, {"ids": ids[None], "position": np.ones(1, np.int32), **cache})
    return np.asarray(found["logits"])


def test_the_integers_expect_what_the_float_model_expects(
    made: Decoder, teacher: Checkpoint, held_out: np.ndarray
) -> None:
    exact = decoder.float_loss(teacher, made.start, held_out)
    assert abs(causal_run.loss(made.compiled.model, held_out) - exact) < 0.02
    wanted = exact_logits(teacher, held_out[0])
    assert np.abs(real_logits(made, held_out[0]) - wanted).mean() < 0.02 * np.ptp(wanted)


def test_the_measures_help_where_a_channel_is_loud(made: Decoder, teacher: Checkpoint, held_out: np.ndarray) -> None:
    plain = decoder.plain(teacher, CORPUS.train, SETTINGS)
    wanted = exact_logits(teacher, held_out[1])
    ours, theirs = (np.square(real_logits(model, held_out[1]) - wanted).mean() for model in (made, plain))
    assert ours < 0.5 * theirs


def test_int16_activations_are_nearer(held_out: np.ndarray) -> None:
    calm = causal_toy.teacher(3)
    made, wide = (
        decoder.convert(calm, CORPUS.train, replace(SETTINGS, activations=kind)) for kind in ("int8", "int16")
    )
    wanted = exact_logits(calm, held_out[1])
    narrow, near = (np.square(real_logits(model, held_out[1]) - wanted).mean() for model in (made, wide))
    assert near < narrow
    assert wide.compiled.plan.grids["key.0"].type == np.int16
    assert wide.notes["wide_layers"] == [0]


def test_decode_and_prefill_agree(made: Decoder, held_out: np.ndarray) -> None:
    run = CausalRun(made.compiled.model)
    read = run.read(held_out[0])
    run.restart()
    followed = np.stack([run.follow(int(token)) for token in held_out[0]])
    # Kernels may round another way for one row than for many.
    assert np.abs(read - followed).mean() < 0.004 * np.ptp(read)
    assert (read.argmax(-1) == followed.argmax(-1)).mean() > 0.9


def test_a_text_does_not_depend_on_the_one_before(made: Decoder, held_out: np.ndarray) -> None:
    run = CausalRun(made.compiled.model)
    fresh = run.read(held_out[1])
    run.restart()
    run.read(held_out[2])
    run.restart()
    np.testing.assert_array_equal(run.read(held_out[1]), fresh)


def test_a_text_may_fill_the_context(made: Decoder, held_out: np.ndarray) -> None:
    run = CausalRun(made.compiled.model)
    ids = np.resize(held_out[3], SETTINGS.context).astype(np.int32)
    run.read(ids[:5])
    assert np.isfinite(run.read(ids[5:])).all()
    assert run.position == SETTINGS.context


def test_there_are_integers_only_and_one_weight_each(made: Decoder) -> None:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(made.compiled.model, 0))
    assert [graph.name.decode() for graph in model.subgraphs] == ["decode", "prefill"]
    allowed = {schema.TensorType.INT8, schema.TensorType.INT16, schema.TensorType.INT32}
    assert {tensor.type for graph in model.subgraphs for tensor in graph.tensors} <= allowed
    where = [
        {tensor.name: tensor.buffer for tensor in graph.tensors if tensor.name.endswith(b".weight")}
        for graph in model.subgraphs
    ]
    assert where[0] == where[1]
    assert len(where[0]) == 8
    check_micro(made.graphs)


def test_two_conversions_give_the_same_bytes(made: Decoder, teacher: Checkpoint) -> None:
    assert decoder.convert(teacher, CORPUS.train, SETTINGS).compiled.model == made.compiled.model


def test_tensorflow_lite_micro_decodes_as_well(made: Decoder, teacher: Checkpoint, held_out: np.ndarray) -> None:
    """It rounds another way than LiteRT, so it is compared by its distance to the float model."""
    runtime = need("tflite_micro", "dev").runtime
    micro = runtime.Interpreter.from_bytes(made.compiled.model, arena_size=1 << 20)
    graph, outputs, grid = made.graphs["decode"], list(made.compiled.outputs), made.compiled.plan.grids["logits"]
    cache = {name: np.zeros(shape, np.int8) for name, shape in graph.inputs.items() if name in graph.cached}
    found = []
    for at, token in enumerate(held_out[4]):
        given = {"ids": np.array([[token]], np.int32), "position": np.array([at], np.int32), **cache}
        for number, name in enumerate(graph.inputs):
            micro.set_input(given[name], number)
        micro.invoke()
        for name, value in cache.items():
            value[:, :, at] = micro.get_output(outputs.index(name))[:, :, 0]
        found.append((micro.get_output(outputs.index("logits"))[0].astype(np.float32) - grid.zero) * grid.scale[0])
    wanted, theirs = exact_logits(teacher, held_out[4]), real_logits(made, held_out[4])
    assert np.abs(found - wanted).mean() < 1.2 * np.abs(theirs - wanted).mean()
    assert np.abs(found - theirs).mean() < np.abs(theirs - wanted).mean()


def test_what_is_packed_is_described(made: Decoder, teacher: Checkpoint) -> None:
    assert made.cache == (1, 1, 24, 16)
    assert made.context == 24
    assert made.start == 0
    assert made.origin[0]["sha256"] == teacher.sha256
    assert made.tokenizer == teacher.tokenizer
    assert made.calibration == {"windows": 24, "tokens": 20}
    assert len(made.notes["feed_noise"]) == 1


def test_progress_is_reported(teacher: Checkpoint) -> None:
    seen: list[tuple[str, int, int]] = []

    def note(phase: str, done: int, total: int, more: str) -> None:
        seen.append((phase, done, total))

    decoder.convert(teacher, CORPUS.train, replace(SETTINGS, windows=4), note)
    assert {phase for phase, _, _ in seen} == {"measure", "quantise"}
    assert all(done <= total for _, done, total in seen)
    assert seen[-1][1] == seen[-1][2]


def test_a_loud_feed_forward_part_is_int16(teacher: Checkpoint) -> None:
    """One token in a while makes one inner channel a thousand times louder: eight bits lose the others."""
    assert isinstance(teacher.config, LlamaConfig)
    ids = np.random.default_rng(0).integers(2, teacher.config.vocabulary, (8, 12)).astype(np.int32)
    tensors = {name: value.copy() for name, value in teacher.tensors.items()}
    cache = llama.start_cache(teacher.config, tensors, 0)
    calm = decoder_scales.measure(teacher.config, tensors, cache, ids)
    name = "model.layers.0.mlp"
    for part in ("gate_proj", "up_proj"):
        tensors[f"{name}.{part}.weight"][:2] *= 12.0
    tensors[f"{name}.down_proj.weight"][:, :2] = 0.0
    loud = decoder_scales.measure(teacher.config, tensors, cache, ids)
    assert loud.noise[0] > calm.noise[0]
    assert loud.wide == {n for n, noise in enumerate(loud.noise) if noise > decoder_scales.LOUD}


def test_without_a_start_token_the_least_surprising_one_is_taken(
    teacher: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(teacher.config, LlamaConfig)
    surprise = {0: 2.0, 1: 1.5}
    monkeypatch.setattr(decoder, "float_loss", lambda checkpoint, token, text: surprise[token])
    found = replace(teacher, config=replace(teacher.config, bos=None))
    assert decoder.calibration(found, CORPUS.train, SETTINGS)[0] == 1
    assert decoder.calibration(teacher, CORPUS.train, SETTINGS)[0] == 0


def test_an_encoder_is_refused() -> None:
    config = BertConfig(
        vocabulary=9, width=4, layers=1, heads=1, inner=4, positions=8, norm_epsilon=1e-12, pad=0, activation="gelu",
        types=2,
    )  # fmt: skip
    encoder = Checkpoint(config, {}, b"{}", (), "mini", "MIT", "0" * 64)
    with pytest.raises(CheckpointUnsupported, match="mini is an encoder of the BERT family"):
        decoder.convert(encoder, CORPUS.train, SETTINGS)


@pytest.mark.parametrize("fields", [{"context": 0}, {"chunk": 300}, {"tokens": 1}, {"activations": "float"}])
def test_settings_that_make_no_decoder_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match=str(next(iter(fields)))):
        DecoderSettings(**fields)


def test_too_little_text_and_too_much_context_are_refused(teacher: Checkpoint) -> None:
    with pytest.raises(ConversionError, match="give more text"):
        decoder.convert(teacher, ["hello"], SETTINGS)
    with pytest.raises(ConversionError, match="128 positions"):
        decoder.convert(teacher, CORPUS.train, replace(SETTINGS, context=128))
