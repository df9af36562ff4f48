"""The vocabulary layer of a causal model outside of it: base logits of features that were kept, without inference.

The weight is read from the model's own int8 constant. Products of int8 codes are summed in float32 without rounding
up to 1,040 features; what is left to the model's own logits is that those are rounded to their grid, and clipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.decoder import Decoder
from tasuki.sdk.errors import ArtifactCorrupt, NotAvailable
from tasuki.sdk.runtime import Floats, Output
from tasuki.sdk.text_windows import windows

# Rows of the weight that are float32 at a time.
_ROWS: Final = 4096


class VocabularyLayer:
    """W [V, d] and b [V] of `logits = h W^T + b`, W in int8 with one scale a row. Immutable, and so thread-safe.

    `weight` and `bias` are the indexes of the tensors in the first subgraph (the manifest's `vocabulary`; no bias is a
    bias of 0). Raises NotAvailable for a model without the indexes, ArtifactCorrupt if the tensors are no such layer.
    """

    def __init__(self, decoder: Decoder, weight: int | None, bias: int | None = None) -> None:
        if weight is None:
            raise NotAvailable("the artifact doesn't say where its vocabulary layer is: convert the model again")
        features, logits = decoder.grids
        self.width, self.vocabulary = features.width, logits.width
        about, self._codes = decoder.constant(weight)
        if self._codes.dtype != np.int8 or self._codes.shape != (self.vocabulary, self.width):
            raise ArtifactCorrupt(
                f"tensor {weight} is {self._codes.dtype} {list(self._codes.shape)}, no vocabulary layer"
            )
        self._scales = _scales(about, self.vocabulary)
        if np.any(about["quantization_parameters"]["zero_points"]):
            raise ArtifactCorrupt(f"tensor {weight} has zero points, which weights have not")
        self._bias = np.zeros(self.vocabulary, np.float32)
        if bias is not None:
            found, codes = decoder.constant(bias)
            if codes.shape != (self.vocabulary,) or codes.dtype not in (np.int32, np.int64, np.float32):
                raise ArtifactCorrupt(f"tensor {bias} is {codes.dtype} {list(codes.shape)}, no bias of the vocabulary")
            steps = 1.0 if codes.dtype == np.float32 else _scales(found, self.vocabulary).astype(np.float64)
            self._bias = (codes * steps).astype(np.float32)
        if not np.isfinite(self._bias).all():
            raise ArtifactCorrupt(f"tensor {bias} has a value that is not finite")

    def logits(self, features: Floats) -> Floats:
        """Base logits float32 [m, V] of `features` float32 [m, d], not rounded to the model's grid."""
        found = np.empty((len(features), self.vocabulary), np.float32)
        for at in range(0, self.vocabulary, _ROWS):
            rows = slice(at, at + _ROWS)
            part = features @ self._codes[rows].T.astype(np.float32)
            part *= self._scales[rows]
            part += self._bias[rows]
            found[:, rows] = part
        return found


@dataclass(frozen=True)
class TokenExamples:
    """What a text teaches: features as the model gives them, `raw` [n, d] on `grid`, and `targets` int32 [n], the
    token that follows each.
    """

    raw: NDArray[Any]
    targets: NDArray[np.int32]
    grid: Output

    def features(self) -> Floats:
        """float32 [n, d]."""
        return self.grid.real(self.raw)


def token_examples(decoder: Decoder, ids: Sequence[int], first: Sequence[int] = ()) -> TokenExamples:
    """The examples of one text of `ids`, in `windows` that begin with `first` (the start id, or nothing).

    Every token that another stands before is a target once. What the decoder has read before is forgotten. Raises
    InputError, ArtifactCorrupt.
    """
    raw = [np.zeros((0, decoder.width), decoder.grids[0].dtype)]
    targets: list[int] = []
    for window in windows(len(ids), decoder.context, len(first)):
        decoder.restart()
        read = [rows.raw_features for rows in decoder.rows([*first, *ids[window.begin : window.end]])]
        follow = ids[window.target : window.end + 1]
        raw.append(np.concatenate(read)[-len(follow) :])
        targets += follow
    return TokenExamples(np.concatenate(raw), np.array(targets, np.int32), decoder.grids[0])


def _scales(about: Any, rows: int) -> Floats:
    scales = np.asarray(about["quantization_parameters"]["scales"], np.float32)
    if scales.shape not in ((1,), (rows,)) or not (np.isfinite(scales).all() and (scales > 0).all()):
        raise ArtifactCorrupt(f"{about['name']} has {len(scales)} scales, or one that can't be")
    return np.broadcast_to(scales, rows)
