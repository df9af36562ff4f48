"""What makes a decoder's activations fit into eight bits, found on calibration text in one pass of the float graph.

For every tensor that `llama.equalised` lists, the scale of each channel: its range to the power of a strength, against
that of the weights that read it (SmoothQuant: Xiao et al. 2023; cross-layer equalisation: Nagel et al. 2019). The
strength is the one of a few with which an int8 product comes nearest to the float one. Two channels of a key that RoPE
turns together share a scale. Then, for each layer, the noise that gates in int8 would add to the residual stream: where
it is too loud they are int16. Channels between the up and the down projection have no scales: they would cost the int8
weights of the latter more than they save, so the products there are int16.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasuki.converter import execute, llama, ranges, rounding
from tasuki.converter.families import LlamaConfig
from tasuki.converter.graph import Floats, Node
from tasuki.converter.quantise import INT8, grid_of, on_grid

# Mean squared noise of a layer's feed-forward part, as a share of the residual stream's square, from which it is int16.
LOUD: Final = 1.5e-4
_STRENGTHS: Final = (0.0, 0.3, 0.5, 0.65, 0.8, 1.0)
# Rows of activations and of weights on which strengths are compared.
_ROWS: Final = 320
_WEIGHTS: Final = 768
# A channel's range: the largest value, or one that few values exceed.
_MOST: Final = (100.0, 99.9)
# What is left of the weights' error after adaptive rounding.
_LEFT: Final = 0.5
# What else is looked at in each layer.
_READ: Final = ("query.turned", "key.turned", "attention.sum", "feed.change", "feed.sum")


@dataclass(frozen=True)
class Equalisation:
    """`scales` for `llama.lower`; `noise` of each layer's feed-forward part in int8, `wide` those above `LOUD`."""

    scales: dict[str, Floats]
    noise: tuple[float, ...]
    wide: frozenset[int]


NOTHING: Final = Equalisation({}, (), frozenset())


def measure(
    config: LlamaConfig,
    weights: Mapping[str, Floats],
    cache: Mapping[str, Floats],
    ids: NDArray[np.int32],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Equalisation:
    """`ids` int32 [n, tokens] follow the start token, whose `llama.start_cache` is `cache`."""
    n, tokens = ids.shape
    graph = llama.lower(config, weights, tokens, 1, judged=1)
    feeds: dict[str, Any] = {"ids": ids, "position": np.ones(1, np.int32)}
    feeds |= {name: np.repeat(value, n, 0) for name, value in cache.items()}
    search = _Search(config, weights, progress)
    search.scales["words"] = row_scales(weights["model.embed_tokens.weight"])
    execute.run(graph, feeds, hook=search.note)
    wide = frozenset(layer for layer, noise in enumerate(search.noise) if noise > LOUD)
    for layer in wide:
        # In int16 there is nothing to even out, and scales cost the weights some of their eight bits.
        del search.scales[f"{layer}.feed"]
    return Equalisation(search.scales, tuple(search.noise), wide)


def rounded(x: Floats) -> Floats:
    """`x` in 256 steps of the better of two ranges."""
    found = []
    for low, high in ((float(x.min()), float(x.max())), ranges.least_square(x.ravel()[:: 1 + x.size // 65536], 256)):
        y = on_grid(x, grid_of(low, high, INT8))
        found.append((float(np.mean((y - x) ** 2)), y))
    return min(found, key=lambda pair: pair[0])[1]


def row_scales(table: Floats) -> Floats:
    """The range of each row of the embedding, rounded up to a step of an int8 table of them."""
    reach = np.abs(table).max(1)
    step = max(float(reach.max()), 1e-6) / 255
    return np.asarray(np.maximum(np.ceil(reach / step), 1) * step, np.float32)


class _Search:
    """Holds one layer's activations, and decides when its last one has come."""

    def __init__(
        self, config: LlamaConfig, weights: Mapping[str, Floats], progress: Callable[[int, int], None]
    ) -> None:
        self.config, self.weights, self.progress = config, weights, progress
        self.scales: dict[str, Floats] = {}
        self.noise: list[float] = []
        self.seen: dict[str, Floats] = {}
        self.wanted = set(llama.equalised(config).values())
        for n in range(config.layers):
            self.wanted |= {f"{n}.{part}" for part in _READ}

    def note(self, node: Node, y: tf.Tensor) -> tf.Tensor:
        name = node.output
        if name in self.wanted:
            self.seen[name] = np.asarray(y)
        if name.endswith(".feed.sum"):
            n = int(name.split(".")[0])
            self.layer(n)
            self.seen.clear()
            self.progress(n + 1, self.config.layers)
        elif name == "last.norm":
            head = self.weights["model.embed_tokens.weight" if self.config.tied else "lm_head.weight"]
            self.scales["last"] = self.smooth(self.seen[name], head)
        return y

    def layer(self, n: int) -> None:
        c, name = self.config, f"model.layers.{n}"
        size, groups = c.head_width, c.heads // c.kv_heads

        def w(part: str) -> Floats:
            return self.weights[f"{name}.{part}.weight"]

        attention, feed = self.seen[f"{n}.attention.norm"], self.seen[f"{n}.feed.norm"]
        into = np.concatenate([w(f"self_attn.{part}_proj") for part in "qkv"])
        self.scales[f"{n}.attention"] = self.smooth(attention, into)
        self.scales[f"{n}.feed"] = self.smooth(feed, np.concatenate([w("mlp.gate_proj"), w("mlp.up_proj")]))
        # Each head of the values is read by a group of heads of the output projection.
        readers = w("self_attn.o_proj").reshape(c.width, c.kv_heads, groups, size)
        readers = readers.transpose(0, 2, 1, 3).reshape(-1, c.kv_heads * size)
        self.scales[f"{n}.values"] = self.smooth(self.seen[f"{n}.value"], readers)
        self.scales[f"{n}.attention.change"] = _even(
            self.seen[f"{n}.attention.change"], _energy(self.seen[f"{n}.attention.sum"])
        )
        query, key = (self.seen[f"{n}.{part}.turned"] for part in ("query", "key"))
        self.scales[f"{n}.pairs"] = _pairs(query, key, c.kv_heads)
        self.noise.append(self.feed_noise(n, feed, _energy(self.seen[f"{n}.feed.sum"])))

    def smooth(self, x: Floats, weight: Floats) -> Floats:
        """The scale of each channel of `x` [rows, in], which `weight` [out, in] reads."""
        reach = [np.percentile(np.abs(x), most, 0) for most in _MOST]
        x = _thin(x, _ROWS)
        weight = _thin(weight, _WEIGHTS)
        exact, theirs = x @ weight.T, np.maximum(np.abs(weight).max(0), 1e-9)
        best: tuple[float, Floats] | None = None
        for channels in reach:
            for strength in _STRENGTHS:
                s = _normal(np.maximum(channels, 1e-6) ** strength / theirs ** (1 - strength))
                scaled = weight * s
                steps = rounding.nearest(scaled, None)
                kept = scaled + _LEFT * (steps.weight * steps.scale[:, None] - scaled)
                error = float(np.mean((rounded(x / s) @ kept.T - exact) ** 2))
                best = (error, s) if best is None or error < best[0] else best
        assert best is not None  # noqa: S101  (there are strengths)
        return best[1]

    def feed_noise(self, n: int, x: Floats, loud: Floats) -> float:
        """Of the feed-forward part with gate and up in int8: the mean of its square, as a share of `loud`."""
        name, s = f"model.layers.{n}.mlp", self.scales[f"{n}.feed"]
        x = rounded(x / s) * s
        gate, up = (rounded(x @ self.weights[f"{name}.{part}_proj.weight"].T) for part in ("gate", "up"))
        inner = np.asarray(gate / (1 + np.exp(-gate)) * up, np.float32)
        change = inner @ self.weights[f"{name}.down_proj.weight"].T
        return float(np.mean((change - self.seen[f"{n}.feed.change"]) ** 2 / loud))


def _thin(rows: Floats, most: int) -> Floats:
    return rows[:: max(1, -(-len(rows) // most))]


def _energy(x: Floats) -> Floats:
    """Mean square of each row, [rows, 1]."""
    return np.asarray(np.mean(x.astype(np.float64) ** 2, 1, keepdims=True), np.float32)


def _normal(scale: NDArray[Any]) -> Floats:
    """The same proportions around 1: what is divided keeps its magnitude."""
    return np.asarray(scale / np.exp(np.mean(np.log(scale))), np.float32)


def _even(x: Floats, loud: Floats) -> Floats:
    """The scale that gives every channel of `x` the whole range: nothing is lost in the rows of weights behind it."""
    found = []
    for most in _MOST:
        s = np.asarray(np.maximum(np.percentile(np.abs(x), most, 0), 1e-6), np.float32)
        found.append((float(np.mean((rounded(x / s) * s - x) ** 2 / loud)), s))
    return min(found, key=lambda pair: pair[0])[1]


def _pairs(query: Floats, key: Floats, kv_heads: int) -> Floats:
    """The scale of each pair of `key` [batch, tokens, kv_heads, width]; both are turned."""
    *_, heads, width = query.shape
    groups, half = heads // kv_heads, width // 2
    q = _thin(query.reshape(-1, kv_heads, groups, width), _ROWS)
    k = _thin(key.reshape(-1, kv_heads, width), _ROWS)
    exact = np.einsum("ahgw,bhw->hgab", q, k)
    reach_q = np.maximum(np.abs(q).max((0, 2)).reshape(kv_heads, 2, half).max(1), 1e-6)
    reach_k = np.maximum(np.abs(k).max(0).reshape(kv_heads, 2, half).max(1), 1e-6)
    best: tuple[float, Floats] | None = None
    for strength in _STRENGTHS:
        pair = _normal(reach_k**strength / reach_q ** (1 - strength))
        both = np.concatenate([pair, pair], 1)
        found = np.einsum("ahgw,bhw->hgab", rounded(q * both[:, None]), rounded(k / both))
        error = float(np.mean((found - exact) ** 2))
        best = (error, pair.ravel()) if best is None or error < best[0] else best
    assert best is not None  # noqa: S101  (there are strengths)
    return best[1]
