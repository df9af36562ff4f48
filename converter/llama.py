"""The Llama family lowered to TFLite operators, for a chunk of tokens after a cache of keys and values.

One definition gives `prefill` (many tokens) and `decode` (one): inputs are the ids int32 [1, tokens], the position int32 [1]
of the first of them, and for each layer `key.N` and `value.N` [1, kv_heads, context, head_width]; outputs are the new keys
and values, which the caller writes into the cache at the position, the features (the last norm) and the logits. Slots from
the position on are masked.

Exact rewriting of the float model (RMSNorm: Zhang and Sennrich 2019; RoPE: Su et al. 2021; grouped queries: Ainslie et al.
2023; SwiGLU: Shazeer 2020):

- The residual stream and the norms are int16, everything else int8: the sum of some sixty rounded changes is the one place
  where eight bits are too few.
- Loud channels are evened out before the matrices that read them (SmoothQuant), on both sides of the attention's products,
  and between the up and down projections (cross-layer equalisation).
- Slot 0 of the cache is the attention sink: the first token has activations hundreds of times larger than the rest
  (Sun et al. 2024), so it is computed once in float and never quantised but for its keys and values (PrefixQuant: Chen et
  al. 2024).
- The signs of RoPE's rotation are in its table of sines.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tasuki.converter.checkpoint import LlamaConfig
from tasuki.converter.graph import HEADS, ROWS, WHOLE, Floats, Graph

MASKED = -40.0


def lower(
    config: LlamaConfig,
    weights: Mapping[str, Floats],
    tokens: int,
    context: int,
    scales: Mapping[str, Floats] | None = None,
    wide: frozenset[int] = frozenset(),
) -> Graph:
    """The decoder for `tokens` ids after at most `context` cached ones. `weights` are in Hugging Face's names.

    `scales` gives float32 vectors to divide by, of the tensors that `equalised` lists; `wide` lists the layers whose feed-forward part is
    int16 as well.
    """
    return _Lowering(config, weights, tokens, context, scales or {}, wide).build()


def equalised(config: LlamaConfig) -> dict[str, str]:
    """Which scales there are, and the tensor of the unscaled graph that each is the range of."""
    found = {"last": "last.norm"}
    for n in range(config.layers):
        found |= {f"{n}.{part}": f"{n}.{part}.norm" for part in ("attention", "feed")}
        found |= {f"{n}.values": f"{n}.value", f"{n}.inner": f"{n}.inner"}
        found |= {f"{n}.{part}.change": f"{n}.{part}.change" for part in ("attention", "feed")}
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
    ) -> None:
        self.config, self.weights, self.tokens, self.context = config, weights, tokens, context
        self.scales, self.wide = scales, wide
        shape = (1, config.kv_heads, context, config.head_width)
        inputs: dict[str, tuple[int, ...]] = {"ids": (1, tokens), "position": (1,)}
        for n in range(config.layers):
            inputs |= {f"key.{n}": shape, f"value.{n}": shape}
        self.graph = Graph(inputs)

    def build(self) -> Graph:
        g, c = self.graph, self.config
        self.rotation()
        self.masks()
        words = g.add(
            "GATHER", [g.constant("words", self.weights["model.embed_tokens.weight"]), "ids"], "words.gather", ROWS
        )
        x = self.widen(g.reshape(words, (-1, c.width), "words.rows"), "words")
        for n in range(c.layers):
            name = f"model.layers.{n}"
            x = self.residual(x, self.attention(n, x), f"{n}.attention")
            norm = self.norm(x, f"{name}.post_attention_layernorm", f"{n}.feed", n in self.wide)
            x = self.residual(x, self.feed(n, norm), f"{n}.feed")
        features = self.norm(x, "model.norm", "last")
        g.outputs["features"] = features
        head = self.weights["model.embed_tokens.weight" if c.tied else "lm_head.weight"]
        g.outputs["logits"] = g.dense(features, head * self.scale("last", c.width), None, "logits")
        return g

    def scale(self, name: str, width: int) -> Floats:
        return self.scales.get(name, np.ones(width, np.float32))

    def rotation(self) -> None:
        """Cosines and sines of the tokens' positions, [1, tokens, 1, head_width]."""
        g, c = self.graph, self.config
        self.half = c.head_width // 2
        steps = c.rope_theta ** (-np.arange(self.half, dtype=np.float64) / self.half)
        angles = np.arange(self.context + self.tokens)[:, None] * steps
        offsets = g.constant("offsets", np.arange(self.tokens, dtype=np.int32))
        places = g.add("ADD", ["position", offsets], "places", WHOLE)
        self.turn = {}
        cosine, sine = np.cos(angles), np.sin(angles)
        for name, table in (("cosine", np.tile(cosine, 2)), ("sine", np.concatenate([-sine, sine], 1))):
            rows = g.add(
                "GATHER", [g.constant(f"{name}.table", table.astype(np.float32)), places], f"{name}.rows", WHOLE
            )
            self.turn[name] = g.reshape(rows, (1, self.tokens, 1, c.head_width), name, WHOLE)

    def masks(self) -> None:
        """What is added to the scores, [groups * tokens, context + tokens]."""
        g, c, t = self.graph, self.config, self.tokens
        slots = np.arange(self.context + t)
        empty = (slots >= np.arange(self.context + 1)[:, None]) & (slots < self.context)
        future = slots - self.context > np.arange(t)[:, None]
        table = g.constant("empty.table", np.where(empty, MASKED, 0).astype(np.float32))
        row = g.add("GATHER", [table, "position"], "empty", WHOLE)
        groups = c.heads // c.kv_heads
        future = np.tile(np.where(future, MASKED, 0).astype(np.float32), (groups, 1))
        # Saturates at MASKED: masked twice is masked.
        self.mask = g.add("ADD", [row, g.constant("future", future)], "mask", WHOLE, low=MASKED)

    def widen(self, x: str, name: str) -> str:
        return x if x in self.graph.wide else self.graph.add("QUANTIZE", [x], f"{name}.wide", wide=True)

    def residual(self, x: str, change: str, name: str) -> str:
        """The sum with a change that was divided by its scale."""
        g, s = self.graph, self.scale(f"{name}.change", self.config.width)
        change = g.add(
            "MUL", [self.widen(change, name), g.constant(f"{name}.range", s[None])], f"{name}.whole", wide=True
        )
        return g.add("ADD", [x, change], f"{name}.sum", wide=True)

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
        pair = self.scale(f"{n}.pairs", c.kv_heads * self.half).reshape(c.kv_heads, 1, self.half)
        x = self.norm(x, f"model.layers.{n}.input_layernorm", f"{n}.attention")
        query = self.turned(x, self.weights[f"{name}.q_proj.weight"] * s, c.heads,
                            np.repeat(pair, groups, 0) * size**-0.5, f"{n}.query")  # fmt: skip
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
        keys = g.add("CONCATENATION", [f"key.{n}", key], f"{n}.keys", WHOLE, axis=2)
        values = g.add("CONCATENATION", [f"value.{n}", value], f"{n}.values", WHOLE, axis=2)
        scores = g.add("BATCH_MATMUL", [query, keys], f"{n}.scores", WHOLE, adj_y=True)
        scores = g.add("ADD", [scores, self.mask], f"{n}.masked", masked=True)
        mixed = g.add("BATCH_MATMUL", [g.add("SOFTMAX", [scores], f"{n}.shares"), values], f"{n}.mixed.heads", WHOLE)
        mixed = g.reshape(mixed, (-1, c.kv_heads, groups, t, size), f"{n}.mixed.grouped", WHOLE)
        mixed = g.transpose(mixed, (0, 3, 1, 2, 4), f"{n}.mixed.groups", ROWS)
        mixed = g.reshape(mixed, (-1, c.heads * size), f"{n}.mixed")
        columns = np.repeat(v.reshape(c.kv_heads, 1, size), groups, 1).ravel()
        rows = self.scale(f"{n}.attention.change", c.width)[:, None]
        return g.dense(mixed, self.weights[f"{name}.o_proj.weight"] * columns / rows, None, f"{n}.attention.change")

    def turned(self, x: str, weight: Floats, heads: int, factor: NDArray[np.float32], name: str) -> str:
        """Rotated queries or keys [batch, tokens, heads, head_width]; `factor` [heads, 1, half] scales both halves.

        ``y cos + swapped(y) sin``, where `swapped` exchanges the halves and the table of sines has their signs.
        """
        g, t, h = self.graph, self.tokens, self.half
        rows = weight.reshape(heads, 2, h, -1) * factor[..., None]
        y = g.dense(x, rows.reshape(2 * heads * h, -1).astype(np.float32), None, name)
        y = g.reshape(y, (-1, t, heads, 2 * h), f"{name}.split")
        low = g.add("SLICE", [y], f"{name}.low", begin=(0, 0, 0, 0), size=(-1, t, heads, h))
        high = g.add("SLICE", [y], f"{name}.high", begin=(0, 0, 0, h), size=(-1, t, heads, h))
        swapped = g.add("CONCATENATION", [high, low], f"{name}.swapped", axis=3)
        along = g.add("MUL", [y, self.turn["cosine"]], f"{name}.cosine")
        across = g.add("MUL", [swapped, self.turn["sine"]], f"{name}.sine")
        return g.add("ADD", [along, across], f"{name}.turned")

    def feed(self, n: int, x: str) -> str:
        g, c, name = self.graph, self.config, f"model.layers.{n}.mlp"
        s, inner = self.scale(f"{n}.feed", c.width), self.scale(f"{n}.inner", c.inner)
        rows, w = self.scale(f"{n}.feed.change", c.width)[:, None], n in self.wide
        gate = g.dense(x, self.weights[f"{name}.gate_proj.weight"] * s, None, f"{n}.gate", wide=w)
        shut = g.add("LOGISTIC", [gate], f"{n}.gate.sigmoid", wide=w)
        gate = g.add("MUL", [gate, shut], f"{n}.gate.silu", wide=w)
        up = g.dense(x, self.weights[f"{name}.up_proj.weight"] * s / inner[:, None], None, f"{n}.up", wide=w)
        y = g.add("MUL", [gate, up], f"{n}.inner", wide=w)
        return g.dense(y, self.weights[f"{name}.down_proj.weight"] * inner / rows, None, f"{n}.feed.change", wide=w)
