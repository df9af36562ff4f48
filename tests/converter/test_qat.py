"""Simulated integers in training: the values of the conversion's own simulation, and gradients that go through."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from teacher_kit import RECIPE, SHAPE, data, silent, toy

from tasuki.converter import distil, execute, qat, student, student_convert
from tasuki.converter.flatbuffer import Grid
from tasuki.converter.graph import ROWS, Graph
from tasuki.converter.quantise import INT8, Options, calibrate, grid_of, on_grid


@pytest.fixture(scope="module")
def trained() -> distil.Student:
    return distil.distil(toy(), data(), SHAPE, replace(RECIPE, epochs=10, rate=5e-3), silent)


def feeds(found: distil.Student) -> tuple[dict[str, np.ndarray], np.ndarray]:
    ids = np.stack([found.tokenizer.encode(text) for text in found.learned.texts])
    return {"ids": ids}, np.ones(ids.shape, np.bool_)


def test_the_simulation_is_that_of_the_integers(trained: distil.Student) -> None:
    given, real = feeds(trained)
    graph = student.lower(trained.shape, trained.weights)
    # Weights to the nearest step in both.
    plan = calibrate(graph, given, real, Options(adapt=False))
    constants, hook = qat.simulate(plan)(graph, {})
    simulated = execute.run(graph, given, constants, hook)["logits"].numpy()
    exact = execute.run(graph, given)["logits"].numpy()
    made = student_convert.classifier(trained, silent, Options(adapt=False))
    integers = made.run(trained.learned.texts)[1]
    step = float(plan.grids["logits"].scale[0])
    assert np.abs(simulated - integers).mean() < 2 * step
    assert np.abs(simulated - integers).mean() < np.abs(exact - integers).mean()
    np.testing.assert_array_equal(simulated, on_grid(simulated, plan.grids["logits"]))


def test_gradients_go_through_and_stop_where_a_value_is_clipped() -> None:
    graph = Graph({"ids": (1, 3)})
    x = graph.add("GATHER", [graph.constant("table", np.array([[-3.0], [0.26], [5.0]], np.float32)), "ids"], "x", ROWS)
    graph.outputs["y"] = graph.add("TANH", [x], "y")
    table = tf.Variable([[-3.0], [0.26], [5.0]])
    grid = grid_of(-1.0, 1.0, INT8)
    plan = calibrate(graph, {"ids": np.array([[0, 1, 2]], np.int32)}, np.ones((1, 3), np.bool_))
    plan.grids["table"] = plan.grids["x"] = grid
    with tf.GradientTape() as tape:
        constants, hook = qat.simulate(plan)(graph, {"table": table})
        y = execute.run(graph, {"ids": np.array([[0, 1, 2]], np.int32)}, constants, hook)["y"]
    np.testing.assert_array_equal(
        y.numpy().ravel(), on_grid(y.numpy(), Grid(np.array([1 / 128], np.float32), 0, INT8)).ravel()
    )
    slopes = tf.convert_to_tensor(tape.gradient(y, table)).numpy().ravel()
    assert slopes[0] == slopes[2] == 0
    assert slopes[1] == pytest.approx(1 - np.tanh(0.26) ** 2, abs=0.02)


def test_rows_of_weights_have_scales_of_their_own() -> None:
    weight = np.array([[1.0, 0.004, -0.5], [0.01, 0.0001, 0.0]], np.float32)
    graph = Graph({"ids": (1, 2)})
    x = graph.add("GATHER", [graph.constant("table", np.eye(3, dtype=np.float32)), "ids"], "x", ROWS)
    graph.outputs["y"] = graph.dense(x, weight, np.array([0.1, 0.2], np.float32), "y")
    plan = calibrate(graph, {"ids": np.array([[0, 1]], np.int32)}, np.ones((1, 2), np.bool_))
    constants, _ = qat.simulate(plan)(graph, {})
    scale = np.abs(weight).max(1, keepdims=True) / 127
    np.testing.assert_allclose(constants["y.weight"].numpy(), np.rint(weight / scale) * scale, atol=1e-7)
    assert "y.bias" not in constants


def test_tuned_weights_are_kept_only_if_the_integers_are_better() -> None:
    for recipe, kept in ((replace(RECIPE, tuning=4, tuning_rate=1e-2), True),
                         (replace(RECIPE, tuning=1, tuning_rate=1e-12), False)):  # fmt: skip
        found = distil.distil(toy(), data(), SHAPE, recipe, silent)
        assert found.figures["tuned"] is kept
        plain = distil.distil(toy(), data(), SHAPE, replace(recipe, tuning=0), silent)
        assert kept is not all((value == plain.weights[name]).all() for name, value in found.weights.items())
        if kept:
            before, after = (found.figures[f"validation_int8_{name}"] for name in ("before_tuning", "tuned"))
            assert after >= before
