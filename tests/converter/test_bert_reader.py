"""The reader of encoders against the same model lowered for conversion, and against transformers."""

from pathlib import Path

import numpy as np
import pytest
from need import need
from teacher_kit import PIECES
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tasuki.converter import bert, execute
from tasuki.converter.bert_reader import BertReader
from tasuki.converter.families import BertConfig, Checkpoint, bert_shapes, head_shapes

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "dim", "the", "hall", "lamp", "turn", "on", "off", "##s", "please")
WORDS = tuple(dict.fromkeys((*WORDS, *PIECES)))
TEXTS = ("dim the hall lamp", "Turn ON the lamps please", "off", "", "zeppelin the lamp", "dim the hall lamp")


def made_up(
    labels: tuple[str, ...] = (), distilled: bool = False, seed: int = 0, activation: str = "gelu"
) -> Checkpoint:
    """A small encoder with random weights."""
    config = BertConfig(len(WORDS), 16, 2, 4, 32, 12, 1e-12, 0, activation, 2)  # type: ignore[arg-type]
    shapes = bert_shapes(config) | (head_shapes(config, len(labels), distilled) if labels else {})
    rng = np.random.default_rng(seed)
    tensors = {name: (0.4 * rng.standard_normal(shape) + name.endswith("LayerNorm.weight")).astype(np.float32)
               for name, shape in shapes.items()}  # fmt: skip
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return Checkpoint(config, tensors, tokenizer.to_str().encode(), labels, "made up", "CC0-1.0", f"{seed:064x}")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TASUKI_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_embeddings_are_those_of_the_lowered_model(activation: str) -> None:
    found = made_up(activation=activation)
    assert isinstance(found.config, BertConfig)
    embeddings, logits = BertReader(found).read(TEXTS, lambda done, total: None)
    graph = bert.lower(found.config, found.tensors, 12, [1, 2], exact=True)
    tokenizer = Tokenizer.from_buffer(found.tokenizer)
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(12)
    ids = np.array([encoding.ids for encoding in tokenizer.encode_batch(list(TEXTS))], np.int32)
    states = execute.run(graph, {"ids": ids})
    # The words' own state is not among the lowered model's outputs.
    np.testing.assert_allclose(np.linalg.norm(embeddings[:, :16], axis=1), 3**-0.5, atol=1e-5)
    for depth in (1, 2):
        wanted = states[f"features.{depth}"].numpy()
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True) * 3**0.5
        np.testing.assert_allclose(embeddings[:, 16 * depth : 16 * depth + 16], wanted, atol=1e-5)
    assert logits.shape == (len(TEXTS), 0)


@pytest.mark.slow
@pytest.mark.parametrize("distilled", [False, True])
def test_a_checkpoints_own_head_answers_as_in_transformers(distilled: bool) -> None:
    transformers, torch = need("transformers"), need("torch")
    found = made_up(("a", "b", "c"), distilled)
    if distilled:
        found.tensors["embeddings.token_type_embeddings.weight"][:] = 0
    _, logits = BertReader(found).read(TEXTS, lambda done, total: None)
    size = {"vocab_size": len(WORDS), "max_position_embeddings": 12}
    if distilled:
        config = transformers.DistilBertConfig(**size, dim=16, n_layers=2, n_heads=4, hidden_dim=32, num_labels=3)
        model = transformers.DistilBertForSequenceClassification(config).eval()
    else:
        config = transformers.BertConfig(**size, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
                                         intermediate_size=32, num_labels=3)  # fmt: skip
        model = transformers.BertForSequenceClassification(config).eval()
    names = {
        name: torch.from_numpy(found.tensors[_canonical(name)]) for name in model.state_dict() if "_ids" not in name
    }
    model.load_state_dict(names, strict=False)
    tokenizer = Tokenizer.from_buffer(found.tokenizer)
    with torch.no_grad():
        for text, row in zip(TEXTS, logits, strict=True):
            wanted = model(torch.tensor([tokenizer.encode(text).ids])).logits[0].numpy()
            np.testing.assert_allclose(row, wanted, atol=1e-4)


def _canonical(name: str) -> str:
    for theirs, ours in {
        "distilbert.": "", "bert.": "", "transformer.layer.": "encoder.layer.",
        "attention.q_lin": "attention.self.query",
        "attention.k_lin": "attention.self.key", "attention.v_lin": "attention.self.value",
        "attention.out_lin": "attention.output.dense", "sa_layer_norm": "attention.output.LayerNorm",
        "ffn.lin1": "intermediate.dense", "ffn.lin2": "output.dense", "output_layer_norm": "output.LayerNorm",
    }.items():  # fmt: skip
        name = name.replace(theirs, ours)
    return name


def test_what_was_read_is_kept(own_cache: Path) -> None:
    reader = BertReader(made_up(("a", "b")))
    first = reader.read(TEXTS, lambda done, total: None)
    (kept,) = (own_cache / "embeddings").iterdir()
    np.save(kept, np.zeros((len(TEXTS), 50), np.float32))
    second = reader.read(TEXTS, lambda done, total: None)
    assert first[0].any()
    assert not second[0].any()
    other = BertReader(made_up(("a", "b"), seed=1)).read(TEXTS, lambda done, total: None)
    assert other[0].any()


def test_relations_are_those_of_the_values() -> None:
    found = made_up()
    told = BertReader(found).relate(TEXTS, 2, lambda done, total: None)
    assert [names for names, _ in told] == [
        ["dim", "the", "hall", "lamp"], ["turn", "on", "the", "lamp", "##s", "please"], ["off"], [],
        ["[UNK]", "the", "lamp"], ["dim", "the", "hall", "lamp"],
    ]  # fmt: skip
    assert [products.shape for _, products in told] == [(2, n, n) for n in (4, 6, 1, 0, 3, 4)]
    np.testing.assert_allclose(told[0][1], told[5][1], atol=1e-5)
