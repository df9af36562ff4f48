"""What a build takes, as figures and as a table beside what the board has."""

from collections.abc import Mapping

from tasuki.firmware_bridge.boards import Board
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.image import Image

# In the order of the table, with what each is.
_MEMORY = {"arena_bytes": "activations of the model", "static_bytes": ".data and .bss, the arena within",
           "stack_bytes": "at most: call graph, allowance for libc", "ram_bytes": "static and stack"}  # fmt: skip
_FLASH = {"code_bytes": "start-up and C library within", "table_bytes": "made by the compiler",
          "model_bytes": "weights, biases, requantisation", "flash_bytes": "all of it"}  # fmt: skip


def figures(generated: Generated, made: Image | None) -> dict[str, int]:
    """Bytes of a model's C and, of an image that is not the host's, of code and stack."""
    found = {
        "arena_bytes": generated.arena_bytes, "model_bytes": generated.model_bytes,
        "table_bytes": generated.table_bytes, "tflite_bytes": generated.tflite_bytes,
    }  # fmt: skip
    if made is None or made.sizes is None or made.stack is None:
        return found
    return found | {
        "static_bytes": made.sizes.static, "stack_bytes": made.stack, "ram_bytes": made.sizes.static + made.stack,
        "code_bytes": made.sizes.code + made.sizes.data, "table_bytes": made.sizes.tables,
        "model_bytes": made.sizes.model, "flash_bytes": made.sizes.flash,
    }  # fmt: skip


def table(found: Mapping[str, int], board: Board) -> list[str]:
    """The figures for people."""
    lines = []
    for rows, total, limit, where in ((_MEMORY, "ram_bytes", board.ram, "memory"),
                                      (_FLASH, "flash_bytes", board.flash, "flash")):  # fmt: skip
        for name, words in rows.items():
            if name in found:
                lines.append(f"{name.removesuffix('_bytes').replace('_', ' '):<8} {found[name]:>10,} bytes  {words}")
        if total in found and limit:
            share = found[total] / limit
            lines.append(f"{'':<8} {limit:>10,} bytes  of {where} on {board.name}: {share:.1%} are taken")
    return lines
