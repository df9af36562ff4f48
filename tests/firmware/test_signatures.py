"""A model with two signatures becomes two functions, and what is equal in both stands in flash once."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from firmware import graph_kit, host_kit

from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.emit import vectors

WIDTH = 16


def _part(rows: int, layers: int = 1) -> graph_kit.Builder:
    """Dense layers over `rows` rows; the weights are the same for every number of rows."""
    rng = np.random.default_rng(5)
    g = graph_kit.Builder()
    y = g.input((rows, WIDTH), "int8", scale=0.05, zero=3)
    for _ in range(layers):
        weights = g.constant(rng.integers(-127, 128, (WIDTH, WIDTH)).astype(np.int8), scale=0.01, zero=0)
        y = g.op("FULLY_CONNECTED", [y, weights, None], (rows, WIDTH), "int8", scale=0.1, zero=-3, activation="RELU")
    g.output(y)
    return g


def _joined(parts: dict[str, graph_kit.Builder]) -> bytes:
    """One model with a subgraph and a signature for each part; the parts are used up."""
    models = {key: part.model() for key, part in parts.items()}
    whole: Any = None
    for key, model in models.items():
        graph = model.subgraphs[0]
        if whole is None:
            whole, whole.signatureDefs = model, []
        else:
            for tensor in graph.tensors:
                tensor.buffer += len(whole.buffers)
            for operator in graph.operators:
                operator.opcodeIndex += len(whole.operatorCodes)
            whole.buffers += model.buffers
            whole.operatorCodes += model.operatorCodes
            whole.subgraphs.append(graph)
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, len(whole.subgraphs) - 1
        signature.inputs = [_entry(f"in{place}", number) for place, number in enumerate(graph.inputs)]
        signature.outputs = [_entry(f"out{place}", number) for place, number in enumerate(graph.outputs)]
        whole.signatureDefs.append(signature)
    return graph_kit.pack(whole)


def _entry(name: str, number: int) -> Any:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, number
    return made


def test_the_arena_is_that_of_the_function_that_takes_most() -> None:
    model = build.generate(_joined({"decode": _part(1, 2), "prefill": _part(6, 2)}))
    first, second = model.functions
    assert model.arena_bytes == second.arena > first.arena


def test_each_signature_is_a_function_with_its_own_bits() -> None:
    model = build.generate(_joined({"decode": _part(1), "prefill": _part(8)}), "talk")
    assert [function.name for function in model.functions] == ["talk", "talk_prefill"]
    image = host_kit.image([model])
    rng = np.random.default_rng(0)
    for graph, function, rows in zip(model.graphs, model.functions, (1, 8), strict=True):
        given = [vectors.random_inputs(graph, rng) for _ in range(3)]
        for inputs, outputs in zip(given, image.run(function.name, given), strict=True):
            assert np.array_equal(outputs[0], graph_kit.tflm(_part(rows).build(), inputs)[0].ravel())
    assert image.selftest("talk") == 0
    assert model.arena_bytes == max(function.arena for function in model.functions)


def test_weights_that_both_use_are_in_flash_once() -> None:
    alone = build.generate(_part(8).build(), "talk")
    both = build.generate(_joined({"decode": _part(1), "prefill": _part(8)}), "talk")
    assert both.model_bytes == alone.model_bytes
    readme = both.files["README.md"].decode()
    assert "## `tsk_talk_invoke`" in readme
    assert "## `tsk_talk_prefill_invoke`" in readme


def test_signatures_whose_names_look_alike_in_c_stay_apart() -> None:
    model = build.generate(_joined({"run": _part(1), "pre-fill": _part(8), "pre fill": _part(4)}), "talk")
    assert [function.name for function in model.functions] == ["talk", "talk_pre_fill", "talk_pre_fill_2"]
    assert model.files["talk.h"].count(b"int tsk_talk_pre_fill_2_invoke(") == 1
