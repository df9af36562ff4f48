"""Exact accounting: the figures before training are those of the real model and of TensorFlow Lite Micro itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasuki.converter import accounting, arena, causal_artifact, causal_student, execute, student
from tasuki.converter.accounting import Shape, account, flash, parts, shapes
from tasuki.converter.arena import Need, greedy, measured_arena, planned_arena, reported_arena
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.compile import Compiled, compile_graphs
from tasuki.converter.graph import WHOLE, Floats, Graph
from tasuki.converter.quantise import Options
from tasuki.converter.student import StudentShape
from tasuki.sdk import artifact
from tasuki.sdk.errors import ConversionError, MissingExtra

FAST = Options(adapt=False, estimate=False)
STANDARD = StudentShape(1408, 20, 33)
SLOWLY = settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)


def trained(weights: dict[str, Floats], seed: int) -> dict[str, Floats]:
    """Weights as training leaves them: no bias is like another."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(value.shape).astype(np.float32) if name.endswith(".b") else value
        for name, value in weights.items()
    }


def classifier(shape: StudentShape, depths: tuple[int, ...] | None = None, **changes: Floats) -> Compiled:
    rng = np.random.default_rng(shape.vocabulary)
    pieces = rng.standard_normal((shape.vocabulary, shape.width)).astype(np.float32)
    weights = trained(student.initial(shape, pieces, 0), 1) | changes
    ids = rng.integers(0, shape.vocabulary, (8, shape.tokens)).astype(np.int32)
    graph = student.lower(shape, weights, depths)
    return compile_graphs({"classify": graph}, {"ids": ids}, np.ones(ids.shape, np.bool_), FAST)


def causal(shape: CausalShape) -> Compiled:
    rng = np.random.default_rng(shape.vocabulary)
    windows = rng.integers(0, shape.vocabulary, (8, shape.context + 1)).astype(np.int32)
    weights = trained(causal_student.initial(shape, 0), 1)
    weights["positions"] = rng.standard_normal((shape.context, shape.width)).astype(np.float32)
    return causal_artifact.compile_student(shape, weights, windows, 0)


def holds(shape: Shape, made: Compiled, depths: tuple[int, ...] | None = None) -> None:
    """What was counted is what the model has and what TFLM takes."""
    cost = account(shape, depths)
    assert cost.flash == len(made.model)
    assert cost.arena == planned_arena(made.model)
    assert cost.arena.used == reported_arena(made.model)
    assert cost.multiply_accumulates == made.multiply_accumulates
    assert cost.parameters == shape.parameters()


@st.composite
def classifiers(draw: st.DrawFn) -> tuple[StudentShape, tuple[int, ...] | None]:
    heads = draw(st.sampled_from([1, 2, 4]))
    shape = StudentShape(
        vocabulary=draw(st.integers(20, 300)), tokens=draw(st.integers(2, 24)), labels=draw(st.integers(2, 40)),
        width=heads * draw(st.integers(8, 20)), layers=draw(st.integers(1, 3)), heads=heads,
        inner=draw(st.integers(8, 90)),
    )  # fmt: skip
    return shape, draw(st.sampled_from([None, (shape.layers,), tuple(range(shape.layers + 1))]))


@st.composite
def causals(draw: st.DrawFn) -> CausalShape:
    heads = draw(st.sampled_from([1, 2, 4]))
    return CausalShape(
        vocabulary=draw(st.integers(20, 300)), context=8 * draw(st.integers(1, 5)),
        width=heads * draw(st.integers(8, 20)), layers=draw(st.integers(1, 3)), heads=heads,
        inner=draw(st.integers(8, 90)),
    )  # fmt: skip


@given(classifiers())
@SLOWLY
def test_a_classifier_costs_what_was_counted(drawn: tuple[StudentShape, tuple[int, ...] | None]) -> None:
    shape, depths = drawn
    holds(shape, classifier(shape, depths), depths)


@given(causals())
@SLOWLY
def test_a_causal_student_costs_what_was_counted(shape: CausalShape) -> None:
    holds(shape, causal(shape))


def test_the_standard_student_starts_in_the_counted_arena_and_in_no_smaller_one() -> None:
    made = classifier(STANDARD)
    holds(STANDARD, made)
    assert account(STANDARD).ram == account(STANDARD).arena.used == measured_arena(made.model)


def test_a_factor_below_zero_costs_one_buffer_more() -> None:
    shape = StudentShape(40, 6, 3, width=16, layers=2, heads=2, inner=24)
    most = len(classifier(shape, **{"0.feed.a": -np.ones(1, np.float32)}).model)
    assert flash(shape) < most <= flash(shape) + 32
    assert len(classifier(shape, **{"0.feed.a": np.full(1, 0.3, np.float32)}).model) == flash(shape)


@pytest.mark.parametrize("shape", [StudentShape(30, 4, 3, width=16), CausalShape(30, 16, width=16, heads=2)])
def test_the_weights_are_those_that_a_student_begins_with(shape: Shape) -> None:
    if isinstance(shape, CausalShape):
        weights, graph = causal_student.initial(shape, 0), causal_student.lower
    else:
        weights, graph = student.initial(shape, np.zeros((30, 16), np.float32), 0), student.lower
    zeros = accounting._Zeros(shape)
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in zeros.items()
    }
    lowered = graph(shape, weights)  # type: ignore[operator]
    assert shapes(lowered) == execute.shapes(lowered)


def table(*sides: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal(sides).astype(np.float32)


def kernel(operator: str, *others: Floats, on: str = "x", **how: object) -> Callable[[Graph, str], str]:
    """Adds `operator` on `x` or `wide`, with constants, as the tensor that it is given the name of."""

    def add(g: Graph, y: str) -> str:
        constants = [g.constant(f"{y}.{place}", value) for place, value in enumerate(others)]
        return g.add(operator, [on, *constants], y, wide=on == "wide", **how)

    return add


def positive(g: Graph, y: str) -> str:
    square = g.add("MUL", ["x", "x"], f"{y}.square")
    return g.add("ADD", [square, g.constant(f"{y}.one", np.ones(1, np.float32))], f"{y}.positive")


ZOO: dict[str, Callable[[Graph, str], str]] = {
    "tanh": kernel("TANH"),
    "logistic": kernel("LOGISTIC"),
    "relu": kernel("RELU"),
    "add": kernel("ADD", table(4, 8)),
    "subtract": kernel("SUB", table(1, 4, 8)),
    "multiply": kernel("MUL", table(1)),
    "minimum": kernel("MINIMUM", table(1)),
    "root": lambda g, y: g.add("RSQRT", [positive(g, y)], y),
    "softmax": kernel("SOFTMAX"),
    "mean": kernel("MEAN", axis=1),
    "largest": kernel("REDUCE_MAX", axis=-1),
    "dense": lambda g, y: g.dense("x", table(6, 8), table(6), y),
    "dense without bias": lambda g, y: g.dense("x", table(70, 8), None, y),
    "product": lambda g, y: g.add("BATCH_MATMUL", ["x", "x"], y, adj_y=True),
    "product, turned": kernel("BATCH_MATMUL", table(1, 8, 3)),
    "reshape": lambda g, y: g.reshape("x", (-1, 2, 2, 8), y),
    "transpose": lambda g, y: g.transpose("x", (0, 2, 1), y),
    "slice": kernel("SLICE", begin=(0, 0, 0), size=(-1, 2, 8)),
    "concatenation": lambda g, y: g.add("CONCATENATION", ["x", "x"], y, axis=1),
}
WIDE: dict[str, Callable[[Graph, str], str]] = {
    "softmax": kernel("SOFTMAX", on="wide"),
    "tanh": kernel("TANH", on="wide"),
    "add": kernel("ADD", table(4, 8), on="wide"),
    "multiply": kernel("MUL", table(1), on="wide"),
    "mean": kernel("MEAN", on="wide", axis=1),
    "dense": lambda g, y: g.dense("wide", table(6, 8), table(6), y, wide=True),
    "product": kernel("BATCH_MATMUL", table(1, 8, 3), on="wide"),
    "back": lambda g, y: g.add("QUANTIZE", ["wide"], y),
}


def small(*kernels: Callable[[Graph, str], str], wide: bool = False) -> tuple[Graph, bytes]:
    g = Graph({"ids": (1, 4)})
    g.add("GATHER", [g.constant("table", table(10, 8, seed=0)), "ids"], "x", WHOLE)
    if wide:
        g.add("QUANTIZE", ["x"], "wide", wide=True)
    for place, add in enumerate(kernels):
        g.outputs[f"y{place}"] = add(g, f"y{place}")
    ids = np.random.default_rng(0).integers(0, 10, (4, 4)).astype(np.int32)
    return g, compile_graphs({"run": g}, {"ids": ids}, np.ones(ids.shape, np.bool_), FAST).model


@pytest.mark.parametrize("zoo", [ZOO, WIDE], ids=["int8", "int16"])
def test_the_plan_knows_what_each_kernel_takes(zoo: dict[str, Callable[[Graph, str], str]]) -> None:
    graph, model = small(*zoo.values(), wide=zoo is WIDE)
    assert planned_arena(model).used == reported_arena(model)
    assert shapes(graph) == execute.shapes(graph)


@pytest.mark.parametrize("name", ["mean", "dense", "product, turned", "concatenation"])
def test_a_small_model_needs_more_to_start_than_to_run(name: str) -> None:
    model = small(ZOO[name])[1]
    planned, measured = planned_arena(model), measured_arena(model)
    assert planned.used < measured <= planned.bytes <= measured + 32


@pytest.mark.parametrize(
    ("needs", "height"),
    [
        ([(10, 0, 1), (20, 2, 3)], 20),
        ([(10, 0, 1), (20, 1, 2), (30, 2, 3), (40, 3, 4), (50, 0, 1)], 90),
        ([(100, 0, 1), (50, 2, 3), (20, 1, 2)], 120),
    ],
)
def test_the_greedy_plan_is_that_of_tflms_own_tests(needs: list[tuple[int, int, int]], height: int) -> None:
    """greedy_memory_planner_test.cc: TestSimple, TestGreedyMedium, TestOverlapCase."""
    assert greedy([Need(*need) for need in needs]) == height


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_the_greedy_plan_is_between_what_is_alive_at_once_and_all(drawn: list[tuple[int, int, int]]) -> None:
    needs = [Need(size, min(a, b), max(a, b)) for size, a, b in drawn]
    alive = max(sum(n.size for n in needs if n.first <= at <= n.last) for at in range(10))
    assert alive <= greedy(needs) <= sum(n.size for n in needs)


@given(classifiers(), st.sampled_from(["vocabulary", "tokens", "labels", "layers", "inner"]), st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_a_larger_student_costs_no_less(
    drawn: tuple[StudentShape, tuple[int, ...] | None], size: str, more: int
) -> None:
    shape = drawn[0]
    larger = replace(shape, **{size: getattr(shape, size) + more})
    one, other = account(shape), account(larger)
    # Equal constants share a buffer: a size that comes to equal another one can save some tens of bytes.
    assert one.flash < other.flash + 128
    assert one.parts <= other.parts
    assert one.arena.tail <= other.arena.tail
    assert one.parameters < other.parameters


@given(st.one_of(classifiers().map(lambda drawn: drawn[0]), causals()))
@settings(max_examples=12, deadline=None)
def test_the_quick_bound_is_below_the_account(shape: Shape) -> None:
    bound, cost = accounting.at_least(shape), account(shape)
    assert bound.flash <= cost.flash
    assert bound.file <= cost.file
    assert bound.ram <= cost.ram


def test_a_large_student_is_counted_without_its_weights() -> None:
    shape = StudentShape(30522, 128, 64, width=768, layers=12, heads=12, inner=3072)
    assert shape.parameters() < flash(shape) < 1.02 * shape.parameters()


def test_the_parts_of_an_artifact_are_no_more_than_estimated(tiny_artifact: Path) -> None:
    found = artifact.load(tiny_artifact)
    shape = StudentShape(len(found.vocabulary), 8, 4, width=16, layers=1, heads=2, inner=32)
    assert tiny_artifact.stat().st_size - len(found.model) <= parts(shape)
    assert parts(shape, (0, 1)) > parts(shape)


def test_a_model_that_the_interpreter_can_not_run() -> None:
    with pytest.raises(ConversionError, match="can't run this model"):
        reported_arena(small(kernel("MUL", table(1)))[1][:200] + bytes(4000))


def test_an_operator_that_the_plan_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(ZOO["transpose"])[1]
    monkeypatch.setattr(arena, "_BARE", frozenset({"GATHER"}))
    with pytest.raises(ConversionError, match="TRANSPOSE"):
        planned_arena(model)


def test_measuring_without_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="converter"):
        measured_arena(b"")
