"""Whether an image lies where its board has flash and memory, and the core finds its vectors.

What a linker script of one's own gets wrong shows in no error of the linker, but in a chip that does not start.
"""

import struct
from typing import Final

from tasuki.firmware_bridge.target.boards import Board
from tasuki.firmware_bridge.target.elf import Elf
from tasuki.sdk.errors import BuildFailed, ModelTooLarge

START: Final = "tsk_start"
# The sixteen vectors of `ports/common/start.c`.
_VECTORS: Final = 64
CURE: Final = "INCLUDE sections.ld, as ports/mps2-an386/link.ld does, has it right"


def check(found: Elf, board: Board) -> None:
    """Start-up, every part and the first two vectors of an image for a board with flash.

    Raises:
        BuildFailed: It can't start; the message names what is missing or misplaced, and where.
    """
    script = board.port / "link.ld"
    if START not in found.functions:
        raise BuildFailed(f"{script}: the image has no {START}, so nothing would run; {CURE}")
    flash = range(board.flash_at, board.flash_at + board.flash)
    ram = range(board.ram_at, board.ram_at + board.ram)
    stored = (flash, range(board.vectors, board.vectors + _VECTORS))
    for section in found.sections:
        _within(section.run_at, section.size, (*stored, ram), f"{script}: {section.name}", board)
        if section.stored:
            _within(section.load_at, section.size, stored, f"{script}: the stored {section.name}", board)
    for segment in found.segments:
        _within(segment.load_at, len(segment.content), stored, f"{script}: a segment", board)
    stack, reset = _vectors(found, board)
    if not ram.start < stack <= ram.stop:
        raise BuildFailed(f"{script}: the stack begins at {stack:#010x}, outside of {_said(board)}")
    if reset % 2 == 0 or reset not in flash:
        raise BuildFailed(f"{script}: the reset vector is {reset:#010x}: no Thumb function in {_said(board)}")


def check_stack(found: Elf, board: Board, deepest: int) -> None:
    """That a stack of `deepest` bytes runs into nothing.

    Raises:
        ModelTooLarge: It does; the message says by how much.
    """
    top, _ = _vectors(found, board)
    below = [section for section in found.sections if section.run_at < top]
    limit = max((section.run_at + section.size for section in below if section.run_at >= board.ram_at),
                default=board.ram_at)  # fmt: skip
    over = limit + deepest - top
    if over > 0:
        raise ModelTooLarge(f"{over} bytes more memory than {board.name} has, {deepest} of stack included")


def _within(at: int, size: int, allowed: tuple[range, ...], what: str, board: Board) -> None:
    if not any(one.start <= at and at + size <= one.stop for one in allowed):
        raise BuildFailed(f"{what}, {size} bytes at {at:#010x}, is outside of {_said(board)}: the two must agree")


def _said(board: Board) -> str:
    """The memory map, with its source."""
    where = board.folder / "board.ini" if board.folder else board.name
    return (
        f"what {where} says: flash {board.flash_at:#010x} to {board.flash_at + board.flash:#010x}, "
        f"memory {board.ram_at:#010x} to {board.ram_at + board.ram:#010x}"
    )


def _vectors(found: Elf, board: Board) -> tuple[int, int]:
    """What the core begins with: the stack's top and the address of the first instruction."""
    for segment in found.segments:
        at = board.vectors - segment.load_at
        if 0 <= at <= len(segment.content) - 8:
            return struct.unpack_from("<II", segment.content, at)
    raise BuildFailed(f"{board.port / 'link.ld'}: no vectors at {board.vectors:#010x}, where the core looks; {CURE}")
