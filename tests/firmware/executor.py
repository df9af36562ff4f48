"""Runs a lowered program as its plan says, in one array of bytes, with the plain C kernels: what overlaps, shows.

The arena starts as 0xA5, and what a step takes as scratch is spoilt when it runs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from firmware import kernel_kit
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.lower import lower
from tasuki.firmware_bridge.compiler.plan import plan
from tasuki.firmware_bridge.compiler.program import Loop, Operand, Plan, Program, Step
from tasuki.firmware_bridge.compiler.reader import read

Bytes = NDArray[np.uint8]


def execute(program: Program, where: Plan, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The program's outputs, in the order of its ports."""
    memory = _Memory(program, where)
    for port, data in zip(program.inputs, inputs, strict=True):
        assert (data.shape, data.dtype) == (port.shape, port.type)
        memory.own[port.buffer][:] = np.frombuffer(data.tobytes(), np.uint8)
    for part in program.body:
        if isinstance(part, Step):
            memory.call(part, 0, part.rows, program.rounding)
            continue
        for done in range(0, part.rows, part.tile):
            turn = min(part.tile, part.rows - done)
            for step in part.steps:
                rows = None if step.rows is None else step.rows // part.tile * turn
                memory.call(step, done, rows, program.rounding)
    return [np.frombuffer(memory.own[p.buffer].tobytes(), p.type).reshape(p.shape) for p in program.outputs]


def outputs(data: bytes, inputs: Sequence[NDArray[Any]], rounding: Any = "tflm") -> list[NDArray[Any]]:
    """Those of the first subgraph of a flatbuffer."""
    program = lower(read(data, "test")[0], "test", rounding)
    return execute(program, plan(program), inputs)


def kernels(program: Program) -> list[str]:
    """The kernels in order, a loop's in brackets."""
    found = []
    for part in program.body:
        found += ["[", *(step.kernel for step in part.steps), "]"] if isinstance(part, Loop) else [part.kernel]
    return found


class _Memory:
    def __init__(self, program: Program, where: Plan) -> None:
        self.where = where
        self.arena: Bytes = np.full(where.arena, 0xA5, np.uint8)
        self.buffers = program.buffers
        self.own: dict[int, Bytes] = {}
        for buffer in program.buffers:
            if buffer.data is not None:
                self.own[buffer.number] = np.frombuffer(buffer.data.tobytes(), np.uint8)
            elif buffer.place != "arena":
                self.own[buffer.number] = np.full(buffer.bytes, 0xA5, np.uint8)

    def call(self, step: Step, done: int, rows: int | None, rounding: str) -> None:
        self.arena[self.where.scratch : self.where.scratch + step.scratch] = 0x5A
        reads = [self._at(operand, done) for operand in step.reads]
        writes = [self._at(operand, done) for operand in step.writes]
        params = {name: self._field(value) for name, value in step.params.items()}
        status = kernel_kit.call(step.kernel, params, reads, writes, rows, step.scratch, rounding)
        assert not status, (step.kernel, status)

    def _at(self, operand: Operand, done: int) -> kernel_kit.At:
        offset = operand.offset + operand.row * done
        if operand.buffer in self.own:
            return kernel_kit.At(self.own[operand.buffer], offset)
        return kernel_kit.At(self.arena, self.where.offsets[operand.buffer] + offset)

    def _field(self, value: Any) -> Any:
        return self.own[value.buffer] if isinstance(value, Operand) else value
