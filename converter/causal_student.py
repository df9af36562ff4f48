"""The causal student of the `mcu` tiers: a small decoder made for int8, with its cache of keys and values outside.

Like the encoders' student it has dynamic tanh for norms and ReLU, so all of it is int8 and runs in TensorFlow Lite
Micro; positions are learned and gathered. One definition gives training (`whole`), and what reads one token or a chunk
after a cache (`lower`).

The convention is that of `llama`: inputs are the ids int32 [1, tokens], the position int32 [1] of the first of them,
and for each layer `key.N` and `value.N` [1, heads, context, head_width]; outputs are the new keys and values [1, heads,
tokens, head_width], which the caller writes into the cache at the position, the features (the last norm) and the
logits, one row for each token. Slots from the position on are masked, so what lies there does not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tasuki.converter.graph import HEADS, ROWS, WHOLE, Floats, Graph
from tasuki.converter.llama import MASKED
from tasuki.sdk.errors import ConversionError

# The tokens of a chunk.
CHUNK: Final = 8
# A teacher's expectations are kept as uint16.
_MOST_WORDS: Final = 1 << 16


@dataclass(frozen=True)
class CausalShape:
    """Sizes of a student. `width` is divisible by `heads`; `context` is the most tokens of a text.

    Raises ConversionError if they make no student.
    """

    vocabulary: int
    context: int
    width: int = 128
    layers: int = 3
    heads: int = 4
    inner: int = 384

    def __post_init__(self) -> None:
        if min(self.vocabulary, self.width, self.layers, self.heads, self.inner) < 1 or self.vocabulary > _MOST_WORDS:
            raise ConversionError(f"{self}: every size is from 1, and the vocabulary up to {_MOST_WORDS:,}")
        if self.width % self.heads or self.context % CHUNK or self.context < CHUNK:
            raise ConversionError(
                f"{self}: the width must be a multiple of the heads, and the context one of {CHUNK} (a chunk)"
            )

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def parameters(self) -> int:
        """How many weights there are."""
        d, f = self.width, self.inner
        layer = 4 * d * (d + 1) + 2 * d * f + f + d + 2
        return (2 * self.vocabulary + self.context) * d + self.vocabulary + self.layers * layer + 1

    def cache(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the inputs that hold the cache, by name."""
        one = (1, self.heads, self.context, self.head_width)
        return {f"{part}.{n}": one for n in range(self.layers) for part in ("key", "value")}


def initial(shape: CausalShape, seed: int) -> dict[str, Floats]:
    """Seeded weights."""
    rng = np.random.default_rng(seed)

    def dense(rows: int, columns: int, scale: float = 1.0) -> Floats:
        return np.asarray(rng.standard_normal((rows, columns)) * scale / np.sqrt(columns), np.float32)

    d, f = shape.width, shape.inner
    weights: dict[str, Floats] = {
        "pieces": (0.5 * rng.standard_normal((shape.vocabulary, d))).astype(np.float32),
        "positions": (0.1 * rng.standard_normal((shape.context, d))).astype(np.float32),
        "out.a": np.ones(1, np.float32),
        "logits.w": dense(shape.vocabulary, d, 0.5),
        "logits.b": np.zeros(shape.vocabulary, np.float32),
    }
    depth = 1.0 / np.sqrt(2 * shape.layers)
    for n in range(shape.layers):
        for part in ("q", "k", "v"):
            # The 1/sqrt(head width) of the scores lives in the query's weights: one operator less.
            weights[f"{n}.{part}.w"] = dense(d, d, shape.head_width**-0.5 if part == "q" else 1.0)
            weights[f"{n}.{part}.b"] = np.zeros(d, np.float32)
        weights[f"{n}.o.w"], weights[f"{n}.o.b"] = dense(d, d, depth), np.zeros(d, np.float32)
        weights[f"{n}.up.w"], weights[f"{n}.up.b"] = dense(f, d, 1.4), np.zeros(f, np.float32)
        weights[f"{n}.down.w"], weights[f"{n}.down.b"] = dense(d, f, depth), np.zeros(d, np.float32)
        weights[f"{n}.attend.a"] = weights[f"{n}.feed.a"] = np.ones(1, np.float32)
    return weights


def lower(shape: CausalShape, w: Mapping[str, Any], tokens: int = CHUNK) -> Graph:
    """The decoder for `tokens`, 1 or a chunk, after at most `context` cached ones.

    Both have the same constants, and every tensor of the one is in the other, so calibrating on chunks is enough. In
    calibration the inputs have a batch, and `position` is int32 [n, 1]. What a call has past the context is padding.
    """
    if tokens not in (1, CHUNK):
        raise ValueError(f"{tokens} tokens at once, and it must be 1 or {CHUNK}")
    g = Graph({"ids": (1, tokens), "position": (1,), **shape.cache()})
    places = "position"
    if tokens > 1:
        places = g.add("ADD", [places, g.constant("offsets", np.arange(tokens, dtype=np.int32))], "places", WHOLE)
    # A chunk may end past the context: its padding has places too.
    table = np.concatenate([w["positions"], np.repeat(w["positions"][-1:], CHUNK, 0)])
    rows = g.add("GATHER", [g.constant("positions.table", table), places], "positions.gather", ROWS)
    rows = g.reshape(rows, (-1, shape.width), "positions.rows", ROWS)
    return _build(g, shape, w, tokens, rows, _mask(g, shape.context, tokens))


def whole(shape: CausalShape, w: Mapping[str, Any]) -> Graph:
    """Ids int32 [n, context] from position 0 to `features` and `logits`, without a cache: for training.

    `w` may hold TensorFlow variables.
    """
    t = shape.context
    g = Graph({"ids": (1, t)})
    future = np.where(np.arange(t) > np.arange(t)[:, None], MASKED, 0).astype(np.float32)
    rows = g.constant("positions", w["positions"])
    return _build(g, shape, w, t, rows, g.constant("future.whole", future))


def _mask(g: Graph, context: int, tokens: int) -> str:
    """What is added to the scores: [-1, 1, tokens, context + tokens]."""
    slots = np.arange(context + CHUNK)
    # One row for each position, and some for padding past the context.
    empty = (slots >= np.arange(context + CHUNK)[:, None]) & (slots < context)
    table = g.constant("empty.table", np.where(empty, MASKED, 0).astype(np.float32))
    row = g.reshape(
        g.add("GATHER", [table, "position"], "empty.gather", WHOLE), (-1, 1, 1, context + CHUNK), "empty.row"
    )
    row = g.add("SLICE", [row], "empty", WHOLE, begin=(0, 0, 0, 0), size=(-1, 1, 1, context + tokens))
    if tokens == 1:
        return row
    after = slots - context > np.arange(tokens)[:, None]
    future = g.constant("future", np.where(after, MASKED, 0).astype(np.float32)[None, None])
    # Saturates at MASKED: masked twice is masked.
    return g.add("ADD", [row, future], "mask", WHOLE, low=MASKED)


def _build(g: Graph, shape: CausalShape, w: Mapping[str, Any], t: int, rows: str, mask: str) -> Graph:
    d, cached = shape.width, "key.0" in g.inputs

    def dense(x: str, name: str, output: str, relu: bool = False) -> str:
        return g.dense(x, w[f"{name}.w"], w[f"{name}.b"], output, relu=relu)

    def norm(x: str, name: str) -> str:
        scaled = g.add("MUL", [x, g.constant(f"{name}.a", w[f"{name}.a"])], f"{name}.scaled")
        return g.add("TANH", [scaled], f"{name}.norm")

    def heads(x: str) -> str:
        split = g.reshape(x, (-1, t, shape.heads, shape.head_width), f"{x}.split")
        return g.transpose(split, (0, 2, 1, 3), f"{x}.heads", HEADS)

    def remembered(part: str, n: int, new: str) -> str:
        """Keys or values of the cache and the new ones."""
        if not cached:
            return new
        g.outputs[f"{part}.{n}"] = new
        g.cached[f"{part}.{n}"] = new
        return g.add("CONCATENATION", [f"{part}.{n}", new], f"{n}.{part}s", WHOLE, axis=2)

    words = g.add("GATHER", [g.constant("pieces", w["pieces"]), "ids"], "words.gather", ROWS)
    if cached:
        x = g.add("ADD", [g.reshape(words, (-1, d), "words"), rows], "start")
    else:
        x = g.reshape(g.add("ADD", [words, rows], "placed"), (-1, d), "start")
    for n in range(shape.layers):
        y = norm(x, f"{n}.attend")
        query, key, value = (heads(dense(y, f"{n}.{part}", f"{n}.{part}")) for part in ("q", "k", "v"))
        keys, values = remembered("key", n, key), remembered("value", n, value)
        scores = g.add("BATCH_MATMUL", [query, keys], f"{n}.scores", WHOLE, adj_y=True)
        scores = g.add("ADD", [scores, mask], f"{n}.masked", masked=True)
        shares = g.add("SOFTMAX", [scores], f"{n}.shares")
        mixed = g.add("BATCH_MATMUL", [shares, values], f"{n}.mixed.heads", HEADS)
        mixed = g.reshape(g.transpose(mixed, (0, 2, 1, 3), f"{n}.mixed.split", ROWS), (-1, d), f"{n}.mixed")
        x = g.add("ADD", [x, dense(mixed, f"{n}.o", f"{n}.attend.change")], f"{n}.attend.sum")
        y = dense(norm(x, f"{n}.feed"), f"{n}.up", f"{n}.inner", relu=True)
        x = g.add("ADD", [x, dense(y, f"{n}.down", f"{n}.feed.change")], f"{n}.feed.sum")
    g.outputs["features"] = norm(x, "out")
    g.outputs["logits"] = dense(g.outputs["features"], "logits", "logits")
    return g
