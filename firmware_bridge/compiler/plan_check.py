"""Proof that a memory plan is sound: the program is run symbolically, every byte of memory tagged with what it holds.

Nothing here is shared with the planner. Each byte of the arena, and of each output, carries the buffer and the place in
it that it last got a value for; a step may only read bytes that still hold what it means to read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.kernel_access import Access, Span, access
from tasuki.firmware_bridge.compiler.program import ALIGNMENT, Buffer, Loop, Operand, Plan, Program, Step

# A tag is the buffer's number times this, plus the byte's place in it.
_SPAN: Final = 1 << 40
_NOTHING: Final = -1
# The arena's number among the memories; the outputs have their buffers'.
_ARENA: Final = -1


def check(program: Program, plan: Plan) -> None:
    """Every read gets what was last written for it, every access stays inside its buffer, and nothing else is harmed.

    Raises ValueError with the step, the buffer and the byte: for a read of bytes that nobody has written or that
    something else has overwritten, an access outside its buffer or to memory that can't be written, operands that share
    bytes where the kernel does not allow it, too little scratch, wrong alignment, and outputs that are not written.
    """
    state = _State(program, plan)
    for place, part in enumerate(program.body):
        loop = part if isinstance(part, Loop) else Loop(1, 1, (part,))
        if loop.rows < 1 or loop.tile < 1:
            raise ValueError(f"loop {place} has {loop.rows} rows in tiles of {loop.tile}")
        first = state.first_turn = state.turn + 1
        for done in range(0, loop.rows, loop.tile):
            state.turn = first + done // loop.tile
            for inner, step in enumerate(loop.steps):
                where = f"step {place}.{inner} (tsk_{step.kernel}) at row {done}"
                state.call(step, where, done, min(loop.tile, loop.rows - done), loop.tile)
    state.finish()


class _State:
    """What every byte holds (`tags`), and in which turn of a loop it was written (`turns`), by memory."""

    def __init__(self, program: Program, plan: Plan) -> None:
        self.plan = plan
        self.buffers = {buffer.number: buffer for buffer in program.buffers}
        # Turns of all loops are numbered from 1; a step outside of loops is a loop of one turn.
        self.turn, self.first_turn = 0, 0
        if len(self.buffers) != len(program.buffers):
            raise ValueError("two buffers have the same number")
        sizes = {_ARENA: plan.arena}
        sizes.update({number: buffer.bytes for number, buffer in self.buffers.items() if buffer.place == "output"})
        self.tags = {memory: np.full(size, _NOTHING, np.int64) for memory, size in sizes.items()}
        self.turns = {memory: np.zeros(size, np.int64) for memory, size in sizes.items()}
        for buffer in program.buffers:
            self._placed(buffer)

    def _placed(self, buffer: Buffer) -> None:
        if buffer.place in ("model", "table") and (buffer.data is None or buffer.data.nbytes != buffer.bytes):
            raise ValueError(f"buffer {buffer.number} is a constant of {buffer.bytes} bytes, and has other data")
        if buffer.place != "arena":
            return
        offset = self.plan.offsets.get(buffer.number)
        if offset is None:
            raise ValueError(f"buffer {buffer.number} has no place in the arena")
        if offset % ALIGNMENT:
            raise ValueError(f"buffer {buffer.number} begins at byte {offset}, which {ALIGNMENT} does not divide")
        if not 0 <= offset <= self.plan.arena - buffer.bytes:
            raise ValueError(f"buffer {buffer.number} at byte {offset} is not inside an arena of {self.plan.arena}")

    def call(self, step: Step, where: str, done: int, turn_rows: int, tile: int) -> None:
        """Run one step: what it reads must be there, and then what it writes is."""
        rows = None if step.rows is None else step.rows * turn_rows // tile
        if step.rows is not None and step.rows % tile:
            raise ValueError(f"{where}: {step.rows} rows are not a multiple of the tile's {tile}")
        touched = access(step.kernel, step.params, rows)
        self._constants(step, touched, where)
        if (len(step.reads), len(step.writes)) != (len(touched.reads), len(touched.writes)):
            raise ValueError(f"{where}: the kernel has {len(touched.reads)} reads and {len(touched.writes)} writes")
        reads = [self._touch(o, s, done, where) for o, s in zip(step.reads, touched.reads, strict=True)]
        writes = [self._touch(o, s, done, where) for o, s in zip(step.writes, touched.writes, strict=True)]
        for one in (*reads, *(writes[place] for place in touched.kept)):
            self._read(one, where)
        _apart(step, touched, reads, writes, where)
        self._scratch(step, touched, [*reads, *writes], where)
        for one in writes:
            self._write(one, where)

    def finish(self) -> None:
        """Every byte of every output has been written."""
        for number, tags in self.tags.items():
            if number != _ARENA and (tags == _NOTHING).any():
                raise ValueError(f"output {number}: nobody writes byte {int(np.argmax(tags == _NOTHING))}")

    def _constants(self, step: Step, touched: Access, where: str) -> None:
        for field, value in step.params.items():
            if not isinstance(value, Operand):
                continue
            buffer = self._buffer(value, where)
            if buffer.place not in ("model", "table") or value.row:
                raise ValueError(f"{where}: {field} is buffer {buffer.number}, which is no constant")
            need = touched.constants[field]
            if not 0 <= value.offset <= buffer.bytes - need:
                raise ValueError(
                    f"{where}: {field} takes {need} bytes from byte {value.offset} of buffer {buffer.number}, "
                    f"which has {buffer.bytes}"
                )

    def _buffer(self, operand: Operand, where: str) -> Buffer:
        if operand.buffer not in self.buffers:
            raise ValueError(f"{where}: there is no buffer {operand.buffer}")
        return self.buffers[operand.buffer]

    def _touch(self, operand: Operand, span: Span, done: int, where: str) -> "_Touch":
        """The bytes that one pointer reaches, all of them inside its buffer."""
        buffer = self._buffer(operand, where)
        start = operand.offset + operand.row * done
        if start % span.size or (buffer.place != "arena" and buffer.type.itemsize % span.size):
            raise ValueError(f"{where}: byte {start} of buffer {buffer.number} is not aligned to {span.size}")
        inside = span.bytes() + start
        out = (inside < 0) | (inside >= buffer.bytes)
        if out.any():
            byte = int(inside[np.argmax(out)])
            raise ValueError(f"{where}: byte {byte} is outside buffer {buffer.number}, which has {buffer.bytes}")
        if buffer.place == "arena":
            return _Touch(buffer, operand.row, inside, _ARENA, inside + self.plan.offsets[buffer.number])
        return _Touch(buffer, operand.row, inside, buffer.number, inside)

    def _read(self, one: "_Touch", where: str) -> None:
        if one.memory not in self.tags:
            return
        what = f"of buffer {one.buffer.number} ({one.buffer.name})"
        found = self.tags[one.memory][one.at]
        wrong = found != one.buffer.number * _SPAN + one.inside
        if wrong.any():
            byte, tag = int(one.inside[np.argmax(wrong)]), int(found[np.argmax(wrong)])
            why = "nobody has written it" if tag == _NOTHING else f"buffer {tag // _SPAN} has overwritten it"
            raise ValueError(f"{where} reads byte {byte} {what}: {why}")
        if one.row:
            return
        # What is the same in every turn must come from before the loop, or from this very turn.
        written = self.turns[one.memory][one.at]
        stale = (written >= self.first_turn) & (written != self.turn)
        if stale.any():
            raise ValueError(f"{where} reads byte {int(one.inside[np.argmax(stale)])} {what}: of another turn")

    def _write(self, one: "_Touch", where: str) -> None:
        if one.memory not in self.tags:
            buffer = one.buffer
            raise ValueError(f"{where} writes into buffer {buffer.number} ({buffer.name}), which is {buffer.place}")
        self.tags[one.memory][one.at] = one.buffer.number * _SPAN + one.inside
        self.turns[one.memory][one.at] = self.turn

    def _scratch(self, step: Step, touched: Access, used: Sequence["_Touch"], where: str) -> None:
        """The scratch is large enough, aligned, apart from every operand, and spoils what was there."""
        if step.scratch < touched.scratch:
            raise ValueError(f"{where}: scratch of {step.scratch} bytes, and the kernel takes {touched.scratch}")
        if not step.scratch:
            return
        begin, end = self.plan.scratch, self.plan.scratch + step.scratch
        if begin % ALIGNMENT or not 0 <= begin <= end <= self.plan.arena:
            raise ValueError(f"{where}: scratch at bytes {begin} to {end} of an arena of {self.plan.arena}")
        for one in used:
            if one.memory == _ARENA and ((one.at >= begin) & (one.at < end)).any():
                raise ValueError(f"{where}: scratch and buffer {one.buffer.number} share bytes")
        self.tags[_ARENA][begin:end] = _NOTHING


@dataclass(frozen=True, eq=False)
class _Touch:
    """What one pointer of a call reaches: places in its buffer (`inside`) and in `memory` (`at`), byte by byte."""

    buffer: Buffer
    row: int
    inside: NDArray[np.int64]
    memory: int
    at: NDArray[np.int64]

    def shared(self, other: "_Touch") -> NDArray[np.int64]:
        """The places in memory that both reach."""
        return np.intersect1d(self.at, other.at) if self.memory == other.memory else np.zeros(0, np.int64)


def _apart(step: Step, touched: Access, reads: Sequence[_Touch], writes: Sequence[_Touch], where: str) -> None:
    """What is written shares no byte with what is read, unless both are the same elements in place."""
    for pair in step.overlap:
        if pair not in touched.in_place:
            raise ValueError(f"{where}: the kernel does not work in place for read {pair[0]} and write {pair[1]}")
    for j, write in enumerate(writes):
        for i, read in enumerate(reads):
            shared = read.shared(write)
            if shared.size and not ((i, j) in step.overlap and np.array_equal(read.at, write.at)):
                raise ValueError(f"{where}: read {i} and write {j} share byte {int(shared[0])}")
        if any(write.shared(other).size for other in writes[:j]):
            raise ValueError(f"{where}: two writes share bytes")
        if len(np.unique(write.at)) != len(write.at):
            raise ValueError(f"{where}: write {j} writes a byte twice")
