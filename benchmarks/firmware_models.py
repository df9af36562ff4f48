"""Full-int8 transformers of the reference models' shape, from a seed, to measure and test the firmware bridge on.

    dyt               dynamic-tanh norms
    layernorm         LayerNorm as TensorFlow Lite's converter lowers it, float32 for the negative mean; gains are 1
    layernorm_gains   the same with a gain of its own for each feature, as training leaves them
    rmsnorm           RMSNorm and a gated feed-forward, all int8

int32 ids [1, tokens] in, float32 [1, width] out. Weights are random; every activation's grid covers what a float64 run
of the same network on random ids gives, so nothing saturates. Instruction counts do not depend on the weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.benchmarks.tflite_builder import Builder

Real = NDArray[np.float64]
# Texts of the float run, and bits that a scale keeps: what another processor's sums differ in is far below them.
_TEXTS: Final = 8
_BITS: Final = 12


@dataclass(frozen=True)
class Shape:
    """The dimensions; `width` divides by `heads`."""

    width: int = 128
    heads: int = 4
    layers: int = 2
    inner: int = 512
    vocabulary: int = 2000
    tokens: int = 32


REFERENCE: Final = Shape()
SMALL: Final = Shape(width=16, heads=2, layers=2, inner=32, vocabulary=50, tokens=8)


@dataclass(frozen=True, eq=False)
class _Value:
    """A tensor, and what the float network has there for each of the texts: [texts, ...]."""

    number: int
    real: Real


def dyt(seed: int = 0, shape: Shape = REFERENCE) -> bytes:
    """Dynamic-tanh norms: tanh(x / 2), a fused RELU in the feed-forward. The twin of the first reference model."""
    net = _Net(seed, shape)
    half = net.constant(np.array(0.5))
    return _encoder(net, lambda x: net.fixed("TANH", net.op("MUL", [x, half], x.real * 0.5), np.tanh))


def layernorm(seed: int = 0, shape: Shape = REFERENCE) -> bytes:
    """LayerNorm whose gains are all 1, the twin of the second reference model."""
    net = _Net(seed, shape)
    return _layernorm(net, np.ones(shape.width))


def layernorm_gains(seed: int = 0, shape: Shape = REFERENCE) -> bytes:
    """LayerNorm with a gain for each feature: nothing in it is the same for a whole row."""
    net = _Net(seed, shape)
    return _layernorm(net, net.rng.uniform(0.8, 1.2, shape.width))


def _layernorm(net: "_Net", gain: Real) -> bytes:
    epsilon = net.constant(np.array(1e-5))
    gains = net.constant(gain.reshape(1, 1, -1))
    last = net.ints(-1)

    def norm(x: _Value) -> _Value:
        mean = net.op("MEAN", [x, last], x.real.mean(-1, keepdims=True), keep_dims=True)
        minus = net.float("NEG", net.float("DEQUANTIZE", mean, mean.real), -mean.real)
        minus = net.op("QUANTIZE", [minus], -mean.real)
        square = net.op("SQUARED_DIFFERENCE", [x, mean], (x.real - mean.real) ** 2)
        variance = net.op("MEAN", [square, last], square.real.mean(-1, keepdims=True), keep_dims=True)
        variance = net.op("ADD", [variance, epsilon], variance.real + 1e-5)
        factor = net.op("RSQRT", [variance], variance.real**-0.5)
        factor = net.op("MUL", [factor, gains], factor.real * gain)
        shift = net.op("MUL", [minus, factor], minus.real * factor.real)
        scaled = net.op("MUL", [x, factor], x.real * factor.real)
        return net.op("ADD", [scaled, shift], scaled.real + shift.real)

    return _encoder(net, norm)


def rmsnorm(seed: int = 0, shape: Shape = REFERENCE) -> bytes:
    """RMSNorm and SwiGLU, all in int8: what the other two do not have is LOGISTIC and products of activations."""
    net = _Net(seed, shape)
    epsilon = net.constant(np.array(1e-5))
    gains = net.constant(net.rng.uniform(0.8, 1.2, shape.width))
    last = net.ints(-1)

    def norm(x: _Value) -> _Value:
        square = net.op("MUL", [x, x], x.real**2)
        mean = net.op("MEAN", [square, last], square.real.mean(-1, keepdims=True), keep_dims=True)
        mean = net.op("ADD", [mean, epsilon], mean.real + 1e-5)
        factor = net.op("RSQRT", [mean], mean.real**-0.5)
        scaled = net.op("MUL", [x, factor], x.real * factor.real)
        return net.op("MUL", [scaled, gains], scaled.real * gains.real)

    def forward(x: _Value) -> _Value:
        gate, up = net.dense(x, shape.inner), net.dense(x, shape.inner)
        open_ = net.fixed("LOGISTIC", gate, lambda v: 1 / (1 + np.exp(-v)))
        swish = net.op("MUL", [gate, open_], gate.real * open_.real)
        return net.dense(net.op("MUL", [swish, up], swish.real * up.real), shape.width)

    return _encoder(net, norm, forward)


MODELS: Final[Mapping[str, Callable[[int, Shape], bytes]]] = {
    "dyt": dyt, "layernorm": layernorm, "layernorm_gains": layernorm_gains, "rmsnorm": rmsnorm,
}  # fmt: skip


def ids(seed: int, shape: Shape = REFERENCE, texts: int = 1) -> NDArray[np.int32]:
    """Random ids, int32 [texts, 1, tokens]."""
    return np.random.default_rng(seed).integers(0, shape.vocabulary, (texts, 1, shape.tokens), np.int32)


def _encoder(net: "_Net", norm: Callable[[_Value], _Value], forward: Callable[[_Value], _Value] | None = None) -> bytes:
    """Embeddings, then layers of attention and feed-forward, each behind a norm, then the mean over the tokens."""
    shape = net.shape

    def plain(x: _Value) -> _Value:
        return net.dense(net.dense(x, shape.inner, relu=True), shape.width)

    x = net.embed()
    for _ in range(shape.layers):
        x = net.add(x, net.attention(norm(x)))
        x = net.add(x, (forward or plain)(norm(x)))
    x = norm(x)
    pooled = net.op("MEAN", [x, net.whole(np.int32(1))], x.real.mean(-2))
    out = net.float("DEQUANTIZE", pooled, pooled.real)
    net.builder.output(out.number)
    return net.builder.build()


class _Net:
    """A network under construction, in integers and in float64 at once."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self.rng, self.shape = np.random.default_rng(seed), shape
        self.builder = Builder()
        self.grids: dict[int, tuple[float, int]] = {}

    # Constants

    def constant(self, value: Real) -> _Value:
        """A quantised constant."""
        scale, zero = _grid(value)
        steps = np.clip(np.rint(value / scale) + zero, -128, 127).astype(np.int8)
        number = self.builder.constant(steps, scale=scale, zero=zero)
        self.grids[number] = (scale, zero)
        return _Value(number, (steps.astype(np.float64) - zero) * scale)

    def whole(self, value: Any) -> _Value:
        """An int32 constant."""
        return _Value(self.builder.constant(value), np.zeros(0))

    def ints(self, *values: int) -> _Value:
        """An int32 constant of one dimension."""
        return self.whole(np.array(values, np.int32))

    # Operators

    def op(
        self, kind: str, inputs: list[_Value | None], real: Real, grid: tuple[float, int] | None = None,
        shape: tuple[int, ...] | None = None, **options: Any,
    ) -> _Value:  # fmt: skip
        """An operator with an int8 result; without a `grid` that of the float values, without a `shape` theirs."""
        scale, zero = grid or _grid(real)
        numbers = [None if value is None else value.number for value in inputs]
        if kind in ("ADD", "SUB"):
            options["pot_scale_int16"] = True
        number = self.builder.op(kind, numbers, shape or self.one(real), scale=scale, zero=zero, **options)
        self.grids[number] = (scale, zero)
        return _Value(number, real)

    def one(self, real: Real) -> tuple[int, ...]:
        """The shape in the file of `real` [texts, ...]: one text."""
        return (1, *real.shape[1:])

    def fixed(self, kind: str, x: _Value, function: Callable[[Real], Real]) -> _Value:
        """TANH, LOGISTIC or SOFTMAX, whose grids are prescribed."""
        return self.op(kind, [x], function(x.real), (1 / 128, 0) if kind == "TANH" else (1 / 256, -128))

    def float(self, kind: str, x: _Value, real: Real) -> _Value:
        """An operator with a float32 result."""
        return _Value(self.builder.op(kind, [x.number], self.one(real), "float32"), real)

    def moved(
        self, kind: str, x: _Value, argument: _Value, real: Real, shape: tuple[int, ...] | None = None
    ) -> _Value:  # fmt: skip
        """RESHAPE or TRANSPOSE."""
        return self.op(kind, [x, argument], real, self.grids[x.number], shape)

    def dense(self, x: _Value, outputs: int, *, relu: bool = False, rows: bool = False) -> _Value:
        """A dense layer without bias, a scale for each output; weights as Glorot draws them. `rows`: x is a matrix."""
        inputs = x.real.shape[-1]
        limit = (6 / (inputs + outputs)) ** 0.5
        weights = self.rng.uniform(-limit, limit, (outputs, inputs))
        scales = _short(np.abs(weights).max(1) / 127)
        steps = np.clip(np.rint(weights / scales[:, None]), -127, 127).astype(np.int8)
        number = self.builder.constant(steps, scale=scales)
        real = x.real @ (steps * scales[:, None]).T
        real, activation = (np.maximum(real, 0), "RELU") if relu else (real, "NONE")
        shape = (self.shape.tokens, outputs) if rows else None
        return self.op(
            "FULLY_CONNECTED", [x, _Value(number, steps), None], real, shape=shape, activation=activation,
            keep_num_dims=not rows,
        )  # fmt: skip

    def embed(self) -> _Value:
        """Word and position embeddings, summed."""
        shape = self.shape
        rows = self.rng.integers(0, shape.vocabulary, (_TEXTS, shape.tokens))
        entry = self.builder.input((1, shape.tokens), "int32", name="ids")
        words = self.constant(self.rng.normal(0, 1, (shape.vocabulary, shape.width)))
        places = self.constant(self.rng.normal(0, 0.05, (shape.tokens, shape.width)))
        real = words.real[rows]
        x = self.op("GATHER", [words, _Value(entry, real)], real, self.grids[words.number], axis=0)
        return self.add(x, places)

    def add(self, a: _Value, b: _Value) -> _Value:
        """A residual sum."""
        return self.op("ADD", [a, b], a.real + b.real)

    def attention(self, x: _Value) -> _Value:
        """Multi-head attention: K, Q, V in the order in which the converter has them."""
        shape = self.shape
        head = shape.width // shape.heads
        turned, back = self.ints(0, 2, 3, 1), self.ints(0, 2, 1, 3)
        k = self.heads(self.dense(x, shape.width), turned, (0, 2, 3, 1))
        q = self.heads(self.dense(x, shape.width), back, (0, 2, 1, 3))
        scores = self.op("BATCH_MATMUL", [q, k], q.real @ k.real)
        scores = self.op("MUL", [scores, self.constant(np.array(head**-0.5))], scores.real * head**-0.5)
        weights = self.fixed("SOFTMAX", scores, _softmax)
        v = self.heads(self.dense(x, shape.width), back, (0, 2, 1, 3))
        mixed = self.op("BATCH_MATMUL", [weights, v], weights.real @ v.real)
        joined = self.moved("TRANSPOSE", mixed, back, mixed.real.transpose(0, 2, 1, 3))
        flat = (shape.tokens, shape.width)
        rows = self.moved("RESHAPE", joined, self.ints(*flat), joined.real.reshape(-1, *flat), flat)
        return self.dense(rows, shape.width, rows=True)

    def heads(self, x: _Value, order: _Value, axes: tuple[int, ...]) -> _Value:
        """[texts, tokens, width] becomes [texts, heads, ...]."""
        shape = self.shape
        split = (1, shape.tokens, shape.heads, shape.width // shape.heads)
        apart = self.moved("RESHAPE", x, self.ints(*split), x.real.reshape(-1, *split[1:]))
        return self.moved("TRANSPOSE", apart, order, apart.real.transpose(axes))


def _softmax(x: Real) -> Real:
    raised = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def _short(scale: Any) -> Any:
    """`scale` with 12 bits, rounded up."""
    mantissa, exponent = np.frexp(scale)
    return np.ldexp(np.ceil(mantissa * 2**_BITS) / 2**_BITS, exponent)


def _grid(real: Real) -> tuple[float, int]:
    """The int8 grid that covers `real` and has a step at zero."""
    low, high = min(float(real.min()), 0.0), max(float(real.max()), 0.0)
    scale = float(_short((high - low) / 255))
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))
