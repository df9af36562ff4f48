"""The two families of published checkpoints: their configs, and the names and shapes of their tensors.

Everything here reads untrusted files: each field has a type and bounds, and an unknown one is refused by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import CheckpointCorrupt, CheckpointUnsupported

Floats = NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]
Activation = Literal["gelu", "gelu_new", "relu"]

# Bounds of a config; real models of the two families lie far below.
MAX_VOCABULARY = 1 << 20
MAX_WIDTH = 1 << 14
MAX_INNER = 1 << 17
MAX_LAYERS = 256
MAX_POSITIONS = 1 << 20
_ACTIVATIONS: dict[object, Activation] = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "relu": "relu",
}  # fmt: skip
_ONLY_CLASSIFY = "supported: an encoder, or one with a head that gives one label to a text"


@dataclass(frozen=True)
class BertConfig:
    """The BERT family; `types` counts the rows of the token type embeddings."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    norm_epsilon: float
    pad: int
    activation: Activation
    types: int


@dataclass(frozen=True)
class LlamaConfig:
    """The Llama family; `tied` means that the output matrix is the embedding, `bos` and `eos` are ids."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    positions: int
    norm_epsilon: float
    rope_theta: float
    tied: bool
    bos: int | None
    eos: int | None


@dataclass(frozen=True)
class Checkpoint:
    """A published model: `tensors` float32 by canonical name, `tokenizer` the content of a ``tokenizer.json``.

    `labels` are those of a classifier head, else empty. `licence` is an SPDX identifier where it is known, else
    ``unknown``. `sha256` is that of the weights' files, one after the other in the order of their names.
    """

    config: BertConfig | LlamaConfig
    tensors: dict[str, Floats]
    tokenizer: bytes
    labels: tuple[str, ...]
    name: str
    licence: str
    sha256: str


class Fields:
    """The fields of a config file, taken with type and bounds. Raises CheckpointCorrupt, CheckpointUnsupported."""

    def __init__(self, file: str, values: Mapping[str, Any]) -> None:
        self.file, self.values = file, values

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def whole(self, name: str, high: int, low: int = 1, default: int | None = None) -> int:
        """An integer from `low` to `high`, both included."""
        found = self.get(name)
        found = default if found is None else found
        if type(found) is not int:
            raise self.wrong(name, f"an integer from {low} to {high}")
        if not low <= found <= high:
            raise self.wrong(name, f"from {low} to {high}")
        return found

    def real(self, name: str, high: float, default: float | None = None) -> float:
        """A finite number above 0, at most `high`."""
        found = self.get(name)
        found = default if found is None else found
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= high:
            raise self.wrong(name, f"a number above 0, at most {high:g}")
        return float(found)

    def flag(self, name: str, default: bool) -> bool:
        found = self.get(name)
        found = default if found is None else found
        if not isinstance(found, bool):
            raise self.wrong(name, "true or false")
        return found

    def token(self, name: str, vocabulary: int) -> int | None:
        """A token's id or None; the first of a list."""
        found = self.get(name)
        if isinstance(found, list) and found:
            found = found[0]
        if found is not None and (type(found) is not int or not 0 <= found < vocabulary):
            raise self.wrong(name, f"null or an id below {vocabulary}")
        return found

    def only(self, name: str, supported: tuple[object, ...], hint: str = "") -> None:
        """Refuse every value but the `supported` ones."""
        found = self.get(name)
        # 0 == False in Python, but not in JSON.
        if not any(found == value and type(found) is type(value) for value in supported):
            words = " or ".join("null" if value is None else str(value).lower() for value in supported)
            raise CheckpointUnsupported(
                f"{self.file}: {name} is {short(found)}, supported: {words}" + (f"; {hint}" if hint else "")
            )

    def wrong(self, name: str, wanted: str) -> CheckpointCorrupt:
        return CheckpointCorrupt(f"{self.file}: {name} is {short(self.get(name))}, must be {wanted}")


def short(value: object) -> str:
    """A value from a file for a message: one line, at most 80 characters."""
    words = repr(value)
    return words if len(words) <= 80 else words[:77] + "..."


def bert_config(fields: Fields) -> BertConfig:
    """BERT's and DistilBERT's ``config.json``."""
    distilled = fields.get("model_type") == "distilbert"
    fields.only("position_embedding_type", (None, "absolute"))
    fields.only("is_decoder", (None, False), "only encoders")
    name = {
        "width": "dim", "layers": "n_layers", "heads": "n_heads", "inner": "hidden_dim", "activation": "activation",
    } if distilled else {
        "width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
        "inner": "intermediate_size", "activation": "hidden_act",
    }  # fmt: skip
    activation = fields.get(name["activation"])
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        known = ", ".join(map(str, _ACTIVATIONS))
        raise CheckpointUnsupported(f"{fields.file}: {name['activation']} is {short(activation)}, supported: {known}")
    width = fields.whole(name["width"], MAX_WIDTH)
    heads = fields.whole(name["heads"], width)
    if width % heads:
        raise fields.wrong(name["heads"], f"a divisor of {name['width']} {width}")
    vocabulary = fields.whole("vocab_size", MAX_VOCABULARY)
    return BertConfig(
        vocabulary=vocabulary,
        width=width,
        layers=fields.whole(name["layers"], MAX_LAYERS),
        heads=heads,
        inner=fields.whole(name["inner"], MAX_INNER),
        positions=fields.whole("max_position_embeddings", MAX_POSITIONS),
        norm_epsilon=1e-12 if distilled else fields.real("layer_norm_eps", 0.1, 1e-12),
        pad=fields.whole("pad_token_id", vocabulary - 1, 0, 0),
        activation=_ACTIVATIONS[activation],
        types=1 if distilled else fields.whole("type_vocab_size", 1024),
    )


def llama_config(fields: Fields) -> LlamaConfig:
    """Llama's ``config.json``, with RoPE's fields where older and newer versions of transformers put them."""
    fields.only("hidden_act", (None, "silu"))
    fields.only("attention_bias", (None, False))
    fields.only("mlp_bias", (None, False))
    theta = fields
    for name in ("rope_scaling", "rope_parameters"):
        found = fields.get(name)
        if found is None:
            continue
        if not isinstance(found, dict):
            raise fields.wrong(name, "null or an object")
        inside = Fields(f"{fields.file}: {name}", found)
        inside.only("rope_type" if "rope_type" in found else "type", (None, "default"), "RoPE must not be scaled")
        inside.only("factor", (None, 1, 1.0), "RoPE must not be scaled")
        inside.only("partial_rotary_factor", (None, 1, 1.0), "RoPE must turn whole heads")
        if "rope_theta" in found:
            theta = inside
    width = fields.whole("hidden_size", MAX_WIDTH)
    heads = fields.whole("num_attention_heads", width)
    kv_heads = fields.whole("num_key_value_heads", heads, default=heads)
    if heads % kv_heads:
        raise fields.wrong("num_key_value_heads", f"a divisor of num_attention_heads {heads}")
    if fields.get("head_dim") is None and width % heads:
        raise fields.wrong("num_attention_heads", f"a divisor of hidden_size {width}, or head_dim given")
    head_width = fields.whole("head_dim", MAX_WIDTH, default=width // heads)
    if head_width % 2:
        raise CheckpointUnsupported(f"{fields.file}: heads are {head_width} wide, RoPE needs an even number")
    vocabulary = fields.whole("vocab_size", MAX_VOCABULARY)
    return LlamaConfig(
        vocabulary=vocabulary,
        width=width,
        layers=fields.whole("num_hidden_layers", MAX_LAYERS),
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        inner=fields.whole("intermediate_size", MAX_INNER),
        positions=fields.whole("max_position_embeddings", MAX_POSITIONS, default=2048),
        norm_epsilon=fields.real("rms_norm_eps", 0.1, 1e-6),
        rope_theta=theta.real("rope_theta", 1e12, 10000.0),
        tied=fields.flag("tie_word_embeddings", False),
        bos=fields.token("bos_token_id", vocabulary),
        eos=fields.token("eos_token_id", vocabulary),
    )


def labels(fields: Fields) -> tuple[str, ...]:
    """The labels of ``id2label`` by id. Only for a checkpoint with a classifier."""
    fields.only("problem_type", (None, "single_label_classification"), _ONLY_CLASSIFY)
    found = fields.get("id2label")
    if found is None:
        found = {str(n): f"LABEL_{n}" for n in range(fields.whole("num_labels", 4096, default=2))}
    if not isinstance(found, dict) or not found or sorted(found) != sorted(map(str, range(len(found)))):
        raise fields.wrong("id2label", 'an object with the keys "0", "1" and so on')
    ordered = tuple(found[str(n)] for n in range(len(found)))
    if not all(isinstance(label, str) and label.strip() for label in ordered) or len(set(ordered)) < len(ordered):
        raise fields.wrong("id2label", "different names, none of them empty")
    return ordered


def check_architecture(fields: Fields) -> None:
    """Refuse heads whose tensors have a text classifier's names but another meaning."""
    for name in fields.get("architectures") or ():
        if isinstance(name, str) and name.endswith(("ForTokenClassification", "ForMultipleChoice", "CausalLM")):
            if name == "LlamaForCausalLM":
                continue
            raise CheckpointUnsupported(f"{fields.file}: architectures has {short(name)}; {_ONLY_CLASSIFY}")


def bert_shapes(config: BertConfig) -> Shapes:
    """The tensors that every encoder has, by canonical name."""
    d, inner = config.width, config.inner
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config.vocabulary, d),
        "embeddings.position_embeddings.weight": (config.positions, d),
        "embeddings.token_type_embeddings.weight": (config.types, d),
        "embeddings.LayerNorm.weight": (d,),
        "embeddings.LayerNorm.bias": (d,),
    }
    dense = {f"attention.self.{part}": (d, d) for part in ("query", "key", "value")}
    dense |= {"attention.output.dense": (d, d), "intermediate.dense": (inner, d), "output.dense": (d, inner)}
    for n in range(config.layers):
        name = f"encoder.layer.{n}"
        for part, shape in dense.items():
            shapes |= {f"{name}.{part}.weight": shape, f"{name}.{part}.bias": shape[:1]}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{name}.{part}.weight": (d,), f"{name}.{part}.bias": (d,)}
    return shapes


def head_shapes(config: BertConfig, labels: int, distilled: bool) -> Shapes:
    """The tensors of a head for `labels` labels, and of the layer before it."""
    d, before = config.width, "pre_classifier" if distilled else "pooler.dense"
    return {
        f"{before}.weight": (d, d),
        f"{before}.bias": (d,),
        "classifier.weight": (labels, d),
        "classifier.bias": (labels,),
    }


def llama_shapes(config: LlamaConfig) -> Shapes:
    """All tensors, by canonical name; ``lm_head.weight`` unless tied."""
    d, inner, kv = config.width, config.inner, config.kv_heads * config.head_width
    shapes: Shapes = {"model.embed_tokens.weight": (config.vocabulary, d), "model.norm.weight": (d,)}
    for n in range(config.layers):
        name = f"model.layers.{n}"
        shapes |= {
            f"{name}.self_attn.q_proj.weight": (config.heads * config.head_width, d),
            f"{name}.self_attn.k_proj.weight": (kv, d),
            f"{name}.self_attn.v_proj.weight": (kv, d),
            f"{name}.self_attn.o_proj.weight": (d, config.heads * config.head_width),
            f"{name}.mlp.gate_proj.weight": (inner, d),
            f"{name}.mlp.up_proj.weight": (inner, d),
            f"{name}.mlp.down_proj.weight": (d, inner),
            f"{name}.input_layernorm.weight": (d,),
            f"{name}.post_attention_layernorm.weight": (d,),
        }
    if not config.tied:
        shapes["lm_head.weight"] = (config.vocabulary, d)
    return shapes


def check_names(file: str, found: Mapping[str, tuple[int, ...]], expected: Shapes, needed: Shapes) -> None:
    """Compare the shapes in a file with the `expected` ones, of which it must have the `needed`. Raises."""
    unknown = sorted(set(found) - set(expected))
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise CheckpointUnsupported(f"{file}: unknown tensor {short(unknown[0])}{more}; not a plain BERT or Llama")
    missing = [name for name in needed if name not in found]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointCorrupt(f"{file}: tensor {missing[0]!r}{more} is missing")
    for name, shape in found.items():
        if shape != expected[name]:
            raise CheckpointCorrupt(
                f"{file}: tensor {name!r} has shape {list(shape)}, by the config it must be {list(expected[name])}"
            )


def check_finite(file: str, name: str, values: Floats) -> Floats:
    """The values, if none is NaN or infinite. Raises CheckpointCorrupt."""
    if not np.isfinite(values).all():
        raise CheckpointCorrupt(f"{file}: tensor {name!r} has values that are NaN or infinite")
    return values
