"""The manifest's fields that follow from a causal model itself (SPEC.md, "Artifact")."""

from collections.abc import Mapping
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tasuki.converter import execute
from tasuki.converter.compile import Compiled
from tasuki.converter.graph import Graph
from tasuki.sdk import manifest


def fields(
    name: str,
    tier: str,
    compiled: Compiled,
    graphs: Mapping[str, Graph],
    depth: int,
    pad: int,
    activations: str = "int8",
) -> dict[str, Any]:
    """Names, shapes and outputs of `compiled`, whose signatures are `graphs`, the first subgraph first.

    The features are those below the last layer, `depth` layers up; `pad` fills a chunk. The shapes are those of ids,
    position, features and logits, named ``SIGNATURE.NAME``; those of keys and values follow from `cache`.
    """
    first = next(iter(graphs.values()))
    _, heads, context, width = first.inputs["key.0"]
    layers = sum(input_.startswith("key.") for input_ in first.inputs)
    shapes: dict[str, list[int]] = {}
    for signature, graph in graphs.items():
        found = execute.shapes(graph)
        for input_ in ("ids", "position"):
            shapes[f"{signature}.{input_}"] = list(graph.inputs[input_])
        for output in ("features", "logits"):
            shapes[f"{signature}.{output}"] = list(found[graph.outputs[output]])
    signature = next(iter(graphs))
    return {
        "name": name,
        "task": "causal",
        "tier": tier,
        "tokens": context,
        "pad": pad,
        "features": [
            {"depth": depth, "width": shapes[f"{signature}.features"][-1], "output": compiled.outputs["features"]}
        ],
        "logits": {"output": compiled.outputs["logits"], "width": shapes[f"{signature}.logits"][-1]},
        "labels": [],
        "adapter_kinds": list(manifest.ADAPTER_KINDS["causal"]),
        "low_rank": dict(manifest.LOW_RANK),
        **vocabulary(compiled),
        "rounding": manifest.ROUNDING,
        "activations": activations,
        "operators": list(compiled.operators),
        "shapes": shapes,
        "cache": {"layers": layers, "heads": heads, "width": width, "context": context},
    }


def vocabulary(compiled: Compiled) -> dict[str, Any]:
    """Where the last layer is: the tensors of its weight and, if it has one, its bias, in the first subgraph.

    Nothing where the logits do not come from the features by one FULLY_CONNECTED with an int8 weight.
    """
    graph = schema.Model.GetRootAsModel(compiled.model, 0).Subgraphs(0)
    features, logits = (graph.Outputs(compiled.outputs[name]) for name in ("features", "logits"))
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        if operator.Outputs(0) != logits:
            continue
        inputs = [int(operator.Inputs(n)) for n in range(operator.InputsLength())]
        fits = inputs[0] == features and graph.Tensors(inputs[1]).Type() == schema.TensorType.INT8
        if not fits or operator.BuiltinOptionsType() != schema.BuiltinOptions.FullyConnectedOptions:
            return {}
        layer = {"weight": inputs[1]}
        if len(inputs) > 2 and inputs[2] >= 0:
            layer["bias"] = inputs[2]
        return {"vocabulary": layer}
    return {}
