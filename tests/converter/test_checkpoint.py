"""Published checkpoints: what is read, and what is refused by name."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models

from tasuki.converter.checkpoint import BertConfig, LlamaConfig, read
from tasuki.converter.families import Fields, bert_config, bert_shapes, head_shapes, llama_config, llama_shapes
from tasuki.sdk.errors import CheckpointCorrupt, CheckpointMissing, CheckpointUnsupported, ConversionError

BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "hidden_size": 8,
    "intermediate_size": 16, "layer_norm_eps": 1e-12, "max_position_embeddings": 12, "num_attention_heads": 2,
    "num_hidden_layers": 2, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": 10,
}  # fmt: skip
DISTILBERT = {
    "model_type": "distilbert", "activation": "gelu", "dim": 8, "hidden_dim": 16, "max_position_embeddings": 12,
    "n_heads": 2, "n_layers": 2, "pad_token_id": 0, "vocab_size": 10,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 8,
    "intermediate_size": 16, "max_position_embeddings": 32, "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 100000, "rope_scaling": None,
    "tie_word_embeddings": True, "vocab_size": 10, "bos_token_id": 1, "eos_token_id": [2, 3],
}  # fmt: skip
Arrays = dict[str, NDArray[Any]]
# DistilBERT's names of BERT's layers.
DISTIL_NAMES = {
    "attention.self.query": "attention.q_lin", "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin", "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm", "intermediate.dense": "ffn.lin1", "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}  # fmt: skip


def random_tensors(shapes: Mapping[str, tuple[int, ...]], kind: str = "float32") -> Arrays:
    rng = np.random.default_rng(3)
    return {name: rng.standard_normal(shape).astype(kind) for name, shape in shapes.items()}


def bert_tensors(config: Mapping[str, Any], labels: int = 0) -> Arrays:
    found = bert_config(Fields("config.json", config))
    shapes = bert_shapes(found)
    if labels:
        shapes |= head_shapes(found, labels, config["model_type"] == "distilbert")
    return random_tensors(shapes)


def llama_tensors(config: Mapping[str, Any]) -> Arrays:
    return random_tensors(llama_shapes(llama_config(Fields("config.json", config))))


def write(folder: Path, config: Mapping[str, Any], tensors: Arrays | None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    pieces = ["[PAD]", "[UNK]", *"abcdefgh"]
    made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.save(str(folder / "tokenizer.json"))
    if tensors is not None:
        save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write(tmp_path / "bert", BERT, bert_tensors(BERT))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write(tmp_path / "llama", LLAMA, llama_tensors(LLAMA))


def test_bert_is_read(bert: Path) -> None:
    (bert / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    found = read(bert)
    assert found.config == BertConfig(10, 8, 2, 2, 16, 12, 1e-12, 0, "gelu", 2)
    assert (found.name, found.licence, found.labels) == ("bert", "Apache-2.0", ())
    assert Tokenizer.from_buffer(found.tokenizer).encode("a").ids == [2]
    expected = bert_tensors(BERT)
    assert set(found.tensors) == set(expected)
    for name, values in found.tensors.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected[name])


def test_prefix_old_names_and_the_language_models_head(tmp_path: Path) -> None:
    tensors = bert_tensors(BERT)
    old = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): values
        for name, values in tensors.items()
    }
    old["cls.predictions.bias"] = np.zeros(10, np.float32)
    old["bert.embeddings.position_ids"] = np.arange(12)[None]
    found = read(write(tmp_path / "old", BERT, old))
    assert set(found.tensors) == set(tensors)
    np.testing.assert_array_equal(found.tensors["embeddings.LayerNorm.bias"], tensors["embeddings.LayerNorm.bias"])


def test_distilbert_gets_berts_names(tmp_path: Path) -> None:
    tensors = bert_tensors(DISTILBERT, labels=3)
    del tensors["embeddings.token_type_embeddings.weight"]
    renamed = {}
    for name, values in tensors.items():
        new = name.replace("encoder.layer.", "transformer.layer.")
        for ours, theirs in DISTIL_NAMES.items():
            if new.rsplit(".", 1)[0].split(".", 3)[-1] == ours:
                new = new.replace(ours, theirs)
        renamed[new if new.startswith(("classifier", "pre_")) else f"distilbert.{new}"] = values
    assert any("sa_layer_norm" in name for name in renamed)
    config = DISTILBERT | {"id2label": {"0": "on", "1": "off", "2": "dim"}}
    found = read(write(tmp_path / "distil", config, renamed))
    assert isinstance(found.config, BertConfig)
    assert found.config.types == 1
    assert found.labels == ("on", "off", "dim")
    types = found.tensors.pop("embeddings.token_type_embeddings.weight")
    assert types.shape == (1, 8)
    assert not types.any()
    assert set(found.tensors) == set(tensors)
    for name, values in tensors.items():
        np.testing.assert_array_equal(found.tensors[name], values)


def test_a_classifier_brings_its_labels(tmp_path: Path) -> None:
    config = BERT | {"architectures": ["BertForSequenceClassification"], "id2label": {"1": "off", "0": "on"}}
    tensors = bert_tensors(BERT, labels=2)
    found = read(write(tmp_path / "c", config, tensors))
    assert found.labels == ("on", "off")
    assert found.tensors["classifier.weight"].shape == (2, 8)
    del tensors["pooler.dense.bias"]
    with pytest.raises(CheckpointCorrupt, match=r"pooler.dense.bias.* is missing"):
        read(write(tmp_path / "c", config, tensors))


def test_llama_is_read(llama: Path) -> None:
    found = read(llama)
    assert found.config == LlamaConfig(10, 8, 2, 4, 2, 2, 16, 32, 1e-5, 100000.0, True, 1, 2)
    assert set(found.tensors) == set(llama_tensors(LLAMA))
    assert "lm_head.weight" not in found.tensors


def test_llama_as_newer_transformers_write_it(tmp_path: Path) -> None:
    config = {name: value for name, value in LLAMA.items() if name not in ("rope_theta", "rope_scaling")}
    config |= {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}, "head_dim": 4}
    config["tie_word_embeddings"] = False
    found = read(write(tmp_path / "new", config, llama_tensors(config)))
    assert isinstance(found.config, LlamaConfig)
    assert (found.config.rope_theta, found.config.head_width, found.config.tied) == (5000.0, 4, False)
    assert found.tensors["model.layers.0.self_attn.q_proj.weight"].shape == (16, 8)
    assert found.tensors["lm_head.weight"].shape == (10, 8)


def test_a_tied_matrix_that_is_stored_again_is_left_out(tmp_path: Path) -> None:
    tensors = llama_tensors(LLAMA)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    assert "lm_head.weight" not in read(write(tmp_path / "tied", LLAMA, tensors)).tensors


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_other_floats_become_float32(tmp_path: Path, kind: str) -> None:
    tensors = random_tensors(bert_shapes(bert_config(Fields("config.json", BERT))), kind)
    found = read(write(tmp_path / kind, BERT, tensors))
    for name, values in found.tensors.items():
        np.testing.assert_array_equal(values, tensors[name].astype(np.float32))


def test_bfloat16(tmp_path: Path) -> None:
    # bfloat16 is the upper half of float32.
    halves = {name: (values.view(np.uint32) >> 16).astype("<u2") for name, values in bert_tensors(BERT).items()}
    header, content = {}, b""
    for name, values in halves.items():
        end = len(content) + values.nbytes
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": [len(content), end]}
        content += values.tobytes()
    head = json.dumps(header).encode()
    folder = write(tmp_path / "bf16", BERT, None)
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + content)
    for name, values in read(folder).tensors.items():
        np.testing.assert_array_equal(values.view(np.uint32), halves[name].astype(np.uint32) << 16)


def shard(folder: Path) -> dict[str, Any]:
    tensors = bert_tensors(BERT)
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1-of-2.safetensors": names[::2], "model-2-of-2.safetensors": names[1::2]}
    for file, inside in parts.items():
        save_file({name: tensors[name] for name in inside}, folder / file)
    index = {"weight_map": {name: file for file, inside in parts.items() for name in inside}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def test_shards_make_the_same_checkpoint(bert: Path) -> None:
    whole = read(bert)
    shard(bert)
    parts = read(bert)
    assert parts.sha256 != whole.sha256
    for name, values in whole.tensors.items():
        np.testing.assert_array_equal(parts.tensors[name], values)
    (bert / "model-2-of-2.safetensors").unlink()
    with pytest.raises(CheckpointMissing, match=r"model-2-of-2"):
        read(bert)


@pytest.mark.parametrize("name", ["../model-1-of-2.safetensors", "/etc/passwd", "pytorch_model.bin", 7])
def test_an_index_names_only_safetensors_beside_it(bert: Path, name: object) -> None:
    index = shard(bert)
    index["weight_map"]["classifier.weight"] = name
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointCorrupt, match="beside it"):
        read(bert)


REFUSED_CONFIGS: list[tuple[dict[str, Any], dict[str, Any], type[ConversionError], str]] = [
    (BERT, {"model_type": "roberta"}, CheckpointUnsupported, "model_type is 'roberta', supported: bert"),
    (BERT, {"model_type": ["bert"]}, CheckpointUnsupported, "model_type"),
    (BERT, {"position_embedding_type": "relative_key"}, CheckpointUnsupported, "position_embedding_type"),
    (BERT, {"hidden_act": "swish"}, CheckpointUnsupported, "hidden_act is 'swish', supported: gelu"),
    (BERT, {"is_decoder": True}, CheckpointUnsupported, "is_decoder"),
    (BERT, {"architectures": ["BertForTokenClassification"]}, CheckpointUnsupported, "BertForTokenClassification"),
    (BERT, {"hidden_size": 8.0}, CheckpointCorrupt, "hidden_size is 8.0"),
    (BERT, {"hidden_size": True}, CheckpointCorrupt, "hidden_size is True"),
    (BERT, {"hidden_size": 1 << 40}, CheckpointCorrupt, "hidden_size"),
    (BERT, {"num_hidden_layers": 10**9}, CheckpointCorrupt, "num_hidden_layers"),
    (BERT, {"num_attention_heads": 3}, CheckpointCorrupt, "num_attention_heads"),
    (BERT, {"vocab_size": None}, CheckpointCorrupt, "vocab_size"),
    (BERT, {"vocab_size": "x" * 999}, CheckpointCorrupt, r"vocab_size is 'x+\.\.\."),
    (BERT, {"layer_norm_eps": 0}, CheckpointCorrupt, "layer_norm_eps"),
    (BERT, {"layer_norm_eps": float("nan")}, CheckpointCorrupt, "layer_norm_eps"),
    (BERT, {"pad_token_id": -1}, CheckpointCorrupt, "pad_token_id"),
    (BERT, {"num_hidden_layers": 3}, CheckpointCorrupt, r"encoder\.layer\.2\.attention.* missing"),
    (BERT, {"num_hidden_layers": 1}, CheckpointUnsupported, r"unknown tensor 'encoder\.layer\.1\..*and 15 more"),
    (BERT, {"intermediate_size": 15}, CheckpointCorrupt, r"intermediate.* has shape \[16.* must be \[15"),
    (LLAMA, {"hidden_act": "gelu"}, CheckpointUnsupported, "hidden_act is 'gelu', supported: null or silu"),
    (LLAMA, {"rope_scaling": {"type": "linear", "factor": 2.0}}, CheckpointUnsupported, "RoPE must not be scaled"),
    (LLAMA, {"rope_scaling": {"rope_type": "llama3"}}, CheckpointUnsupported, "rope_type is 'llama3'"),
    (LLAMA, {"rope_scaling": 2.0}, CheckpointCorrupt, "rope_scaling"),
    (LLAMA, {"rope_parameters": {"rope_theta": "x"}}, CheckpointCorrupt, "rope_theta"),
    (LLAMA, {"attention_bias": True}, CheckpointUnsupported, "attention_bias"),
    (LLAMA, {"mlp_bias": 1}, CheckpointUnsupported, "mlp_bias"),
    (LLAMA, {"num_key_value_heads": 3}, CheckpointCorrupt, "num_key_value_heads"),
    (LLAMA, {"head_dim": 3}, CheckpointUnsupported, "even"),
    (LLAMA, {"eos_token_id": 10}, CheckpointCorrupt, "eos_token_id"),
    (LLAMA, {"tie_word_embeddings": "no"}, CheckpointCorrupt, "tie_word_embeddings"),
    (LLAMA, {"tie_word_embeddings": False}, CheckpointCorrupt, r"lm_head\.weight.* missing"),
]


@pytest.mark.parametrize(("config", "change", "error", "words"), REFUSED_CONFIGS)
def test_refused_configs(
    tmp_path: Path, config: dict[str, Any], change: dict[str, Any], error: type[ConversionError], words: str
) -> None:
    tensors = llama_tensors(config) if config is LLAMA else bert_tensors(config)
    with pytest.raises(error, match=words) as caught:
        read(write(tmp_path / "refused", config | change, tensors))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a": "' + b"x" * (1 << 20) + b'"}'])
def test_a_config_that_is_no_object(bert: Path, content: bytes) -> None:
    (bert / "config.json").write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match=r"config\.json"):
        read(bert)


@pytest.mark.parametrize(
    "found", [{"0": "on"}, {"0": "on", "2": "off"}, {"0": "on", "1": "on"}, {"0": "", "1": "x"}, []]
)
def test_labels_must_fit_the_classifier(tmp_path: Path, found: object) -> None:
    with pytest.raises(CheckpointCorrupt, match=r"id2label|classifier"):
        read(write(tmp_path / "l", BERT | {"id2label": found}, bert_tensors(BERT, labels=2)))


def test_a_head_for_many_labels_at_once(tmp_path: Path) -> None:
    config = BERT | {"problem_type": "multi_label_classification"}
    with pytest.raises(CheckpointUnsupported, match="problem_type"):
        read(write(tmp_path / "m", config, bert_tensors(BERT, labels=2)))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_is_missing(bert: Path, file: str) -> None:
    (bert / file).unlink()
    with pytest.raises(CheckpointMissing, match=r"has no"):
        read(bert)


def test_there_is_nothing(tmp_path: Path) -> None:
    for name in ("nothing", "nothing.gguf"):
        with pytest.raises(CheckpointMissing):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl"])
def test_pickles_are_refused(bert: Path, name: str) -> None:
    (bert / "model.safetensors").rename(bert / name)
    for path in (bert, bert / name):
        with pytest.raises(CheckpointUnsupported, match=f"{name}: only safetensors.*convert with"):
            read(path)


@pytest.mark.parametrize("content", [b"{}", b"no", b'{"model": {"type": "WordPiece"}}'])
def test_a_broken_tokenizer(bert: Path, content: bytes) -> None:
    (bert / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match=r"tokenizer\.json"):
        read(bert)


def test_a_tokenizer_with_more_pieces_than_the_model(bert: Path) -> None:
    many = {f"p{n}": n for n in range(11)}
    Tokenizer(models.WordPiece(many, unk_token="p0")).save(str(bert / "tokenizer.json"))
    with pytest.raises(CheckpointCorrupt, match="ids up to 10, but the model only 10"):
        read(bert)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    tensors = bert_tensors(BERT)
    name = "encoder.layer.1.output.dense.bias"
    tensors[name] = tensors[name].astype(np.float64)
    tensors[name][3] = value
    with pytest.raises(CheckpointCorrupt, match=f"{name}' has values that are NaN"):
        read(write(tmp_path / "n", BERT, tensors))


def test_weights_of_another_type(tmp_path: Path) -> None:
    tensors = bert_tensors(BERT)
    tensors["embeddings.LayerNorm.bias"] = np.zeros(8, np.int8)
    with pytest.raises(CheckpointUnsupported, match=r"embeddings.LayerNorm.bias' is 'I8', supported: F16"):
        read(write(tmp_path / "t", BERT, tensors))


def test_one_tensor_under_two_names(tmp_path: Path) -> None:
    tensors = bert_tensors(BERT)
    tensors["bert.embeddings.LayerNorm.bias"] = np.zeros(8, np.float32)
    with pytest.raises(CheckpointCorrupt, match="two tensors are 'embeddings.LayerNorm.bias'"):
        read(write(tmp_path / "two", BERT, tensors))


def overlapping(raw: bytes) -> bytes:
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    first, second = sorted((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])[:2]
    header[second]["data_offsets"] = header[first]["data_offsets"]
    new = json.dumps(header).encode()
    return len(new).to_bytes(8, "little") + new + raw[8 + length :]


def twice(raw: bytes) -> bytes:
    length = int.from_bytes(raw[:8], "little")
    entry = b'"embeddings.LayerNorm.bias":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}'
    assert entry in raw
    header = raw[8 : 8 + length].replace(entry, entry.replace(b"F32", b"F16").replace(b"8", b"16") + b"," + entry)
    return len(header).to_bytes(8, "little") + header + raw[8 + length :]


BROKEN: list[Callable[[bytes], bytes]] = [
    lambda raw: b"",
    lambda raw: raw[:7],
    lambda raw: raw[:50],
    lambda raw: raw[:-1],
    lambda raw: raw + b"\0",
    lambda raw: (1 << 62).to_bytes(8, "little") + raw[8:],
    lambda raw: raw[:8] + b"\xff" * (len(raw) - 8),
    overlapping,
    twice,
]


@pytest.mark.parametrize("spoil", BROKEN)
def test_broken_safetensors(bert: Path, spoil: Callable[[bytes], bytes]) -> None:
    file = bert / "model.safetensors"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(CheckpointCorrupt, match=r"model\.safetensors is not whole"):
        read(bert)


def test_every_flipped_header_byte_is_read_or_refused(bert: Path, tmp_path: Path) -> None:
    raw = (bert / "model.safetensors").read_bytes()
    target = tmp_path / "flipped"
    shutil.copytree(bert, target)
    for at in range(0, 8 + int.from_bytes(raw[:8], "little"), 37):
        (target / "model.safetensors").write_bytes(raw[:at] + bytes([raw[at] ^ 0x15]) + raw[at + 1 :])
        try:
            read(target)
        except ConversionError:
            continue


@pytest.mark.slow
def test_minilm_is_read() -> None:
    from tasuki.converter import teacher

    found = read(teacher.folder())
    assert found.config == BertConfig(30522, 384, 6, 12, 1536, 512, 1e-12, 0, "gelu", 2)
    assert found.licence == "Apache-2.0"
    assert found.sha256.startswith("53aa51172d142c89")
    weights = load_file(teacher.folder() / "model.safetensors")
    for name, values in found.tensors.items():
        np.testing.assert_array_equal(values, weights[name])
