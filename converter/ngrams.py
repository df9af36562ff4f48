"""The baseline that a student must beat: a logistic regression on hashed n-grams with as many bytes.

Features are words, pairs of words and 2- to 4-grams of characters inside words, hashed into buckets (Weinberger et al.
2009) with TF-IDF weights. Its weights are stored as int8 with one scale a label, and the IDF as float16: that buys four
times as many buckets as float32 would, which is the stronger form of the baseline.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression


class NgramBaseline:
    """A trained baseline; `bytes` is what its int8 weights, scales, biases and IDF take."""

    def __init__(
        self, texts: Sequence[str], targets: NDArray[np.int64], size_bytes: int, strength: float = 30.0
    ) -> None:
        labels = int(targets.max()) + 1
        buckets = (size_bytes - 8 * labels) // (labels + 2)
        words = buckets // 2
        self._hashers = (
            HashingVectorizer(n_features=words, ngram_range=(1, 2), alternate_sign=False, norm=None),
            HashingVectorizer(n_features=buckets - words, analyzer="char_wb", ngram_range=(2, 4), alternate_sign=False,
                              norm=None),
        )  # fmt: skip
        self.bytes = buckets * (labels + 2) + 8 * labels
        counts = self._counts(texts)
        self._idf = TfidfTransformer(sublinear_tf=True).fit(counts)
        model = LogisticRegression(C=strength, max_iter=200).fit(self._idf.transform(counts), targets)
        scales = np.abs(model.coef_).max(1, keepdims=True) / 127
        self._weights = np.rint(model.coef_ / scales) * scales
        self._bias = model.intercept_

    def _counts(self, texts: Sequence[str]) -> csr_matrix:
        return hstack([hasher.transform(texts) for hasher in self._hashers]).tocsr()

    def accuracy(self, texts: Sequence[str], targets: NDArray[np.int64]) -> float:
        """Share of right answers."""
        scores = self._idf.transform(self._counts(texts)) @ self._weights.T + self._bias
        return float((np.asarray(scores).argmax(1) == targets).mean())
