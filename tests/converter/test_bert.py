"""The BERT family in float: the lowered graph is the published model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bert_kit import BERT, DISTILBERT, checkpoint, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from need import need

from tasuki.converter import bert, execute
from tasuki.converter.families import BertConfig, Checkpoint
from tasuki.converter.graph import Floats
from tasuki.sdk.checkpoint_tokenizer import CheckpointTokenizer

TOKENS = 8
CASES = {
    "bert": BERT,
    "relu": BERT | {"hidden_act": "relu"},
    "gelu_new": BERT | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    "distilbert": DISTILBERT,
}


def ids_of(found: Checkpoint, count: int = 24, tokens: int = TOKENS) -> np.ndarray:
    tokenizer = CheckpointTokenizer(found.tokenizer, tokens, config(found).pad)
    return np.stack([tokenizer.encode(text) for text in texts(count)])


def config(found: Checkpoint) -> BertConfig:
    assert isinstance(found.config, BertConfig)
    return found.config


def run(found: Checkpoint, ids: np.ndarray, **how: Any) -> dict[str, Floats]:
    how = {"exact": True, **how}
    graph = bert.lower(config(found), found.tensors, ids.shape[1], how.pop("depths", (1, 2)), **how)
    return {name: np.asarray(value) for name, value in execute.run(graph, {"ids": ids}).items()}


def published(folder: Path, ids: np.ndarray, pad: int, kind: str) -> Any:
    """The outputs of transformers' own model."""
    torch, transformers = need("torch"), need("transformers")
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    with torch.no_grad():
        return model(
            torch.tensor(ids.astype(np.int64)), attention_mask=torch.tensor((ids != pad).astype(np.int64)),
            output_hidden_states=True,
        )  # fmt: skip


def pooled(states: Any, real: np.ndarray) -> Floats:
    return np.asarray((states.numpy() * real[:, :, None]).sum(1) / real.sum(1)[:, None])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("pad", [0, 17])
def test_the_float_graph_is_transformers_model(tmp_path: Path, name: str, pad: int) -> None:
    found = checkpoint(tmp_path / "m", CASES[name] | {"pad_token_id": pad})
    ids = ids_of(found)
    assert (ids == pad).any()
    theirs = published(tmp_path / "m", ids, pad, "DistilBertModel" if name == "distilbert" else "BertModel")
    ours = run(found, ids)
    for depth in (1, 2):
        wanted = pooled(theirs.hidden_states[depth], ids != pad)
        np.testing.assert_allclose(ours[f"features.{depth}"], wanted, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_the_classifier_is_transformers_classifier(tmp_path: Path, name: str) -> None:
    found = checkpoint(tmp_path / "m", CASES[name], labels=("on", "off", "dim"))
    ids = ids_of(found)
    kind = {"bert": "BertForSequenceClassification", "distilbert": "DistilBertForSequenceClassification"}[name]
    theirs = published(tmp_path / "m", ids, 0, kind).logits.numpy()
    assert theirs.std() > 0.05
    np.testing.assert_allclose(run(found, ids, depths=(2,))["logits"], theirs, atol=1e-4)


@pytest.mark.slow
def test_minilm_is_transformers_model() -> None:
    from tasuki.converter import teacher
    from tasuki.converter.checkpoint import read
    from tasuki.converter.homes import split

    found = read(teacher.folder())
    tokenizer = CheckpointTokenizer(found.tokenizer, 32, 0)
    ids = np.stack([tokenizer.encode(command.text) for command in split(1000, 2).validation[:40]])
    wanted = published(teacher.folder(), ids, 0, "BertModel")
    ours = run(found, ids, depths=(3, 6))
    for depth in (3, 6):
        np.testing.assert_allclose(ours[f"features.{depth}"], pooled(wanted.hidden_states[depth], ids != 0), atol=1e-4)


def reference(found: Checkpoint, ids: np.ndarray) -> tuple[list[Floats], Floats]:
    """BERT by its paper, in NumPy: pooled states of all depths, and the first token's last state."""
    c, w = config(found), found.tensors
    real = ids != c.pad

    def dense(x: Floats, name: str) -> Floats:
        return np.asarray(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])

    def norm(x: Floats, name: str) -> Floats:
        x = x - x.mean(-1, keepdims=True)
        return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + c.norm_epsilon) * w[f"{name}.weight"]
                          + w[f"{name}.bias"])  # fmt: skip

    def heads(x: Floats) -> Floats:
        return x.reshape(*ids.shape, c.heads, -1).transpose(0, 2, 1, 3)

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    found_states = []
    for n in range(c.layers):
        name = f"encoder.layer.{n}"
        q, k, v = (heads(dense(x, f"{name}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
        scores = np.where(real[:, None, None], scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True)) @ v
        mixed = dense(mixed.transpose(0, 2, 1, 3).reshape(x.shape), f"{name}.attention.output.dense")
        x = norm(x + mixed, f"{name}.attention.output.LayerNorm")
        inner = np.maximum(dense(x, f"{name}.intermediate.dense"), 0)
        x = norm(x + dense(np.asarray(inner), f"{name}.output.dense"), f"{name}.output.LayerNorm")
        found_states.append(np.asarray((x * real[:, :, None]).sum(1) / real.sum(1)[:, None]))
    return found_states, x[:, 0]


@pytest.mark.parametrize("kind", [BERT | {"hidden_act": "relu"}, DISTILBERT | {"activation": "relu"}])
def test_bert_as_the_paper_has_it(tmp_path: Path, kind: dict[str, Any]) -> None:
    found = checkpoint(tmp_path / "m", kind, labels=("on", "off"))
    ids = ids_of(found)
    ours = run(found, ids)
    states, first = reference(found, ids)
    for depth, wanted in enumerate(states, 1):
        np.testing.assert_allclose(ours[f"features.{depth}"], wanted, atol=1e-4)
    w = found.tensors
    if "pre_classifier.weight" in w:
        inner = np.maximum(first @ w["pre_classifier.weight"].T + w["pre_classifier.bias"], 0)
    else:
        inner = np.tanh(first @ w["pooler.dense.weight"].T + w["pooler.dense.bias"])
    np.testing.assert_allclose(ours["logits"], inner @ w["classifier.weight"].T + w["classifier.bias"], atol=1e-4)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exact=st.booleans())
def test_scales_change_nothing_in_float(tmp_path_factory: pytest.TempPathFactory, seed: int, exact: bool) -> None:
    found = checkpoint(tmp_path_factory.mktemp("m"), BERT, labels=("on", "off"))
    ids = ids_of(found, 4)
    rng = np.random.default_rng(seed)
    scales = {
        name: (np.exp(rng.normal(0, 1, 32)) * rng.choice([-1, 1], 32)).astype(np.float32)
        for name in bert.equalised(config(found))
    }
    plain, scaled = run(found, ids, exact=exact), run(found, ids, exact=exact, scales=scales)
    for name, wanted in plain.items():
        np.testing.assert_allclose(scaled[name], wanted, atol=2e-3)


def test_a_sink_takes_the_place_of_the_first_tokens_state(tmp_path: Path) -> None:
    found = checkpoint(tmp_path / "m", BERT)
    ids = ids_of(found)
    plain = run(found, ids, depths=(1, 2))
    sink = np.random.default_rng(1).standard_normal(32).astype(np.float32)
    graph = bert.lower(config(found), found.tensors, TOKENS, (1, 2), sinks={"0.feed": sink}, exact=True)
    seen: dict[str, Any] = {}

    def note(node: Any, y: Any) -> Any:
        seen[node.output] = np.asarray(y)
        return y

    execute.run(graph, {"ids": ids}, hook=note)
    states = seen["0.feed.norm"].reshape(*ids.shape, -1)
    np.testing.assert_allclose(states[:, 0], np.broadcast_to(sink, (len(ids), 32)), atol=1e-6)
    assert {"0.query", "0.up", "0.feed.sum"} <= graph.blind
    assert not {"0.key", "0.value", "0.feed.norm", "1.query"} & graph.blind
    assert np.abs(seen["features.2"] - plain["features.2"]).max() > 0.01


def test_a_linear_head_on_two_depths(tmp_path: Path) -> None:
    found = checkpoint(tmp_path / "m", BERT)
    ids = ids_of(found)
    rng = np.random.default_rng(2)
    head = (rng.standard_normal((3, 64)).astype(np.float32), rng.standard_normal(3).astype(np.float32))
    ours = run(found, ids, head=head)
    joined = np.concatenate([ours["features.1"], ours["features.2"]], 1)
    np.testing.assert_allclose(ours["logits"], joined @ head[0].T + head[1], atol=1e-4)


def test_layers_above_the_features_are_left_out(tmp_path: Path) -> None:
    found = checkpoint(tmp_path / "m", BERT)
    graph = bert.lower(config(found), found.tensors, TOKENS, (1,))
    assert not any(node.output.startswith("1.") for node in graph.nodes)
