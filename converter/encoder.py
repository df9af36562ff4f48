"""A published encoder of the BERT family becomes a classifier in integers, with its features."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer as PieceTokenizer

from tasuki.converter import bert, equalise, execute
from tasuki.converter.assemble import Classifier, Ids
from tasuki.converter.compile import check_micro, compile_graphs
from tasuki.converter.families import BertConfig, Checkpoint
from tasuki.converter.graph import Floats, Graph
from tasuki.converter.quantise import Options
from tasuki.converter.texts import Texts, check_language
from tasuki.converter.weights_only import check_tier, compile_weights_only
from tasuki.sdk.artifact import TOKENIZER_JSON
from tasuki.sdk.checkpoint_tokenizer import CheckpointTokenizer
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import CheckpointUnsupported, ConversionError, HeadMismatch, TextsInvalid
from tasuki.sdk.manifest import ACTIVATIONS

LEAST_TEXTS: Final = 16
_BATCH: Final = 64
_HEAD: Final = 6000
# Values of one inner activation during calibration: about 3 GB of memory in all.
_VALUES: Final = 24_000_000


@dataclass(frozen=True)
class EncoderSettings:
    """How an encoder is converted.

    `tokens` ids a text, `depths` (layers below the features, ascending; empty: the last), type of the `activations`,
    and at most `texts` calibration texts, drawn with `seed`. `adapt` and `estimate` as in `quantise.Options`.
    """

    tokens: int = 32
    depths: tuple[int, ...] = ()
    activations: Literal["int8", "int16", "float"] = "int8"
    tier: str = "board"
    seed: int = 0
    texts: int = 800
    adapt: bool = True
    estimate: bool = True


@dataclass(frozen=True)
class LinearHead:
    """A classifier on the features of all depths, joined: `weight` [labels, d], `bias` [labels]."""

    weight: Floats
    bias: Floats
    labels: tuple[str, ...]


def convert(
    checkpoint: Checkpoint,
    settings: EncoderSettings,
    texts: Sequence[str],
    head: LinearHead | None = None,
    labels: Sequence[str] | None = None,
    progress: Progress = lambda phase, done, total, note: None,
    origin: Mapping[str, str] | None = None,
) -> Classifier:
    """The classifier, calibrated on `texts`; `head` takes the place of the checkpoint's own, if there is one.

    `labels` are those that the caller expects, in any order. `origin` says where the weights come from (SPEC.md).
    Raises HeadMismatch, CheckpointUnsupported, TextsInvalid and ConversionError, all before anything is calibrated.
    """
    config, depths = _checked(checkpoint, settings)
    known = _labels(checkpoint, config, len(depths), head, labels)
    linear = None if head is None else (head.weight, head.bias)
    tokenizer = CheckpointTokenizer(checkpoint.tokenizer, settings.tokens, config.pad)
    ids = _calibration(checkpoint, config, settings, tokenizer, texts)
    measured = equalise.measure(
        config, checkpoint.tensors, ids, lambda done, total: progress("measure", done, total, f"{len(ids)} texts")
    )

    def lowered(tokens: int) -> Graph:
        whole = settings.activations == "float"
        return bert.lower(
            config, checkpoint.tensors, tokens, depths, measured.scales, measured.sinks, linear, exact=whole
        )

    graph = lowered(settings.tokens)
    if settings.activations == "float":
        made = compile_weights_only({"classify": graph})
    else:
        options = Options(settings.activations == "int16", settings.adapt, settings.estimate)
        if settings.tier.startswith("mcu"):
            check_micro({"classify": graph}, options)
        made = compile_graphs(
            {"classify": graph}, {"ids": ids}, ids != config.pad, options,
            lambda done, total: progress("quantise", done, total, ""), lowered(ids.shape[1]),
        )  # fmt: skip
    exact = bert.lower(config, checkpoint.tensors, settings.tokens, depths, head=linear, exact=True)
    return Classifier(
        name=checkpoint.name,
        tier=settings.tier,
        compiled=made,
        graph=graph,
        reference=lambda rows: _run(exact, rows),
        tokenizer=tokenizer,
        pad=config.pad,
        padding_counts=False,
        depths=depths,
        labels=known,
        parts={TOKENIZER_JSON: checkpoint.tokenizer},
        activations=settings.activations,
        origin=(
            origin
            or {
                "file": checkpoint.name,
                "sha256": checkpoint.sha256,
                "licence": checkpoint.licence,
                "origin": checkpoint.name,
            },
        ),
        calibration={
            "texts": len(ids),
            "seed": settings.seed,
            "longest": int(ids.shape[1]),
            "sinks": sorted(measured.sinks),
            "ranges": dict(sorted(Counter(made.plan.estimators.values()).items())),
        },
        notes={"multiply_accumulates": made.multiply_accumulates},
    )


def features(
    checkpoint: Checkpoint,
    settings: EncoderSettings,
    texts: Sequence[str],
    progress: Progress = lambda phase, done, total, note: None,
) -> Floats:
    """Features of the published float model, float32 [n, d]: mean-pooled states of all depths, joined."""
    config, depths = _checked(checkpoint, settings)
    tokenizer = CheckpointTokenizer(checkpoint.tokenizer, settings.tokens, config.pad)
    ids = np.stack([tokenizer.encode(text) for text in texts])
    ids = ids[:, : _longest(ids, config.pad)]
    graph = bert.lower(config, _headless(checkpoint.tensors), ids.shape[1], depths, exact=True)
    found = []
    for start in range(0, len(ids), _BATCH):
        found.append(_run(graph, ids[start : start + _BATCH])[0])
        progress("read", min(start + _BATCH, len(ids)), len(ids), "")
    return np.concatenate(found)


def fit_head(found: Floats, targets: Sequence[str]) -> LinearHead:
    """Logistic regression on float `found` [n, d] with a label each; the labels are sorted. Raises TextsInvalid."""
    labels = tuple(sorted(set(targets)))
    if len(labels) < 2:
        raise TextsInvalid(f"the texts have {len(labels)} different labels; a classifier needs at least two")
    # So that the strength of the regularisation does not depend on the model's scale.
    power = float(np.sqrt(np.square(found, dtype=np.float64).sum(1).mean()))
    rows = {label: row for row, label in enumerate(labels)}
    fitted = LogisticRegression(C=30.0, max_iter=300).fit(found / power, [rows[target] for target in targets])
    weight, bias = fitted.coef_ / power, fitted.intercept_
    if len(labels) == 2:  # one row, for the second label
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return LinearHead(weight.astype(np.float32), bias.astype(np.float32), labels)


def train_head(
    checkpoint: Checkpoint,
    settings: EncoderSettings,
    texts: Texts,
    progress: Progress = lambda phase, done, total, note: None,
) -> LinearHead:
    """A head for the encoder's float features from at most 6,000 of the labelled `texts`. Raises TextsInvalid."""
    if texts.labels is None:
        raise TextsInvalid("these texts have no labels, so no classifier can be fitted to them; label them")
    order = np.random.default_rng(settings.seed).permutation(len(texts.texts)).tolist()
    # The first of each label, then whoever comes.
    first = {texts.labels[row]: row for row in reversed(order)}
    rows = list(dict.fromkeys([*first.values(), *order]))[:_HEAD]
    found = features(checkpoint, settings, [texts.texts[row] for row in rows], progress)
    return fit_head(found, [texts.labels[row] for row in rows])


def _checked(checkpoint: Checkpoint, settings: EncoderSettings) -> tuple[BertConfig, tuple[int, ...]]:
    config = checkpoint.config
    if not isinstance(config, BertConfig):
        raise CheckpointUnsupported(
            f"{checkpoint.name} is a causal model; an encoder of the BERT family is needed here"
        )
    if not 2 <= settings.tokens <= config.positions:
        raise ConversionError(f"{settings.tokens} tokens, but {checkpoint.name} has from 2 to {config.positions}")
    depths = settings.depths or (config.layers,)
    if list(depths) != sorted(set(depths)) or depths[0] < 1 or depths[-1] > config.layers:
        raise ConversionError(
            f"features of depths {', '.join(map(str, depths))}: they must ascend from 1 on, and {checkpoint.name} has "
            f"{config.layers} layers"
        )
    if settings.activations not in ACTIVATIONS:
        raise ConversionError(f"activations are {', '.join(ACTIVATIONS)}, not {settings.activations}")
    if settings.activations == "float":
        check_tier(settings.tier)
    return config, depths


def _labels(
    checkpoint: Checkpoint, config: BertConfig, depths: int, head: LinearHead | None, wanted: Sequence[str] | None
) -> tuple[str, ...]:
    """The labels of the head, in its order. Raises HeadMismatch."""
    if head is None and not checkpoint.labels:
        raise HeadMismatch(f"{checkpoint.name} has no classifier: give labelled texts, so that one can be fitted")
    known = checkpoint.labels if head is None else head.labels
    if head is not None:
        shape = (len(known), config.width * depths)
        if head.weight.shape != shape or head.bias.shape != shape[:1]:
            raise HeadMismatch(
                f"the head has weights {list(head.weight.shape)} and biases {list(head.bias.shape)}; for {len(known)} "
                f"labels and {shape[1]} features they must be {list(shape)} and {list(shape[:1])}"
            )
    if wanted is not None and set(wanted) != set(known):
        odd = sorted(set(wanted) ^ set(known))[0]
        place = "is not in the head" if odd in set(wanted) else "of the head is not among the labels that are given"
        raise HeadMismatch(
            f"the head has {len(known)} labels, {len(set(wanted))} are given, and {odd!r} {place}; "
            "give the head's labels, or labelled texts for a new head"
        )
    return tuple(known)


def _calibration(
    checkpoint: Checkpoint,
    config: BertConfig,
    settings: EncoderSettings,
    tokenizer: CheckpointTokenizer,
    texts: Sequence[str],
) -> Ids:
    """Ids of the calibration texts, cut where the longest ends. Raises TextsInvalid."""
    usable = [text for text in texts if text.strip()]
    if len(usable) < LEAST_TEXTS:
        raise TextsInvalid(f"{len(usable)} usable calibration texts, at least {LEAST_TEXTS} are needed; add some")
    order = np.random.default_rng(settings.seed).permutation(len(usable))[: settings.texts]
    chosen = [usable[i] for i in order]
    _check_language(checkpoint.tokenizer, chosen)
    ids = np.stack([tokenizer.encode(text) for text in chosen])
    ids = ids[:, : _longest(ids, config.pad)]
    return ids[: max(LEAST_TEXTS, _VALUES // (ids.shape[1] * config.inner))]


def _check_language(description: bytes, texts: Sequence[str]) -> None:
    pieces = PieceTokenizer.from_buffer(description)
    pieces.no_padding()
    pieces.no_truncation()
    piece: Any = getattr(pieces.model, "unk_token", None)
    unknown = pieces.token_to_id(piece) if isinstance(piece, str) else None
    if unknown is not None:
        check_language(texts, lambda text: list(pieces.encode(text, add_special_tokens=False).ids), unknown)


def _longest(ids: NDArray[np.int32], pad: int) -> int:
    """How many columns have a token, at least two."""
    return max(2, int(np.flatnonzero((ids != pad).any(0)).max(initial=0)) + 1)


def _headless(tensors: Mapping[str, Floats]) -> dict[str, Floats]:
    return {name: values for name, values in tensors.items() if not name.startswith("classifier.")}


def _run(graph: Graph, ids: Ids) -> tuple[Floats, Floats]:
    """Features of all depths, joined, and logits; these have no columns if the graph has none."""
    found = execute.run(graph, {"ids": ids})
    joined = np.concatenate([np.asarray(value) for name, value in found.items() if name.startswith("features.")], 1)
    logits = np.asarray(found["logits"]) if "logits" in found else np.zeros((len(ids), 0), np.float32)
    return joined, logits
