"""A checkpoint of the Llama family becomes a static int8 model with the signatures `decode` and `prefill`.

The convention of the model, the same for both signatures but for the number of tokens T (`decode` 1, `prefill` a
chunk):

- Inputs: `ids` int32 [1, T]; `position` int32 [1], how many tokens of the text came before, from 0; for each layer N
  `key.N` and `value.N` int8 [1, kv_heads, context, head_width], the cache. (int16 with `activations` int16.)
- Outputs: `key.N` and `value.N` [1, kv_heads, T, head_width] of these tokens, on the cache's grid: the caller copies
  them to the slots `position` to ``position + T - 1`` of its cache; `features` [T, width]; `logits` [T, vocabulary]
  for what follows each token.
- A slot from `position` on is masked, whatever is in it: a text begins with `position` 0 and any cache. Position plus
  the tokens that count must not exceed the context. A chunk that is not full is padded with any ids, and what comes
  back for the padding is not used.
- The start token is inside: its keys and values are constants of the model, computed in float. The caller's first token
  is the one after it, at position 0, and the start token itself is never given. A text has at least one token.

`prefill` of some tokens gives what as many calls of `decode` give, but for how a runtime's kernels round one row and
many. `decode` is the first subgraph, which is the one that TensorFlow Lite Micro runs.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasuki.converter import decoder_scales, execute, llama
from tasuki.converter.causal_texts import Windows, windows
from tasuki.converter.compile import Compiled, compile_graphs
from tasuki.converter.decoder_scales import NOTHING, Equalisation
from tasuki.converter.families import Checkpoint, LlamaConfig
from tasuki.converter.graph import Floats, Graph
from tasuki.converter.quantise import Options
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import CheckpointUnsupported, ConversionError

_BATCH: Final = 4
# Logits of so many calibration tokens decide how the output matrix is rounded.
_JUDGED: Final = 512
# Windows on which start tokens are compared, and how many are.
_TRIED: Final = 4
_STARTS: Final = 4


@dataclass(frozen=True)
class DecoderSettings:
    """`context` is the most tokens of a text without its start token, `chunk` those of one call of `prefill`.

    Calibration reads `windows` windows of `tokens` tokens, and finds the scales on the first `measured` of them.
    `activations` is `int8` or `int16`. Raises ConversionError.
    """

    context: int = 256
    chunk: int = 16
    windows: int = 24
    tokens: int = 96
    measured: int = 24
    activations: str = "int8"
    tier: str = "gateway"

    def __post_init__(self) -> None:
        sizes = (self.context, self.chunk, self.windows, self.tokens, self.measured)
        if min(sizes) < 1 or self.tokens < 2 or self.chunk > self.context:
            raise ConversionError(f"{self}: every size is from 1, tokens from 2, and the chunk at most the context")
        if self.activations not in ("int8", "int16"):
            raise ConversionError(f"activations are int8 or int16, not {self.activations!r}")


@dataclass(frozen=True)
class Decoder:
    """A converted decoder before packing; `graphs` are the float graphs by signature, in the order of the file.

    `tokenizer` is the content of a ``tokenizer.json``, `start` the id of the start token that is inside the model,
    `cache` the shape [layers, kv_heads, context, head_width] of all keys, or all values. `origin`, `calibration` and
    `notes` are for the manifest.
    """

    name: str
    tier: str
    compiled: Compiled
    graphs: Mapping[str, Graph]
    tokenizer: bytes
    start: int
    context: int
    cache: tuple[int, int, int, int]
    activations: str
    origin: tuple[Mapping[str, str], ...]
    calibration: Mapping[str, Any]
    notes: Mapping[str, Any]


def convert(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    settings: DecoderSettings = DecoderSettings(),
    progress: Progress = lambda phase, done, total, note: None,
) -> Decoder:
    """The decoder, calibrated on `texts`. The same arguments give the same bytes.

    Raises CheckpointUnsupported if the checkpoint is no decoder, ConversionError if `texts` are too few.
    """
    config = _config(checkpoint, settings)
    start, text = calibration(checkpoint, texts, settings)
    cache = llama.start_cache(config, checkpoint.tensors, start)
    if settings.activations == "int16":
        # There is nothing to even out, and scales cost the weights some of their eight bits.
        return _made(checkpoint, config, settings, start, cache, text, NOTHING, Options(wide=True), progress)
    found = decoder_scales.measure(
        config, checkpoint.tensors, cache, text[: settings.measured],
        lambda done, total: progress("measure", done, total, ""),
    )  # fmt: skip
    return _made(checkpoint, config, settings, start, cache, text, found, Options(), progress)


def plain(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    settings: DecoderSettings = DecoderSettings(),
    progress: Progress = lambda phase, done, total, note: None,
) -> Decoder:
    """The same model without what this converter does for it: minmax ranges, nearest rounding, no scales, int8 only.

    For comparison only. Raises as `convert` does.
    """
    settings = replace(settings, activations="int8")
    config = _config(checkpoint, settings)
    start, text = calibration(checkpoint, texts, settings)
    cache = llama.start_cache(config, checkpoint.tensors, start)
    options = Options(adapt=False, estimate=False)
    return _made(checkpoint, config, settings, start, cache, text, NOTHING, options, progress, narrow=True)


def _made(
    checkpoint: Checkpoint,
    config: LlamaConfig,
    settings: DecoderSettings,
    start: int,
    cache: Mapping[str, Floats],
    text: NDArray[np.int32],
    found: Equalisation,
    options: Options,
    progress: Progress,
    narrow: bool = False,
) -> Decoder:
    judged = min(text.size, _JUDGED)
    measured = llama.lower(config, checkpoint.tensors, text.shape[1], 1, found.scales, found.wide, judged=judged)
    graphs: dict[str, Graph] = {}
    for name, tokens in (("decode", 1), ("prefill", settings.chunk)):
        graph = llama.lower(config, checkpoint.tensors, tokens, settings.context, found.scales, found.wide, cache)
        # The scaled weights are in memory once.
        graph.constants |= {same: measured.constants[same] for same in graph.constants if same in measured.constants}
        graphs[name] = graph
    if narrow:
        for graph in (measured, *graphs.values()):
            graph.wide.clear()
    feeds: dict[str, NDArray[Any]] = {"ids": text, "position": np.ones(1, np.int32)}
    for name, value in cache.items():
        feeds[name] = np.repeat(_scaled(value, found.scales, name, config), len(text), 0)
    compiled = compile_graphs(
        graphs, feeds, np.ones(text.shape, np.bool_), options,
        lambda done, total: progress("quantise", done, total, ""), measured,
    )  # fmt: skip
    wide = sorted(range(config.layers) if options.wide else found.wide)
    return Decoder(
        name=checkpoint.name,
        tier=settings.tier,
        compiled=compiled,
        graphs=graphs,
        tokenizer=checkpoint.tokenizer,
        start=start,
        context=settings.context,
        cache=(config.layers, config.kv_heads, settings.context, config.head_width),
        activations=settings.activations,
        origin=({"file": checkpoint.name, "sha256": checkpoint.sha256, "licence": checkpoint.licence,
                 "origin": "weights"},),
        calibration={"windows": len(text), "tokens": text.shape[1]},
        notes={"start": start, "chunk": settings.chunk, "wide_layers": wide,
               "feed_noise": [float(f"{noise:.3g}") for noise in found.noise]},
    )  # fmt: skip


def _config(checkpoint: Checkpoint, settings: DecoderSettings) -> LlamaConfig:
    config = checkpoint.config
    if not isinstance(config, LlamaConfig):
        raise CheckpointUnsupported(
            f"{checkpoint.name} is an encoder of the BERT family; a decoder of the Llama family is needed for "
            "prefill and decode"
        )
    if settings.context >= config.positions:
        raise ConversionError(
            f"a context of {settings.context} and the start token: {checkpoint.name} has {config.positions} positions"
        )
    return config


def _scaled(value: Floats, scales: Mapping[str, Floats], name: str, config: LlamaConfig) -> Floats:
    """Keys or values of the start token as the scaled graph has them."""
    part, n = name.split(".")
    shape = (1, config.kv_heads, 1, -1)
    if part == "value":
        scale = scales.get(f"{n}.values")
        return value if scale is None else np.asarray(value / scale.reshape(shape), np.float32)
    if f"{n}.pairs" not in scales:
        return value
    pair = scales[f"{n}.pairs"].reshape(shape)
    return np.asarray(value / np.concatenate([pair, pair], 3), np.float32)


def calibration(
    checkpoint: Checkpoint, texts: Sequence[str], settings: DecoderSettings
) -> tuple[int, NDArray[np.int32]]:
    """The start token, and windows int32 [n, tokens] of `texts` that follow it.

    Without a start token in the checkpoint it is that special token after which the text is least surprising.
    """
    assert isinstance(checkpoint.config, LlamaConfig)  # noqa: S101  (checked by the callers)
    tokenizer = Tokenizer.from_buffer(checkpoint.tokenizer)
    start = checkpoint.config.bos
    text = windows(tokenizer, texts, settings.tokens, 0, settings.windows)[:, 1:]
    if start is None:
        candidates = list(_starts(checkpoint.tokenizer, checkpoint.config))[:_STARTS]
        if not candidates:
            raise CheckpointUnsupported(f"{checkpoint.name} has no start token and no special token to take for it")
        start = min(candidates, key=lambda token: float_loss(checkpoint, token, text[:_TRIED]))
    return start, text


def _starts(tokenizer: bytes, config: LlamaConfig) -> Iterator[int]:
    """Special tokens, the end token first."""
    if config.eos is not None:
        yield config.eos
    for token in json.loads(tokenizer).get("added_tokens") or ():
        if token.get("special") and token["id"] != config.eos and token["id"] < config.vocabulary:
            yield int(token["id"])


def float_loss(checkpoint: Checkpoint, start: int, text: Windows, progress: Progress | None = None) -> float:
    """Mean loss in nats a token of the float model on windows int32 [n, tokens + 1] that follow the token `start`.

    The first token of a window is given, the others are expected: as in `causal_run.loss`. In batches, by XLA.
    """
    assert isinstance(checkpoint.config, LlamaConfig)  # noqa: S101  (for the type checker)
    tokens = text.shape[1] - 1
    graph = llama.lower(checkpoint.config, checkpoint.tensors, tokens, 1)
    cache = llama.start_cache(checkpoint.config, checkpoint.tensors, start)
    cache = {name: np.repeat(value, _BATCH, 0) for name, value in cache.items()}
    # As arguments: what is traced as a constant, XLA keeps several times.
    constants = {name: tf.constant(value) for name, value in graph.constants.items()}

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def losses(ids: tf.Tensor, follows: tf.Tensor) -> tf.Tensor:
        feeds = {"ids": ids, "position": np.ones(1, np.int32), **cache}
        logits = execute.run(graph, feeds, constants)["logits"]
        logits = tf.reshape(logits, (_BATCH, tokens, -1))
        return tf.nn.sparse_softmax_cross_entropy_with_logits(follows, logits)

    total = 0.0
    for at in range(0, len(text), _BATCH):
        part = text[at : at + _BATCH]
        filled = np.concatenate([part, np.repeat(part[-1:], _BATCH - len(part), 0)])
        found = losses(tf.constant(filled[:, :-1]), tf.constant(filled[:, 1:])).numpy()
        total += float(found[: len(part)].sum(dtype=np.float64))
        if progress is not None:
            progress("float", min(at + _BATCH, len(text)), len(text), "")
    return total / text[:, 1:].size
