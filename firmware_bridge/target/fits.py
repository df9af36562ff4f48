"""Whether a model fits a board, before anything is compiled."""

from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.target.boards import Board
from tasuki.sdk.errors import ModelTooLarge


def check(generated: Generated, board: Board) -> None:
    """Constants against the board's flash, arena and ports against its memory. The linker checks code and stack.

    Raises:
        ModelTooLarge: By how many bytes, and what takes most.
    """
    if board.is_host:
        return
    flash = generated.model_bytes + generated.table_bytes
    if flash > board.flash:
        name, size = generated.largest[0]
        raise ModelTooLarge(
            f"the model takes {flash - board.flash:,} bytes more flash than the {board.flash:,} of {board.name}: "
            f"{name} alone is {size:,} bytes; narrow it, or cut the vocabulary"
        )
    worst = max(generated.programs, key=lambda program: sum(b.bytes for b in program.buffers if b.place != "model"))
    ram = generated.arena_bytes + sum(b.bytes for b in worst.buffers if b.place in ("input", "output"))
    if ram > board.ram:
        buffer = max((b for b in worst.buffers if b.data is None), key=lambda buffer: buffer.bytes)
        raise ModelTooLarge(
            f"the model takes {ram - board.ram:,} bytes more memory than the {board.ram:,} of {board.name}: "
            f"{buffer.name} alone is {buffer.bytes:,} bytes; shorten the sequence, or narrow it"
        )
