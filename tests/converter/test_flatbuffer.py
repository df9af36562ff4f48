"""What is written: the integers that the runtimes compute are those that calibration foresaw, for every operator."""

import importlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsb_kit import apart, litert, micro, simulate

from tasuki.converter import flatbuffer
from tasuki.converter.compile import MICRO, Compiled, check_micro, compile_graphs
from tasuki.converter.graph import HEADS, ROWS, SCORES, WHOLE, Graph
from tasuki.converter.quantise import INT8, INT16, Options, calibrate
from tasuki.sdk.errors import ConversionError

TOKENS, WIDTH, VOCABULARY = 6, 8, 40
Random = np.random.Generator


class Start:
    """Words and their rows, int8 or, through QUANTIZE, int16."""

    def __init__(self, rng: Random, wide: bool = False, positive: bool = False) -> None:
        self.rng, self.wide = rng, wide
        self.g = Graph({"ids": (1, TOKENS)})
        self.x = self.rows("x", 1.0, 0.0, positive)

    def rows(self, name: str, scale: float, offset: float, positive: bool = False) -> str:
        table = (scale * self.rng.standard_normal((VOCABULARY, WIDTH)) + offset).astype(np.float32)
        table = np.abs(table) + 0.2 if positive else table
        y = self.g.add("GATHER", [self.g.constant(f"{name}.table", table), "ids"], f"{name}.words", ROWS)
        if self.wide:
            y = self.g.add("QUANTIZE", [y], f"{name}.wide", wide=True)
        return self.g.reshape(y, (-1, WIDTH), name)

    def second(self) -> str:
        return self.rows("y", 2.0, 0.5)

    def values(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def split(self, x: str) -> str:
        return self.g.reshape(x, (-1, TOKENS, WIDTH), f"{x}.tokens", WHOLE)

    def heads(self, x: str) -> str:
        split = self.g.reshape(x, (-1, TOKENS, 2, WIDTH // 2), f"{x}.split")
        return self.g.transpose(split, (0, 2, 1, 3), f"{x}.heads", HEADS)

    def add(self, operator: str, *inputs: str, layout: str | None = None, **how: object) -> None:
        self.g.add(operator, inputs, "out", layout, self.wide, **how)

    def dense(self, bias: bool, relu: bool = False) -> None:
        self.g.dense(self.x, self.values(5, WIDTH), self.values(5) if bias else None, "out", relu, self.wide)


BUILD: dict[str, Callable[[Start], None]] = {
    "FULLY_CONNECTED": lambda s: s.dense(bias=True),
    "FULLY_CONNECTED without bias": lambda s: s.dense(bias=False),
    "FULLY_CONNECTED with RELU": lambda s: s.dense(bias=True, relu=True),
    "ADD": lambda s: s.add("ADD", s.x, s.second()),
    "SUB": lambda s: s.add("SUB", s.x, s.second()),
    "MUL": lambda s: s.add("MUL", s.x, s.second()),
    "ADD of a constant": lambda s: s.add("ADD", s.x, s.g.constant("k", s.values(1, WIDTH))),
    "SUB of a constant": lambda s: s.add("SUB", s.x, s.g.constant("k", s.values(1, WIDTH))),
    "MUL by a constant": lambda s: s.add("MUL", s.x, s.g.constant("k", s.values(1, 1))),
    "BATCH_MATMUL": lambda s: s.add("BATCH_MATMUL", s.heads(s.x), s.heads(s.second()), layout=SCORES, adj_y=True),
    "BATCH_MATMUL of shares": lambda s: s.add(
        "BATCH_MATMUL",
        s.g.add("SOFTMAX", [s.g.reshape(s.second(), (-1, WIDTH, TOKENS), "b", WHOLE)], "s", wide=s.wide),
        s.split(s.x), layout=WHOLE),
    "TANH": lambda s: s.add("TANH", s.x),
    "LOGISTIC": lambda s: s.add("LOGISTIC", s.x),
    "SOFTMAX": lambda s: s.add("SOFTMAX", s.x),
    "RELU": lambda s: s.add("RELU", s.x),
    "RSQRT": lambda s: s.add("RSQRT", s.x),
    "RESHAPE": lambda s: s.add("RESHAPE", s.x, layout=WHOLE, shape=(-1, TOKENS * WIDTH)),
    "TRANSPOSE": lambda s: s.add("TRANSPOSE", s.split(s.x), layout=WHOLE, order=(0, 2, 1)),
    "MEAN": lambda s: s.add("MEAN", s.split(s.x), layout=WHOLE, axis=1),
    "REDUCE_MAX": lambda s: s.add("REDUCE_MAX", s.split(s.x), layout=WHOLE, axis=1),
    "CONCATENATION": lambda s: s.add("CONCATENATION", s.x, s.second(), axis=1),
    "SLICE": lambda s: s.add("SLICE", s.split(s.x), layout=WHOLE, begin=(0, 1, 2), size=(-1, 3, 4)),
}  # fmt: skip
# Steps of 1/32768 that the int16 kernels may be off: they interpolate in tables.
STEPS_16 = {"RSQRT": 400, "TANH": 3, "LOGISTIC": 3, "SOFTMAX": 3, "BATCH_MATMUL of shares": 6}


def compiled(name: str, seed: int, wide: bool, options: Options = Options()) -> tuple[Graph, Compiled, np.ndarray]:  # noqa: B008
    rng = np.random.default_rng(seed)
    start = Start(rng, wide, positive=name == "RSQRT")
    BUILD[name](start)
    start.g.outputs["out"] = "out"
    ids = rng.integers(0, VOCABULARY, (24, TOKENS)).astype(np.int32)
    made = compile_graphs({"serve": start.g}, {"ids": ids}, np.ones(ids.shape, np.bool_), options)
    return start.g, made, ids


@pytest.mark.parametrize("name", BUILD)
def test_every_int8_operator_gives_the_integers_that_were_foreseen(name: str) -> None:
    for seed in range(3):
        graph, made, ids = compiled(name, seed, wide=False)
        assert made.plan.types["out"] == INT8
        assert max(apart(graph, made, ids[:12])["out"]) <= 1


@pytest.mark.parametrize("name", [name for name in BUILD if name != "REDUCE_MAX"])
def test_every_int16_operator_too(name: str) -> None:
    graph, made, ids = compiled(name, 0, wide=True)
    assert made.plan.types["out"] == INT16
    assert max(apart(graph, made, ids[:12])["out"]) <= STEPS_16.get(name, 1)


def test_litert_interpolates_the_int16_rsqrt_and_is_far_off_near_zero() -> None:
    """513 points over the whole range: what is below a hundredth of the largest value comes out wrong."""
    g = Graph({"ids": (1, TOKENS)})
    table = np.array([[3.0], [1.0], [0.3], [0.01], [0.001], [2.0]], np.float32)
    words = g.add("GATHER", [g.constant("table", table), "ids"], "v.int8", ROWS)
    g.outputs["out"] = g.add("RSQRT", [words], "out")
    ids = np.arange(TOKENS, dtype=np.int32)[None]
    made = compile_graphs({"serve": g}, {"ids": ids}, np.ones(ids.shape, np.bool_), Options(wide=True))
    scale = made.plan.grids["out"].scale[0]
    ratio = litert(made.model, ids)[0].ravel() * scale * np.sqrt(table.ravel())
    np.testing.assert_allclose(ratio[[0, 1, 2, 5]], 1, atol=0.01)
    assert np.abs(ratio[4] - 1) > 0.05


@pytest.mark.parametrize("name", BUILD)
def test_wide_makes_every_activation_int16_and_litert_runs_it(name: str) -> None:
    graph, made, ids = compiled(name, 1, wide=False, options=Options(wide=True))
    assert made.plan.types["out"] == INT16
    wanted = simulate(graph, made.plan, ids[:6])["out"].astype(np.int64)
    got = litert(made.model, ids[:6])[0].astype(np.int64).reshape(wanted.shape)
    assert np.abs(got - wanted).max() <= STEPS_16.get(name, 2)
    with pytest.raises(ConversionError, match=r"no int16 GATHER \(x.words\)"):
        check_micro({"serve": graph}, Options(wide=True))


def test_quantize_widens_and_minimum_works_on_ids() -> None:
    start = Start(np.random.default_rng(0))
    g = start.g
    g.outputs["wide"] = g.add("QUANTIZE", [start.x], "wide", wide=True)
    real = g.add("MINIMUM", ["ids", g.constant("one", np.ones(1, np.int32))], "real", WHOLE)
    g.outputs["mask"] = g.add("GATHER", [g.constant("mask", np.array([-40, 0], np.float32)), real], "row", WHOLE)
    ids = np.random.default_rng(1).integers(0, 3, (16, TOKENS)).astype(np.int32)
    made = compile_graphs({"serve": g}, {"ids": ids}, ids > 0)
    assert apart(g, made, ids) == {"wide": (0, 0), "mask": (0, 0)}
    assert "QUANTIZE" in made.operators


def test_rsqrt_of_zero_is_the_largest_step() -> None:
    g = Graph({"ids": (1, TOKENS)})
    g.add("GATHER", [g.constant("table", np.array([[0.0], [1e-4], [0.5], [3.0]], np.float32)), "ids"], "v", ROWS)
    g.outputs["out"] = g.add("RSQRT", ["v"], "out")
    ids = np.array([[1, 2, 3, 1, 2, 3], [3, 3, 2, 2, 1, 1]], np.int32)
    made = compile_graphs({"serve": g}, {"ids": ids}, np.ones(ids.shape, np.bool_))
    asked = np.array([[0, 1, 2, 3, 0, 0]], np.int32)
    for raw in (litert(made.model, asked)[0], micro(made.model, asked)[0]):
        assert raw.ravel()[[0, 1]].tolist() == [127, 127]  # 1e-4 is less than half a step


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 5))
def test_random_chains_stay_together(seed: int, length: int) -> None:
    """Operators after one another; each adds at most a step that those after it carry on."""
    rng = np.random.default_rng(seed)
    start = Start(rng)
    g, x, width = start.g, start.x, WIDTH
    for n in range(length):
        match rng.integers(0, 5):
            case 0:
                weight = (rng.standard_normal((WIDTH, width)) / np.sqrt(width)).astype(np.float32)
                x = g.dense(x, weight, start.values(WIDTH), f"c{n}", relu=bool(rng.integers(2)))
                width = WIDTH
            case 1:
                x = g.add("TANH", [x], f"c{n}")
            case 2:
                x = g.add("ADD", [x, g.constant(f"k{n}", start.values(1, width))], f"c{n}")
            case 3:
                x = g.add("MUL", [x, g.add("LOGISTIC", [x], f"g{n}")], f"c{n}")
            case _:
                x, width = g.add("CONCATENATION", [x, g.add("RELU", [x], f"r{n}")], f"c{n}", axis=1), 2 * width
    g.outputs["out"] = x
    ids = rng.integers(0, VOCABULARY, (16, TOKENS)).astype(np.int32)
    made = compile_graphs({"serve": g}, {"ids": ids}, np.ones(ids.shape, np.bool_))
    check_micro({"serve": g})
    wanted = simulate(g, made.plan, ids[:6])["out"].astype(int)
    for raw in (litert(made.model, ids[:6])[0], micro(made.model, ids[:6])[0]):
        off = np.abs(raw.astype(int).reshape(wanted.shape) - wanted)
        assert off.mean() <= 0.5
        assert off.max() <= 1 + 3 * length


def test_the_bias_of_a_row_without_weights_survives() -> None:
    """Its scale would be tiny, and the bias in steps of it more than int32 holds."""
    start = Start(np.random.default_rng(5))
    weight = start.values(3, WIDTH)
    weight[1] = 0
    start.g.outputs["out"] = start.g.dense(start.x, weight, np.array([0.5, 1.5, -1], np.float32), "out")
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (16, TOKENS)).astype(np.int32)
    for options in (Options(), Options(adapt=False)):
        made = compile_graphs({"serve": start.g}, {"ids": ids}, np.ones(ids.shape, np.bool_), options)
        grid = made.plan.grids["out"]
        for raw in (litert(made.model, ids)[0], micro(made.model, ids)[0]):
            row = (raw.reshape(-1, 3)[:, 1].astype(float) - grid.zero) * grid.scale[0]
            np.testing.assert_allclose(row, 1.5, atol=1.01 * grid.scale[0])


def test_the_same_graph_gives_the_same_bytes() -> None:
    first, second = (compiled("BATCH_MATMUL of shares", 3, wide=False)[1].model for _ in range(2))
    assert first == second
    assert first != compiled("BATCH_MATMUL of shares", 4, wide=False)[1].model


def test_two_signatures_share_their_weights() -> None:
    def graph(tokens: int) -> Graph:
        g = Graph({"ids": (1, tokens)})
        rng = np.random.default_rng(0)
        words = g.add(
            "GATHER", [g.constant("table", rng.standard_normal((500, 64)).astype(np.float32)), "ids"], "w", ROWS
        )
        g.outputs["out"] = g.dense(g.reshape(words, (-1, 64), "x"), rng.standard_normal((4, 64)).astype(np.float32),
                                   None, "out")  # fmt: skip
        return g

    ids = np.random.default_rng(1).integers(0, 500, (8, TOKENS)).astype(np.int32)
    both = {"prefill": graph(TOKENS), "decode": graph(1)}
    made = compile_graphs(both, {"ids": ids}, np.ones(ids.shape, np.bool_))
    assert len(made.model) < 500 * 64 + 8000
    runtime = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_content=made.model)
    assert set(runtime.get_signature_list()) == {"prefill", "decode"}
    decode, prefill = runtime.get_signature_runner("decode"), runtime.get_signature_runner("prefill")
    np.testing.assert_array_equal(decode(ids=ids[:1, :1])["out"], prefill(ids=ids[:1])["out"][:1])


def test_what_micro_lacks_is_named_with_its_tensor() -> None:
    start = Start(np.random.default_rng(0))
    start.g.add("GELU", [start.x], "0.inner", approximate=False)
    with pytest.raises(ConversionError, match=r"Micro has no GELU \(0.inner\); it has ADD, BATCH_MATMUL"):
        check_micro({"serve": start.g})
    assert "GELU" not in MICRO


def test_a_graph_of_what_micro_has_passes() -> None:
    for name in BUILD:
        graph, _, _ = compiled(name, 0, wide=False)
        check_micro({"serve": graph})


def test_operators_are_read_from_the_file() -> None:
    _, made, _ = compiled("CONCATENATION", 0, wide=False)
    # QUANTIZE is the writer's own: concatenated tensors must have one grid.
    assert made.operators == flatbuffer.operators(made.model) == ("CONCATENATION", "GATHER", "QUANTIZE", "RESHAPE")


def test_calibration_in_parts_of_the_walk_reports_progress() -> None:
    start = Start(np.random.default_rng(0))
    BUILD["ADD"](start)
    start.g.outputs["out"] = "out"
    seen: list[tuple[int, int]] = []
    ids = np.zeros((2, TOKENS), np.int32)
    calibrate(start.g, {"ids": ids}, ids == 0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n + 1, len(start.g.nodes)) for n in range(len(start.g.nodes))]
