"""Where a conversion lost what: each layer's real integers, in LiteRT, against the float graph, on held-out inputs.

What a layer gives differs from the float network's by six things that happen one after the other. Each is measured
with the integers that really came in:

1. its inputs already differ (inherited), carried through the layer in float;
2. operators stand for one that runtimes lack and only come near to it (lowering);
3. its weights are rounded, or moved so that they make good what was inherited (`rounding`);
4. values outside the range of its integers are clipped;
5. values inside go to the nearest step (rounding);
6. the kernel's own arithmetic is not exact (fixed-point softmax, requantisation).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from tasuki.converter import execute, layer_errors
from tasuki.converter.compile import Compiled
from tasuki.converter.graph import Floats, Graph, Node
from tasuki.converter.layer_errors import CAUSES, Layer, Sums, harmful, worst
from tasuki.converter.quantise import integers
from tasuki.sdk.errors import ConversionError
from tasuki.sdk.runtime import load_interpreter

__all__ = ["CAUSES", "Layer", "harmful", "layers", "summary", "worst"]

# They move values and leave them as they are: no layers of their own.
_MOVES: Final = {"RESHAPE", "TRANSPOSE", "SLICE"}
# A score so far below the largest of its row adds nothing to a softmax in steps of 1/256: what becomes of it, masked or
# not, is of no account.
_REACH: Final = 8.0


def layers(
    compiled: Compiled,
    graph: Graph,
    feeds: Mapping[str, NDArray[Any]],
    real: NDArray[np.bool_],
    progress: Callable[[int, int], None] = lambda done, total: None,
    subgraph: int = 0,
) -> list[Layer]:
    """Every computing layer of `graph`, the float graph that became this subgraph of `compiled`, in its order.

    `feeds` are held-out inputs by name, [n, ...], one example a row: ids and positions int32, caches float32; `real`
    bool [n, tokens] marks what is not padding. Raises ConversionError if a tensor of the graph is not in the model.
    """
    walk = _Walk(compiled, graph, subgraph)
    for number in range(len(real)):
        walk.example({name: value[number] for name, value in feeds.items()}, real[number : number + 1])
        progress(number + 1, len(real))
    return layer_errors.layers(walk.sums, walk.origins, list(graph.outputs.values())[-1])


def summary(
    compiled: Compiled, graph: Graph, found: Sequence[Layer], arena: Callable[[bytes], int | None] | None = None
) -> dict[str, Any]:
    """The conversion in figures, for JSON: size, memory, work, operators, estimators, outputs and causes.

    `arena` gives the working memory of a model in TensorFlow Lite Micro, bytes. `estimators` counts the tensors by the
    estimator of their range, `causes` the layers by the largest part of the error that they add themselves.
    """
    by_name = {layer.name: layer for layer in found}
    chosen = list(compiled.plan.estimators.values())
    causes = [max(CAUSES[1:], key=layer.errors.__getitem__) for layer in found if layer.own_snr is not None]
    return {
        "model_bytes": len(compiled.model),
        "arena_bytes": arena(compiled.model) if arena else None,
        "multiply_accumulates": compiled.multiply_accumulates,
        "operators": list(compiled.operators),
        "nodes": len(graph.nodes),
        "wide_tensors": sum(kind == np.int16 for kind in compiled.plan.types.values()),
        "estimators": {name: chosen.count(name) for name in sorted(set(chosen))},
        "causes": {name: causes.count(name) for name in CAUSES[1:]},
        "outputs": {
            name: {
                "snr": by_name[tensor].snr,
                "cosine": by_name[tensor].cosine,
                "sources": dict(by_name[tensor].sources),
            }
            for name, tensor in graph.outputs.items()
            if tensor in by_name
        },
    }


class _Walk:
    """One example after the other through both networks; only sums are kept."""

    def __init__(self, compiled: Compiled, graph: Graph, subgraph: int) -> None:
        self.graph, self.plan = graph, compiled.plan
        self.run = _runner(compiled.model, graph, subgraph)
        self.constants = {name: tf.constant(value) for name, value in graph.constants.items()}
        self.rounded = {name: self.constant(name) for name in graph.constants}
        self.sums: dict[str, Sums] = {}
        self.origins: dict[str, str] = {}
        for node in graph.nodes:
            if node.operator in _MOVES:
                self.origins[node.output] = self.origins.get(node.inputs[0], node.inputs[0])

    def constant(self, name: str) -> tf.Tensor:
        """The value of a constant's integers."""
        value, grid = self.plan.constants.get(name), self.plan.grids.get(name)
        if value is None or grid is None or value.dtype.kind != "i":
            return self.constants[name]
        rows = grid.scale.size > 1 and value.ndim > 1
        scale = grid.scale.reshape(-1, *[1] * (value.ndim - 1)) if rows else grid.scale
        return tf.constant(((value.astype(np.float64) - grid.zero) * scale).astype(np.float32))

    def example(self, feeds: Mapping[str, NDArray[Any]], real: NDArray[np.bool_]) -> None:
        given = {name: np.asarray(feeds[name]).reshape(shape) for name, shape in self.graph.inputs.items()}
        whole = {name: self.whole(name, value) for name, value in given.items()}
        actual = {name: tf.constant(self.real(name, raw)) for name, raw in (whole | self.run(whole)).items()}
        exact: dict[str, Any] = {**self.constants, **given}

        def look(node: Node, y: tf.Tensor) -> tf.Tensor:
            y = execute.wanted(node, [exact[x] for x in node.inputs]) if "stands_for" in node.attributes else y
            exact[node.output] = y
            if y.dtype == tf.float32 and node.operator not in _MOVES:
                self.compare(node, exact, actual, real)
            return y

        execute.run(self.graph, given, self.constants, look)

    def whole(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        grid = self.plan.grids.get(name)
        return value if grid is None or value.dtype == np.int32 else integers(value, grid)

    def real(self, name: str, raw: NDArray[Any]) -> NDArray[Any]:
        grid = self.plan.grids.get(name)
        if grid is None or raw.dtype.kind != "i":
            return raw
        return np.asarray((raw.astype(np.float32) - grid.zero) * grid.scale[0], np.float32)

    def compare(self, node: Node, exact: Mapping[str, Any], actual: Mapping[str, Any], real: NDArray[np.bool_]) -> None:
        name, truth = node.output, np.asarray(exact[node.output])
        varying = [x for x in dict.fromkeys(node.inputs) if x in actual]

        def give(how: Callable[[Node, list[Any]], Any], changed: Mapping[str, Any]) -> Floats:
            y = np.asarray(how(node, [changed[x] if x in changed else exact[x] for x in node.inputs]))
            if node.operator == "RSQRT":  # of a variance that rounds to zero the kernels give the largest step
                y = np.nan_to_num(y, nan=truth.max(), posinf=truth.max())
            return y

        def read(value: Floats) -> Floats:
            rows: Floats = execute.token_rows(self.graph, name, np.maximum(value, floor), real)
            return rows.ravel()

        floor = np.float32(node.attributes.get("low", -np.inf))
        if node.attributes.get("masked"):
            floor = truth.max(-1, keepdims=True) - _REACH
        wanted = read(truth)
        came = {x: actual[x] for x in varying}
        inherited = read(give(execute.wanted, came))
        lowered = read(give(execute.apply, came)) if "stands_for" in node.attributes else inherited
        weighted = read(give(execute.apply, {**self.rounded, **came}))
        grid = self.plan.grids.get(name) if self.plan.types.get(name) != np.float32 else None
        sums = self.sums.setdefault(name, Sums(node.operator, grid))
        sums.add(wanted, inherited, lowered, weighted, read(np.asarray(actual[name])))
        for x in varying:
            alone = read(give(execute.wanted, {x: actual[x]})) if len(varying) > 1 else inherited
            sums.add_alone(x, alone - wanted)


def _runner(model: bytes, graph: Graph, subgraph: int) -> Callable[[Mapping[str, Any]], dict[str, NDArray[Any]]]:
    """Inputs of the subgraph to every activation, as the runtime has them."""
    _, interpreter = load_interpreter()
    with warnings.catch_warnings():
        # It warns that keeping all tensors takes memory.
        warnings.simplefilter("ignore", UserWarning)
        made = interpreter(model_content=model, num_threads=1, experimental_preserve_all_tensors=True)
    flat = schema.Model.GetRootAs(model, 0)
    if subgraph >= flat.SubgraphsLength():
        raise ConversionError(f"the model has {flat.SubgraphsLength()} subgraphs, there is no number {subgraph}")
    signature = flat.Subgraphs(subgraph).Name().decode()
    places = {detail["name"]: detail["index"] for detail in made.get_tensor_details(subgraph)}
    for name in (*graph.inputs, *(node.output for node in graph.nodes)):
        if name not in places:
            raise ConversionError(f"the model has no tensor {name}: it was not made from this graph")
    runner = made.get_signature_runner(signature)

    def run(inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        _ = model  # the interpreter reads the flatbuffer in place
        runner(**inputs)
        return {node.output: made.get_tensor(places[node.output], subgraph) for node in graph.nodes}

    return run
