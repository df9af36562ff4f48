"""From segments to the program's steps and loops, over buffers instead of storages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasuki.firmware_bridge.compiler.lower_calls import Call, finish, finish_tile
from tasuki.firmware_bridge.compiler.lower_memory import Storage
from tasuki.firmware_bridge.compiler.program import Buffer, Loop, Operand, Step
from tasuki.firmware_bridge.compiler.regions_segments import Segment


@dataclass
class Steps:
    """The body so far. Buffers are numbered as they are met, so that what was not used is not there."""

    storages: Sequence[Storage]
    body: list[Step | Loop] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    shared: list[tuple[int, int]] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)

    def buffer(self, storage: int, size: int | None = None) -> int:
        """The buffer of a storage, of `size` bytes if only a tile of it ever exists."""
        if storage not in self._numbers:
            self._numbers[storage] = len(self.buffers)
            s = self.storages[storage]
            self.buffers.append(
                Buffer(len(self.buffers), s.name, s.place, s.type, s.bytes if size is None else size, s.data)
            )
        return self._numbers[storage]

    def add(self, segment: Segment) -> None:
        """Append the segment's loop or step."""
        if segment.alone is not None:
            self.body.append(self._step(segment.alone, finish(segment.alone), (0,) * len(segment.alone.accesses)))
        else:
            for storage, size in segment.private.items():
                self.buffer(storage, size)
            steps = tuple(
                self._step(
                    member.inside.call, finish_tile(member.inside, segment.tile),
                    [
                        0 if access.storage in segment.private else stride
                        for access, stride in zip(member.inside.call.accesses, member.inside.strides, strict=True)
                    ],
                )
                for member in segment.members
            )  # fmt: skip
            self.body.append(Loop(segment.rows, segment.tile, steps))
        self.shared += [(self.buffer(old), self.buffer(new)) for old, new in segment.shared]

    def _step(self, call: Call, made: tuple[dict[str, Any], int | None] | None, rows: Sequence[int]) -> Step:
        if made is None:
            raise ValueError(f"tsk_{call.kernel} can't repeat over {call.outer}")
        params, count = made
        operands = [
            Operand(self.buffer(access.storage), access.offset, row)
            for access, row in zip(call.accesses, rows, strict=True)
        ]
        split = len(call.reads)
        return Step(
            call.kernel, self._pointers(params), tuple(operands[:split]), tuple(operands[split:]), count, call.scratch,
            call.overlap, tuple(sorted(set(call.source))),
        )  # fmt: skip

    def _pointers(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: replace(value, buffer=self.buffer(value.buffer)) if isinstance(value, Operand) else value
            for name, value in params.items()
        }
