"""Values as C: strings, tables, and the templates that they go into."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jinja2
import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.emit.templating import environment

_LINE: Final = 112


@dataclass(frozen=True, eq=False)
class Code:
    """`files` by name, and the bytes of their constants in flash: pairs of what they are and how many.

    `limits` says how many values an input of the model can have, by its name, where its tables would allow more.
    """

    files: dict[str, bytes]
    sizes: tuple[tuple[str, int], ...]
    limits: Mapping[str, int] = field(default_factory=dict)


def code(task: str, name: str, sizes: Iterable[tuple[str, int]], **values: Any) -> Code:
    """The files of a `task`: ``{name}_text.h`` and ``.c``, and ``{name}_serve.c``, which needs a port."""
    values |= {"name": name, "macro": f"TSK_{name.upper()}", "task": task}
    templates = {"text.h": f"{task}.h", "text.c": f"{task}.c", "serve.c": "serve.c"}
    files = {f"{name}_{file}": render(template, **values) for file, template in templates.items()}
    return Code(files, tuple((what, size) for what, size in sizes if size))


def render(template: str, **values: Any) -> bytes:
    """The file that `templates/text/{template}.j2` gives."""
    return _templates().get_template(f"{template}.j2").render(**values).encode("ascii")


@functools.cache
def _templates() -> jinja2.Environment:
    made = environment("text")
    made.filters |= {
        "string": string, "floats": floats, "integers": integers, "number": number, "arguments": arguments,
    }  # fmt: skip
    return made


def string(text: str) -> str:
    """A string literal of the UTF-8 of `text`; what is not plain ASCII is octal, whose length can't be mistaken."""
    plain = {byte: chr(byte) for byte in range(32, 127) if chr(byte) not in '"\\?'}
    return '"' + "".join(plain.get(byte, f"\\{byte:03o}") for byte in text.encode()) + '"'


def number(value: float) -> str:
    """A float32 constant, exactly: the shortest decimal that is it."""
    text = str(np.float32(value))
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def floats(values: NDArray[np.float32]) -> str:
    """Lines of constants for the inside of an initialiser."""
    return _lines(number(float(value)) for value in values.reshape(-1))


def integers(values: Iterable[int]) -> str:
    """Lines of integers for the inside of an initialiser."""
    return _lines(map(str, values))


def arguments(words: Iterable[str], indent: int) -> str:
    """The arguments of a call, on as many lines as they take; the first goes on where the call begins."""
    return _lines(words, indent).strip().removesuffix(",")


def _lines(words: Iterable[str], indent: int = 4) -> str:
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(word) > _LINE:
            lines.append(line)
            line = ""
        line += f" {word}," if line else f"{' ' * indent}{word},"
    return "\n".join([*lines, line] if line else lines)
