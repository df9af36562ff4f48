"""The walk: types, grids, what it refuses, and that each of its choices is worth it."""

import numpy as np
import pytest
from lsb_kit import simulate

from tasuki.converter import execute
from tasuki.converter.compile import compile_graphs
from tasuki.converter.graph import ROWS, WHOLE, Graph
from tasuki.converter.quantise import INT8, INT16, INT32, Options, Plan, calibrate, grid_of, integers, on_grid
from tasuki.converter.student import StudentShape, initial, lower
from tasuki.sdk.errors import ConversionError

SHAPE = StudentShape(vocabulary=60, tokens=8, labels=5, width=16, layers=2, heads=2, inner=24)


def student(seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)
    weights = initial(SHAPE, rng.standard_normal((60, 16)).astype(np.float32), seed)
    weights["logits.b"] = rng.standard_normal(5).astype(np.float32)
    return lower(SHAPE, weights, (1, 2))


def texts(seed: int = 1, count: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 60, (count, 8)).astype(np.int32)


def everything(ids: np.ndarray) -> np.ndarray:
    return np.ones(ids.shape, np.bool_)


def error(graph: Graph, plan: Plan, ids: np.ndarray, output: str) -> float:
    """Squared error of an output relative to its power."""
    exact = np.asarray(execute.run(graph, {"ids": ids})[output])
    grid = plan.grids[graph.outputs[output]]
    got = (simulate(graph, plan, ids)[output].astype(float) - grid.zero) * grid.scale[0]
    return float(((got - exact) ** 2).mean() / exact.var())


def test_every_tensor_has_its_type_and_every_grid_its_rules() -> None:
    graph, ids = student(), texts()
    plan = calibrate(graph, {"ids": ids}, everything(ids))
    assert plan.types["ids"] == INT32
    for node in graph.nodes:
        grid = plan.grids[node.output]
        assert plan.types[node.output] == grid.type == INT8
        if node.operator in ("RESHAPE", "TRANSPOSE"):
            assert grid is plan.grids[node.inputs[0]]
        if node.operator in ("TANH", "SOFTMAX"):
            assert (grid.scale[0], grid.zero) == ((1 / 128, 0) if node.operator == "TANH" else (1 / 256, -128))
        if node.operator == "FULLY_CONNECTED":
            weight, bias = node.inputs[1:]
            assert plan.constants[weight].dtype == np.int8
            assert plan.grids[weight].scale.shape == (len(plan.constants[weight]),)
            assert plan.constants[bias].dtype == np.int32
            np.testing.assert_allclose(
                plan.grids[bias].scale, plan.grids[node.inputs[0]].scale[0] * plan.grids[weight].scale, rtol=1e-6
            )
    assert set(plan.estimators.values()) <= {
        "minmax", "percentile 99.9", "percentile 99.99", "percentile 99.999", "mse", "entropy",
    }  # fmt: skip


def test_held_out_error_is_small_and_each_choice_helps() -> None:
    graph, ids, held_out = student(), texts(count=256), texts(2, 128)
    errors = {}
    for name, options in {
        "both": Options(), "plain": Options(adapt=False, estimate=False), "wide": Options(wide=True),
    }.items():  # fmt: skip
        plan = calibrate(graph, {"ids": ids}, everything(ids), options)
        errors[name] = error(graph, plan, held_out, "features.2")
    assert errors["wide"] < errors["both"] < errors["plain"]
    assert errors["both"] < 0.02


def test_it_repeats() -> None:
    ids = texts()
    first, second = (compile_graphs({"m": student()}, {"ids": ids}, everything(ids)).model for _ in range(2))
    assert first == second


def test_padding_does_not_widen_a_range() -> None:
    def graph() -> Graph:
        g = Graph({"ids": (1, 4)})
        table = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
        table[0] = 50  # padding's row
        words = g.add("GATHER", [g.constant("table", table), "ids"], "words", ROWS)
        g.outputs["out"] = g.dense(g.reshape(words, (-1, 3), "x"), np.eye(3, dtype=np.float32), None, "out")
        return g

    ids = np.random.default_rng(1).integers(1, 10, (32, 4)).astype(np.int32)
    ids[:, 3] = 0
    masked = calibrate(graph(), {"ids": ids}, ids > 0).grids["out"].scale[0]
    counted = calibrate(graph(), {"ids": ids}, everything(ids)).grids["out"].scale[0]
    assert masked * 4 < counted


def test_int16_lives_beside_int8() -> None:
    g = Graph({"ids": (1, 4)})
    x = g.add("GATHER", [g.constant("t", np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)), "ids"],
              "x", ROWS)  # fmt: skip
    wide = g.add("MUL", [g.add("QUANTIZE", [x], "w", wide=True), g.constant("k", np.array([[0.3]], np.float32))], "y",
                 wide=True)  # fmt: skip
    g.outputs["out"] = g.add("QUANTIZE", [wide], "out")
    ids = np.random.default_rng(1).integers(0, 9, (8, 4)).astype(np.int32)
    plan = calibrate(g, {"ids": ids}, everything(ids))
    assert [plan.types[n] for n in ("x", "w", "y", "k", "out")] == [INT8, INT16, INT16, INT16, INT8]
    assert plan.grids["y"].zero == 0


def test_a_constant_in_two_types_or_two_layers_is_refused() -> None:
    ids = np.zeros((2, 4), np.int32)
    for twice in (True, False):
        g = Graph({"ids": (1, 4)})
        x = g.reshape(g.add("GATHER", [g.constant("t", np.eye(3, dtype=np.float32)), "ids"], "w", ROWS), (-1, 3), "x")
        if twice:
            g.constant("same", np.eye(3, dtype=np.float32))
            g.add("FULLY_CONNECTED", [x, "same"], "a")
            g.outputs["out"] = g.add("FULLY_CONNECTED", ["a", "same"], "b")
        else:
            g.constant("same", np.ones((1, 3), np.float32))
            y = g.add("MUL", [x, "same"], "a")
            g.outputs["out"] = g.add("MUL", [g.add("QUANTIZE", [y], "q", wide=True), "same"], "b", wide=True)
        with pytest.raises(ConversionError, match="b: same is used"):
            calibrate(g, {"ids": ids}, everything(ids))


def test_what_is_not_finite_and_texts_without_a_token_are_refused() -> None:
    g = Graph({"ids": (1, 2)})
    table = g.constant("t", np.array([[1.0], [0.0]], np.float32))
    g.outputs["out"] = g.add("RSQRT", [g.add("GATHER", [table, "ids"], "x", ROWS)], "layer.rsqrt")
    ids = np.array([[0, 1]], np.int32)
    with pytest.raises(ConversionError, match="layer.rsqrt: the float model gives values that are not finite"):
        calibrate(g, {"ids": ids}, everything(ids))
    with pytest.raises(ConversionError, match="no text to calibrate on"):
        calibrate(g, {"ids": ids}, np.zeros(ids.shape, np.bool_))


def test_one_text_is_enough_and_a_constant_tensor_stays_itself() -> None:
    g = Graph({"ids": (1, 2)})
    x = g.add("GATHER", [g.constant("t", np.full((4, 2), 1e-6, np.float32)), "ids"], "x", ROWS)
    g.outputs["out"] = g.add("MEAN", [x], "out", WHOLE, axis=1)
    ids = np.array([[0, 1]], np.int32)
    plan = calibrate(g, {"ids": ids}, everything(ids))
    np.testing.assert_allclose(on_grid(np.full(2, 1e-6), plan.grids["out"]), 1e-6, rtol=0.01)


@pytest.mark.parametrize("kind", [INT8, INT16])
def test_integers_are_on_the_grid(kind: np.dtype) -> None:
    grid = grid_of(-1.5, 3.0, kind)
    value = np.linspace(-4, 6, 1001, dtype=np.float32)
    whole = integers(value, grid)
    assert whole.dtype == kind
    np.testing.assert_allclose((whole.astype(float) - grid.zero) * grid.scale[0], on_grid(value, grid), atol=1e-6)
