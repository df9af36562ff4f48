"""What a build takes, as figures and as a table beside what the board has."""

from collections.abc import Mapping
from typing import Final

from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.target.boards import Board
from tasuki.firmware_bridge.target.image import Image

# In the order of the table: figure, its name there, and what it is.
_MEMORY: Final = (
    ("arena_bytes", "arena", "activations of the model"),
    ("static_bytes", "static", ".data and .bss, the arena within"),
    ("stack_bytes", "stack", "at most: call graph, allowance for libc"),
    ("ram_bytes", "ram", "static and stack"),
)
_FLASH: Final = (
    ("code_without_tables_bytes", "code", "start-up and C library within"),
    ("table_bytes", "table", "constants of the runtime, the compiler and the self-test"),
    ("compiler_table_bytes", "table", "made by the compiler"),
    ("tokenizer_bytes", "text", "tokenizer"),
    ("labels_bytes", "text", "labels"),
    ("adapter_bytes", "text", "adapter: what a device has learned"),
    ("model_bytes", "model", "weights, biases, requantisation"),
    ("flash_bytes", "flash", "all of it"),
)


def figures(generated: Generated, made: Image | None) -> dict[str, int]:
    """Bytes of a model's C and, of an image that is not the host's, of code and stack.

    Code, tables, the three of the text and the model add up to the flash; what aligns them counts as tables. Tables are
    what `tasuki bench firmware` calls so; without an image only those that the compiler made are known.
    """
    text = {f"{what}_bytes": size for what, size in generated.text_sizes}
    found = {
        "arena_bytes": generated.arena_bytes, "model_bytes": generated.model_bytes, **text,
        "tflite_bytes": generated.tflite_bytes,
    }  # fmt: skip
    if made is None or made.sizes is None or made.stack is None:
        return found | {"compiler_table_bytes": generated.table_bytes}
    sizes = made.sizes
    # Of several functions, what no one calls is not linked.
    apart = sizes.model - sum(size for what, size in generated.text_sizes if what != "labels")
    model = min(generated.model_bytes, apart) if sizes.model else generated.model_bytes
    rest = sizes.flash - model - sum(text.values())
    # At most the rest: a linker script of one's own may put constants into the code's section.
    code = min(sizes.code + sizes.data, rest)
    return found | {
        "static_bytes": sizes.static, "stack_bytes": made.stack, "ram_bytes": sizes.static + made.stack,
        "code_without_tables_bytes": code, "table_bytes": rest - code, "model_bytes": model, "flash_bytes": sizes.flash,
    }  # fmt: skip


def table(found: Mapping[str, int], board: Board) -> list[str]:
    """The figures for people."""
    lines = []
    for rows, total, limit, where in ((_MEMORY, "ram_bytes", board.ram, "memory"),
                                      (_FLASH, "flash_bytes", board.flash, "flash")):  # fmt: skip
        lines += [f"{name:<8} {found[key]:>10,} bytes  {words}" for key, name, words in rows if key in found]
        if total in found and limit:
            share = found[total] / limit
            lines.append(f"{'':<8} {limit:>10,} bytes  of {where} on {board.name}: {share:.1%} are taken")
    return lines
