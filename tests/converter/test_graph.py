"""The graph: names, shapes, layouts, and its float values against NumPy."""

import numpy as np
import pytest

from tasuki.converter import execute
from tasuki.converter.graph import HEADS, ROWS, SCORES, WHOLE, Graph, Node

rng = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def test_a_name_is_one_tensor() -> None:
    g = Graph({"ids": (1, 4)})
    g.constant("table", np.zeros((5, 2), np.float32))
    g.constant("table", np.zeros((5, 2), np.float32))  # the same again is the same
    with pytest.raises(ValueError, match="two constants are called table"):
        g.constant("table", np.ones((5, 2), np.float32))
    g.add("GATHER", ["table", "ids"], "words", ROWS)
    for taken in ("words", "table", "ids"):
        with pytest.raises(ValueError, match=f"two tensors are called {taken}"):
            g.add("TANH", ["words"], taken)


def test_layouts_are_inherited_and_marks_are_kept() -> None:
    g = Graph({"ids": (1, 4)})
    g.add("GATHER", [g.constant("table", values(5, 6)), "ids"], "words", ROWS)
    g.skip_first = True
    g.add("QUANTIZE", ["words"], "wide", wide=True)
    g.skip_first = False
    g.reshape("wide", (-1, 6), "flat")
    heads = g.transpose(g.reshape("flat", (-1, 4, 2, 3), "split"), (0, 2, 1, 3), "heads", HEADS)
    assert (g.layout["flat"], g.layout[heads]) == (ROWS, HEADS)
    assert g.wide == {"wide", "flat", "split", "heads"}
    assert g.blind == {"wide"}


def test_users_shapes_and_multiply_accumulates() -> None:
    g = Graph({"ids": (1, 4)})
    x = g.reshape(g.add("GATHER", [g.constant("table", values(5, 6)), "ids"], "words", ROWS), (-1, 6), "x")
    y = g.dense(x, values(10, 6), values(10), "y", relu=True)
    a = g.reshape(y, (-1, 4, 10), "a", WHOLE)
    g.outputs["out"] = g.add("BATCH_MATMUL", [a, a], "out", WHOLE, adj_y=True)
    assert [node.output for node in g.users()["a"]] == ["out", "out"]
    shapes = execute.shapes(g)
    assert shapes["x"] == (4, 6)
    assert shapes["out"] == (1, 4, 4)
    assert g.multiply_accumulates(shapes) == 4 * 10 * 6 + 4 * 4 * 10
    transposed = Graph({"ids": (1, 4)}, [Node("BATCH_MATMUL", ("a", "b"), "c", {"adj_x": True})])
    assert transposed.multiply_accumulates({"a": (1, 7, 3), "b": (1, 7, 5), "c": (1, 3, 5)}) == 3 * 5 * 7


X, Y = values(3, 4), values(3, 4)
ORACLE = {
    "ADD": X + Y, "SUB": X - Y, "MUL": X * Y, "MINIMUM": np.minimum(X, Y), "TANH": np.tanh(X),
    "LOGISTIC": 1 / (1 + np.exp(-X)), "RELU": np.maximum(X, 0), "QUANTIZE": X,
    "SOFTMAX": np.exp(X) / np.exp(X).sum(-1, keepdims=True), "RSQRT": np.abs(X) ** -0.5,
}  # fmt: skip


@pytest.mark.parametrize("operator", ORACLE)
def test_elementwise_operators(operator: str) -> None:
    inputs = [np.abs(X) if operator == "RSQRT" else X]
    if operator in ("ADD", "SUB", "MUL", "MINIMUM"):
        inputs.append(Y)
    got = execute.apply(Node(operator, ("x", "y")[: len(inputs)], "z"), inputs)
    np.testing.assert_allclose(got, ORACLE[operator], rtol=1e-5, atol=1e-6)


def test_operators_with_attributes() -> None:
    w, b, cube = values(5, 4), values(5), values(2, 3, 4)

    def apply(operator: str, *inputs: np.ndarray, **how: object) -> np.ndarray:
        return np.asarray(execute.apply(Node(operator, (), "z", how), list(inputs)))

    np.testing.assert_allclose(apply("FULLY_CONNECTED", X, w), X @ w.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        apply("FULLY_CONNECTED", X, w, b, relu=True), np.maximum(X @ w.T + b, 0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        apply("BATCH_MATMUL", cube, cube, adj_y=True), cube @ cube.transpose(0, 2, 1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        apply("BATCH_MATMUL", cube, cube, adj_x=True), cube.transpose(0, 2, 1) @ cube, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(apply("GATHER", w, np.array([[4, 0]], np.int32)), w[[[4, 0]]])
    np.testing.assert_array_equal(apply("RESHAPE", cube, shape=(-1, 4)), cube.reshape(-1, 4))
    np.testing.assert_array_equal(apply("TRANSPOSE", cube, order=(1, 0, 2)), cube.transpose(1, 0, 2))
    np.testing.assert_allclose(apply("MEAN", cube, axis=1), cube.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(apply("REDUCE_MAX", cube, axis=1), cube.max(1))
    np.testing.assert_array_equal(apply("CONCATENATION", X, Y, axis=1), np.concatenate([X, Y], 1))
    np.testing.assert_array_equal(apply("SLICE", cube, begin=(0, 1, 2), size=(-1, 2, 2)), cube[:, 1:, 2:])
    with pytest.raises(ValueError, match="no operator CONV_2D"):
        apply("CONV_2D", X)


def test_values_are_let_go_and_the_hook_changes_what_follows() -> None:
    g = Graph({"ids": (1, 2)})
    g.add("GATHER", [g.constant("table", np.array([[1.0], [2.0]], np.float32)), "ids"], "x", ROWS)
    g.outputs["double"] = g.add("ADD", ["x", "x"], "double")
    g.outputs["x"] = "x"
    ids = np.array([[0, 1]], np.int32)
    plain = execute.run(g, {"ids": ids})
    assert np.asarray(plain["double"]).ravel().tolist() == [2, 4]
    hooked = execute.run(g, {"ids": ids}, hook=lambda node, y: y + 1 if node.output == "x" else y)
    assert np.asarray(hooked["double"]).ravel().tolist() == [4, 6]
    other = execute.run(g, {"ids": ids}, {"table": np.array([[5.0], [0.0]], np.float32)})
    assert np.asarray(other["double"]).ravel().tolist() == [10, 0]


def test_token_rows_leave_out_padding_and_what_nobody_reads() -> None:
    real = np.array([[True, True, False], [True, False, False]])
    g = Graph({"ids": (1, 3)})
    g.layout |= {"rows": ROWS, "heads": HEADS, "scores": SCORES, "whole": WHOLE, "later": ROWS}
    g.blind.add("later")
    rows = np.arange(12).reshape(6, 2)
    assert execute.token_rows(g, "rows", rows, real).tolist() == [[0, 1], [2, 3], [6, 7]]
    assert execute.token_rows(g, "later", rows, real).tolist() == [[2, 3]]
    heads = np.arange(2 * 2 * 3 * 1).reshape(2, 2, 3, 1)
    assert execute.token_rows(g, "heads", heads, real).ravel().tolist() == [0, 3, 1, 4, 6, 9]
    scores = np.arange(2 * 1 * 3 * 3).reshape(2, 1, 3, 3)
    assert execute.token_rows(g, "scores", scores, real).ravel().tolist() == [0, 1, 3, 4, 9]
    assert execute.token_rows(g, "whole", rows, real) is rows
