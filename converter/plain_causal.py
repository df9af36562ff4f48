"""Texts through a causal graph chunk by chunk, its cache kept here: whoever runs it, in float or in integers.

So the float graph, the plain conversion and ours are measured on the same tokens, and calibrated on the same chunks.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import execute
from tasuki.converter.graph import Floats, Graph

Arrays = Mapping[str, NDArray[Any]]
# Inputs with batch 1 to outputs, both by the graph's names and in float32 (ids and positions int32): `float_step`, or
# `plain.Run.one`.
Step = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Start:
    """What is in the cache before a text: values by input, [1, heads, slots, width], of the slots before `position`."""

    position: int
    cache: Arrays


def float_step(graph: Graph) -> Step:
    """The float graph in TensorFlow."""

    def step(inputs: Arrays) -> Arrays:
        return {name: np.asarray(value) for name, value in execute.run(graph, inputs).items()}

    return step


def chunks(
    graph: Graph, step: Step, windows: NDArray[np.int32], start: Start | None = None
) -> Iterator[tuple[dict[str, NDArray[Any]], Arrays, int]]:
    """Inputs, outputs and number of real tokens of each chunk of each of `windows` int32 [n, tokens].

    `graph` is a `prefill`: ids [1, chunk], position [1], and caches of the outputs of the same names. A window with
    what `start` holds must fit the context; the last chunk is padded with id 0.
    """
    size = graph.inputs["ids"][1]
    at = start.position if start else 0
    context = min((graph.inputs[name][2] for name in graph.cached), default=0)
    if at + windows.shape[1] > context:
        raise ValueError(f"{windows.shape[1]} tokens after {at} do not fit the context of {context}")
    for window in windows:
        cache = {name: np.zeros(graph.inputs[name], np.float32) for name in graph.cached}
        for name, value in (start.cache if start else {}).items():
            cache[name][:, :, :at] = value[:, :, :at]
        for begin in range(0, len(window), size):
            part = window[begin : begin + size]
            ids = np.zeros((1, size), np.int32)
            ids[0, : len(part)] = part
            position = np.array([at + begin], np.int32)
            inputs = {"ids": ids, "position": position, **{name: value.copy() for name, value in cache.items()}}
            outputs = step(inputs)
            yield inputs, outputs, len(part)
            for name, value in cache.items():
                value[:, :, at + begin : at + begin + len(part)] = outputs[name][:, :, : len(part)]


def examples(
    graph: Graph, step: Step, windows: NDArray[np.int32], start: Start | None = None
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """The chunks' inputs as one array each, [n, ...], and which of their tokens are no padding, bool [n, chunk].

    For `plain.convert` as representative data and, of other texts, for `fidelity.layers`.
    """
    found: dict[str, list[NDArray[Any]]] = {}
    counts = []
    for inputs, _, count in chunks(graph, step, windows, start):
        counts.append(count)
        for name, value in inputs.items():
            found.setdefault(name, []).append(value[0] if name != "position" else value)
    real = np.arange(graph.inputs["ids"][1]) < np.array(counts)[:, None]
    return {name: np.stack(values) for name, values in found.items()}, real


def perplexity(graph: Graph, step: Step, windows: NDArray[np.int32], start: Start | None = None) -> float:
    """Of each token of `windows` int32 [n, tokens + 1] after the first, given those before it."""
    total, left = 0.0, iter(windows[:, 1:].reshape(-1))
    for _, outputs, count in chunks(graph, step, windows[:, :-1], start):
        logits: Floats = outputs["logits"].reshape(-1, outputs["logits"].shape[-1])[:count].astype(np.float64)
        logits = logits - logits.max(-1, keepdims=True)
        wanted = np.array([next(left) for _ in range(count)])
        total += float((np.log(np.exp(logits).sum(-1)) - logits[np.arange(count), wanted]).sum())
    return float(np.exp(total / windows[:, 1:].size))
