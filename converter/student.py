"""The students of the `mcu` tiers: small transformers made for int8.

- Norms are dynamic tanh, ``tanh(a x)`` with one learned ``a`` each (Zhu et al. 2025, "Transformers without
  normalization"); gain and offset are left out because the dense layer that follows can hold them. A tanh is
  exact in int8 (scale 1/128), a LayerNorm is not.
- Padding is an ordinary token with a learned vector: no mask, so no op beyond what TensorFlow Lite Micro has.
- The embedding table is only gathered from, so it stays in flash.
- Features of depth k are the mean over the tokens of the norm after layer k; the logits are one dense layer on the
  last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tasuki.converter import execute
from tasuki.converter.graph import HEADS, ROWS, WHOLE, Floats, Graph


@dataclass(frozen=True)
class StudentShape:
    """Sizes of a student. `width` is divisible by `heads`; `width` is also the number of features of one depth."""

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


def lower(shape: StudentShape, w: Mapping[str, Any], depths: Sequence[int] | None = None) -> Graph:
    """Ids int32 [1, tokens] to `features.K` of each depth (default: the last) and `logits`.

    `w` may hold TensorFlow variables: training runs the same graph.
    """
    d, t = shape.width, shape.tokens
    size = d // shape.heads
    g = Graph({"ids": (1, t)})

    def dense(x: str, name: str, output: str, relu: bool = False) -> str:
        return g.dense(x, w[f"{name}.w"], w[f"{name}.b"], output, relu=relu)

    def norm(x: str, name: str) -> str:
        return g.add(
            "TANH", [g.add("MUL", [x, g.constant(f"{name}.a", w[f"{name}.a"])], f"{name}.scaled")], f"{name}.norm"
        )

    def heads(x: str, order: tuple[int, ...]) -> str:
        return g.transpose(g.reshape(x, (-1, t, shape.heads, size), f"{x}.split"), order, f"{x}.heads", HEADS)

    words = g.add("GATHER", [g.constant("pieces", w["pieces"]), "ids"], "words", ROWS)
    words = g.add("ADD", [words, g.constant("positions", w["positions"])], "placed")
    x = g.reshape(words, (-1, d), "start")
    states: dict[int, str] = {}
    for n in range(shape.layers):
        y = norm(x, f"{n}.attend")
        states[n] = y
        query, key, value = (dense(y, f"{n}.{part}", f"{n}.{part}") for part in ("q", "k", "v"))
        scores = g.add(
            "BATCH_MATMUL", [heads(query, (0, 2, 1, 3)), heads(key, (0, 2, 1, 3))], f"{n}.scores", WHOLE, adj_y=True
        )
        shares = g.add("SOFTMAX", [scores], f"{n}.shares")
        mixed = g.add("BATCH_MATMUL", [shares, heads(value, (0, 2, 1, 3))], f"{n}.mixed.heads", HEADS)
        mixed = g.reshape(g.transpose(mixed, (0, 2, 1, 3), f"{n}.mixed.split", ROWS), (-1, d), f"{n}.mixed")
        x = g.add("ADD", [x, dense(mixed, f"{n}.o", f"{n}.attend.change")], f"{n}.attend.sum")
        y = dense(norm(x, f"{n}.feed"), f"{n}.up", f"{n}.inner", relu=True)
        x = g.add("ADD", [x, dense(y, f"{n}.down", f"{n}.feed.change")], f"{n}.feed.sum")
    states[shape.layers] = norm(x, "out")
    for depth in depths or (shape.layers,):
        tokens = g.reshape(states[depth], (-1, t, d), f"{depth}.tokens")
        g.outputs[f"features.{depth}"] = g.add("MEAN", [tokens], f"features.{depth}", WHOLE, axis=1)
    last = g.outputs.get(f"features.{shape.layers}")
    if last is None:
        last = g.add("MEAN", [g.reshape(states[shape.layers], (-1, t, d), "last.tokens")], "last", WHOLE, axis=1)
    g.outputs["logits"] = dense(last, "logits", "logits")
    return g


def forward(shape: StudentShape, w: Mapping[str, Any], ids: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Features float32 [n, width] of the last layer and logits float32 [n, labels] of `ids` int32 [n, tokens]."""
    found = execute.run(lower(shape, w), {"ids": ids})
    return found[f"features.{shape.layers}"], found["logits"]
