"""Fine-tuning with simulated integers: the student learns to live with the steps that the conversion will give it.

In the forward pass every activation lies on the grid that a calibration of the float student chose for it, weights on
one grid a row, other constants on one grid each (Jacob et al. 2018); gradients go straight through the rounding and
stop where a value was clipped (Bengio et al. 2013; Esser et al. 2020, with the scales held fixed). The conversion
calibrates the tuned student anew.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import tensorflow as tf

from tasuki.converter import execute
from tasuki.converter.flatbuffer import Grid
from tasuki.converter.graph import Graph, Node
from tasuki.converter.quantise import Plan
from tasuki.converter.training import Disguise

_LIMITS: Final = {1: (-128, 127), 2: (-32767, 32767)}
_WEIGHT: Final = 127


def simulate(plan: Plan) -> Disguise:
    """Integers in the grids of `plan`, for `training.train`."""

    def disguise(graph: Graph, variables: Mapping[str, Any]) -> tuple[Mapping[str, Any], execute.Hook]:
        values = {**graph.constants, **variables}
        constants = {
            name: _rows(values[name]) if place == "rows" else _stepped(values[name], plan.grids[name])
            for name, place in _places(graph).items()
        }

        def hook(node: Node, y: tf.Tensor) -> tf.Tensor:
            return _stepped(y, plan.grids[node.output]) if node.output in plan.grids else y

        return constants, hook

    return disguise


def _places(graph: Graph) -> dict[str, str]:
    """How each float constant is rounded: `rows` with one scale a row, `whole` with one scale; biases are not."""
    found = {}
    for node in graph.nodes:
        dense = node.operator == "FULLY_CONNECTED"
        for place, name in enumerate(node.inputs):
            if name in graph.constants and graph.constants[name].dtype != np.int32 and not (dense and place == 2):
                found[name] = "rows" if dense else "whole"
    return found


def _stepped(x: tf.Tensor, grid: Grid) -> tf.Tensor:
    scale, (low, high) = float(grid.scale[0]), _LIMITS[grid.type.itemsize]
    inside = tf.clip_by_value(x, (low - grid.zero) * scale, (high - grid.zero) * scale)
    return inside + tf.stop_gradient(tf.round(inside / scale) * scale - inside)


def _rows(weight: tf.Tensor) -> tf.Tensor:
    scale = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(weight), 1, keepdims=True) / _WEIGHT, 1e-9))
    return weight + tf.stop_gradient(tf.round(weight / scale) * scale - weight)
