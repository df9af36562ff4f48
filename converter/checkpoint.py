"""Published checkpoints: a folder in Hugging Face's layout with safetensors, or a GGUF file of the Llama family.

Canonical names are Hugging Face's. The BERT family (BERT, MiniLM, TinyBERT, DistilBERT) has BERT's, without the prefix
``bert.``. What an encoder doesn't need is left out: heads of masked language models, tables of positions' numbers.

The files are untrusted: nothing in them is run, and sizes are checked before memory is taken. The safetensors library
checks the layout of a file; the values are then read by the offsets of its header, in NumPy.
"""

import hashlib
import json
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from tasuki.converter.families import (
    BertConfig,
    Checkpoint,
    Fields,
    Floats,
    LlamaConfig,
    Shapes,
    bert_config,
    bert_shapes,
    check_architecture,
    check_finite,
    check_names,
    head_shapes,
    labels,
    llama_config,
    llama_shapes,
    short,
)
from tasuki.sdk.errors import CheckpointCorrupt, CheckpointMissing, CheckpointUnsupported

__all__ = ["BertConfig", "Checkpoint", "LlamaConfig", "check_tokenizer", "read", "spdx"]

MAX_WEIGHT_BYTES = 8 << 30
_MAX_CONFIG_BYTES = 1 << 20
_MAX_INDEX_BYTES = 16 << 20
_MAX_TOKENIZER_BYTES = 64 << 20
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
_FAMILIES = ("bert", "distilbert", "llama")
_SPDX = {name.lower(): name for name in ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0")}
_LEFT_OUT = re.compile(
    r"(embeddings\.position_ids|cls\..*|vocab_(transform|layer_norm|projector)\..*|fit_denses?\..*"
    r"|model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq)$"
)
_DISTIL = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
_DISTIL_LAYER = re.compile(r"transformer\.layer\.(\d+)\.(.+)\.(weight|bias)$")


def read(path: str | Path) -> Checkpoint:
    """The checkpoint in a folder (config.json, \\*.safetensors, tokenizer.json) or in a ``.gguf`` file.

    Raises CheckpointMissing, CheckpointCorrupt and CheckpointUnsupported; the message names the file and the field or
    tensor.
    """
    path = Path(path)
    if path.suffix == ".gguf":
        from tasuki.converter.gguf_file import read_gguf

        return read_gguf(path)
    if path.suffix in _PICKLED:
        raise CheckpointUnsupported(_pickled(path.name))
    if not path.is_dir():
        raise CheckpointMissing(f"{path} is neither a folder with config.json and *.safetensors nor a .gguf file")
    fields = Fields("config.json", _object(path / "config.json", _MAX_CONFIG_BYTES))
    family = fields.get("model_type")
    if family not in _FAMILIES:
        raise CheckpointUnsupported(
            f"config.json: model_type is {short(family)}, supported: {', '.join(_FAMILIES)} (so MiniLM and TinyBERT)"
        )
    check_architecture(fields)
    config = llama_config(fields) if family == "llama" else bert_config(fields)
    tokenizer = _bytes(path / "tokenizer.json", _MAX_TOKENIZER_BYTES)
    check_tokenizer("tokenizer.json", tokenizer, config.vocabulary)
    headers = {file: _header(file) for file in _weight_files(path)}
    shown = path.name if len(headers) > 1 else next(iter(headers)).name
    places = _places(shown, headers, config)
    found = {name: tuple(entry["shape"]) for name, (_, _, entry) in places.items()}
    named: tuple[str, ...] = ()
    if isinstance(config, BertConfig):
        if family == "distilbert":
            found["embeddings.token_type_embeddings.weight"] = (1, config.width)
        named = labels(fields) if "classifier.weight" in found else ()
        check_names(shown, found, *_bert_names(config, found, len(named), family == "distilbert"))
    else:
        shapes = llama_shapes(config)
        check_names(shown, found, shapes, shapes)
    tensors = {name: _tensor(file, start, name, entry) for name, (file, start, entry) in places.items()}
    if family == "distilbert":
        tensors["embeddings.token_type_embeddings.weight"] = np.zeros((1, config.width), np.float32)
    return Checkpoint(
        config=config,
        tensors=tensors,
        tokenizer=tokenizer,
        labels=named,
        name=path.resolve().name,
        licence=_licence(path / "README.md"),
        sha256=_digest(list(headers)),
    )


def check_tokenizer(file: str, content: bytes, vocabulary: int) -> None:
    """Refuse a ``tokenizer.json`` that can't be parsed or has ids past the embedding. Raises CheckpointCorrupt."""
    try:
        highest = max(Tokenizer.from_buffer(content).get_vocab(with_added_tokens=True).values(), default=-1)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # such is a panic of Rust
        raise CheckpointCorrupt(f"{file} can't be parsed: {short(str(error))}") from error
    if not 0 <= highest < vocabulary:
        raise CheckpointCorrupt(f"{file} has ids up to {highest}, but the model only {vocabulary} embeddings")


def spdx(licence: object) -> str:
    """The SPDX identifier of a licence in a model card, else ``unknown``."""
    return _SPDX.get(licence.strip().lower(), "unknown") if isinstance(licence, str) else "unknown"


def _bert_names(
    config: BertConfig, found: Mapping[str, tuple[int, ...]], label_count: int, distilled: bool
) -> tuple[Shapes, Shapes]:
    """The tensors that may be there, and those that must."""
    needed = bert_shapes(config)
    head = head_shapes(config, label_count, distilled)
    if label_count:
        return needed | head, needed | head
    # A pooler without a head is common in encoders, and unused.
    pooler = {name: shape for name, shape in head.items() if name.startswith("pooler.")}
    return needed | pooler, needed | {name: shape for name, shape in pooler.items() if set(pooler) & set(found)}


def _canonical(name: str, config: BertConfig | LlamaConfig) -> str:
    if isinstance(config, LlamaConfig):
        return name
    for prefix in ("bert.", "distilbert."):
        name = name.removeprefix(prefix)
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
    layer = _DISTIL_LAYER.match(name)
    if layer and layer[2] in _DISTIL:
        return f"encoder.layer.{layer[1]}.{_DISTIL[layer[2]]}.{layer[3]}"
    return name


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the folder, by name: the shards of an index, or the only one."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        placed = _object(index, _MAX_INDEX_BYTES).get("weight_map")
        if not isinstance(placed, dict) or not placed:
            raise CheckpointCorrupt(f"{index.name}: weight_map must be an object that is not empty")
        names = set()
        for name in placed.values():
            if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+\.safetensors", name):
                raise CheckpointCorrupt(f"{index.name}: {short(name)} is not the name of a safetensors file beside it")
            names.add(name)
        files = [folder / name for name in sorted(names)]
    else:
        files = sorted(folder.glob("*.safetensors"))
        if (folder / "model.safetensors") in files:
            files = [folder / "model.safetensors"]
    if not files:
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLED)
        if pickled:
            raise CheckpointUnsupported(_pickled(pickled[0]))
        raise CheckpointMissing(f"{folder} has no *.safetensors")
    if len(files) > 1 and not index.is_file():
        raise CheckpointMissing(f"{folder} has {len(files)} safetensors files, but no {index.name}")
    for file in files:
        if not file.is_file():
            raise CheckpointMissing(f"{folder} has no {file.name}: download the checkpoint again")
    size = sum(file.stat().st_size for file in files)
    if size > MAX_WEIGHT_BYTES:
        raise CheckpointUnsupported(f"{folder}: the weights have {size:,} bytes, at most {MAX_WEIGHT_BYTES:,}")
    return files


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    """Where the values start, and the header's entries, after the library has checked the file's layout."""
    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointCorrupt(f"{file.name} is not whole: {short(str(error))}; download it again") from error
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        pairs = json.loads(stream.read(length), object_pairs_hook=list)
    # Of two entries with one name, the library may have checked the other.
    entries = {name: dict(entry) for name, entry in pairs}
    if len(entries) != len(pairs):
        raise CheckpointCorrupt(f"{file.name} is not whole: a tensor is there twice; download it again")
    entries.pop("__metadata__", None)
    return 8 + length, entries


def _places(
    shown: str, headers: Mapping[Path, tuple[int, dict[str, Any]]], config: BertConfig | LlamaConfig
) -> dict[str, tuple[Path, int, dict[str, Any]]]:
    """File, start of its values and entry of each tensor that is wanted, by canonical name."""
    places: dict[str, tuple[Path, int, dict[str, Any]]] = {}
    for file, (start, entries) in headers.items():
        for raw, entry in entries.items():
            name = _canonical(raw, config)
            # A tied output matrix is stored again by some writers; the embedding counts.
            tied = isinstance(config, LlamaConfig) and config.tied and name == "lm_head.weight"
            if tied or _LEFT_OUT.match(name):
                continue
            if name in places:
                raise CheckpointCorrupt(f"{shown}: two tensors are {name!r}")
            places[name] = (file, start, entry)
    return places


def _tensor(file: Path, start: int, name: str, entry: Mapping[str, Any]) -> Floats:
    """The values as float32, copied out of the file."""
    begin, end = entry["data_offsets"]
    kind = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}.get(entry["dtype"])
    if kind is None:
        raise CheckpointUnsupported(
            f"{file.name}: tensor {name!r} is {short(entry['dtype'])}, supported: F16, BF16, F32, F64"
        )
    with file.open("rb") as stream:
        stream.seek(start + begin)
        raw = np.frombuffer(stream.read(end - begin), kind)
    if entry["dtype"] == "BF16":
        values = (raw.astype(np.uint32) << 16).view(np.float32)
    else:
        with np.errstate(over="ignore"):  # what overflows is refused by name
            values = raw.astype(np.float32)
    return check_finite(file.name, name, values.reshape(entry["shape"]))


def _bytes(file: Path, limit: int) -> bytes:
    if not file.is_file():
        raise CheckpointMissing(f"{file.parent} has no {file.name}")
    if file.stat().st_size > limit:
        raise CheckpointCorrupt(f"{file.name} has {file.stat().st_size:,} bytes, at most {limit:,}")
    return file.read_bytes()


def _object(file: Path, limit: int) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(file, limit))
    except (ValueError, RecursionError) as error:
        raise CheckpointCorrupt(f"{file.name} is not JSON: {short(str(error))}") from error
    if not isinstance(found, dict):
        raise CheckpointCorrupt(f"{file.name} must hold a JSON object")
    return found


def _pickled(name: str) -> str:
    return (
        f"{name}: only safetensors and GGUF are read, since loading a pickle can run what it likes; convert with "
        "save_pretrained(folder, safe_serialization=True) of transformers, on a machine that may run it"
    )


def _licence(card: Path) -> str:
    """The licence in the front matter of a model card."""
    if not card.is_file():
        return "unknown"
    with card.open(encoding="utf-8", errors="replace") as stream:
        found = re.search(r"^license:\s*([^\n]*)$", stream.read(1 << 16), re.MULTILINE)
    return spdx(found[1].strip("'\" ")) if found else "unknown"


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            digest.update(content)
    return digest.hexdigest()
