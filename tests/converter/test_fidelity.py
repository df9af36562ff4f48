"""Layer by layer: what the integers lose, where it was made and why; and the report of it."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.converter import (
    causal_student,
    fidelity,
    fidelity_plot,
    fidelity_report,
    layer_errors,
    plain_causal,
    student,
)
from tasuki.converter.compile import Compiled, compile_graphs
from tasuki.converter.flatbuffer import Grid, write
from tasuki.converter.graph import ROWS, Graph
from tasuki.converter.layer_errors import Layer, Sums
from tasuki.converter.quantise import Options
from tasuki.sdk.errors import ConversionError
from tasuki.sdk.runtime import Body, Outputs

Made = tuple[Compiled, Graph, np.ndarray]
SHAPE = student.StudentShape(60, tokens=8, labels=4, width=16, layers=1, heads=2, inner=32)


def graph_of() -> Graph:
    rng = np.random.default_rng(7)
    return student.lower(SHAPE, student.initial(SHAPE, rng.standard_normal((60, 16)).astype(np.float32), 7))


def ids_of(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 60, (count, 8)).astype(np.int32)


def whole(ids: np.ndarray) -> np.ndarray:
    return np.ones(ids.shape, np.bool_)


@pytest.fixture(scope="module")
def made() -> Made:
    graph, calibration = graph_of(), ids_of(0, 64)
    compiled = compile_graphs({"classify": graph}, {"ids": calibration}, whole(calibration))
    return compiled, graph, ids_of(1, 8)


@pytest.fixture(scope="module")
def found(made: Made) -> list[Layer]:
    compiled, graph, ids = made
    return fidelity.layers(compiled, graph, {"ids": ids}, whole(ids))


def by_name(found: list[Layer]) -> dict[str, Layer]:
    return {layer.name: layer for layer in found}


def test_every_computing_layer_is_there_in_its_order(made: Made, found: list[Layer]) -> None:
    moved = {"RESHAPE", "TRANSPOSE", "SLICE"}
    assert [layer.name for layer in found] == [n.output for n in made[1].nodes if n.operator not in moved]
    assert {layer.type for layer in found} == {"int8"}


def test_the_last_layer_is_what_the_runtime_gives(made: Made, found: list[Layer]) -> None:
    """An independent way to the same figure: the artifact's own runtime against the float student."""
    compiled, _, ids = made
    body = Body(compiled.model, Outputs((compiled.outputs["features.1"],), compiled.outputs["logits"]))
    got = np.stack([body.run(row)[1] for row in ids]).astype(np.float64)
    rng = np.random.default_rng(7)
    weights = student.initial(SHAPE, rng.standard_normal((60, 16)).astype(np.float32), 7)
    wanted = student.forward(SHAPE, weights, ids)[1].numpy().astype(np.float64)
    layer = by_name(found)["logits"]
    assert layer.snr == pytest.approx(10 * np.log10((wanted**2).sum() / ((got - wanted) ** 2).sum()), abs=1e-3)
    assert layer.cosine == pytest.approx((got * wanted).sum() / np.sqrt((got**2).sum() * (wanted**2).sum()), abs=1e-6)
    assert layer.snr is not None
    assert layer.snr > 20


def test_the_first_layer_inherits_nothing_and_its_error_is_that_of_the_table(made: Made, found: list[Layer]) -> None:
    compiled, graph, ids = made
    words = found[0]
    assert words.name == "words"
    assert words.cause == "weights"
    assert words.errors["inherited"] == 0
    assert words.sources == {"words": 1.0}
    grid = compiled.plan.grids["pieces"]
    table = (compiled.plan.constants["pieces"].astype(np.float32) - grid.zero) * grid.scale[0]
    exact = graph.constants["pieces"][ids]
    wanted = 10 * np.log10((exact**2).sum() / ((table[ids] - exact) ** 2).sum())
    assert words.snr == pytest.approx(wanted, abs=1e-3)
    assert words.snr == words.own_snr


def test_shares_of_the_error_add_up(found: list[Layer]) -> None:
    for layer in found:
        assert 0.9 < sum(layer.sources.values()) <= 1 + 1e-9, layer.name
        assert all(value >= 0 for value in layer.errors.values())
        assert set(layer.errors) == set(fidelity.CAUSES)
        assert -1 <= layer.cosine <= 1 + 1e-9
        if layer.cause == "inherited":
            assert "inherited" in layer.reason
            assert layer.name not in layer.reason.partition("made at")[2].partition(":")[0].split()


def test_int16_loses_less_and_says_so(made: Made, found: list[Layer]) -> None:
    _, graph, ids = made
    calibration = ids_of(0, 64)
    wide = compile_graphs({"classify": graph}, {"ids": calibration}, whole(calibration), Options(wide=True))
    layers = by_name(fidelity.layers(wide, graph, {"ids": ids}, whole(ids)))
    assert {layer.type for layer in layers.values()} == {"int16"}
    before, after = by_name(found)["placed"].own_snr, layers["placed"].own_snr
    assert before is not None
    assert after is None or after > before + 30


def narrowed(compiled: Compiled, graph: Graph, name: str, factor: float) -> Compiled:
    """The same integers with another range for `name`: a conversion that chose badly."""
    grid = compiled.plan.grids[name]
    grids = {**compiled.plan.grids, name: Grid(grid.scale * np.float32(factor), grid.zero, grid.type)}
    for node in graph.nodes:
        if node.operator == "RESHAPE" and node.inputs[0] == name:
            grids[node.output] = grids[name]
    plan = replace(compiled.plan, grids=grids)
    return replace(compiled, plan=plan, model=write([plan.section("classify", graph)]))


@pytest.mark.parametrize(("factor", "cause"), [(0.25, "clipping"), (8.0, "rounding")])
def test_a_bad_range_is_found_and_named(made: Made, found: list[Layer], factor: float, cause: str) -> None:
    compiled, graph, ids = made
    broken = fidelity.layers(narrowed(compiled, graph, "0.attend.change", factor), graph, {"ids": ids}, whole(ids))
    layer = by_name(broken)["0.attend.change"]
    assert layer.cause == cause
    assert cause in layer.reason
    assert cause in layer.adds
    assert fidelity.harmful(broken, 1)[0].name == "0.attend.change"
    assert next(iter(by_name(broken)["0.attend.sum"].sources)) == "0.attend.change"
    assert f"made at 0.attend.change: {cause}" in re.sub(r" \([\d.]+ %\)", "", by_name(broken)["0.attend.sum"].reason)
    before = by_name(found)["0.attend.change"]
    if cause == "clipping":
        assert layer.clipped > 0.2 > before.clipped
    else:
        assert layer.step is not None
        assert before.step is not None
        assert layer.step == pytest.approx(8 * before.step, rel=1e-3)


def test_padding_does_not_count(made: Made) -> None:
    compiled, graph, ids = made
    real = whole(ids)
    real[:, 5:] = False
    other = ids.copy()
    other[:, 5:] = 59 - other[:, 5:]
    first, second = (by_name(fidelity.layers(compiled, graph, {"ids": each}, real))["placed"] for each in (ids, other))
    assert first.snr == second.snr
    assert first.snr != by_name(fidelity.layers(compiled, graph, {"ids": ids}, whole(ids)))["placed"].snr


def test_a_causal_graph_with_its_cache(made: Made) -> None:
    shape = causal_student.CausalShape(50, context=24, width=16, layers=1, heads=2, inner=32)
    weights = causal_student.initial(shape, 0)
    graphs = {"prefill": causal_student.lower(shape, weights), "decode": causal_student.lower(shape, weights, 1)}
    graph = graphs["prefill"]
    step = plain_causal.float_step(graph)
    texts = np.random.default_rng(0).integers(0, 50, (6, 20)).astype(np.int32)
    feeds, real = plain_causal.examples(graph, step, texts[:4])
    compiled = compile_graphs(graphs, feeds, real)
    layers = by_name(fidelity.layers(compiled, graph, *plain_causal.examples(graph, step, texts[4:])))
    assert layers["empty.gather"].cause == "none"
    assert layers["empty.gather"].snr is None
    assert layers["empty.gather"].reason == "exact"
    snr = layers["logits"].snr
    assert snr is not None
    assert 15 < snr < 60
    # Half of what the scores see comes from the cache, which is an input in integers.
    assert {"key.0", "0.k"} <= set(layers["0.scores"].sources)
    single = {name: value[:, :1] if name == "ids" else value for name, value in feeds.items()}
    decoded = fidelity.layers(compiled, graphs["decode"], single, real[:, :1], subgraph=1)
    assert decoded[-1].name == "logits"
    assert decoded[-1].snr is not None
    assert decoded[-1].snr > 15
    with pytest.raises(ConversionError, match="no number 2"):
        fidelity.layers(compiled, graph, feeds, real, subgraph=2)


def test_operators_that_stand_for_another_are_measured_against_it() -> None:
    """``x sigmoid(x)`` is not GELU: that is an error of the lowering, and no rounding."""
    rng = np.random.default_rng(0)
    graph = Graph({"ids": (1, 8)})
    x = graph.add(
        "GATHER", [graph.constant("table", rng.standard_normal((60, 16)).astype(np.float32)), "ids"], "x", ROWS
    )
    x = graph.reshape(x, (-1, 16), "rows")
    gate = graph.add("LOGISTIC", [x], "gate")
    graph.outputs["logits"] = graph.add("MUL", [x, gate], "gelu", stands_for="gelu", factor=1.0)
    ids = ids_of(0, 32)
    compiled = compile_graphs({"classify": graph}, {"ids": ids}, whole(ids))
    layer = by_name(fidelity.layers(compiled, graph, {"ids": ids}, whole(ids)))["gelu"]
    value = graph.constants["table"].astype(np.float64)[ids]
    true = value * (1 + np.vectorize(math.erf)(value / math.sqrt(2))) / 2
    swish = value / (1 + np.exp(-value))
    assert layer.cause == "lowering"
    assert layer.errors["lowering"] == pytest.approx(((swish - true) ** 2).sum() / (true**2).sum(), rel=0.05)
    assert "stand for" in layer.reason


def test_another_models_graph_is_refused(made: Made) -> None:
    compiled, _, ids = made
    other = student.lower(replace(SHAPE, layers=2), student.initial(replace(SHAPE, layers=2), np.zeros((60, 16)), 0))
    with pytest.raises(ConversionError, match=r"no tensor 1\."):
        fidelity.layers(compiled, other, {"ids": ids}, whole(ids))


def test_summary(made: Made, found: list[Layer]) -> None:
    compiled, graph, _ = made
    asked: list[bytes] = []
    figures = fidelity.summary(compiled, graph, found, lambda model: asked.append(model) or 4321)
    assert asked == [compiled.model]
    assert figures["arena_bytes"] == 4321
    assert figures["model_bytes"] == len(compiled.model)
    assert figures["multiply_accumulates"] == compiled.multiply_accumulates > 0
    assert sum(figures["estimators"].values()) == len(compiled.plan.estimators)
    assert figures["outputs"]["logits"]["snr"] == by_name(found)["logits"].snr
    assert fidelity.summary(compiled, graph, found)["arena_bytes"] is None
    json.dumps(figures, allow_nan=False)


def test_shares_of_the_last_output_add_up(found: list[Layer]) -> None:
    assert sum(layer.share for layer in found) == pytest.approx(1, abs=1e-6)
    assert found[-1].share == found[-1].sources["logits"]
    listed = [layer.share for layer in fidelity.harmful(found, 5)]
    assert listed == sorted((layer.share for layer in found), reverse=True)[:5]


def test_worst_first(found: list[Layer]) -> None:
    listed = [layer.snr for layer in fidelity.worst(found, 5)]
    assert listed == sorted(layer.snr for layer in found if layer.snr is not None)[:5]


# The algebra of errors


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.0), st.integers(-40, 40))
def test_rounding_and_clipping_are_all_there_is_between_the_stages(seed: int, scale: float, zero: int) -> None:
    rng = np.random.default_rng(seed)
    exact = rng.standard_normal(200).astype(np.float32) * 10
    grid = Grid(np.array([scale], np.float32), zero, np.dtype(np.int8))
    found = layer_errors.on_grid(exact, grid)
    sums = Sums("ADD", grid)
    sums.add(exact, exact, exact, exact, found)
    assert sums.parts["inherited"] == sums.parts["weights"] == sums.parts["arithmetic"] == 0
    # Both errors point the same way where both are there, so together they are at most the whole.
    assert sums.parts["rounding"] + sums.parts["clipping"] <= sums.error * (1 + 1e-5)
    assert sums.parts["rounding"] <= len(exact) * (scale / 2) ** 2 * 1.001
    inside = np.abs(exact / scale + zero + 0.5) <= 128
    assert sums.clipped == pytest.approx(np.count_nonzero(~inside), abs=1)


def test_weights_that_make_good_are_no_error() -> None:
    exact = np.ones(8, np.float32)
    sums = Sums("FULLY_CONNECTED", None)
    sums.add(exact, exact * 2, exact * 2, exact * 1.5, exact * 1.5)
    assert sums.parts["inherited"] == pytest.approx(8 * 0.25)
    assert sums.made_good == pytest.approx(8 * 0.75)
    assert sums.own == 0


def test_where_an_error_was_made() -> None:
    first, second = Sums("ADD", None), Sums("ADD", None)
    first.stages.update(rounding=3.0)
    second.stages.update(inherited=3.0, rounding=1.0)
    second.add_alone("moved", np.array([3.0], np.float32))
    second.add_alone("cache", np.array([1.0], np.float32))
    shares = layer_errors.sources("b", {"a": first, "b": second}, {"moved": "a"})
    assert shares == pytest.approx({"a": 0.75 * 0.9, "b": 0.25, "cache": 0.75 * 0.1})
    assert list(shares) == ["a", "b", "cache"]


@pytest.mark.parametrize(
    ("signal", "error", "wanted"), [(1.0, 0.0, None), (0.0, 0.0, None), (100.0, 1.0, 20.0), (0.0, 1.0, -200.0)]
)
def test_ratio(signal: float, error: float, wanted: float | None) -> None:
    assert layer_errors.ratio(signal, error) == wanted


# The report


class _Page(HTMLParser):
    """Collects tags, attributes and text; what is not closed shows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


HOSTILE = "<script>alert('x')</script>\"&"


@pytest.fixture(scope="module")
def figures(made: Made, found: list[Layer]) -> fidelity_report.Figures:
    compiled, graph, _ = made
    row = fidelity_report.row
    return {
        "name": HOSTILE, "tier": "mcu", "task": "classify", "activations": "int8", "artifact_bytes": 12345,
        "conversion": fidelity.summary(compiled, graph, found, lambda model: 67890),
        "rows": [
            row("teacher", "teacher", 90_000_000, {"unseen": 0.949}),
            row("plain", "plain", 20_000, {"unseen": 0.9}, {"unseen": 0.97}, (0.766, 0.54), milliseconds=0.5),
            row("ours", "ours", 12345, {"unseen": 0.931}, {"unseen": 0.99}, (0.998, 0.98), note=HOSTILE),
            row("hashed n-grams", "baseline", 12345, {"unseen": 0.92}),
        ],
        "roles": {"unseen": {"texts": 300, "about": HOSTILE}},
        "confidence": {"temperature": 1.25, "conformal": [[0.1, 0.75]], "held_out": 40},
        "calibration": {"texts": 64, HOSTILE: [HOSTILE]}, "origin": [{"package": HOSTILE, "licence": "MIT"}],
        "notes": {"seed": 0, HOSTILE: HOSTILE}, "command": "tasuki bench fidelity", "layer_texts": 8,
        "layers": fidelity_report.layer_rows(found),
    }  # fmt: skip


def test_the_page_shows_the_figures(figures: fidelity_report.Figures, found: list[Layer]) -> None:
    page = fidelity_report.html(figures)
    parsed = _Page(page)
    assert parsed.open == []
    words = " ".join(" ".join(parsed.words).split())
    for wanted in ("12,345 bytes", "67,890 bytes", "94.9", "93.1", "0.7660", "0.5400", "99.0 as float", "1.25",
                   "10.0 %", "25.0 %", "hashed n-grams"):  # fmt: skip
        assert wanted in words, wanted
    for layer in found:
        assert layer.name in words
        assert layer.reason in words
    assert words.index(fidelity.worst(found, 1)[0].reason) < words.index("All")


def test_the_page_is_closed_to_the_outside_and_to_hostile_names(figures: fidelity_report.Figures) -> None:
    hostile = {**figures, "layers": [{**layer, "name": HOSTILE, "reason": HOSTILE} for layer in figures["layers"]]}
    page = fidelity_report.html(hostile)  # type: ignore[arg-type]
    parsed = _Page(page)
    assert parsed.open == []
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "a", "base"})
    assert all(name not in ("src", "href") and not name.startswith("on") for _, attrs in parsed.tags for name in attrs)
    assert "http" not in page.replace("http-equiv", "")
    assert "alert('x')" not in page
    assert HOSTILE in "".join(parsed.words)


def test_without_what_was_not_measured(figures: fidelity_report.Figures) -> None:
    fewer: fidelity_report.Figures = {
        **figures, "confidence": None, "artifact_bytes": None, "task": "complete", "roles": {}, "origin": [],
        "notes": {}, "rows": [fidelity_report.row("ours", "ours", perplexity=45.5)],
        "conversion": {**figures["conversion"], "arena_bytes": None},
    }  # fmt: skip
    words = " ".join(_Page(fidelity_report.html(fewer)).words)
    assert "45.5" in words
    assert "not measured" in words
    assert "How sure" not in words
    assert "cosine to float" not in words


def test_files_are_whole_and_the_same_again(figures: fidelity_report.Figures, tmp_path: Path) -> None:
    first, second = (fidelity_report.write(figures, tmp_path / name) for name in ("a", "b"))
    assert [path.name for path in first] == ["fidelity.json", "fidelity.html"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert json.loads(first[0].read_text()) == json.loads(json.dumps(figures))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["fidelity.html", "fidelity.json"]


def test_a_figure_that_is_not_finite_is_refused_and_nothing_is_written(
    figures: fidelity_report.Figures, tmp_path: Path
) -> None:
    broken: fidelity_report.Figures = {**figures, "rows": [fidelity_report.row("x", "ours", perplexity=math.inf)]}
    with pytest.raises(ValueError, match="JSON"):
        fidelity_report.write(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.none() | st.floats(-200, 200), st.none() | st.floats(-200, 200)), max_size=40))
def test_the_plot_stays_in_its_box(ratios: list[tuple[float | None, float | None]]) -> None:
    layers = [{"name": f"{n // 5}.x{n}", "snr": a, "own_snr": b} for n, (a, b) in enumerate(ratios)]
    plot = fidelity_plot.depth(layers)
    assert len(plot["whole"]) == sum(a is not None for a, _ in ratios)
    for dot in (*plot["whole"], *plot["dots"]):
        assert plot["left"] <= dot["x"] <= plot["right"]
        assert plot["top"] <= dot["y"] <= plot["foot"]
    assert 2 <= len(plot["lines"]) <= 16
    assert [block["name"] for block in plot["blocks"] if block["name"]] in (
        [], sorted({layer["name"].partition(".")[0] for layer in layers}, key=int)
    ) or len(layers) % 5  # fmt: skip
