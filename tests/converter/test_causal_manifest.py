"""What the manifest says of a causal model is what is in the flatbuffer."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tasuki.converter import causal_artifact, causal_manifest, causal_student
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.compile import Compiled, compile_graphs
from tasuki.converter.graph import Graph
from tasuki.sdk import manifest

SHAPE = CausalShape(vocabulary=40, context=16, width=16, layers=1, heads=2, inner=24)


@pytest.fixture(scope="module")
def model() -> Compiled:
    texts = np.random.default_rng(4).integers(0, SHAPE.vocabulary, (32, SHAPE.context + 1)).astype(np.int32)
    return causal_artifact.compile_student(SHAPE, causal_student.initial(SHAPE, 3), texts, 0)


def test_the_last_layer_is_named(model: Compiled) -> None:
    (layer,) = causal_manifest.vocabulary(model).values()
    graph = schema.Model.GetRootAsModel(model.model, 0).Subgraphs(0)
    weight, bias = graph.Tensors(layer["weight"]), graph.Tensors(layer["bias"])
    assert (weight.Name(), bias.Name()) == (b"logits.weight", b"logits.bias")
    assert list(weight.ShapeAsNumpy()) == [SHAPE.vocabulary, SHAPE.width]
    assert weight.Quantization().ScaleLength() == SHAPE.vocabulary


def test_the_fields_make_a_manifest(model: Compiled) -> None:
    graphs = causal_artifact.graphs(SHAPE, causal_student.initial(SHAPE, 3))
    found = causal_manifest.fields("small", "mcu", model, graphs, SHAPE.layers, 0)
    assert found["adapter_kinds"] == ["bias", "low_rank"]
    assert found["low_rank"] == {"rank": 8, "seed": 0}
    rest = {"temperature": 1.0, "conformal": [[0.1, 0.9]], "calibration": {}, "accuracy": {}, "parts": {},
            "origin": [{"file": "f", "sha256": "00" * 32, "licence": "MIT", "origin": "nobody"}]}  # fmt: skip
    manifest.check({"format": manifest.FORMAT, **found, **rest})


def dense(middle: str | None) -> Compiled:
    """Features, perhaps one operator more, and a layer without bias."""
    rng = np.random.default_rng(0)
    graph = Graph({"ids": (1, 4)})
    table = graph.constant("pieces", rng.standard_normal((9, 8)).astype(np.float32))
    rows = graph.reshape(graph.add("GATHER", [table, "ids"], "gather", "rows"), (-1, 8), "features", "rows")
    graph.outputs["features"] = rows
    if middle is not None:
        rows = graph.add(middle, [rows], "middle")
    graph.outputs["logits"] = graph.dense(rows, rng.standard_normal((9, 8)).astype(np.float32), None, "logits")
    ids = rng.integers(0, 9, (16, 4)).astype(np.int32)
    return compile_graphs({"decode": graph}, {"ids": ids}, np.ones(ids.shape, np.bool_))


def test_a_last_layer_without_bias_has_none() -> None:
    (layer,) = causal_manifest.vocabulary(dense(None)).values()
    assert set(layer) == {"weight"}


def test_logits_that_are_not_made_of_the_features_have_no_such_layer() -> None:
    assert causal_manifest.vocabulary(dense("TANH")) == {}
