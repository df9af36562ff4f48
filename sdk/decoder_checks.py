"""Whether a model keeps the convention of causal models (SPEC.md). All refusals are ValueError."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# What the runtime says of a signature's inputs or outputs, by name.
Details = Mapping[str, Mapping[str, Any]]


def first(interpreter: Any, inputs: Details, outputs: Details) -> None:
    """`decode` is the first subgraph, and its cache and outputs are of one form."""
    for named, all_ in ((inputs, interpreter.get_input_details()), (outputs, interpreter.get_output_details())):
        if sorted(int(d["index"]) for d in named.values()) != sorted(int(d["index"]) for d in all_):
            raise ValueError("decode is not the first subgraph")
    caches = sorted(set(inputs) - {"ids", "position"})
    layers = len(caches) // 2
    if not layers or set(caches) != {f"{part}.{n}" for n in range(layers) for part in ("key", "value")}:
        raise ValueError("the cache has not a key and a value for each layer")
    shape = [int(n) for n in inputs["key.0"]["shape"]]
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1:
        raise ValueError("the cache is not of the shape [1, heads, context, width]")
    for name in caches:
        if [int(n) for n in inputs[name]["shape"]] != shape or inputs[name]["dtype"] != inputs["key.0"]["dtype"]:
            raise ValueError(f"the cache {name} is of another form than the first")
    _signature(inputs, outputs, inputs, outputs, 1)


def pair(inputs: Details, outputs: Details, more: Details, gives: Details) -> int:
    """The tokens of a call of `prefill`, whose inputs are `more`, and which agrees with `decode` in all else."""
    tokens = int(more["ids"]["shape"][-1])
    _signature(inputs, outputs, more, gives, tokens)
    return tokens


def _signature(inputs: Details, outputs: Details, more: Details, gives: Details, tokens: int) -> None:
    if set(more) != set(inputs) or set(gives) != set(outputs):
        raise ValueError("decode and prefill have other inputs or outputs")
    caches = set(inputs) - {"ids", "position"}
    if set(outputs) != caches | {"features", "logits"}:
        raise ValueError(f"the outputs are {', '.join(sorted(outputs))}")
    _, heads, context, width = (int(n) for n in inputs["key.0"]["shape"])
    wanted = {"ids": (1, tokens), "position": (1,)} | dict.fromkeys(caches, (1, heads, context, width))
    for name, about in more.items():
        kind = inputs[name]["dtype"] if name in caches else np.int32
        _tensor(name, about, wanted[name], kind)
        if name in caches and about["quantization"] != inputs[name]["quantization"]:
            raise ValueError(f"the cache {name} has two grids")
    for name, about in gives.items():
        if name in caches:
            _tensor(name, about, (1, heads, tokens, width), inputs[name]["dtype"])
            if about["quantization"] != inputs[name]["quantization"]:
                raise ValueError(f"the output {name} is not on the grid of the cache")
            continue
        _tensor(name, about, (tokens, int(outputs[name]["shape"][-1])), outputs[name]["dtype"])
        if about["quantization"] != outputs[name]["quantization"]:
            raise ValueError(f"decode and prefill give {name} on two grids")


def _tensor(name: str, about: Mapping[str, Any], shape: tuple[int, ...], kind: Any) -> None:
    if tuple(int(n) for n in about["shape"]) != shape or about["dtype"] != kind or min(shape) < 1:
        raise ValueError(f"{name} is {np.dtype(about['dtype'])} {list(about['shape'])}, not {np.dtype(kind)} {shape}")


def agrees(
    fields: Mapping[str, Any], interpreter: Any, inputs: Details, outputs: Details, chunk: int
) -> None:  # fmt: skip
    _, heads, context, width = (int(n) for n in inputs["key.0"]["shape"])
    layers = (len(inputs) - 2) // 2
    order = [int(about["index"]) for about in interpreter.get_output_details()]
    wide = {name: int(outputs[name]["shape"][1]) for name in ("features", "logits")}
    # The fields and what the model has for them.
    found = {
        "tokens": (fields["tokens"], context),
        "cache": (
            fields.get("cache"), {"layers": layers, "heads": heads, "width": width, "context": context}
        ),
        "features": (
            [(f["output"], f["width"]) for f in fields["features"]],
            [(order.index(int(outputs["features"]["index"])), wide["features"])],
        ),
        "logits": (
            fields["logits"], {"output": order.index(int(outputs["logits"]["index"])), "width": wide["logits"]}
        ),
        "shapes": (fields["shapes"].get("prefill.ids", [1, chunk]), [1, chunk]),
    }  # fmt: skip
    for name, (said, has) in found.items():
        if said is not None and said != has:
            raise ValueError(f"the manifest's {name} says {said}, and the model has {has}")
