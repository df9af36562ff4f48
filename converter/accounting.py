"""What a student will cost on a chip, exactly and before any training: bytes of the model, working memory, work.

The flatbuffer is written for real, by the code that writes every model, but each constant is cut short by a multiple of
16 bytes, which changes no alignment, and what was cut is added up. So the figure is the length of what
`compile_graphs` gives for a trained student, to the byte. It rests on two things that trained weights have: no two
layers have the same bytes, and the norms' factors are above zero (each is 127 steps then, and all share one byte).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import arena, causal_student, flatbuffer, student
from tasuki.converter.arena import Arena
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.flatbuffer import Grid, Section
from tasuki.converter.graph import Graph, Node
from tasuki.converter.student import StudentShape

Shape = StudentShape | CausalShape
# Constants keep their length modulo 16, and enough besides to tell them apart.
_GRAIN: Final = 16
_LEFT: Final = 64
_INT8: Final = np.dtype(np.int8)
_INT32: Final = np.dtype(np.int32)
_SAME: Final = frozenset({"GELU", "LOGISTIC", "QUANTIZE", "RELU", "RSQRT", "SOFTMAX", "TANH"})
_BROADCAST: Final = frozenset({"ADD", "MINIMUM", "MUL", "SUB"})
# The manifest of a classifier without its labels, and what an entry of the ZIP takes besides its content.
_MANIFEST: Final = 4096
_ENTRY: Final = 128
# What a word piece of English takes deflated, and an entry of a ``tokenizer.json`` with its merge: measured on the
# vocabularies of MiniLM (3.7) and SmolLM2 (9.6), and rounded up.
_PIECE: Final = 4
_TOKEN: Final = 10


@dataclass(frozen=True)
class Cost:
    """`flash` is the flatbuffer's length, `parts` about what the artifact adds to it (`parts`), in bytes.

    `arena` is TensorFlow Lite Micro's working memory (`arena.planned_arena`), `multiply_accumulates` are those of one
    inference (a causal student's: of one token), `parameters` all weights.
    """

    flash: int
    parts: int
    arena: Arena
    parameters: int
    multiply_accumulates: int

    @property
    def file(self) -> int:
        """Bytes of the whole artifact, about."""
        return self.flash + self.parts

    @property
    def ram(self) -> int:
        """Bytes of the arena."""
        return self.arena.bytes


@lru_cache(maxsize=1024)
def account(shape: Shape, depths: tuple[int, ...] | None = None) -> Cost:
    """What an int8 student of `shape` costs. `depths` are those of a classifier's features (default: the last)."""
    graphs = _graphs(shape, depths)
    dry = _Dry()
    model = flatbuffer.write([dry.section(name, graph) for name, graph in graphs.items()])
    first = next(iter(graphs.values()))
    return Cost(
        len(model) + dry.cut,
        parts(shape, depths),
        arena.planned_arena(model),
        shape.parameters(),
        first.multiply_accumulates(shapes(first)),
    )


def at_least(shape: Shape) -> Cost:
    """Less than `account` of the same shape says, and at once: what surely does not fit needs no account."""
    d, f, t = shape.width, shape.inner, shape.tokens if isinstance(shape, StudentShape) else shape.context
    channels = shape.layers * (5 * d + f)
    if isinstance(shape, StudentShape):
        # A layer's input and its inner activation at once.
        head, tail = t * (d + f), 8 * channels
    else:
        # The cache, and the multipliers of the logits.
        head, tail = 2 * shape.layers * t * d, 8 * (channels + shape.vocabulary)
    return Cost(shape.parameters() + 7 * channels, parts(shape), Arena(head, tail, 0), shape.parameters(), 0)


def flash(shape: Shape, depths: tuple[int, ...] | None = None) -> int:
    """The length in bytes of the int8 model of a student of `shape`."""
    return account(shape, depths).flash


def parts(shape: Shape, depths: Sequence[int] | None = None) -> int:
    """About what the artifact adds to the model, in bytes: tokenizer, second moment, manifest, the ZIP's headers.

    Before there are texts this is an estimate, on the high side: the tokenizer's pieces are taken for English ones, the
    second moment and the manifest as if they did not deflate.
    """
    if isinstance(shape, CausalShape):
        return _TOKEN * shape.vocabulary + _deflated(_MANIFEST) + 2 * _ENTRY
    features = shape.width * len(depths or (shape.layers,))
    plain = (4 * (features + 1) ** 2, _MANIFEST + 24 * shape.labels)
    return _PIECE * shape.vocabulary + sum(map(_deflated, plain)) + 3 * _ENTRY


def _deflated(size: int) -> int:
    """The most that `size` bytes become when they don't deflate (zlib's compressBound)."""
    return size + (size >> 12) + (size >> 14) + (size >> 25) + 13


def _graphs(shape: Shape, depths: tuple[int, ...] | None) -> dict[str, Graph]:
    weights = _Zeros(shape)
    if isinstance(shape, StudentShape):
        return {"classify": student.lower(shape, weights, depths)}
    # Two signatures of one graph, as in `causal_artifact.graphs`.
    decode = causal_student.lower(shape, weights, 1)
    return {"decode": decode, "prefill": decode}


class _Zeros(Mapping[str, NDArray[np.float32]]):
    """A student's weights by name, all zero and without memory: only their shapes count."""

    def __init__(self, shape: Shape) -> None:
        d, f = shape.width, shape.inner
        places, rows = (
            (shape.tokens, shape.labels) if isinstance(shape, StudentShape) else (shape.context, shape.vocabulary)
        )
        one = {
            **{f"{part}.w": (d, d) for part in "qkvo"}, **{f"{part}.b": (d,) for part in "qkvo"},
            "up.w": (f, d), "up.b": (f,), "down.w": (d, f), "down.b": (d,), "attend.a": (1,), "feed.a": (1,),
        }  # fmt: skip
        self.sizes: dict[str, tuple[int, ...]] = {
            "pieces": (shape.vocabulary, d), "positions": (places, d), "out.a": (1,),
            "logits.w": (rows, d), "logits.b": (rows,),
        }  # fmt: skip
        self.sizes |= {f"{n}.{name}": size for n in range(shape.layers) for name, size in one.items()}

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return np.broadcast_to(np.float32(0), self.sizes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The shape of every activation with batch 1, as `execute.shapes` finds by running the graph."""
    found: dict[str, tuple[int, ...]] = dict(graph.inputs)
    for node in graph.nodes:
        inputs = [found[x] if x in found else graph.constants[x].shape for x in node.inputs]
        found[node.output] = _shape(node, inputs)
    return found


def _shape(node: Node, inputs: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    how, first = node.attributes, inputs[0]
    if node.operator in _SAME:
        return first
    if node.operator in _BROADCAST:
        return tuple(np.broadcast_shapes(*inputs))
    match node.operator:
        case "FULLY_CONNECTED":
            return (*first[:-1], inputs[1][0])
        case "BATCH_MATMUL":
            second = inputs[1]
            rows, columns = first[-1 if how.get("adj_x") else -2], second[-2 if how.get("adj_y") else -1]
            return (*np.broadcast_shapes(first[:-2], second[:-2]), rows, columns)
        case "GATHER":
            return (*inputs[1], *first[1:])
        case "RESHAPE":
            known = math.prod(side for side in how["shape"] if side != -1)
            return tuple(math.prod(first) // known if side == -1 else side for side in how["shape"])
        case "TRANSPOSE":
            return tuple(first[axis] for axis in how["order"])
        case "MEAN" | "REDUCE_MAX":
            return tuple(side for axis, side in enumerate(first) if axis != how["axis"] % len(first))
        case "CONCATENATION":
            axis = how["axis"] % len(first)
            return (*first[:axis], sum(one[axis] for one in inputs), *first[axis + 1 :])
        case "SLICE":
            wanted = zip(first, how["begin"], how["size"], strict=True)
            return tuple(side - begin if size == -1 else size for side, begin, size in wanted)
    raise ValueError(f"no operator {node.operator}")


class _Short:
    """Stands for a constant in `flatbuffer.write`: of its shape and type, with a number of its own for content."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], number: int) -> None:
        self.shape, self.dtype = shape, dtype
        size = math.prod(shape) * dtype.itemsize
        self.cut = max(0, (size - _LEFT) // _GRAIN * _GRAIN)
        content = number.to_bytes(4, "big") if size >= 4 else b""
        self.content = np.frombuffer(content.ljust(size - self.cut, b"\x7f"), np.uint8)

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray[np.uint8]:
        return self.content


class _Dry:
    """What `quantise.calibrate` and `Plan.complete` plan in int8, without values: types, grids, constants."""

    def __init__(self) -> None:
        self.types: dict[str, np.dtype[Any]] = {}
        self.grids: dict[str, Grid] = {}
        self.constants: dict[str, Any] = {}

    @property
    def cut(self) -> int:
        """What the constants lack, in bytes."""
        return sum(one.cut for one in self.constants.values() if isinstance(one, _Short))

    def section(self, name: str, graph: Graph) -> Section:
        """The section of `graph`; the next one shares what has the same name."""
        for tensor in graph.inputs:
            self.types[tensor] = _INT8 if tensor in graph.cached else _INT32
            if tensor in graph.cached:
                self.grid(tensor)
        for node in graph.nodes:
            self.node(graph, node)
        return Section(name, graph, shapes(graph), self.types, self.grids, self.constants)

    def node(self, graph: Graph, node: Node) -> None:
        first = node.inputs[0]
        whole = graph.constants[first].dtype == np.int32 if first in graph.constants else self.types[first] == _INT32
        self.types[node.output] = _INT32 if whole else _INT8
        if not whole:
            self.grid(node.output)
        for place, name in enumerate(node.inputs):
            if name not in graph.constants or name in self.constants:
                continue
            value = graph.constants[name]
            if value.dtype == np.int32:
                self.constants[name] = value
                continue
            dense = node.operator == "FULLY_CONNECTED"
            self.grid(name, len(value) if dense else 1)
            # Big-endian, and the first byte not 0: no small int32 argument has these bytes.
            number = 0x10000000 + len(self.constants)
            self.constants[name] = _Short(value.shape, _INT32 if dense and place == 2 else _INT8, number)

    def grid(self, name: str, channels: int = 1) -> None:
        self.grids[name] = Grid(np.ones(channels, np.float32), 0, _INT8)
