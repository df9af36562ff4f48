"""Run a graph in TensorFlow: in float, differentiably (training), or with a hook after each node (simulation)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasuki.converter.graph import Graph, Node

Hook = Callable[[Node, tf.Tensor], tf.Tensor]


def apply(node: Node, x: list[tf.Tensor]) -> tf.Tensor:
    """The float value of `node` for the values `x` of its inputs."""
    how = node.attributes
    match node.operator:
        case "FULLY_CONNECTED":
            y = tf.matmul(x[0], x[1], transpose_b=True)
            y = y + x[2] if len(x) == 3 else y
            return tf.nn.relu(y) if how.get("relu") else y
        case "BATCH_MATMUL":
            return tf.matmul(x[0], x[1], transpose_a=how.get("adj_x", False), transpose_b=how.get("adj_y", False))
        case "ADD":
            return x[0] + x[1]
        case "SUB":
            return x[0] - x[1]
        case "MUL":
            return x[0] * x[1]
        case "MINIMUM":
            return tf.minimum(x[0], x[1])
        case "RSQRT":
            return tf.math.rsqrt(x[0])
        case "RELU":
            return tf.nn.relu(x[0])
        case "TANH":
            return tf.tanh(x[0])
        case "LOGISTIC":
            return tf.sigmoid(x[0])
        case "GELU":
            return tf.nn.gelu(x[0], approximate=how["approximate"])
        case "SOFTMAX":
            return tf.nn.softmax(x[0])
        case "GATHER":
            return tf.gather(x[0], x[1])
        case "RESHAPE":
            return tf.reshape(x[0], how["shape"])
        case "TRANSPOSE":
            return tf.transpose(x[0], how["order"])
        case "MEAN":
            return tf.reduce_mean(x[0], how["axis"])
        case "REDUCE_MAX":
            return tf.reduce_max(x[0], how["axis"])
        case "CONCATENATION":
            return tf.concat(x, how["axis"])
        case "SLICE":
            return tf.slice(x[0], how["begin"], how["size"])
        case "QUANTIZE":
            return tf.identity(x[0])
    raise ValueError(f"no operator {node.operator}")


def wanted(node: Node, x: list[tf.Tensor]) -> tf.Tensor:
    """What `node` stands for in the model as published, where it only comes near to it; else its float value.

    A product ``y sigmoid(y)`` with y = `factor` times u stands for `factor` times the GELU of u.
    """
    true, factor = node.attributes.get("stands_for"), node.attributes.get("factor", 1.0)
    if true is None:
        return apply(node, x)
    return tf.nn.gelu(x[0] / factor, approximate=true == "gelu_tanh") * factor


def run(
    graph: Graph,
    feeds: Mapping[str, Any],
    constants: Mapping[str, Any] | None = None,
    hook: Hook | None = None,
) -> dict[str, tf.Tensor]:
    """Values of the graph's outputs. `constants` override the graph's own (variables, in training).

    `hook` may replace the value of each node before it is used.
    """
    values: dict[str, tf.Tensor] = {**graph.constants, **(constants or {}), **feeds}
    left = {name: len(nodes) for name, nodes in graph.users().items()}
    kept = set(graph.outputs.values())
    for node in graph.nodes:
        y = apply(node, [values[name] for name in node.inputs])
        values[node.output] = hook(node, y) if hook else y
        for name in node.inputs:
            left[name] -= 1
            if not left[name] and name not in kept:
                values.pop(name, None)
    return {name: values[tensor] for name, tensor in graph.outputs.items()}


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The shape of every activation with batch 1."""
    found: dict[str, tuple[int, ...]] = dict(graph.inputs)

    def note(node: Node, y: tf.Tensor) -> tf.Tensor:
        found[node.output] = tuple(y.shape)
        return y

    run(graph, {name: np.zeros(shape, np.int32) for name, shape in graph.inputs.items()}, hook=note)
    return found


def token_rows(graph: Graph, name: str, value: NDArray[Any], real: NDArray[np.bool_]) -> NDArray[Any]:
    """The part of the activation `name` that belongs to tokens and is read; `real` is bool [batch, tokens].

    The tokens come first: [found, width], for scores [found, heads].
    """
    asking = real
    if name in graph.blind:
        asking = real.copy()
        asking[:, 0] = False
    match graph.layout[name]:
        case "rows":
            return np.asarray(value.reshape(real.size, -1)[asking.ravel()])
        case "heads":
            return np.asarray(value.transpose(0, 2, 1, 3)[asking])
        case "scores":
            return np.asarray(value.transpose(0, 2, 3, 1)[asking[:, :, None] & real[:, None, :]])
    return value
