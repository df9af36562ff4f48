"""The last layer of a causal teacher learns a text's manner: ``s head (A x) + b``, from ``s = 1, A = I, b = 0``.

The body stays as it is and its features are computed once, so this takes seconds.
"""

from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasuki.converter.graph import Floats

_EPOCHS: Final = 3
_BATCH: Final = 2048
_RATE: Final = 5e-4
_PULL: Final = 0.1
Features = NDArray[np.float16]
Windows = NDArray[np.int32]
# Weight [vocabulary, width] and bias [vocabulary].
Head = tuple[Floats, Floats]


def first(head: Floats) -> Head:
    """The last layer as it was published."""
    return head, np.zeros(len(head), np.float32)


def fit(head: Floats, features: Features, windows: Windows, seed: int = 0) -> Head:
    """The last layer for texts like `windows` int32 [n, tokens + 1], of `features` [n, tokens, width].

    Adam (Kingma and Ba 2015) with a pull towards the start; the same arguments give the same on the same machine.
    """
    x, y = _rows(features, windows)
    rng = np.random.default_rng(seed)
    identity = tf.eye(head.shape[1])
    turn, bias, scale = tf.Variable(identity), tf.Variable(tf.zeros(len(head))), tf.Variable(1.0)
    trained = [turn, bias, scale]
    means = [tf.Variable(tf.zeros_like(v)) for v in trained]
    squares = [tf.Variable(tf.zeros_like(v)) for v in trained]

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def step(inputs: tf.Tensor, follows: tf.Tensor, rate: tf.Tensor, count: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = scale * tf.matmul(tf.matmul(tf.cast(inputs, tf.float32), turn), head, transpose_b=True) + bias
            error = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(follows, logits))
        for variable, slope, m, v in zip(trained, tape.gradient(error, trained), means, squares, strict=True):
            m.assign(0.9 * m + 0.1 * slope)
            v.assign(0.99 * v + 0.01 * tf.square(slope))
            variable.assign_sub(rate * m / (1 - 0.9**count) / (tf.sqrt(v / (1 - 0.99**count)) + 1e-8))
        turn.assign_sub(rate * _PULL * (turn - identity))

    batch = min(_BATCH, len(x))
    steps, count = _EPOCHS * (len(x) // batch), 0
    for _ in range(_EPOCHS):
        order = rng.permutation(len(x))[: len(x) // batch * batch].reshape(-1, batch)
        for rows in order:
            rate = _RATE * (1 - count / steps)
            count += 1
            step(x[rows], y[rows], tf.constant(rate, tf.float32), tf.constant(count, tf.float32))
    weight = scale.numpy() * head @ turn.numpy().T
    return np.asarray(weight, np.float32), bias.numpy()


def loss(head: Head, features: Features, windows: Windows) -> float:
    """Mean loss in nats a token."""
    x, y = _rows(features, windows)
    total = 0.0
    for start in range(0, len(x), _BATCH):
        logs = _logs(head, x[start : start + _BATCH])
        total -= float(np.take_along_axis(logs, y[start : start + _BATCH, None], 1).sum(dtype=np.float64))
    return total / len(x)


def most_probable(head: Head, features: Features, top: int) -> tuple[NDArray[np.uint16], NDArray[np.float16]]:
    """The `top` most probable ids [n, tokens, top], in no order, and the logarithms of their shares."""
    x = features.reshape(-1, features.shape[-1])
    ids, logs = np.empty((len(x), top), np.uint16), np.empty((len(x), top), np.float16)
    for start in range(0, len(x), _BATCH):
        found = _logs(head, x[start : start + _BATCH])
        best = np.argpartition(found, found.shape[1] - top, axis=1)[:, found.shape[1] - top :]
        ids[start : start + _BATCH], logs[start : start + _BATCH] = best, np.take_along_axis(found, best, 1)
    shape = (*features.shape[:2], top)
    return ids.reshape(shape), logs.reshape(shape)


def _logs(head: Head, x: Features) -> Floats:
    logits = x.astype(np.float32) @ head[0].T + head[1]
    logits -= logits.max(-1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)), np.float32)


def _rows(features: Features, windows: Windows) -> tuple[Features, NDArray[np.int32]]:
    return features.reshape(-1, features.shape[-1]), windows[:, 1:].ravel()
