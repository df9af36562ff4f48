"""What a BERT-family model does on real texts: its attention sinks, and the range of each channel.

Both come from one pass of the float model over the calibration texts. `bert.lower` takes them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasuki.converter import bert, execute
from tasuki.converter.families import BertConfig
from tasuki.converter.graph import Floats, Node
from tasuki.converter.quantise import INT8, grid_of, on_grid

# A first token whose state moves less than this, relative to its length, counts as constant.
STILL: Final = 0.02
_BATCH: Final = 64
# Channels never get finer steps than this part of the coarsest ones: all that is quieter is silence.
_FINEST: Final = 1e-3


@dataclass(frozen=True)
class Measured:
    """`scales` and `sinks` as `bert.lower` takes them; `sinks` is empty where the first token carries a message."""

    scales: dict[str, Floats]
    sinks: dict[str, Floats]


@dataclass
class _Seen:
    """Largest size of each channel of the first token and of the others, float32 [width], and their mean square."""

    first: Floats
    others: Floats
    square: float = 0.0
    count: int = 0


def measure(
    config: BertConfig,
    weights: Mapping[str, Floats],
    ids: NDArray[np.int32],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measured:
    """Run the float model on `ids` int32 [n, tokens] and find sinks and scales."""
    graph = bert.lower(config, weights, ids.shape[1], (config.layers,), exact=True)
    watched = set(bert.equalised(config).values()) | {f"{name}.norm" for name in _sums(config)}
    seen: dict[str, _Seen] = {}
    firsts: dict[str, list[Floats]] = {f"{n}.feed": [] for n in range(config.layers)}
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        real = batch != config.pad

        def note(node: Node, y: tf.Tensor, real: NDArray[np.bool_] = real) -> tf.Tensor:
            if node.output in watched:
                states = np.asarray(y).reshape(*real.shape, -1)
                _note(seen, node.output, states, real)
                name = node.output.removesuffix(".norm")
                if name in firsts and name != node.output:
                    firsts[name].append(states[:, 0])
            return y

        execute.run(graph, {"ids": batch}, hook=note)
        progress(min(start + _BATCH, len(ids)), len(ids))
    sinks = {}
    for name, found in firsts.items():
        sink = still(np.concatenate(found))
        if sink is not None and seen[f"{name}.sum"].first.max() > seen[f"{name}.sum"].others.max():
            sinks[name] = sink
    return Measured(_scales(config, weights, seen, set(sinks)), sinks)


def still(states: Floats) -> Floats | None:
    """The mean of `states` [n, width] if all are nearly the same, else None."""
    mean = np.asarray(states.mean(0), np.float32)
    moved = np.linalg.norm(states - mean, axis=1).max()
    return mean if len(states) > 1 and moved < STILL * np.linalg.norm(mean) else None


def _sums(config: BertConfig) -> list[str]:
    return ["embeddings", *bert.shortcuts(config)]


def _note(seen: dict[str, _Seen], name: str, states: Floats, real: NDArray[np.bool_]) -> None:
    rest = real.copy()
    rest[:, 0] = False
    others, nothing = states[rest], np.zeros(states.shape[2], np.float32)
    found = seen.setdefault(name, _Seen(nothing, nothing))
    found.first = np.maximum(found.first, np.abs(states[:, 0]).max(0))
    found.others = np.maximum(found.others, np.abs(others).max(0, initial=0))
    found.square += float(np.square(others, dtype=np.float64).sum())
    found.count += others.size


def _scales(
    config: BertConfig, weights: Mapping[str, Floats], seen: Mapping[str, _Seen], sinks: set[str]
) -> dict[str, Floats]:
    """The range of each channel: every channel gets the smallest steps that a tensor of one scale can give it.

    A norm is stored in the scales of the sum before it, so those cover both, each by its own power. Then each is moved
    a little, so that the gain of the shortcut into the sum is a whole number of steps.
    """
    scales: dict[str, Floats] = {}
    gains = bert.shortcuts(config)
    for name in _sums(config):
        total, normed = seen[f"{name}.sum"], seen[f"{name}.norm"]
        layer = name.split(".")[0]
        # In a layer that ends in a sink nobody reads the first token, but what comes out of the norm has the sink.
        blind = f"{layer}.feed" in sinks
        range_sum = total.others if blind else np.maximum(total.first, total.others)
        range_norm = normed.others if blind and name not in sinks else np.maximum(normed.first, normed.others)
        power = np.sqrt((total.square / max(total.count, 1)) / max(normed.square / max(normed.count, 1), 1e-12))
        wanted = _floored(np.maximum(range_sum, range_norm * power))
        if name in gains:
            before, norm = gains[name]
            wanted = stepped(weights[f"{norm}.weight"] * scales[before], wanted)
        scales[name] = wanted
    for n in range(config.layers):
        value = seen[f"{n}.value"]
        scales[f"{n}.values"] = _floored(np.maximum(value.first, value.others))
    return scales


def _floored(ranges: NDArray[Any]) -> Floats:
    return np.asarray(np.maximum(ranges, max(_FINEST * float(ranges.max()), 1e-9)), np.float32)


def stepped(gain: Floats, scales: Floats) -> Floats:
    """Scales near to `scales` for which ``gain / scales`` is positive and on its int8 grid, so that nothing is rounded.

    Signs go into the scales. A gain of zero keeps its scale.
    """
    ratio = np.abs(gain) / scales
    if not ratio.any():
        return scales
    grid = grid_of(0.0, float(ratio.max()), INT8)
    snapped = np.maximum(on_grid(ratio, grid), grid.scale[0])
    return np.asarray(np.where(gain == 0, scales, gain / snapped), np.float32)
