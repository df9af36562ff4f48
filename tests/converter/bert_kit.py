"""Small random encoders in Hugging Face's layout, for the tests of the conversion."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tasuki.converter.checkpoint import read
from tasuki.converter.families import Checkpoint, Fields, bert_config, bert_shapes, head_shapes

WORDS = ("lamp", "door", "on", "off", "open", "close", "warm", "cold", "music", "play", "stop", "the", "red", "hall")
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS)
BERT: dict[str, Any] = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "hidden_size": 32,
    "intermediate_size": 48, "layer_norm_eps": 1e-12, "max_position_embeddings": 16, "num_attention_heads": 4,
    "num_hidden_layers": 2, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": len(PIECES),
}  # fmt: skip
DISTILBERT: dict[str, Any] = {
    "model_type": "distilbert", "activation": "gelu", "dim": 32, "hidden_dim": 48, "max_position_embeddings": 16,
    "n_heads": 4, "n_layers": 2, "pad_token_id": 0, "vocab_size": len(PIECES),
}  # fmt: skip


def checkpoint(folder: Path, config: Mapping[str, Any], labels: tuple[str, ...] = (), seed: int = 3) -> Checkpoint:
    """A checkpoint with random weights, written to `folder` and read from there; with a classifier if it has labels."""
    distilled = config["model_type"] == "distilbert"
    found = bert_config(Fields("config.json", config))
    shapes = bert_shapes(found) | (head_shapes(found, len(labels), distilled) if labels else {})
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        if "LayerNorm.weight" in name:
            tensors[name] = rng.uniform(0.4, 1.6, shape).astype(np.float32)
        else:
            spread = 0.3 if len(shape) == 1 or "embeddings" in name else shape[1] ** -0.5
            tensors[name] = (spread * rng.standard_normal(shape)).astype(np.float32)
    if distilled:
        del tensors["embeddings.token_type_embeddings.weight"]
        tensors = {_distil_name(name): values for name, values in tensors.items()}
    named = {"id2label": {str(n): label for n, label in enumerate(labels)}} if labels else {}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, **named}))
    save_file(tensors, folder / "model.safetensors")
    made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(folder / "tokenizer.json"))
    return read(folder)


def texts(count: int, seed: int = 0) -> list[str]:
    """Nonsense of one to six words that the tokenizer knows."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 7))) for _ in range(count)]


_DISTIL_NAMES = {
    "attention.self.query": "attention.q_lin", "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin", "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm", "intermediate.dense": "ffn.lin1", "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}  # fmt: skip


def _distil_name(name: str) -> str:
    if name.startswith(("classifier", "pre_classifier")):
        return name
    parts = name.split(".")
    if parts[0] == "encoder":
        name = ".".join(["transformer", "layer", parts[2], _DISTIL_NAMES[".".join(parts[3:-1])], parts[-1]])
    return f"distilbert.{name}"
