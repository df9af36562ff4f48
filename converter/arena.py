"""The working memory that TensorFlow Lite Micro needs for a model: planned from the flatbuffer, or measured.

The plan goes through the steps of TFLM's interpreter (micro_allocator.cc, micro_allocation_info.cc,
greedy_memory_planner.cc and the kernels' Init and Prepare): activations and scratch buffers share the arena's head by
their lifetimes, structures and what kernels keep grow from its end, and while it plans it needs room besides.

The figures are those of the host's interpreter, the package `tflite_micro`: pointers have 8 bytes and it records its
allocations. With the same reference kernels on a 32-bit chip the head is the same and the tail smaller, so what fits
here fits there; kernels that are optimised for a chip may ask for scratch buffers of their own.
"""

import bisect
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from ai_edge_litert import schema_py_generated as schema

from tasuki.sdk.errors import ConversionError, MissingExtra

_ALIGNED: Final = 16
_POINTER: Final = 8
# sizeof of the structures, in order of their allocation.
_ALLOCATOR, _PLANNER, _RECORDER, _OPTIONS_ALLOCATOR = 104, 72, 272, 16
_SUBGRAPH, _EVAL_TENSOR, _NODE = 24, 24, 64
_TENSOR, _QUANTIZATION = 64, 24
_REQUEST, _INFO, _PLANNED = 16, 32, 40
# A kernel may ask for so many scratch buffers, and the head has room for them at any time.
_MOST_REQUESTS: Final = 12
# Builtin options as TFLM keeps them: size and alignment.
_OPTIONS: Final = {
    "ADD": (8, 4), "BATCH_MATMUL": (3, 1), "CONCATENATION": (8, 4), "FULLY_CONNECTED": (32, 8), "GATHER": (8, 4),
    "MEAN": (1, 1), "MUL": (4, 4), "REDUCE_MAX": (1, 1), "RESHAPE": (36, 4), "SOFTMAX": (4, 4), "SUB": (8, 4),
}  # fmt: skip
# What a kernel keeps from Init on.
_KEPT: Final = {
    "ADD": 60, "BATCH_MATMUL": 32, "CONCATENATION": 80, "FULLY_CONNECTED": 72, "LOGISTIC": 16, "MEAN": 44, "MUL": 36,
    "QUANTIZE": 32, "REDUCE_MAX": 44, "RELU": 28, "RSQRT": 28, "SOFTMAX": 80, "SUB": 52, "TANH": 16,
}  # fmt: skip
_BARE: Final = frozenset({"GATHER", "MINIMUM", "RESHAPE", "SLICE", "TRANSPOSE"})
# Entries of the tables that an int16 softmax keeps two of.
_TABLE: Final = 513
_NAMES: Final = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_BYTES: Final = {
    schema.TensorType.FLOAT32: 4, schema.TensorType.INT8: 1, schema.TensorType.INT16: 2, schema.TensorType.INT32: 4,
    schema.TensorType.INT64: 8,
}  # fmt: skip
# Each size is tried in a process of its own: a kernel may crash where the arena ends.
_TRY: Final = """
import os, sys
from tflite_micro import runtime
model = sys.stdin.buffer.read()
for size in map(int, sys.argv[1:]):
    child = os.fork()
    if not child:
        try:
            runtime.Interpreter.from_bytes(model, arena_size=size).print_allocations()
        except BaseException:
            os._exit(1)
        os._exit(0)
    print(int(os.waitpid(child, 0)[1] == 0))
"""
_ROOMY: Final = 1 << 30
# Sizes that are tried at once.
_TRIED: Final = 64


@dataclass(frozen=True)
class Arena:
    """Bytes of the arena: `head` for activations, `tail` for what stays, `planning` for the interpreter's start."""

    head: int
    tail: int
    planning: int

    @property
    def used(self) -> int:
        """What a running model takes; TFLM's own report says the same."""
        return self.head + self.tail

    @property
    def bytes(self) -> int:
        """The smallest arena, aligned to 16 bytes, in which the model starts and runs."""
        return _up(max(self.used, self.planning))


def planned_arena(model: bytes) -> Arena:
    """What TensorFlow Lite Micro will need, exactly, without running it.

    One step of the start is counted on the safe side: TFLM lets what a dense layer keeps overlap what it only looks at,
    by up to 32 bytes; that matters to models of a few hundred bytes alone. Constants may be cut short: only that they
    are there counts. Raises ConversionError if an operator or type is not one that this plan knows.
    """
    return _Plan(schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))).arena()


def reported_arena(model: bytes) -> int:
    """What the installed interpreter reports that it uses once `model` runs, in bytes: head and tail.

    Raises MissingExtra where there is no `tflite_micro`, ConversionError if it can't run the model.
    """
    if find_spec("tflite_micro") is None:
        raise MissingExtra("measuring needs tflite_micro: pip install 'tasuki[converter]' on x86-64 Linux")
    started, words = _start(model, [_ROOMY])
    found = re.search(r"allocation total ([0-9]+) bytes", words)
    if not any(started) or found is None:
        first = next(iter(words.strip().splitlines()), "it crashed").strip()
        raise ConversionError(f"TensorFlow Lite Micro can't run this model: {first}")
    return int(found[1])


def measured_arena(model: bytes) -> int:
    """The smallest arena in bytes, a multiple of 16, in which the installed interpreter starts with `model`.

    It is what it reports, or more where starting takes more than running. Raises MissingExtra, ConversionError.
    """
    low = _up(reported_arena(model))
    while True:
        sizes = range(low, low + _TRIED * _ALIGNED, _ALIGNED)
        for size, fits in zip(sizes, _start(model, sizes)[0], strict=True):
            if fits:
                return size
        low = sizes.stop


def _start(model: bytes, sizes: Sequence[int]) -> tuple[list[bool], str]:
    """Whether the interpreter starts in an arena of each of `sizes`, and what it prints meanwhile."""
    command = [sys.executable, "-c", _TRY, *map(str, sizes)]
    done = subprocess.run(command, input=model, capture_output=True, check=False)
    return [line == b"1" for line in done.stdout.splitlines()], done.stderr.decode(errors="replace")


def _up(size: int, alignment: int = _ALIGNED) -> int:
    return -(-size // alignment) * alignment


@dataclass(frozen=True)
class Need:
    """A buffer of the head: its size, and the first and the last operator that it is alive at."""

    size: int
    first: int
    last: int


def greedy(needs: Sequence[Need]) -> int:
    """The height of TFLM's greedy plan: the largest first, each into the lowest gap among those alive with it."""
    # TFLM fills its list from the end and sorts stably: of two of the same size the later comes first.
    order = sorted(range(len(needs)), key=lambda number: (-needs[number].size, -number))
    placed: list[tuple[int, Need]] = []
    height = 0
    for number in order:
        need, place = needs[number], 0
        for offset, other in placed:
            if other.first > need.last or need.first > other.last:
                continue
            if offset - place >= need.size:
                break
            place = max(place, offset + other.size)
        bisect.insort_right(placed, (place, need), key=lambda entry: entry[0])
        height = max(height, place + need.size)
    return height


class _Plan:
    def __init__(self, model: Any) -> None:
        self.model = model
        self.tail = 0
        self.planning = 0
        # Scratch buffers: size, subgraph, operator.
        self.scratch: list[tuple[int, int, int]] = []

    def arena(self) -> Arena:
        graphs = self.model.subgraphs
        for size in (_ALLOCATOR, _PLANNER, _RECORDER, _OPTIONS_ALLOCATOR, _SUBGRAPH * len(graphs)):
            self.keep(size)
        for graph in graphs:
            self.keep(_EVAL_TENSOR * len(graph.tensors))
        for graph in graphs:
            self.keep(_NODE * len(graph.operators))
        for _, _, name, _ in self.operators():
            if name in _OPTIONS:
                self.keep(*_OPTIONS[name])
        for _, _, name, _ in self.operators():
            if name in _KEPT:
                self.keep(_KEPT[name], _ALIGNED)
        for index, number, name, operator in self.operators():
            self.prepare(index, number, name, operator)
        self.keep(_POINTER * len(self.scratch))
        head = self.head()
        first = graphs[0]
        for ends in (first.inputs, first.outputs):
            self.keep(_POINTER * len(ends), _ALIGNED)
            for tensor in ends:
                self.keep(_TENSOR)
                channels = _channels(first.tensors[tensor])
                if channels:
                    self.keep(_QUANTIZATION)
                    self.keep(4 + 4 * channels, 4)
        return Arena(head, self.tail, self.planning)

    def keep(self, size: int, alignment: int = _POINTER) -> None:
        self.tail = _up(self.tail + size, alignment)

    def operators(self) -> Iterator[tuple[int, int, str, Any]]:
        for index, graph in enumerate(self.model.subgraphs):
            for number, operator in enumerate(graph.operators):
                code = self.model.operatorCodes[operator.opcodeIndex]
                name = _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
                if name not in _KEPT and name not in _BARE:
                    raise ConversionError(f"the working memory of {name} is not known")
                yield index, number, name, operator

    def prepare(self, index: int, number: int, name: str, operator: Any) -> None:
        """What a kernel's Prepare takes: for good, as scratch, or as long as it lasts."""
        tensors = self.model.subgraphs[index].tensors
        inputs = [tensors[place] for place in operator.inputs if place >= 0]
        output = tensors[operator.outputs[0]]
        begun = _REQUEST * (len(self.scratch) + _MOST_REQUESTS)
        if name == "FULLY_CONNECTED":
            channels = _channels(inputs[1])
            if channels > 1:
                self.keep(4 * channels, _ALIGNED)
                self.keep(4 * channels, _ALIGNED)
        elif name == "BATCH_MATMUL":
            self.keep(28, _ALIGNED)
            options = operator.builtinOptions
            for operand, turned in ((inputs[0], options.adjX), (inputs[1], not options.adjY)):
                if turned:
                    for size in (_EVAL_TENSOR, 4 + 4 * len(operand.shape), _size(operand)):
                        self.keep(size, _ALIGNED)
            self.keep(4 + 4 * len(output.shape), _ALIGNED)
        elif name == "GATHER":
            self.keep(4 + 4 * len(output.shape), _ALIGNED)
        elif name == "SOFTMAX" and inputs[0].type == schema.TensorType.INT16:
            self.keep(2 * _TABLE, _ALIGNED)
            self.keep(2 * _TABLE, _ALIGNED)
        elif name in ("MEAN", "REDUCE_MAX"):
            sums = [4 * _elements(output)] if name == "MEAN" else []
            for size in (*sums, 4 * len(inputs[0].shape), 4 * math.prod(inputs[1].shape)):
                self.scratch.append((size, index, number))
        for tensor in _looked_at(name, inputs, output):
            begun = _looking(begun, tensor)
        self.planning = max(self.planning, self.tail + begun)

    def head(self) -> int:
        """The plan's height; the interpreter plans all subgraphs at once and knows lifetimes for the first alone."""
        needs, count = [], 0
        for index, graph in enumerate(self.model.subgraphs):
            first, last = _lifetimes(graph) if not index else ({}, {})
            count += len(graph.tensors)
            for place, tensor in enumerate(graph.tensors):
                data = self.model.buffers[tensor.buffer].data
                if data is None or not len(data):
                    needs.append(Need(_up(_size(tensor)), first.get(place, -1), last.get(place, -1)))
        for size, index, number in self.scratch:
            at = number + 1 if not index else -1
            needs.append(Need(_up(size if not index else 0), at, at))
        requests = _REQUEST * (len(self.scratch) + _MOST_REQUESTS)
        lists = _up(requests, _POINTER) + _POINTER * len(self.model.subgraphs) + _INFO * (count + len(self.scratch))
        self.planning = max(self.planning, _up(self.tail) + _up(lists) + _PLANNED * len(needs))
        return greedy(needs)


def _lifetimes(graph: Any) -> tuple[dict[int, int], dict[int, int]]:
    """The first and the last operator, from 1, that each tensor is alive at; inputs from 0, outputs to the end."""
    first, last = dict.fromkeys(graph.inputs, 0), dict.fromkeys(graph.inputs, 0)
    for number, operator in enumerate(graph.operators, start=1):
        for place in operator.outputs:
            first.setdefault(place, number)
        last |= dict.fromkeys((*operator.inputs, *operator.outputs), number)
    last |= dict.fromkeys(graph.outputs, len(graph.operators))
    return first, last


def _looked_at(name: str, inputs: list[Any], output: Any) -> list[Any]:
    """The tensors that a kernel's Prepare asks for; it gives none back before it ends, though it asks twice."""
    match name:
        case "MINIMUM":
            return []
        case "RESHAPE":
            return [inputs[0], output]
        case "TANH":
            return [inputs[0], *inputs, output]
        case "CONCATENATION":
            return [inputs[0], output, *inputs]
        case "MEAN" | "REDUCE_MAX":
            return [*inputs, output] * 2
    return [*inputs, output]


def _looking(used: int, tensor: Any) -> int:
    """What is used of the head when a kernel has asked for `tensor`, after `used` bytes."""
    used = _up(used, _POINTER) + _TENSOR
    channels = _channels(tensor)
    return used + _QUANTIZATION + 4 + 4 * channels if channels else used


def _channels(tensor: Any) -> int:
    found = tensor.quantization
    return 0 if found is None or found.scale is None else len(found.scale)


def _elements(tensor: Any) -> int:
    return math.prod(int(side) for side in tensor.shape)


def _size(tensor: Any) -> int:
    if tensor.type not in _BYTES:
        raise ConversionError(f"{tensor.name!r}: the size of type {tensor.type} is not known")
    return _elements(tensor) * _BYTES[tensor.type]
