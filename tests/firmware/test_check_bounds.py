"""The checks at their bounds: the last that passes, and the first that is refused, with what it is refused for."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from firmware.graph_kit import Builder
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler import check, reader
from tasuki.sdk.errors import ModelUnsupported

Make = Callable[[Builder], int]


def said(make: Make) -> str:
    """What a graph is refused for; nothing if it passes."""
    g = Builder()
    g.output(make(g))
    (graph,) = reader.read(g.build(), "lamp")
    try:
        check.check(graph, "lamp")
    except ModelUnsupported as error:
        return str(error)
    return ""


@dataclass
class In:
    """An input of the graph."""

    shape: Sequence[int] = (2, 3)
    kind: str = "int8"
    scale: float | None = 0.05
    zero: int = 0


def op(kind: str, inputs: Sequence[In | NDArray[Any]], shape: Sequence[int] = (2, 3), out: float = 0.05, zero: int = 0,
       type_: str = "int8", **more: Any) -> Make:  # fmt: skip
    """One operator of inputs and constants of int32."""

    def make(g: Builder) -> int:
        given = [g.input(x.shape, x.kind, x.scale, x.zero) if isinstance(x, In) else g.constant(x) for x in inputs]
        return g.op(kind, given, shape, type_, out, zero, **more)

    return make


def moved(kind: str, *arguments: Any, shape: Sequence[int] = (2, 3), x: In | None = None, **more: Any) -> Make:
    """An operator that moves values, by constants."""
    return op(kind, [x or In(), *(np.asarray(values, np.int32) for values in arguments)], shape, **more)


def dense(
    bias: NDArray[Any] | None = None, out: float = 10.0, kind: str = "int8", scale: Any = 0.01, weight: int = 0,
    bias_scale: float = 0.0005, **more: Any,
) -> Make:  # fmt: skip
    """Three sums of four products: input steps of 0.05, and `weight` everywhere."""

    def make(g: Builder) -> int:
        weights = g.constant(np.full((3, 4), weight, np.int8), scale)
        added = None if bias is None else g.constant(bias, bias_scale)
        return g.op("FULLY_CONNECTED", [g.input((1, 4), kind, 0.05), weights, added], (1, 3), kind, out, **more)

    return make


def biases(value: int, kind: Any = np.int32) -> NDArray[Any]:
    return np.full(3, value, kind)


def product(depth: int, kind: str = "int8", out: float = 1e4) -> Make:
    return op("BATCH_MATMUL", [In((1, depth), kind), In((depth, 1), kind)], (1, 1), out, type_=kind)


def pair(kind: str, out: float, first: float = 0.05, second: float = 0.05, type_: str = "int8") -> Make:
    return op(kind, [In(kind=type_, scale=first), In(kind=type_, scale=second)], out=out, type_=type_)


def one(kind: str, scale: float, out: float, zero: int = 0, out_zero: int = 0, type_: str = "int8",
        source: str = "", columns: int = 3) -> Make:  # fmt: skip
    x = In((1, columns), source or type_, scale, zero)
    return op(kind, [x], (1, columns), out, out_zero, type_)


def softmax(columns: int, type_: str = "int8", scale: float = 0.05) -> Make:
    narrow = type_ == "int8"
    return one("SOFTMAX", scale, 1 / 256 if narrow else 1 / 32768, 0, -128 if narrow else 0, type_, columns=columns)


def padded(value: Any, scale: float = 0.05, zero: int = 0) -> Make:
    def make(g: Builder) -> int:
        widths, filler = g.constant(np.array([[1, 0], [0, 0]], np.int32)), g.constant(value, scale, zero)
        return g.op("PADV2", [g.input((2, 3), "int8", 0.05), widths, filler], (3, 3), scale=0.05)

    return make


def updated(update: Sequence[int]) -> Make:
    return op("DYNAMIC_UPDATE_SLICE", [In(), In(update), In((2,), "int32", None)])


def shrunk(begin: int, step: int = 1) -> Make:
    return moved("STRIDED_SLICE", (begin, 0), (9, 3), (step, 1), shape=(3,), shrink_axis_mask=1)


def rows_of(shape: Sequence[int], outputs: Sequence[int]) -> Make:
    """A dense layer that keeps the dimensions, of one input."""

    def make(g: Builder) -> int:
        weights = g.constant(np.ones((3, 1), np.int8), 0.01)
        return g.op("FULLY_CONNECTED", [g.input(shape, "int8", 0.05), weights, None], outputs, scale=0.1,
                    keep_num_dims=True)  # fmt: skip

    return make


EXACT: list[tuple[Make, Make, str]] = [
    # What passes, what does not, and why
    (dense(out=6e-9, activation="RELU6"), dense(out=5e-9, activation="RELU6"), "fused RELU6 on a scale of 5e-09"),
    (dense(biases(2**31 - 1)), dense(biases(-(2**31))), "more than int32 holds; make it shorter"),
    (dense(biases(2**30 - 1), 4e-4), dense(biases(2**30), 4e-4), "times 1.25 more than int32 holds"),
    (dense(out=0.0005 * 2**31 / 0.75), dense(out=0.0005 * 2**32 / 0.75), "its result is 0 always"),
    (dense(out=2.5e-10, weight=1, scale=[1e-9, 0.01, 1e-9]), dense(out=2e-10, weight=1, scale=[1e-9, 0.01, 1e-9]),
     "more than int32 holds; enlarge"),
    (dense(kind="int16", out=4e-6), dense(kind="int16", out=3.9e-6), "more than the kernel holds"),
    (dense(biases(2**47 - 1, np.int64), kind="int16"), dense(biases(2**47, np.int64), kind="int16"), "kernel holds"),
    (dense(biases(2**31 - 1), kind="int16"), dense(biases(-(2**31)), kind="int16"), "more than int32 holds"),
    (dense(biases(1), 0.1, bias_scale=0.0024), dense(biases(1), 0.1, bias_scale=0.0026), "not that of input times"),
    (rows_of((1,), (3,)), rows_of((), (3,)), "does not divide into rows of 1"),
    (product(131_071), product(131_072), "more than int32 holds; make it shorter"),
    (product(131_071, "int16", 1e6), product(131_072, "int16", 1e6), "more than the kernel holds"),
    (product(1, "int16", 2e-5), product(1, "int16", 1.9e-5), "more than the kernel holds"),
    (softmax(511), softmax(512), "at most 511"),
    (softmax(4096, "int16"), softmax(4097, "int16"), "at most 4,096"),
    (softmax(3, scale=1.5e-8), softmax(3, scale=2.0**-26), "below what the kernel resolves"),
    (softmax(3), op("SOFTMAX", [In(())], (), 1 / 256, -128), "a single value has no softmax"),
    (pair("ADD", 1e-7), pair("ADD", 9e-8), "enlarge it"),
    (pair("ADD", 1e-7, first=1e-9), pair("ADD", 9e-8, first=1e-9), "enlarge it"),
    (pair("ADD", 1e-7, second=1e-9), pair("ADD", 9e-8, second=1e-9), "enlarge it"),
    (pair("SUB", 3.1e-6, type_="int16"), pair("SUB", 3e-6, type_="int16"), "enlarge it"),
    (pair("SQUARED_DIFFERENCE", 6.2e-7), pair("SQUARED_DIFFERENCE", 6e-7), "enlarge it"),
    (pair("MUL", 3.9e-8), pair("MUL", 3.8e-8), "enlarge the scale"),
    (moved("MEAN", [1], shape=(2,), out=4.2e-9), moved("MEAN", [1], shape=(2,), out=3.9e-9), "enlarge the scale"),
    (moved("SUM", [1], shape=(2,), out=1.25e-8), moved("SUM", [1], shape=(2,), out=1.1e-8), "enlarge the scale"),
    (moved("REDUCE_MAX", [1], shape=(2,)), moved("REDUCE_MAX", [1], shape=(2,), out=0.06), "not on the grid"),
    (one("TANH", 15.9, 1 / 128), one("TANH", 16, 1 / 128), "out of the kernel's range"),
    (one("TANH", 2.0**-26, 1 / 128), one("TANH", 2.0**-27, 1 / 128), "out of the kernel's range"),
    (one("TANH", 2.5, 1 / 32768, type_="int16"), one("TANH", 2.7, 1 / 32768, type_="int16"), "kernel's range"),
    (one("TANH", 2.0**-27, 1 / 32768, type_="int16"), one("TANH", 2.0**-28, 1 / 32768, type_="int16"), "range"),
    (one("RELU6", 0.05, 0.05, 7, 7), one("RELU6", 0.05, 0.05, 8, 8), "do not reach 6"),
    (one("RELU6", 1.84e-4, 1.84e-4, type_="int16"), one("RELU6", 1.83e-4, 1.83e-4, type_="int16"), "do not reach 6"),
    (one("QUANTIZE", 0.05, 0.051, source="int32"), one("QUANTIZE", 0.05, 0.05, source="int32"), "can leave int32"),
    # Moves
    (moved("RESHAPE", (-1, 2), shape=(3, 2)), moved("RESHAPE", (-1, 2), shape=(2, 3)), "the operand makes it"),
    (moved("RESHAPE", (-1, 1), shape=(1, 1), x=In((1, 1))), moved("RESHAPE", (-1, -1), shape=(1, 1), x=In((1, 1))),
     "the operand makes it"),
    (moved("RESHAPE", (2, 3)), moved("RESHAPE", (2, 3), zero=1), "not on the grid"),
    (moved("RESHAPE", (2, 3), x=In(kind="int16"), type_="int16"),
     moved("RESHAPE", (2, 3), x=In(kind="int16"), type_="int16", out=0.06), "not on the grid"),
    (moved("RESHAPE", (2, 3), x=In(kind="int16"), type_="int16"),
     moved("RESHAPE", (2, 3), x=In(kind="int16", zero=5), type_="int16", zero=5), "int16 needs 0"),
    (moved("TRANSPOSE", (0, 1)), moved("TRANSPOSE", [0] * 65), "order has 65 values"),
    (shrunk(1), shrunk(2), "index 2 of 2"),
    (shrunk(-2), shrunk(-3), "index -3 of 2"),
    (shrunk(1), shrunk(1, step=-1), "index 1 of 2"),
    (padded(np.int8(9)), padded(np.int8(9), zero=1), "not on the grid"),
    (padded(np.int8(9)), padded(np.int16(9)), "int16 beside int8"),
    (padded(np.array([9], np.int8)), padded(np.array([9, 9], np.int8)), "2 values to pad with"),
    (updated((2, 3)), updated((1,)), r"an update of shape \(1,\) for"),
    (op("EMBEDDING_LOOKUP", [In((4,), "int32", None), In((5, 3))], (4, 3)),
     op("EMBEDDING_LOOKUP", [In((4,), "int32", None), In((5,))], (4,)), "a list and rows are wanted"),
    (op("GATHER", [In((5,)), In((4,), "int32", None)], (4,)), op("GATHER", [In(()), In((4,), "int32", None)], (4,)),
     "a single value is no table"),
    (op("CONCATENATION", [In()], axis=1), op("CONCATENATION", [], axis=1), "no inputs"),
    (op("CONCATENATION", [In(), In((2, 1))], (2, 4), axis=1), op("CONCATENATION", [In(), In((2,))], (2, 4), axis=1),
     r"shape \(2,\) beside \(2, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("passes", "refused", "words"), EXACT, ids=[f"{n}: {words}" for n, (_, _, words) in enumerate(EXACT)]
)
def test_the_last_that_passes_and_the_first_that_does_not(passes: Make, refused: Make, words: str) -> None:
    assert said(passes) == ""
    assert re.search(words, said(refused))
