"""The Llama family lowered to TFLite operators, for a chunk of tokens after a cache of keys and values.

One definition gives `prefill` (many tokens) and `decode` (one): inputs are the ids int32 [1, tokens], the position
int32 [1] of the first of them, and for each layer `key.N` and `value.N` [1, kv_heads, context, head_width]; outputs
are the new keys and values [1, kv_heads, tokens, head_width], which the caller writes into the cache at the position,
the features (the last norm) and the logits, one row for each token. Slots from the position on are masked, so what
lies there does not matter.

Exact rewriting of the float model (RMSNorm: Zhang and Sennrich 2019; RoPE: Su et al. 2021; grouped queries: Ainslie et
al. 2023; SwiGLU: Shazeer 2020):

- The residual stream, the norms, RoPE's rotation and the products of SwiGLU with what they become are int16, everything
  else int8: the sum of some sixty rounded changes, and products of which few are large, need more than eight bits.
- Loud channels are evened out before the matrices that read them (SmoothQuant) and on both sides of the attention's
  products.
- The start token is the attention sink and has activations hundreds of times larger than the rest (Sun et al. 2024), so
  it is computed once in float (`start_cache`), and only its keys and values are quantised (PrefixQuant: Chen et al.
  2024). With `sink` they are constants of the graph: position 0 is then that of the first token after the start token.
- The signs of RoPE's rotation are in its table of sines.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import execute
from tasuki.converter.families import LlamaConfig
from tasuki.converter.graph import HEADS, ROWS, WHOLE, Floats, Graph

# Far below any score, so that what is masked can't win even against small ones; exact on every grid from here to 0.
MASKED = -256.0


def lower(
    config: LlamaConfig,
    weights: Mapping[str, Floats],
    tokens: int,
    context: int,
    scales: Mapping[str, Floats] | None = None,
    wide: frozenset[int] = frozenset(),
    sink: Mapping[str, Floats] | None = None,
    judged: int | None = None,
) -> Graph:
    """The decoder for `tokens` ids after at most `context` cached ones. `weights` are in Hugging Face's names.

    `scales` gives float32 vectors to divide by: of the tensors that `equalised` lists, as ``N.pairs`` [kv_heads * half
    a head] of the keys' pairs (the queries are multiplied by it), as ``words`` [vocabulary] of the embedding's rows.
    `wide` lists the layers whose feed-forward part is int16 as well. `sink` is the start token's `start_cache`. With
    `judged` there are logits for that many rows only.
    """
    return _Lowering(config, weights, tokens, context, scales or {}, wide, sink or {}).build(judged)


def start_cache(config: LlamaConfig, weights: Mapping[str, Floats], start: int) -> dict[str, Floats]:
    """`key.N` and `value.N` [1, kv_heads, 1, head_width] of the token `start` at the start of a text, in float."""
    graph = lower(config, weights, 1, 1, judged=1)
    feeds = {name: np.zeros(shape, np.float32) for name, shape in graph.inputs.items() if name in graph.cached}
    found = execute.run(graph, {"ids": np.array([[start]], np.int32), "position": np.zeros(1, np.int32), **feeds})
    return {name: np.asarray(found[name], np.float32) for name in feeds}


def equalised(config: LlamaConfig) -> dict[str, str]:
    """Which scales there are, and the tensor of the unscaled graph that each is the range of."""
    found = {"last": "last.norm"}
    for n in range(config.layers):
        found |= {f"{n}.{part}": f"{n}.{part}.norm" for part in ("attention", "feed")}
        found |= {f"{n}.values": f"{n}.value", f"{n}.attention.change": f"{n}.attention.change"}
    return found


class _Lowering:
    def __init__(
        self,
        config: LlamaConfig,
        weights: Mapping[str, Floats],
        tokens: int,
        context: int,
        scales: Mapping[str, Floats],
        wide: frozenset[int],
        sink: Mapping[str, Floats],
    ) -> None:
        self.config, self.weights, self.tokens, self.context = config, weights, tokens, context
        self.scales, self.wide, self.sink = scales, wide, sink
        shape = (1, config.kv_heads, context, config.head_width)
        inputs: dict[str, tuple[int, ...]] = {"ids": (1, tokens), "position": (1,)}
        for n in range(config.layers):
            inputs |= {f"key.{n}": shape, f"value.{n}": shape}
        self.graph = Graph(inputs)

    def build(self, judged: int | None) -> Graph:
        g, c = self.graph, self.config
        self.rotation()
        self.masks()
        x = self.words()
        for n in range(c.layers):
            name = f"model.layers.{n}"
            x = g.add("ADD", [x, self.restored(n, self.attention(n, x))], f"{n}.attention.sum", wide=True)
            norm = self.norm(x, f"{name}.post_attention_layernorm", f"{n}.feed", n in self.wide)
            x = g.add("ADD", [x, self.feed(n, norm)], f"{n}.feed.sum", wide=True)
        features = self.norm(x, "model.norm", "last")
        g.outputs["features"] = features
        head = self.weights["model.embed_tokens.weight" if c.tied else "lm_head.weight"]
        if "last" in self.scales:
            head = head * self.scale("last", c.width)
        if judged is not None:
            features = g.add("SLICE", [features], "features.judged", WHOLE, begin=(0, 0), size=(judged, c.width))
        g.outputs["logits"] = g.dense(features, head, None, "logits")
        # Few logits are large, and those are the ones that matter.
        g.nodes[-1].attributes["minmax"] = True
        return g

    def words(self) -> str:
        """The rows of the embedding, each divided by its scale in int8 and multiplied by it in int16."""
        g, c = self.graph, self.config
        table, scale = self.weights["model.embed_tokens.weight"], self.scales.get("words")
        if scale is not None:
            table = table / scale[:, None]
        x = g.add("GATHER", [g.constant("words", table), "ids"], "words.gather", ROWS)
        x = self.widen(g.reshape(x, (-1, c.width), "words.rows"), "words")
        if scale is None:
            return x
        size = g.add("GATHER", [g.constant("words.scale", scale), "ids"], "words.scale.gather", WHOLE)
        size = self.widen(g.reshape(size, (-1, 1), "words.scale.rows", WHOLE), "words.scale")
        return g.add("MUL", [x, size], "words.whole", wide=True)

    def scale(self, name: str, width: int) -> Floats:
        return self.scales.get(name, np.ones(width, np.float32))

    def rotation(self) -> None:
        """Cosines and sines of the tokens' positions, [1, tokens, 1, head_width]."""
        g, c = self.graph, self.config
        self.half = c.head_width // 2
        steps = c.rope_theta ** (-np.arange(self.half, dtype=np.float64) / self.half)
        first = 1 if self.sink else 0
        angles = np.arange(first, first + self.context + self.tokens)[:, None] * steps
        # Graphs of several sizes are written into one file: the name of a table says which one it is.
        size = f"table.{first}.{self.context + self.tokens}"
        offsets = g.constant(f"offsets.{self.tokens}", np.arange(self.tokens, dtype=np.int32))
        places = g.add("ADD", ["position", offsets], "places", WHOLE)
        self.turn = {}
        cosine, sine = np.cos(angles), np.sin(angles)
        for name, table in (("cosine", np.tile(cosine, 2)), ("sine", np.concatenate([-sine, sine], 1))):
            rows = g.add(
                "GATHER", [g.constant(f"{name}.{size}", table.astype(np.float32)), places], f"{name}.rows", WHOLE
            )
            rows = g.reshape(rows, (1, self.tokens, 1, c.head_width), name, WHOLE)
            self.turn[name] = self.widen(rows, name)

    def masks(self) -> None:
        """What is added to the scores, [groups * tokens, slots]: the cache, the tokens, the sink if it is there."""
        g, c, t = self.graph, self.config, self.tokens
        slots = np.arange(self.context + t + (1 if self.sink else 0))
        empty = (slots >= np.arange(self.context + 1)[:, None]) & (slots < self.context)
        future = (slots - self.context > np.arange(t)[:, None]) & (slots < self.context + t)
        size = f"{self.context}.{t}.{len(slots)}"
        table = g.constant(f"empty.table.{size}", np.where(empty, MASKED, 0).astype(np.float32))
        row = g.add("GATHER", [table, "position"], "empty", WHOLE)
        groups = c.heads // c.kv_heads
        ahead = np.tile(np.where(future, MASKED, 0).astype(np.float32), (groups, 1))
        # Saturates at MASKED: masked twice is masked.
        self.mask = g.add("ADD", [row, g.constant(f"future.{size}", ahead)], "mask", WHOLE, low=MASKED)

    def widen(self, x: str, name: str) -> str:
        return x if x in self.graph.wide else self.graph.add("QUANTIZE", [x], f"{name}.wide", wide=True)

    def restored(self, n: int, change: str) -> str:
        """What attention adds, multiplied by the scale that it was divided by."""
        g, name = self.graph, f"{n}.attention"
        change = self.widen(change, name)
        if f"{name}.change" not in self.scales:
            return change
        s = g.constant(f"{name}.range", self.scale(f"{name}.change", self.config.width)[None])
        return g.add("MUL", [change, s], f"{name}.whole", wide=True)

    def norm(self, x: str, weight: str, name: str, wide: bool = False) -> str:
        """RMSNorm, divided by its scale."""
        g, c, w = self.graph, self.config, True
        # The sum of squares is a product with itself: accumulated whole, rounded once.
        row = g.reshape(x, (-1, 1, c.width), f"{name}.row")
        power = g.add("BATCH_MATMUL", [row, row], f"{name}.power.cell", adj_y=True, wide=w)
        power = g.reshape(power, (-1, 1), f"{name}.power")
        epsilon = g.constant("epsilon", np.full((1, 1), c.norm_epsilon * c.width, np.float32))
        power = g.add("ADD", [power, epsilon], f"{name}.power.offset", wide=w)
        x = g.add("MUL", [x, g.add("RSQRT", [power], f"{name}.rsqrt", wide=w)], f"{name}.plain", wide=w)
        gain = self.weights[f"{weight}.weight"] * c.width**0.5 / self.scale(name, c.width)
        x = g.add("MUL", [x, g.constant(f"{name}.gain", gain[None])], f"{name}.norm.wide", wide=w)
        return x if wide else g.add("QUANTIZE", [x], f"{name}.norm")

    def attention(self, n: int, x: str) -> str:
        g, c, t = self.graph, self.config, self.tokens
        name, size, groups = f"model.layers.{n}.self_attn", c.head_width, c.heads // c.kv_heads
        s = self.scale(f"{n}.attention", c.width)
        v = self.scale(f"{n}.values", c.kv_heads * size)
        pair: Floats = self.scale(f"{n}.pairs", c.kv_heads * self.half).reshape(c.kv_heads, 1, self.half)
        x = self.norm(x, f"model.layers.{n}.input_layernorm", f"{n}.attention")
        query = self.turned(x, self.weights[f"{name}.q_proj.weight"] * s, c.heads,
                            np.repeat(pair, groups, 0) * np.float32(size**-0.5), f"{n}.query")  # fmt: skip
        query = g.reshape(query, (-1, t, c.kv_heads, groups, size), f"{n}.query.groups")
        query = g.transpose(query, (0, 2, 3, 1, 4), f"{n}.query.grouped", WHOLE)
        query = g.reshape(query, (-1, c.kv_heads, groups * t, size), f"{n}.query.heads", WHOLE)
        key = self.turned(x, self.weights[f"{name}.k_proj.weight"] * s, c.kv_heads, 1 / pair, f"{n}.key")
        key = g.transpose(key, (0, 2, 1, 3), f"{n}.key.heads", HEADS)
        value = g.dense(x, self.weights[f"{name}.v_proj.weight"] * s / v[:, None], None, f"{n}.value")
        value = g.reshape(value, (-1, t, c.kv_heads, size), f"{n}.value.split")
        value = g.transpose(value, (0, 2, 1, 3), f"{n}.value.heads", HEADS)
        g.outputs |= {f"key.{n}": key, f"value.{n}": value}
        g.cached |= {f"key.{n}": key, f"value.{n}": value}
        keys, values = [f"key.{n}", key], [f"value.{n}", value]
        if self.sink:
            still = self.sink[f"key.{n}"] / np.concatenate([pair, pair], 2)[None]
            keys.append(g.constant(f"{n}.key.sink", still.astype(np.float32)))
            still = self.sink[f"value.{n}"] / v.reshape(1, c.kv_heads, 1, size)
            values.append(g.constant(f"{n}.value.sink", still.astype(np.float32)))
        all_keys = g.add("CONCATENATION", keys, f"{n}.keys", WHOLE, axis=2)
        all_values = g.add("CONCATENATION", values, f"{n}.values", WHOLE, axis=2)
        scores = g.add("BATCH_MATMUL", [query, all_keys], f"{n}.scores", WHOLE, adj_y=True)
        scores = g.add("ADD", [scores, self.mask], f"{n}.masked", masked=True)
        shares = g.add("SOFTMAX", [scores], f"{n}.shares")
        mixed = g.add("BATCH_MATMUL", [shares, all_values], f"{n}.mixed.heads", WHOLE)
        mixed = g.reshape(mixed, (-1, c.kv_heads, groups, t, size), f"{n}.mixed.grouped", WHOLE)
        mixed = g.transpose(mixed, (0, 3, 1, 2, 4), f"{n}.mixed.groups", ROWS)
        mixed = g.reshape(mixed, (-1, c.heads * size), f"{n}.mixed")
        columns = np.repeat(v.reshape(c.kv_heads, 1, size), groups, 1).ravel()
        rows = self.scale(f"{n}.attention.change", c.width)[:, None]
        return g.dense(mixed, self.weights[f"{name}.o_proj.weight"] * columns / rows, None, f"{n}.attention.change")

    def turned(self, x: str, weight: Floats, heads: int, factor: NDArray[Any], name: str) -> str:
        """Rotated queries or keys [batch, tokens, heads, head_width]; `factor` [heads, 1, half] scales both halves.

        ``y cos + swapped(y) sin``, where `swapped` exchanges the halves and the table of sines has their signs. In
        between it is int16: the result is rounded to int8 once.
        """
        g, t, h = self.graph, self.tokens, self.half
        rows = weight.reshape(heads, 2, h, -1) * factor[..., None]
        y = g.dense(x, rows.reshape(2 * heads * h, -1).astype(np.float32), None, name)
        y = g.reshape(y, (-1, t, heads, 2 * h), f"{name}.split")
        low = g.add("SLICE", [y], f"{name}.low", begin=(0, 0, 0, 0), size=(-1, t, heads, h))
        high = g.add("SLICE", [y], f"{name}.high", begin=(0, 0, 0, h), size=(-1, t, heads, h))
        swapped = self.widen(g.add("CONCATENATION", [high, low], f"{name}.swapped", axis=3), f"{name}.swapped")
        along = g.add("MUL", [self.widen(y, name), self.turn["cosine"]], f"{name}.cosine", wide=True)
        across = g.add("MUL", [swapped, self.turn["sine"]], f"{name}.sine", wide=True)
        both = g.add("ADD", [along, across], f"{name}.turned.wide", wide=True)
        return g.add("QUANTIZE", [both], f"{name}.turned")

    def feed(self, n: int, x: str) -> str:
        """SwiGLU. Few of its products are large, and those matter: they are int16, and so is what they become."""
        g, name, w = self.graph, f"model.layers.{n}.mlp", n in self.wide
        s = self.scale(f"{n}.feed", self.config.width)
        gate = g.dense(x, self.weights[f"{name}.gate_proj.weight"] * s, None, f"{n}.gate", wide=w)
        up = g.dense(x, self.weights[f"{name}.up_proj.weight"] * s, None, f"{n}.up", wide=w)
        gate, up = self.widen(gate, f"{n}.gate"), self.widen(up, f"{n}.up")
        shut = g.add("LOGISTIC", [gate], f"{n}.gate.sigmoid", wide=True)
        y = g.add("MUL", [g.add("MUL", [gate, shut], f"{n}.gate.silu", wide=True), up], f"{n}.inner", wide=True)
        return g.dense(y, self.weights[f"{name}.down_proj.weight"], None, f"{n}.feed.change", wide=True)
