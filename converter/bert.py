"""The BERT family lowered to operators that survive int8 (Devlin et al. 2019), exact in float up to the GELU.

What is done so that per-tensor int8 is enough, all of it rewriting of the float model that changes no result:

- The gain of each LayerNorm moves into the layers after it (gamma migration: Wei et al. 2022, "Outlier
  suppression").
- The residual stream is stored divided by a range for each channel (`scales`); who reads it multiplies its weights.
  So the few loud channels do not set the step of all others (cross-layer equalisation: Nagel et al. 2019;
  SmoothQuant: Xiao et al. 2023).
- LayerNorm is square, weighted sum (a dense layer with one output), RSQRT and a product: the weighted sum is
  accumulated in int32, where a plain conversion rounds a mean to int8 and squares it.
- The first token's state is a constant up to the layer where it is needed: an attention sink, whose activations are
  a hundred times larger than all others and would set the step of every tensor (`sinks`).
- The bias of the keys cancels in the softmax and is dropped; that of the values is added after the attention, whose
  rows sum to one.
- GELU is ``x sigmoid(1.702 x)`` (Hendrycks and Gimpel 2016, section 2), with 1.702 inside the weights: TensorFlow
  Lite Micro has no GELU. Calibration aims at the true GELU, so the layers after it correct what that changes.
- Padding is the config's `pad`. Its keys get the lowest score there is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.converter.checkpoint import BertConfig
from tasuki.converter.graph import HEADS, ROWS, SCORES, WHOLE, Floats, Graph

# Far below every score: the sum saturates at the lowest step of its tensor.
MASKED = -40.0
_GELU = 1.702


def lower(
    config: BertConfig,
    weights: Mapping[str, Floats],
    tokens: int,
    depths: Sequence[int],
    scales: Mapping[str, Floats] | None = None,
    sinks: Mapping[str, Floats] | None = None,
    head: tuple[Floats, Floats] | None = None,
    exact: bool = False,
) -> Graph:
    """The encoder as a graph: ids int32 [1, `tokens`] to mean-pooled states of `depths`, and logits.

    `weights` are in Hugging Face's names. `scales` gives the range of each channel, float32 [width], of the tensors
    that `equalised` lists. `sinks` gives, for a LayerNorm, what it makes of the first token whatever the sentence,
    float32 [width]: the attention sink (Xiao et al. 2024; Sun et al. 2024, "Massive activations"). `head` is (weight
    [labels, width of all depths], bias [labels]); without one the checkpoint's own classifier gives the logits, if
    there is one. `exact` keeps the checkpoint's GELU: the float model as published.
    """
    return _Lowering(config, weights, tokens, scales or {}, sinks or {}, exact).build(depths, head)


def equalised(config: BertConfig) -> dict[str, str]:
    """Which scales there are, and the tensor of the unscaled graph each is the range of."""
    found = {"embeddings": "embeddings.sum"}
    for n in range(config.layers):
        found |= {f"{n}.{part}": f"{n}.{part}.sum" for part in ("attention", "feed")}
        found[f"{n}.values"] = f"{n}.value"
    return found


def shortcuts(config: BertConfig) -> dict[str, tuple[str, str]]:
    """Of each residual sum, in order: the sum whose norm goes into it, and the checkpoint's name of that norm."""
    found, before, norm = {}, "embeddings", "embeddings.LayerNorm"
    for n in range(config.layers):
        for part, name in (("attention", "attention.output"), ("feed", "output")):
            found[f"{n}.{part}"] = (before, norm)
            before, norm = f"{n}.{part}", f"encoder.layer.{n}.{name}.LayerNorm"
    return found


class _Lowering:
    def __init__(
        self,
        config: BertConfig,
        weights: Mapping[str, Floats],
        tokens: int,
        scales: Mapping[str, Floats],
        sinks: Mapping[str, Floats],
        exact: bool,
    ) -> None:
        self.config, self.weights, self.tokens = config, weights, tokens
        self.scales, self.sinks, self.exact = scales, sinks, exact
        self.graph = Graph({"ids": (1, tokens)})
        self.ones = np.ones(config.width, np.float32)

    def scale(self, name: str) -> Floats:
        return self.scales.get(name, self.ones)

    def affine(self, name: str) -> tuple[Floats, Floats]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def build(self, depths: Sequence[int], head: tuple[Floats, Floats] | None) -> Graph:
        g, w, d = self.graph, self.weights, self.config.width
        row = self.padding()
        self.mask = g.reshape(row, (-1, 1, 1, self.tokens), "mask", WHOLE)
        table = w["embeddings.word_embeddings.weight"]
        fixed = (
            w["embeddings.position_embeddings.weight"][: self.tokens] + w["embeddings.token_type_embeddings.weight"][0]
        )
        s = self.scale("embeddings")
        # Rows without mean: the first LayerNorm need not take it off.
        words = g.add("GATHER", [g.constant("embeddings.words", _centred(table) / s), "ids"], "embeddings.gather", ROWS)
        words = g.add(
            "ADD",
            [words, g.constant(f"embeddings.fixed.{self.tokens}", _centred(fixed) / s)],
            "embeddings.placed",
            ROWS,
        )
        x = self.norm(g.reshape(words, (-1, d), "embeddings.sum"), "embeddings", centred=True)
        norm, states = "embeddings.LayerNorm", {}
        own_head = head is None and "classifier.weight" in w
        for n in range(self.config.layers if own_head else max(depths)):
            x = self.attention(n, x, norm)
            x = self.feed(n, x, f"encoder.layer.{n}.attention.output.LayerNorm")
            norm = f"encoder.layer.{n}.output.LayerNorm"
            states[n + 1] = (x, norm)
        shares = g.add("SOFTMAX", [row], "pool.shares", WHOLE)
        shares = g.reshape(shares, (-1, 1, self.tokens), "pool.weights", WHOLE)
        features = [self.pool(depth, *states[depth], shares) for depth in depths]
        for depth, tensor in zip(depths, features, strict=True):
            g.outputs[f"features.{depth}"] = tensor
        if own_head:
            g.outputs["logits"] = self.classifier(x, norm)
        elif head is not None:
            weight, bias = head
            parts = np.split(weight, len(features), 1)
            logits = g.dense(features[0], parts[0], bias, "logits")
            for n, (tensor, part) in enumerate(zip(features[1:], parts[1:], strict=True)):
                more = g.dense(tensor, part, None, f"logits.{n}")
                logits = g.add("ADD", [logits, more], f"logits.{n}.sum")
            g.outputs["logits"] = logits
        return g

    def padding(self) -> str:
        """What is added to the scores of each key."""
        g, pad = self.graph, self.config.pad
        if pad:
            table = np.zeros(self.config.vocabulary, np.float32)
            table[pad] = MASKED
            return g.add("GATHER", [g.constant("mask.table", table), "ids"], "mask.row", WHOLE)
        # 0 for padding, 1 for a token.
        real = g.add("MINIMUM", ["ids", g.constant("one", np.ones(1, np.int32))], "mask.real", WHOLE)
        return g.add("GATHER", [g.constant("mask.table", np.array([MASKED, 0], np.float32)), real], "mask.row", WHOLE)

    def classifier(self, x: str, norm: str) -> str:
        """The checkpoint's own head on the first token: BERT's with a tanh, DistilBERT's with a ReLU."""
        g, d = self.graph, self.config.width
        gamma, beta = self.affine(norm)
        gain = gamma * self.scale(f"{self.config.layers - 1}.feed")
        x = g.reshape(x, (-1, self.tokens, d), "head.states")
        x = g.add("SLICE", [x], "head.first", WHOLE, begin=(0, 0, 0), size=(-1, 1, d))
        x = g.reshape(x, (-1, d), "head.row")
        distilled = "pre_classifier.weight" in self.weights
        weight, bias = self.affine("pre_classifier" if distilled else "pooler.dense")
        x = g.dense(x, weight * gain, bias + weight @ beta, "head.inner", relu=distilled)
        if not distilled:
            x = g.add("TANH", [x], "head.pooled")
        return g.dense(x, *self.affine("classifier"), "logits")

    def norm(self, x: str, name: str, centred: bool = False) -> str:
        """LayerNorm without gain and offset, of a sum that is stored divided by its scale; so is the result."""
        g, s, d = self.graph, self.scale(name), self.config.width
        if not centred:
            mean = g.dense(x, _float32(s / d)[None], None, f"{name}.mean")
            mean = g.add("MUL", [mean, g.constant(f"{name}.inverse", (1 / s)[None])], f"{name}.means")
            x = g.add("SUB", [x, mean], f"{name}.centred")
        square = g.add("MUL", [x, x], f"{name}.square")
        epsilon = np.full(1, self.config.norm_epsilon, np.float32)
        variance = g.dense(square, _float32(s**2 / d)[None], epsilon, f"{name}.variance")
        factor = g.add("RSQRT", [variance], f"{name}.rsqrt")
        if name not in self.sinks:
            return g.add("MUL", [x, factor], f"{name}.norm")
        others = np.ones((self.tokens, 1), np.float32)
        others[0] = 0
        factor = g.reshape(factor, (-1, self.tokens, 1), f"{name}.rsqrt.split")
        factor = g.add("MUL", [factor, g.constant(f"others.{self.tokens}", others)], f"{name}.rsqrt.others")
        x = g.add("MUL", [g.reshape(x, (-1, self.tokens, d), f"{name}.split"), factor], f"{name}.others")
        g.skip_first = False
        sink = np.zeros((self.tokens, d), np.float32)
        sink[0] = self.sinks[name] / s
        x = g.add("ADD", [x, g.constant(f"{name}.sink.{self.tokens}", sink)], f"{name}.norm.split")
        return g.reshape(x, (-1, d), f"{name}.norm")

    def shortcut(self, x: str, norm: str, before: str, after: str) -> str:
        """The normed state with its gain, divided by the scale of the sum that it goes into."""
        gain = self.affine(norm)[0] * self.scale(before) / self.scale(after)
        return self.graph.add("MUL", [x, self.graph.constant(f"{after}.gain", gain[None])], f"{after}.shortcut")

    def attention(self, n: int, x: str, norm: str) -> str:
        g, c = self.graph, self.config
        name, before, after = f"encoder.layer.{n}.attention", self.before(n), f"{n}.attention"
        size = c.width // c.heads
        gamma, beta = self.affine(norm)
        s, v = self.scale(before), self.scale(f"{n}.values")

        def project(part: str, factor: Floats | float, bias: bool, output: str) -> str:
            weight, b = self.affine(f"{name}.self.{part}")
            factor = np.broadcast_to(np.asarray(factor, np.float32), b.shape)
            y = g.dense(x, weight * (gamma * s) * factor[:, None],
                        (b + weight @ beta) * factor if bias else None, output)  # fmt: skip
            y = g.reshape(y, (-1, self.tokens, c.heads, size), f"{output}.split")
            return g.transpose(y, (0, 2, 1, 3), f"{output}.heads", HEADS)

        key = project("key", 1.0, False, f"{n}.key")
        value = project("value", _float32(1 / v), False, f"{n}.value")
        # Where the layer ends in a sink, what the first token finds here is not read.
        g.skip_first = f"{n}.feed" in self.sinks
        query = project("query", size**-0.5, True, f"{n}.query")
        scores = g.add("BATCH_MATMUL", [query, key], f"{n}.scores", SCORES, adj_y=True)
        scores = g.add("ADD", [scores, self.mask], f"{n}.masked", masked=True)
        shares = g.add("SOFTMAX", [scores], f"{n}.shares")
        mixed = g.add("BATCH_MATMUL", [shares, value], f"{n}.mixed.heads", HEADS)
        mixed = g.transpose(mixed, (0, 2, 1, 3), f"{n}.mixed.split", ROWS)
        mixed = g.reshape(mixed, (-1, c.width), f"{n}.mixed")
        weight, bias = self.affine(f"{name}.output.dense")
        value_weight, value_bias = self.affine(f"{name}.self.value")
        bias = bias + weight @ (value_bias + value_weight @ beta) + beta
        return self.residual(x, norm, before, after, mixed, weight * v, bias)

    def feed(self, n: int, x: str, norm: str) -> str:
        g, name, before = self.graph, f"encoder.layer.{n}", f"{n}.attention"
        gamma, beta = self.affine(norm)
        weight, bias = self.affine(f"{name}.intermediate.dense")
        wide, inner_bias = weight * (gamma * self.scale(before)), bias + weight @ beta
        factor = 1.0
        if self.config.activation == "relu":
            y = g.dense(x, wide, inner_bias, f"{n}.inner", relu=True)
        elif self.exact:
            up = g.dense(x, wide, inner_bias, f"{n}.up")
            y = g.add("GELU", [up], f"{n}.inner", approximate=self.config.activation == "gelu_new")
        else:
            factor = _GELU
            up = g.dense(x, _float32(wide * _GELU), _float32(inner_bias * _GELU), f"{n}.up")
            gate = g.add("LOGISTIC", [up], f"{n}.gate")
            true = "gelu_tanh" if self.config.activation == "gelu_new" else "gelu"
            y = g.add("MUL", [up, gate], f"{n}.inner", stands_for=true, factor=_GELU)
        weight, bias = self.affine(f"{name}.output.dense")
        return self.residual(x, norm, before, f"{n}.feed", y, _float32(weight / factor), bias + beta)

    def residual(self, x: str, norm: str, before: str, after: str, y: str, weight: Floats, bias: Floats) -> str:
        g, s = self.graph, self.scale(after)
        weight, bias = _float32(_centred(weight.T).T / s[:, None]), _float32(_centred(bias) / s)
        y = g.dense(y, weight, bias, f"{after}.change")
        x = g.add("ADD", [self.shortcut(x, norm, before, after), y], f"{after}.sum")
        return self.norm(x, after)

    def before(self, n: int) -> str:
        return f"{n - 1}.feed" if n else "embeddings"

    def pool(self, depth: int, x: str, norm: str, shares: str) -> str:
        g, d = self.graph, self.config.width
        gamma, beta = self.affine(norm)
        x = g.reshape(x, (-1, self.tokens, d), f"pool.{depth}.states")
        x = g.add("BATCH_MATMUL", [shares, x], f"pool.{depth}.mean", WHOLE)
        x = g.reshape(x, (-1, d), f"pool.{depth}.row")
        gain = g.constant(f"pool.{depth}.gain", (gamma * self.scale(f"{depth - 1}.feed"))[None])
        x = g.add("MUL", [x, gain], f"pool.{depth}.scaled")
        return g.add("ADD", [x, g.constant(f"pool.{depth}.offset", beta[None])], f"features.{depth}")


def _centred(rows: Floats) -> Floats:
    return np.asarray(rows - rows.mean(-1, keepdims=True), np.float32)


def _float32(values: NDArray[Any]) -> Floats:
    return np.asarray(values, np.float32)
