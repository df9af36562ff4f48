"""GGUF files of the Llama family, as llama.cpp writes them: weights and tokenizer back to Hugging Face's form.

The header is parsed here and not by ``gguf.GGUFReader``, which trusts every length: an array that claims 2^60 elements
keeps it busy for ever. The values are dequantised by the `gguf` package.
"""

import hashlib
import math
import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from tasuki.converter.checkpoint import MAX_WEIGHT_BYTES, check_tokenizer, spdx
from tasuki.converter.families import (
    MAX_INNER,
    MAX_LAYERS,
    MAX_POSITIONS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    Checkpoint,
    Fields,
    Floats,
    LlamaConfig,
    check_finite,
    check_names,
    llama_shapes,
    short,
)
from tasuki.sdk.errors import CheckpointCorrupt, CheckpointMissing, CheckpointUnsupported

_MAX_PAIRS = 1 << 12
_MAX_TENSORS = 1 << 14
_MAX_ELEMENTS = 1 << 20
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
# How a text is cut before byte pairs are merged, by ``tokenizer.ggml.pre``.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CUTS = ("default", "gpt-2", "llama-bpe", "smollm")
_CONTROL, _USER_DEFINED = 3, 4


@dataclass(frozen=True)
class _Place:
    """A tensor in the file: `shape` in NumPy's order, `start` in bytes from the start of the file."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int
    size: int


def read_gguf(path: str | Path) -> Checkpoint:
    """The checkpoint in a GGUF file of version 2 or 3, architecture ``llama`` with a byte-level BPE tokenizer.

    Weights come dequantised as float32: four bytes a parameter. llama.cpp stores the rows of queries and keys in pairs
    for its RoPE; here they are in halves, as Hugging Face has them. ``tokenizer.ggml.pre`` ``default``, or none, is
    taken for GPT-2's. Raises CheckpointMissing, CheckpointCorrupt and CheckpointUnsupported.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointMissing(f"there is no file {path}")
    size = path.stat().st_size
    if size > MAX_WEIGHT_BYTES:
        raise CheckpointUnsupported(f"{path.name} has {size:,} bytes, at most {MAX_WEIGHT_BYTES:,}")
    if size < 24:
        raise CheckpointCorrupt(f"{path.name} is no GGUF file: it has {size} bytes")
    with path.open("rb") as stream:
        content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    fields, places = _Header(path.name, content).read()
    config = _config(fields, places)
    found = {}
    for raw, place in places.items():
        name = _canonical(path.name, raw)
        if name in found:
            raise CheckpointCorrupt(f"{path.name}: two tensors are {name!r}")
        found[name] = place
    shapes = llama_shapes(config)
    check_names(path.name, {name: place.shape for name, place in found.items()}, shapes, shapes)
    tokenizer = _tokenizer(fields, config)
    tensors = {name: _tensor(path.name, name, content, place, config) for name, place in found.items()}
    name = fields.get("general.name")
    return Checkpoint(
        config=config,
        tensors=tensors,
        tokenizer=tokenizer,
        labels=(),
        name=name if isinstance(name, str) and name.isprintable() and 0 < len(name) <= 200 else path.stem,
        licence=spdx(fields.get("general.license")),
        sha256=hashlib.sha256(content).hexdigest(),
    )


class _Header:
    """Reads the header front to back; every length is checked against what is left of the file."""

    def __init__(self, file: str, content: memoryview) -> None:
        self.file, self.content, self.at = file, content, 0

    def read(self) -> tuple[Fields, dict[str, _Place]]:
        if bytes(self.take(4)) != b"GGUF":
            raise CheckpointCorrupt(f"{self.file} is no GGUF file: it starts with other bytes")
        version = self.scalar("I")
        if version not in (2, 3):
            raise CheckpointUnsupported(f"{self.file}: GGUF version {version}, supported: 2 and 3, little-endian")
        tensors, pairs = self.count("Q", _MAX_TENSORS, "tensors"), self.count("Q", _MAX_PAIRS, "fields")
        values: dict[str, Any] = {}
        for _ in range(pairs):
            key = self.string()
            if key in values:
                raise CheckpointCorrupt(f"{self.file}: the field {short(key)} is there twice")
            values[key] = self.value(self.scalar("I"), key)
        fields = Fields(self.file, values)
        raw: dict[str, tuple[GGMLQuantizationType, tuple[int, ...], int]] = {}
        for _ in range(tensors):
            name = self.string()
            if name in raw:
                raise CheckpointCorrupt(f"{self.file}: the tensor {short(name)} is there twice")
            shape = tuple(
                reversed([self.scalar("Q") for _ in range(self.count("I", 4, f"dimensions of {short(name)}"))])
            )
            raw[name] = (self.kind(name, self.scalar("I")), shape, self.scalar("Q"))
        return fields, self.places(fields, raw)

    def places(
        self, fields: Fields, raw: dict[str, tuple[GGMLQuantizationType, tuple[int, ...], int]]
    ) -> dict[str, _Place]:
        """Where the tensors are. None may overlap another or pass the end."""
        alignment = fields.whole("general.alignment", 1 << 20, default=32)
        base = -(-self.at // alignment) * alignment
        places = {}
        for name, (kind, shape, offset) in raw.items():
            block, block_bytes = GGML_QUANT_SIZES[kind]
            if not shape or shape[-1] % block:
                raise CheckpointCorrupt(
                    f"{self.file}: tensor {short(name)} of shape {list(shape)} can't be {kind.name}, blocks of {block}"
                )
            places[name] = _Place(kind, shape, base + offset, math.prod(shape) // block * block_bytes)
        end, before = base, ""
        for name, place in sorted(places.items(), key=lambda item: item[1].start):
            if place.start < end:
                raise CheckpointCorrupt(f"{self.file}: tensors {short(before)} and {short(name)} overlap")
            end, before = place.start + place.size, name
        if end > len(self.content):
            raise CheckpointCorrupt(
                f"{self.file}: tensor {short(before)} ends at byte {end:,}, the file at {len(self.content):,}; "
                "download it again"
            )
        return places

    def take(self, size: int) -> memoryview:
        if size > len(self.content) - self.at:
            raise CheckpointCorrupt(f"{self.file} is cut off in its header at byte {self.at:,}; download it again")
        self.at += size
        return self.content[self.at - size : self.at]

    def scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def count(self, code: str, limit: int, what: str) -> int:
        found: int = self.scalar(code)
        if found > limit:
            raise CheckpointCorrupt(f"{self.file} claims {found:,} {what}, at most {limit:,}")
        return found

    def string(self) -> str:
        raw = bytes(self.take(self.scalar("Q")))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise CheckpointCorrupt(f"{self.file}: a string before byte {self.at:,} is not UTF-8") from None

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind != _ARRAY:
            raise CheckpointCorrupt(f"{self.file}: the field {short(key)} has the unknown type {kind}")
        kind, count = self.scalar("I"), self.count("Q", _MAX_ELEMENTS, f"elements in {short(key)}")
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        if kind not in _SCALARS:
            raise CheckpointUnsupported(f"{self.file}: the field {short(key)} is an array of the type {kind}")
        code = f"<{count}{_SCALARS[kind]}"
        return list(struct.unpack(code, self.take(struct.calcsize(code))))

    def kind(self, name: str, number: int) -> GGMLQuantizationType:
        try:
            return GGMLQuantizationType(number)
        except ValueError:
            raise CheckpointUnsupported(f"{self.file}: tensor {short(name)} has the unknown type {number}") from None


def _config(fields: Fields, places: dict[str, _Place]) -> LlamaConfig:
    fields.only("general.architecture", ("llama",))
    fields.only("llama.rope.scaling.type", (None, "none"), "RoPE must not be scaled")
    fields.only("llama.rope.scale_linear", (None, 1.0), "RoPE must not be scaled")
    fields.only("llama.expert_count", (None, 0), "no mixtures of experts")
    if "rope_freqs.weight" in places:
        raise CheckpointUnsupported(f"{fields.file}: RoPE is scaled (tensor 'rope_freqs.weight'), supported: unscaled")
    words = places.get("token_embd.weight")
    if words is None or len(words.shape) != 2:
        raise CheckpointCorrupt(f"{fields.file}: tensor 'token_embd.weight' is missing or has not two dimensions")
    vocabulary = words.shape[0]
    if not 0 < vocabulary <= MAX_VOCABULARY:
        raise CheckpointCorrupt(f"{fields.file}: a vocabulary of {vocabulary}, must be from 1 to {MAX_VOCABULARY}")
    width = fields.whole("llama.embedding_length", MAX_WIDTH)
    heads = fields.whole("llama.attention.head_count", width)
    kv_heads = fields.whole("llama.attention.head_count_kv", heads, default=heads)
    if heads % kv_heads:
        raise fields.wrong("llama.attention.head_count_kv", f"a divisor of head_count {heads}")
    head_width = fields.whole("llama.attention.key_length", MAX_WIDTH, default=max(width // heads, 1))
    fields.only("llama.attention.value_length", (None, head_width))
    fields.only("llama.rope.dimension_count", (None, head_width), "RoPE must turn whole heads")
    if head_width % 2:
        raise CheckpointUnsupported(f"{fields.file}: heads are {head_width} wide, RoPE needs an even number")
    return LlamaConfig(
        vocabulary=vocabulary,
        width=width,
        layers=fields.whole("llama.block_count", MAX_LAYERS),
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        inner=fields.whole("llama.feed_forward_length", MAX_INNER),
        positions=fields.whole("llama.context_length", MAX_POSITIONS),
        # The file has float32; the shortest decimal that gives the same float32 is what the config said.
        norm_epsilon=_decimal(fields.real("llama.attention.layer_norm_rms_epsilon", 0.1)),
        rope_theta=_decimal(fields.real("llama.rope.freq_base", 1e12, 10000.0)),
        tied="output.weight" not in places,
        bos=fields.token("tokenizer.ggml.bos_token_id", vocabulary),
        eos=fields.token("tokenizer.ggml.eos_token_id", vocabulary),
    )


def _decimal(value: float) -> float:
    return float(str(np.float32(value)))


def _canonical(file: str, raw: str) -> str:
    """Hugging Face's name of llama.cpp's tensor. Raises CheckpointUnsupported."""
    match = re.fullmatch(r"(?:blk\.(0|[1-9]\d{0,3})\.)?(\w+)\.weight", raw, re.ASCII)
    inside = match is not None and match[1] is not None
    if match is None or match[2] not in _NAMES or inside != ("attn_" in match[2] or "ffn_" in match[2]):
        raise CheckpointUnsupported(f"{file}: unknown tensor {short(raw)}; not a plain Llama")
    return (f"model.layers.{match[1]}." if inside else "") + f"{_NAMES[match[2]]}.weight"


def _tensor(file: str, name: str, content: memoryview, place: _Place, config: LlamaConfig) -> Floats:
    block, block_bytes = GGML_QUANT_SIZES[place.kind]
    raw = np.frombuffer(content[place.start : place.start + place.size], np.uint8)
    raw = raw.reshape(*place.shape[:-1], place.shape[-1] // block * block_bytes)
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused by name
            values = dequantize(raw, place.kind)
    except NotImplementedError as error:
        raise CheckpointUnsupported(f"{file}: tensor {name!r} is {place.kind.name}, which can't be read") from error
    values = check_finite(file, name, np.asarray(values, np.float32).reshape(place.shape))
    for part, heads in (("q_proj", config.heads), ("k_proj", config.kv_heads)):
        if name.endswith(f"self_attn.{part}.weight"):
            rows, columns = values.shape
            values = values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
    return np.asarray(values, np.float32)


def _tokenizer(fields: Fields, config: LlamaConfig) -> bytes:
    """The content of the ``tokenizer.json`` that the file was made from, as far as it matters for ids."""
    fields.only("tokenizer.ggml.model", ("gpt2",), "byte-level BPE")
    fields.only("tokenizer.ggml.pre", (None, *_CUTS))
    fields.only("tokenizer.ggml.add_space_prefix", (None, False))
    cut = fields.get("tokenizer.ggml.pre")
    tokens, merges = _strings(fields, "tokenizer.ggml.tokens"), _strings(fields, "tokenizer.ggml.merges")
    kinds = fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if len(tokens) != config.vocabulary or len(set(tokens)) != len(tokens) or "" in tokens:
        raise CheckpointCorrupt(
            f"{fields.file}: tokenizer.ggml.tokens must be {config.vocabulary} different strings, none of them empty"
        )
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise CheckpointCorrupt(f"{fields.file}: tokenizer.ggml.token_type must have as many elements as tokens")
    pairs = []
    for merge in merges:
        left, _, right = merge.partition(" ")
        if not left or not right or " " in right:
            raise CheckpointCorrupt(f"{fields.file}: tokenizer.ggml.merges has {short(merge)}, must be two pieces")
        pairs.append((left, right))
    vocabulary = {token: n for n, token in enumerate(tokens)}
    try:
        made = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=cut == "llama-bpe"))
    except Exception as error:  # the library raises a plain Exception for a merge out of the vocabulary
        raise CheckpointCorrupt(f"{fields.file}: tokenizer.ggml.merges: {short(str(error))}") from error
    made.pre_tokenizer = _cut(cut)
    made.decoder = decoders.ByteLevel()
    if fields.flag("tokenizer.ggml.add_bos_token", False):
        if config.bos is None:
            raise CheckpointCorrupt(f"{fields.file}: add_bos_token is true, but there is no bos_token_id")
        bos = tokens[config.bos]
        made.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, config.bos)])
    for token, kind in zip(tokens, kinds, strict=True):
        if kind == _CONTROL:
            made.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        elif kind == _USER_DEFINED:
            made.add_tokens([AddedToken(token, normalized=False, special=False)])
    content = made.to_str().encode()
    check_tokenizer(f"{fields.file}: tokenizer", content, config.vocabulary)
    return content


def _cut(name: str | None) -> pre_tokenizers.PreTokenizer:
    if name == "llama-bpe":
        return pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(_LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])  # fmt: skip
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    return gpt2


def _strings(fields: Fields, name: str) -> list[str]:
    found = fields.get(name)
    if not isinstance(found, list) or not all(isinstance(value, str) for value in found):
        raise fields.wrong(name, "an array of strings")
    return found
