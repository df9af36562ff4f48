"""A float TFLite model of a text classifier as a graph: what TFLite's converter makes of ordinary Keras layers.

Most operators are taken as they are. These are rewritten, exactly in float, into what survives int8:

- LayerNormalization and RMSNormalization: mean and variance are dense layers with one output, accumulated in int32.
- Masks (NOT_EQUAL, LOGICAL_AND, SELECT_V2 before a softmax) are added to the scores; those on the side of the queries
  are dropped unless `strict`: where the mask goes on, nobody reads what padding finds.
- A masked average over tokens is a product with a softmax of the mask.
- GELU is ``x sigmoid(1.702 x)`` unless `exact`: TensorFlow Lite Micro has none.
- The wrap-around of negative ids in an embedding is left out: ids are never negative.

Padding is id 0. The model has batch 1; the graph takes any.
"""

from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tasuki.converter import tflite_patterns as patterns
from tasuki.converter.graph import HEADS, ROWS, SCORES, WHOLE, Graph
from tasuki.converter.tflite_file import File, Operation, read_file
from tasuki.sdk.errors import ConversionError

# Far below every score: the sum saturates at the lowest step of its tensor.
MASKED: Final = -40.0
_GELU: Final = 1.702
SUPPORTED: Final = (
    "ADD", "BATCH_MATMUL", "CONCATENATION", "FULLY_CONNECTED", "GATHER", "GELU", "LOGISTIC", "MEAN", "MUL", "NEG",
    "REDUCE_MAX", "RELU", "RESHAPE", "RSQRT", "SLICE", "SOFTMAX", "SQUARE", "STRIDED_SLICE", "SUB", "TANH", "TRANSPOSE",
    "norms, masks of padding (mask_zero), masked averages",
)  # fmt: skip
_FUSED: Final = {
    schema.ActivationFunctionType.NONE: None,
    schema.ActivationFunctionType.RELU: "RELU",
    schema.ActivationFunctionType.TANH: "TANH",
}


def read(model: bytes, exact: bool = False, strict: bool = False) -> Graph:
    """The graph of a float model: ids int32 [1, tokens] to `features.1`, the input of the last dense layer, and
    `logits`, its output before a softmax or sigmoid. `exact` keeps the GELU; `strict` also what padding finds where
    somebody reads it.

    Raises ConversionError, which names the operator and the layer.
    """
    return _Import(read_file(model), exact, strict).build()


class _Import:
    def __init__(self, file: File, exact: bool, strict: bool) -> None:
        self.file, self.exact, self.strict = file, exact, strict
        self.masks: dict[str, tuple[int, ...]] = {}
        self.tokens = file.shapes[file.input][1]
        self.graph = Graph({"ids": (1, self.tokens)})
        self.names: dict[int, str] = {file.input: "ids"}
        self.flat: dict[str, str] = {}

    def build(self) -> Graph:
        head = self.file.made.get(self.file.output)
        if head is not None and head.name in ("SOFTMAX", "LOGISTIC"):
            head = self.file.made.get(head.inputs[0])
        if head is None or head.name != "FULLY_CONNECTED" or len(self.file.shapes[head.output]) != 2:
            found = "nothing" if head is None else f"{head.name} ({self.file.label(head.output)})"
            raise ConversionError(
                f"the model ends in {found}; it must end in a Dense layer with an output for each label, "
                "with or without softmax"
            )
        for operation in self.needed(head):
            self.names[operation.output] = self.lower(operation)
        features, logits = self.value(head.inputs[0]), self.value(head.output)
        binary = self.file.shapes[head.output][1] == 1
        self.graph.outputs = {"features.1": features, "logits": self.two(head, features) if binary else logits}
        if features == "ids" or len(self.file.shapes[head.inputs[0]]) != 2:
            raise ConversionError(f"the last Dense layer ({self.file.label(head.output)}) must read one vector a text")
        return _used(self.graph)

    def two(self, head: Operation, features: str) -> str:
        """One logit z of a sigmoid as two, of which the softmax is the same: 0 and z."""
        weight, bias = self.file.constants[head.inputs[1]], self.file.constants.get(head.inputs[2])
        rows = np.concatenate([np.zeros_like(weight), weight])
        return self.graph.dense(features, rows, np.r_[0, 0 if bias is None else bias].astype(np.float32), "logits.two")

    # Values

    def value(self, number: int) -> str:
        """The name of a tensor in the graph. Raises ConversionError if it is a mask, or another part of a pattern."""
        if number in self.names:
            return self.names[number]
        if number not in self.file.constants:
            raise self.unsupported(self.file.made[number])
        constant = self.file.constants[number]
        shaped = constant.reshape(1) if constant.ndim == 0 else constant
        return self.graph.constant(self.file.label(number), shaped)

    def needed(self, head: Operation) -> list[Operation]:
        """The operations that the head needs, in their order; a pattern counts as its last one."""
        found, left = [], {head.output}
        for operation in reversed(self.file.operations):
            if operation.output in left:
                left.update(patterns.reads(self.file, operation))
                found.append(operation)
        return found[::-1]

    def put(self, operator: str, inputs: list[str], number: int, name: str | None = None, **how: Any) -> str:
        shape = self.file.shapes[number]
        return self.graph.add(operator, inputs, name or self.file.label(number), self.layout(shape), **how)

    def layout(self, shape: tuple[int, ...]) -> str:
        t = self.tokens
        if len(shape) >= 3 and shape[1] == t:
            return ROWS
        if len(shape) == 4 and shape[2] == t:
            return SCORES if shape[3] == t else HEADS
        return WHOLE

    def rows(self, name: str, number: int) -> str:
        """The tensor as [all but the last axis, width]."""
        shape = self.file.shapes[number]
        if len(shape) == 2:
            return name
        if name not in self.flat:
            self.flat[name] = self.graph.reshape(name, (-1, shape[-1]), f"{name}.rows", self.layout(shape))
        return self.flat[name]

    def unflat(self, rows: str, number: int, width: int | None = None) -> str:
        """Rows in the shape of the tensor `number`, but for the last axis if `width` is given."""
        shape = self.file.shapes[number]
        shape = shape if width is None else (*shape[:-1], width)
        if len(shape) == 2:
            return rows
        made = self.graph.reshape(rows, (-1, *shape[1:]), f"{rows}.shaped", self.layout(shape))
        self.flat[made] = rows
        return made

    # Operators

    def lower(self, operation: Operation) -> str:
        norm = patterns.layer_norm(self.file, operation)
        if norm is not None:
            return self.layer_norm(norm, operation.output)
        how, number, inputs = operation.options, operation.output, operation.inputs
        match operation.name:
            case "FULLY_CONNECTED":
                return self.dense(operation)
            case "ADD" | "SUB" | "MUL":
                x, y = (self.value(i) for i in inputs)
                # A constant comes second.
                pair = [y, x] if operation.name != "SUB" and x in self.graph.constants else [x, y]
                return self.after(operation, lambda name: self.put(operation.name, pair, number, name))
            case "SQUARE":
                x = self.value(inputs[0])
                return self.put("MUL", [x, x], number)
            case "NEG":
                minus = self.graph.constant("minus", np.full(1, -1, np.float32))
                return self.put("MUL", [self.value(inputs[0]), minus], number)
            case "RSQRT":
                return self.rsqrt(operation)
            case "TANH" | "LOGISTIC" | "RELU":
                return self.put(operation.name, [self.value(inputs[0])], number)
            case "GELU":
                return self.gelu(operation)
            case "SOFTMAX" if how.get("beta", 1.0) == 1.0:
                return self.put("SOFTMAX", [self.value(inputs[0])], number)
            case "BATCH_MATMUL":
                a, b = (self.value(i) for i in inputs)
                return self.put("BATCH_MATMUL", [a, b], number, adj_x=how["adjX"], adj_y=how["adjY"])
            case "GATHER" if how.get("axis", 0) == 0 and inputs[0] in self.file.constants:
                if patterns.source(self.file, inputs[1]) == self.file.input:
                    return self.put("GATHER", [self.value(inputs[0]), "ids"], number)
            case "RESHAPE":
                shape = self.file.shapes[number]
                return self.put("RESHAPE", [self.value(inputs[0])], number, shape=(-1, *shape[1:]))
            case "TRANSPOSE":
                order = tuple(int(n) for n in self.file.constants[inputs[1]])
                if order[0] == 0:
                    return self.put("TRANSPOSE", [self.value(inputs[0])], number, order=order)
            case "MEAN" | "REDUCE_MAX":
                return self.reduce(operation)
            case "CONCATENATION":
                axis = int(how["axis"]) % len(self.file.shapes[number])
                joined = [self.value(i) for i in inputs]
                if axis:
                    return self.after(
                        operation, lambda name: self.put("CONCATENATION", joined, number, name, axis=axis)
                    )
            case "SLICE" | "STRIDED_SLICE":
                return self.slice(operation)
            case "SELECT_V2" | "SELECT":
                return self.masked(operation)
            case "DIV":
                return self.average(operation)
        raise self.unsupported(operation)

    def unsupported(self, operation: Operation) -> ConversionError:
        return ConversionError(
            f"layer {self.file.label(operation.output)}: {operation.name} in this form is not supported; "
            f"supported: {', '.join(SUPPORTED)}"
        )

    def after(self, operation: Operation, make: Any) -> str:
        """What `make` adds, and the activation that is fused with it."""
        kind = operation.options.get("fusedActivationFunction", 0)
        if kind not in _FUSED:
            raise ConversionError(
                f"layer {self.file.label(operation.output)}: {operation.name} has an activation that is not supported; "
                "supported: none, relu, tanh, sigmoid, gelu, softmax"
            )
        fused = _FUSED[kind]
        if fused is None:
            return str(make(None))
        return self.put(fused, [make(f"{self.file.label(operation.output)}.before")], operation.output)

    def dense(self, operation: Operation) -> str:
        x, w = operation.inputs[:2]
        if w not in self.file.constants:
            raise self.unsupported(operation)
        weight = self.file.constants[w]
        bias = self.file.constants.get(operation.inputs[2]) if len(operation.inputs) > 2 else None
        label, rows = self.file.label(operation.output), self.rows(self.value(x), x)
        kind = operation.options.get("fusedActivationFunction", 0)
        name = label if len(self.file.shapes[operation.output]) == 2 else f"{label}.dense"
        relu = kind == schema.ActivationFunctionType.RELU
        if not relu and _FUSED.get(kind, "") is not None:
            raise self.unsupported(operation)
        made = self.graph.dense(rows, weight, bias, name, relu, layout=self.graph.layout.get(rows))
        return self.unflat(made, operation.output)

    def gelu(self, operation: Operation) -> str:
        x, number = self.value(operation.inputs[0]), operation.output
        approximate = bool(operation.options["approximate"])
        if self.exact:
            return self.put("GELU", [x], number, approximate=approximate)
        label = self.file.label(number)
        factor = self.graph.constant("gelu.factor", np.full(1, _GELU, np.float32))
        up = self.put("MUL", [x, factor], number, f"{label}.up")
        gate = self.put("LOGISTIC", [up], number, f"{label}.gate")
        return self.put("MUL", [x, gate], number, stands_for="gelu_tanh" if approximate else "gelu", factor=1.0)

    def reduce(self, operation: Operation) -> str:
        x, number = operation.inputs[0], operation.output
        rank = len(self.file.shapes[x])
        axes = [int(a) % rank for a in self.file.constants[operation.inputs[1]].ravel()]
        keep = bool(operation.options["keepDims"])
        if axes == [rank - 1] and keep and operation.name == "MEAN":
            rows, width = self.rows(self.value(x), x), self.file.shapes[x][-1]
            ones = np.full((1, width), 1 / width, np.float32)
            return self.unflat(self.graph.dense(rows, ones, None, f"{self.file.label(number)}.mean",
                                                layout=self.graph.layout.get(rows)), number)  # fmt: skip
        if len(axes) != 1 or axes[0] == 0 or keep:
            raise self.unsupported(operation)
        return self.put(operation.name, [self.value(x)], number, axis=axes[0])

    def slice(self, operation: Operation) -> str:
        x, number = operation.inputs[0], operation.output
        begin = patterns.slice_begin(self.file, operation)
        shape, before = self.file.shapes[number], self.file.shapes[x]
        if begin is None or begin[0] != 0:
            raise self.unsupported(operation)
        if len(shape) == len(before):
            return self.put("SLICE", [self.value(x)], number, begin=begin, size=(-1, *shape[1:]))
        size = tuple(patterns.slice_size(self.file, operation))
        part = self.put("SLICE", [self.value(x)], x, f"{self.file.label(number)}.part", begin=begin,
                        size=(-1, *size[1:]))  # fmt: skip
        return self.put("RESHAPE", [part], number, shape=(-1, *shape[1:]))

    # Norms

    def layer_norm(self, norm: patterns.Norm, number: int) -> str:
        label = self.file.label(number)
        rows, width = self.rows(self.value(norm.x), norm.x), self.file.shapes[norm.x][-1]
        g, layout = self.graph, self.layout(self.file.shapes[norm.x])
        ones = np.full((1, width), 1 / width, np.float32)
        centred = g.add("SUB", [rows, g.dense(rows, ones, None, f"{label}.mean", layout=layout)], f"{label}.centred")
        y = g.add("MUL", [centred, self.inverse_root(centred, norm.epsilon, width, label, layout)], f"{label}.norm")
        for operator, value, part in (("MUL", norm.gain, "gain"), ("ADD", norm.offset, "offset")):
            if value is not None:
                y = g.add(operator, [y, g.constant(f"{label}.{part}", value.reshape(1, -1))], f"{label}.{part}ed")
        return self.unflat(y, number)

    def inverse_root(self, rows: str, epsilon: float, width: int, label: str, layout: str) -> str:
        """``1 / sqrt(mean(rows^2) + epsilon)``, [rows, 1]."""
        g, ones = self.graph, np.full((1, width), 1 / width, np.float32)
        square = g.add("MUL", [rows, rows], f"{label}.square")
        variance = g.dense(square, ones, np.full(1, epsilon, np.float32), f"{label}.variance", layout=layout)
        return g.add("RSQRT", [variance], f"{label}.rsqrt")

    def rsqrt(self, operation: Operation) -> str:
        found = patterns.mean_square(self.file, operation)
        if found is None:
            return self.put("RSQRT", [self.value(operation.inputs[0])], operation.output)
        x, epsilon = found
        width, label = self.file.shapes[x][-1], self.file.label(operation.output)
        rows = self.rows(self.value(x), x)
        made = self.inverse_root(rows, epsilon, width, label, self.layout(self.file.shapes[x]))
        return self.unflat(made, operation.output)

    # Masks

    def penalty(self, number: int) -> str | None:
        """What a mask adds to scores: `MASKED` where it is false; None if it is true everywhere that is read."""
        number = patterns.same_mask(self.file, number)
        name = f"{self.file.label(number)}.penalty"
        if name in self.masks or name in self.graph.constants:
            return name
        if number in self.file.constants:
            value = self.file.constants[number].astype(np.bool_)
            if value.all():
                return None
            self.masks[name] = value.shape
            return self.graph.constant(name, np.where(value, 0, MASKED).astype(np.float32))
        operation = self.file.made[number]
        if patterns.not_padding(self.file, operation):
            g = self.graph
            if "mask.real" not in g.layout:
                g.add("MINIMUM", ["ids", g.constant("one", np.ones(1, np.int32))], "mask.real", WHOLE)
            table = g.constant("mask.table", np.array([MASKED, 0], np.float32))
            return self.mask("GATHER", [table, "mask.real"], name, (1, self.tokens))
        if operation.name == "RESHAPE":
            shape = self.file.shapes[number]
            if not self.strict and len(shape) > 2 and shape[-1] == 1 and self.tokens > 1:
                return None  # on the side of the queries
            inner = self.penalty(operation.inputs[0])
            if inner is None:
                return None
            mine = self.masks[inner]
            if np.prod(mine) != np.prod(shape):  # it would be broadcast later
                shape = (1, *[1] * (len(shape) - len(mine)), *mine[1:])
            return self.mask("RESHAPE", [inner], name, shape, shape=(-1, *shape[1:]))
        if operation.name == "LOGICAL_AND":
            parts = [part for part in map(self.penalty, operation.inputs) if part is not None]
            if len(parts) < 2:
                return parts[0] if parts else None
            parts.sort(key=lambda part: part in self.graph.constants)
            shape = tuple(np.broadcast_shapes(*(self.masks[part] for part in parts)))
            return self.mask("MINIMUM", parts, name, shape, low=MASKED)
        raise self.unsupported(operation)

    def mask(self, operator: str, inputs: list[str], name: str, made: tuple[int, ...], **how: Any) -> str:
        self.masks[name] = made
        return self.graph.add(operator, inputs, name, WHOLE, **how)

    def masked(self, operation: Operation) -> str:
        """Scores, of which those are replaced by a very low one that the mask rules out."""
        mask, scores, other = operation.inputs
        low = self.file.constants.get(other)
        if low is None or low.size != 1 or float(low.ravel()[0]) > -1e4:
            raise self.unsupported(operation)
        penalty, x = self.penalty(mask), self.value(scores)
        if penalty is None:
            return x
        if self.strict:  # rows in which everything is ruled out get equal shares
            g, number = self.graph, operation.output
            if f"{penalty}.keep" not in g.layout:
                share = g.add("MUL", [penalty, g.constant("mask.share", np.full(1, -1 / MASKED, np.float32))],
                              f"{penalty}.share", WHOLE)  # fmt: skip
                g.add("ADD", [share, g.constant("mask.one", np.ones(1, np.float32))], f"{penalty}.keep", WHOLE)
            x = self.put("MUL", [x, f"{penalty}.keep"], number, f"{self.file.label(number)}.kept")
        return self.put("ADD", [x, penalty], operation.output, masked=True)

    def average(self, operation: Operation) -> str:
        """The mean over the tokens that are no padding."""
        found = patterns.masked_mean(self.file, operation)
        if found is None:
            raise self.unsupported(operation)
        x, mask = found
        shape, label = self.file.shapes[x], self.file.label(operation.output)
        penalty = self.penalty(mask)
        assert penalty is not None  # noqa: S101  (it comes from the ids)
        shares = self.graph.add("SOFTMAX", [penalty], f"{label}.shares", WHOLE)
        shares = self.graph.reshape(shares, (-1, 1, self.tokens), f"{label}.weights", WHOLE)
        mean = self.graph.add("BATCH_MATMUL", [shares, self.value(x)], f"{label}.mean", WHOLE)
        return self.graph.reshape(mean, (-1, shape[-1]), label, WHOLE)


def _used(graph: Graph) -> Graph:
    """The graph without nodes and constants that no output needs."""
    needed = set(graph.outputs.values())
    nodes = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            nodes.append(node)
            needed |= set(node.inputs)
    graph.nodes = nodes[::-1]
    graph.constants = {name: value for name, value in graph.constants.items() if name in needed}
    return graph
