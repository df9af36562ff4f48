"""A Keras model, a file or an object, becomes a classifier in integers.

It is frozen, converted by TFLite's converter in float, read back as a graph (`tflite_import`), compared with Keras, and
quantised by our own lowering and by TFLite's converter; what comes nearer to the float logits on texts that neither was
calibrated on is kept.
"""

import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tasuki.converter import execute, flatbuffer, pack, plain, tflite_import
from tasuki.converter.assemble import Classifier, Ids
from tasuki.converter.compile import MICRO, Compiled, check_micro, compile_graphs
from tasuki.converter.graph import Floats, Graph
from tasuki.converter.quantise import Options, Plan
from tasuki.converter.weights_only import check_tier, compile_weights_only
from tasuki.sdk.artifact import TOKENIZER_JSON, VOCABULARY, TextEncoder
from tasuki.sdk.checkpoint_tokenizer import CheckpointTokenizer
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import (
    CheckpointCorrupt,
    CheckpointMissing,
    CheckpointUnsupported,
    ConversionError,
    HeadMismatch,
    TextsInvalid,
)
from tasuki.sdk.runtime import Body, Outputs
from tasuki.sdk.tokenizer import Tokenizer

LEAST_TEXTS: Final = 16
SUFFIXES: Final = (".keras",)
ACTIVATIONS: Final = ("int8", "int16", "float")
MAX_BYTES: Final = 1 << 30
_MAX_CONFIG_BYTES: Final = 4 << 20
# Largest distance between Keras and the graph, relative to the largest logit.
_NEAR: Final = 1e-3
_SIGNATURE: Final = "classify"
LAYERS: Final = frozenset({
    "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "Concatenate", "Dense", "Dot", "Dropout",
    "EinsumDense", "Embedding", "Flatten", "Functional", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D",
    "GlobalMaxPooling1D", "GroupQueryAttention", "Identity", "InputLayer", "LayerNormalization", "Masking",
    "MultiHeadAttention", "Multiply", "Permute", "RMSNormalization", "ReLU", "Rescaling", "Reshape", "Sequential",
    "Softmax", "SpatialDropout1D", "Subtract",
})  # fmt: skip
# Where a file's classes may come from: nothing in these runs what the file says.
_MODULES: Final = ("keras.initializers", "keras.regularizers", "keras.constraints", "keras.dtype_policies", "builtins",
                   "keras.src.ops.numpy", "keras.src.ops.nn", "keras.src.ops.core", "keras.ops")  # fmt: skip
_MODELS: Final = ("keras.layers", "keras", "keras.models", "keras.src.models.functional", "keras.src.models.sequential")


@dataclass(frozen=True)
class KerasSettings:
    """How a Keras model is converted. `tokens` is for a model that takes any number; else 0.

    At most `texts` calibration texts are drawn with `seed`. `adapt` and `estimate` as in `quantise.Options`.
    """

    tokens: int = 0
    seed: int = 0
    texts: int = 800
    adapt: bool = True
    estimate: bool = True


def load(path: str | Path) -> Any:
    """The model in a ``.keras`` file, whose configuration is checked before Keras sees it.

    Raises CheckpointMissing, CheckpointCorrupt, and CheckpointUnsupported with the name of the layer.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise CheckpointUnsupported(f"{path.name}: a Keras model is read from a .keras file; save it with Keras 3")
    if not path.is_file():
        raise CheckpointMissing(f"{path} is not there")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise CheckpointUnsupported(f"{path.name} unpacks to more than {MAX_BYTES:,} bytes")
            if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
                raise CheckpointCorrupt(f"{path.name}: config.json has more than {_MAX_CONFIG_BYTES:,} bytes")
            config = json.loads(archive.read("config.json"))
        _check(path.name, config, "")
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError, RecursionError) as error:
        raise CheckpointCorrupt(f"{path.name} can't be read as a Keras 3 model: {_line(error)}") from None


def convert(
    model: Any,
    tokenizer: Path | Sequence[str] | bytes,
    labels: Sequence[str],
    texts: Sequence[str],
    tier: str = "board",
    activations: str = "int8",
    progress: Progress = lambda phase, done, total, note: None,
    settings: KerasSettings = KerasSettings(),
    origin: Mapping[str, str] | None = None,
) -> Classifier:
    """The classifier, calibrated on `texts`.

    `model` is a ``.keras`` file or a Keras model. It takes ids int32 [batch, tokens], pads with 0, and ends in a Dense
    layer with an output for each of `labels`; what that layer reads are the features. `tokenizer` is a ``vocab.txt`` or
    ``tokenizer.json``, the pieces of the one or the content of the other. Raises CheckpointMissing, CheckpointCorrupt,
    CheckpointUnsupported, ConversionError with the layer's name, HeadMismatch, TextsInvalid.
    """
    if activations not in ACTIVATIONS:
        raise ConversionError(f"activations are {', '.join(ACTIVATIONS)}, not {activations}")
    if activations == "float":
        check_tier(tier)
    if isinstance(tokenizer, Path):
        tokenizer = _read_tokenizer(tokenizer)
    name, found_hash = "Keras model", ""
    if isinstance(model, str | Path):
        name, path = Path(model).stem, Path(model)
        model = load(path)
        found_hash = hashlib.sha256(path.read_bytes()).hexdigest()
    usable = [text for text in texts if text.strip()]
    if len(usable) < LEAST_TEXTS:
        raise TextsInvalid(f"{len(usable)} usable calibration texts, at least {LEAST_TEXTS} are needed; add some")
    order = np.random.default_rng(settings.seed).permutation(len(usable))[: settings.texts]
    tokens = _tokens(model, settings.tokens)
    encoder, parts = _encoder(tokenizer, tokens)
    ids = np.stack([encoder.encode(usable[i]) for i in order])
    progress("read", 0, 1, "")
    graph, exact, padding_counts = _graphs(model, ids)
    width = exact.constants[_head(exact)].shape[0]
    if width != len(labels) or len(set(labels)) != len(labels):
        raise HeadMismatch(
            f"the model's last layer has {width} outputs, but {len(set(labels))} different labels are given"
        )
    if tier in ("mcu", "mcu-large"):
        check_micro({_SIGNATURE: graph}, Options(wide=activations == "int16"))
    progress("read", 1, 1, "")
    made, found = _quantised(graph, exact, ids, padding_counts, tier, activations, settings, progress)
    return Classifier(
        name=name,
        tier=tier,
        compiled=made,
        graph=graph,
        reference=lambda rows: _run(exact, rows),
        tokenizer=encoder,
        pad=0,
        padding_counts=padding_counts,
        depths=(1,),
        labels=tuple(labels),
        parts=parts,
        activations=activations,
        origin=(origin or {"file": name, "sha256": found_hash or _hash(model), "licence": "unknown", "origin": name},),
        calibration={"texts": len(ids), "seed": settings.seed, **found},
        notes={"multiply_accumulates": made.multiply_accumulates},
    )


# Reading


def _check(file: str, value: Any, layer: str) -> None:
    """Refuse what is not one of Keras's own layers for texts, by name."""
    if isinstance(value, list):
        for item in value:
            _check(file, item, layer)
    if not isinstance(value, dict):
        return
    if "class_name" in value and "module" in value:
        module, kind = value["module"], value["class_name"]
        inner = value.get("config")
        called = inner.get("name") if isinstance(inner, dict) else None
        layer = str(called or layer)
        known = (
            (module in _MODELS and kind in LAYERS)
            or (module in _MODULES and kind != "function")
            or (module, kind) == ("keras", "DTypePolicy")
        )
        if not known:
            found = f"layer {layer[:80]!r} is {str(module)[:80]}.{str(kind)[:80]}"
            raise CheckpointUnsupported(f"{file}: {found}; supported: {', '.join(sorted(LAYERS))}")
    for key, item in value.items():
        if key not in ("compile_config", "build_config"):
            _check(file, item, layer)


def _tokens(model: Any, wanted: int) -> int:
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    if len(shapes) > 1 or (shapes and len(shapes[0]) != 2):
        raise ConversionError(f"the model's inputs are {shapes}; supported: one, ids [batch, tokens]")
    fixed = shapes[0][1] if shapes else None
    if fixed is None and not wanted:
        raise ConversionError("the model takes any number of tokens: say how many")
    if fixed is not None and wanted not in (0, fixed):
        raise ConversionError(f"the model takes {fixed} tokens, not {wanted}")
    return int(fixed or wanted)


def _read_tokenizer(path: Path) -> Sequence[str] | bytes:
    """The content of ``tokenizer.json``, or the pieces of ``vocab.txt``."""
    try:
        content = path.read_bytes()
        return content if path.suffix == ".json" else content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointMissing(f"the tokenizer {path} can't be read: {_line(error)}") from None


def _encoder(tokenizer: Sequence[str] | bytes, tokens: int) -> tuple[TextEncoder, dict[str, bytes]]:
    if isinstance(tokenizer, bytes):
        return CheckpointTokenizer(tokenizer, tokens, 0), {TOKENIZER_JSON: tokenizer}
    try:
        return Tokenizer(tokenizer, tokens), {VOCABULARY: pack.vocabulary_bytes(tokenizer)}
    except ValueError as error:
        raise ConversionError(f"vocab.txt: {error}") from None


def _graphs(model: Any, ids: Ids) -> tuple[Graph, Graph, bool]:
    """The graph to quantise, the exact one, and whether padding is read."""
    frozen = _frozen(model, ids.shape[1])
    call = plain.Function({"ids": ((1, ids.shape[1]), np.dtype(np.int32))}, lambda v: {"out": frozen(v["ids"])[0]})
    content = plain.convert(call, "float")
    rows = max(int(ids.max()) + 1, 1)
    wanted = np.asarray(model(ids[:32], training=False))
    apart = np.inf
    for strict in (False, True):
        exact = tflite_import.read(content, exact=True, strict=strict)
        for node in exact.nodes:
            table = exact.constants.get(node.inputs[0])
            if node.operator == "GATHER" and node.inputs[1] == "ids" and table is not None and len(table) < rows:
                found = f"the tokenizer gives ids up to {rows - 1}, but the table has {len(table)} rows"
                raise ConversionError(f"layer {node.output}: {found}")
        got = _answers(_run(exact, ids[:32])[1], wanted)
        apart = float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-6))
        if apart <= _NEAR:
            return tflite_import.read(content, strict=strict), exact, strict or "mask.real" not in exact.layout
    raise ConversionError(
        f"the graph read from the model answers otherwise than Keras (by {apart:.2g}); please report it"
    )


def _frozen(model: Any, tokens: int) -> Callable[[Any], Any]:
    function = tf.function(lambda ids: model(ids, training=False), autograph=False)
    try:
        concrete = function.get_concrete_function(tf.TensorSpec((1, tokens), tf.int32))
        made: Callable[[Any], Any] = convert_variables_to_constants_v2(concrete)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise ConversionError(f"the model can't be called on ids int32 [1, {tokens}]: {_line(error)}") from None
    return made


def _answers(logits: Floats, like: Floats) -> Floats:
    """The logits, or their softmax or sigmoid, whichever is nearest to `like`."""
    if like.shape[1] == 1:
        logits = logits[:, 1:]
    with np.errstate(over="ignore"):
        powers = np.exp(logits - logits.max(1, keepdims=True))
        kinds = (logits, powers / powers.sum(1, keepdims=True), 1 / (1 + np.exp(-logits)))
    return np.asarray(min(kinds, key=lambda kind: float(np.abs(kind - like).max())), np.float32)


# Quantising


def _quantised(
    graph: Graph, exact: Graph, ids: Ids, padding_counts: bool, tier: str, activations: str, settings: KerasSettings,
    progress: Progress,
) -> tuple[Compiled, dict[str, Any]]:  # fmt: skip
    """The better of our lowering and TFLite's converter, by the error on a quarter of the texts that neither saw."""
    if activations == "float":
        return compile_weights_only({_SIGNATURE: graph}), {"kept": "ours"}
    judged = max(len(ids) // 4, 1)
    seen, rest = ids[judged:], ids[:judged]
    ours = compile_graphs(
        {_SIGNATURE: graph}, {"ids": seen}, np.ones(seen.shape, np.bool_) if padding_counts else seen != 0,
        Options(activations == "int16", settings.adapt, settings.estimate),
        lambda done, total: progress("quantise", done, total, ""),
    )  # fmt: skip
    wanted = _run(exact, rest)[1]
    errors = {"ours": _error(ours, rest, wanted)}
    candidates = {"ours": ours}
    try:
        candidates["plain"] = _plain(exact, seen, tier, activations)
        errors["plain"] = _error(candidates["plain"], rest, wanted)
    except ConversionError:
        errors.pop("plain", None)
    kept = min(errors, key=errors.__getitem__)
    ranges = dict(sorted(Counter(candidates[kept].plan.estimators.values()).items()))
    told = {f"error_{who}": float(f"{error:.4g}") for who, error in errors.items()}
    return candidates[kept], {"kept": kept, "judged": judged, "ranges": ranges, **told}


def _plain(exact: Graph, seen: Ids, tier: str, activations: str) -> Compiled:
    """What TFLite's converter makes of the same graph. Raises ConversionError if the tier can't run it."""
    model = plain.convert(plain.of_graph(exact), "int8" if activations == "int8" else "int16", {"ids": seen})
    read = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    places = {int(tensor): place for place, tensor in enumerate(read.subgraphs[0].outputs)}
    outputs = {
        entry.name.decode() if isinstance(entry.name, bytes) else entry.name: places[entry.tensorIndex]
        for entry in read.signatureDefs[0].outputs
    }
    operators = flatbuffer.operators(model)
    if tier in ("mcu", "mcu-large") and not set(operators) <= MICRO:
        raise ConversionError("TensorFlow Lite Micro lacks an operator of the plain conversion")
    return Compiled(model, outputs, operators, Plan(), exact.multiply_accumulates(execute.shapes(exact)))


def _error(made: Compiled, ids: Ids, wanted: Floats) -> float:
    """Squared error of the logits, relative to their spread."""
    body = Body(made.model, Outputs((made.outputs["features.1"],), made.outputs["logits"]))
    got = np.stack([body.run(row)[1] for row in ids])
    return float(((got - wanted) ** 2).mean() / max(float(wanted.var()), 1e-12))


def _run(graph: Graph, ids: Ids) -> tuple[Floats, Floats]:
    found = execute.run(graph, {"ids": ids})
    return np.asarray(found["features.1"]), np.asarray(found["logits"])


def _head(graph: Graph) -> str:
    """The weight of the last dense layer."""
    return next(node.inputs[1] for node in graph.nodes if node.output == graph.outputs["logits"])


def _hash(model: Any) -> str:
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
