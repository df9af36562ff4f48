"""The student of tier `mcu`: a small transformer made for int8.

- Norms are dynamic tanh, ``tanh(a x)`` with one learned ``a`` each (Zhu et al. 2025, "Transformers without
  normalization"); gain and offset are left out because the dense layer that follows can hold them. A tanh is
  exact in int8 (scale 1/128), a LayerNorm is not.
- Padding is an ordinary token with a learned vector: no mask, so no op beyond what TensorFlow Lite Micro has.
- The embedding table is only gathered from, so it stays in flash.
- Features are the mean over the tokens of the last norm; the logits are one dense layer on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Weights = Mapping[str, tf.Tensor]


@dataclass(frozen=True)
class StudentShape:
    """Sizes of a student. `width` is divisible by `heads`; `width` is also the number of features."""

    vocabulary: int
    tokens: int
    labels: int
    width: int = 96
    layers: int = 2
    heads: int = 4
    inner: int = 192

    def parameters(self) -> int:
        """How many weights the converted model has."""
        layer = 4 * self.width * (self.width + 1) + 2 * self.width * self.inner + self.inner + self.width + 2
        table = (self.vocabulary + self.tokens) * self.width
        return table + self.layers * layer + 1 + self.labels * (self.width + 1)


def initial(shape: StudentShape, pieces: Floats, seed: int) -> dict[str, Floats]:
    """Seeded weights; `pieces` float32 [vocabulary, width] are the first embeddings."""
    rng = np.random.default_rng(seed)

    def dense(rows: int, columns: int, scale: float = 1.0) -> Floats:
        return np.asarray(rng.standard_normal((rows, columns)) * scale / np.sqrt(columns), np.float32)

    d, f = shape.width, shape.inner
    weights: dict[str, Floats] = {
        "pieces": pieces.astype(np.float32),
        "positions": (0.1 * rng.standard_normal((shape.tokens, d))).astype(np.float32),
        "out.a": np.ones(1, np.float32),
        "logits.w": dense(shape.labels, d),
        "logits.b": np.zeros(shape.labels, np.float32),
    }
    for n in range(shape.layers):
        depth = 1.0 / np.sqrt(2 * shape.layers)
        for part in ("q", "k", "v"):
            # The usual 1/sqrt(head size) of the scores lives in the query's weights: one op less.
            weights[f"{n}.{part}.w"] = dense(d, d, (d // shape.heads) ** -0.5 if part == "q" else 1.0)
            weights[f"{n}.{part}.b"] = np.zeros(d, np.float32)
        weights[f"{n}.o.w"] = dense(d, d, depth)
        weights[f"{n}.o.b"] = np.zeros(d, np.float32)
        weights[f"{n}.up.w"] = dense(f, d, 1.4)
        weights[f"{n}.up.b"] = np.zeros(f, np.float32)
        weights[f"{n}.down.w"] = dense(d, f, depth)
        weights[f"{n}.down.b"] = np.zeros(d, np.float32)
        weights[f"{n}.attend.a"] = np.ones(1, np.float32)
        weights[f"{n}.feed.a"] = np.ones(1, np.float32)
    return weights


def forward(shape: StudentShape, w: Weights, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Features float32 [n, width] and logits float32 [n, labels] of `ids` int32 [n, tokens]."""
    d, t = shape.width, shape.tokens
    size = d // shape.heads

    def dense(x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.matmul(x, w[f"{name}.w"], transpose_b=True) + w[f"{name}.b"]

    def split(x: tf.Tensor, order: tuple[int, ...]) -> tf.Tensor:
        return tf.transpose(tf.reshape(x, [-1, t, shape.heads, size]), order)

    x = tf.reshape(tf.gather(w["pieces"], ids) + w["positions"], [-1, d])
    for n in range(shape.layers):
        y = tf.tanh(x * w[f"{n}.attend.a"])
        q = split(dense(y, f"{n}.q"), (0, 2, 1, 3))
        k = split(dense(y, f"{n}.k"), (0, 2, 3, 1))
        v = split(dense(y, f"{n}.v"), (0, 2, 1, 3))
        shares = tf.nn.softmax(tf.matmul(q, k))
        mixed = tf.reshape(tf.transpose(tf.matmul(shares, v), (0, 2, 1, 3)), [-1, d])
        x += dense(mixed, f"{n}.o")
        y = tf.tanh(x * w[f"{n}.feed.a"])
        x += dense(tf.nn.relu(dense(y, f"{n}.up")), f"{n}.down")
    y = tf.tanh(x * w["out.a"])
    features = tf.reduce_mean(tf.reshape(y, [-1, t, d]), 1)
    return features, dense(features, "logits")
