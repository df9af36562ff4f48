"""The files of a model in C: header, source, golden vectors, README and Makefile, printed from templates.

The same model gives the same bytes: no date, no path, no order of a set.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import jinja2
import numpy as np

from tasuki.firmware_bridge.compiler.ir import Graph
from tasuki.firmware_bridge.compiler.program import Plan, Program
from tasuki.firmware_bridge.emit import c_unit, floating, header, literals, naming, selftest_form
from tasuki.firmware_bridge.emit.c_form import Call, Function, Parameter, Unit
from tasuki.firmware_bridge.emit.selftest_form import Case
from tasuki.firmware_bridge.emit.templating import environment
from tasuki.firmware_bridge.emit.vectors import Vector

_WIDTH: Final = 120
# How many of the largest constants the README names.
_LARGEST: Final = 5
_ITEM: Final = {name: kind.itemsize for kind, name in literals.C_TYPES.items()}


@dataclass(frozen=True, eq=False)
class Model:
    """All there is to say of a model: what was lowered, vectors for each program, and words for its README.

    `origin` has rows of source, licence, origin and sha256. `programs[0]` is ``tsk_<name>_invoke``. `task` is ``bare``,
    or that of an artifact. `text_sizes` and `adapter` are as in `build.Generated` and `firmware.json`,
    `limits` as in `text.Code`.
    """

    name: str
    rounding: str
    graphs: Sequence[Graph]
    programs: Sequence[Program]
    plans: Sequence[Plan]
    vectors: Sequence[Sequence[Vector]]
    title: str
    about: str = ""
    tflite_bytes: int = 0
    origin: Sequence[Mapping[str, str]] = ()
    task: str = "bare"
    text_sizes: Sequence[tuple[str, int]] = ()
    adapter: Mapping[str, Any] | None = None
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Emitted:
    """`files` by name, and bytes: of constants that come from the model, of tables, and of the largest constants."""

    files: dict[str, bytes]
    functions: tuple[Function, ...]
    model_bytes: int
    table_bytes: int
    largest: tuple[tuple[str, int], ...]


def write(model: Model) -> Emitted:
    """The files of `model`. Raises ModelUnsupported for what C can't hold."""
    unit = c_unit.unit(model.graphs, model.programs, model.plans, model.limits)
    sizes = {kind: sum(a.data.nbytes for a in unit.arrays if a.model is kind) for kind in (True, False)}
    ordered = sorted(unit.arrays, key=lambda a: (-a.data.nbytes, a.name))[:_LARGEST]
    largest = tuple((a.comment, a.data.nbytes) for a in ordered)
    templates, golden = _templates(), selftest_form.form(unit.functions, model.vectors)
    words = {
        "name": model.name, "title": naming.comment(model.title), "functions": unit.functions, "arrays": unit.arrays,
        "structs": unit.structs, "arena": unit.arena,
    }  # fmt: skip
    made = {
        f"{model.name}.h": templates.get_template("model.h.j2").render(
            words, rounding=f"TSK_ROUNDING_{model.rounding}".upper()
        ),
        f"{model.name}.c": templates.get_template("model.c.j2").render(words),
        f"{model.name}_selftest.c": templates.get_template("model_selftest.c.j2").render(
            golden, name=model.name, title=words["title"]
        ),
        "Makefile": templates.get_template("Makefile.j2").render(name=model.name),
        "README.md": templates.get_template("README.md.j2").render(
            _readme(model, unit, sizes, largest),
            selftest=_selftest_bytes(golden, unit),
            vectors=sum(array.data.nbytes for array in golden["arrays"]),
        ),
    }
    files = {name: text.encode("ascii") for name, text in made.items()}
    return Emitted(files, unit.functions, sizes[True], sizes[False], largest)


def _readme(model: Model, unit: Unit, sizes: Mapping[bool, int], largest: Sequence[tuple[str, int]]) -> dict[str, Any]:
    ports = [p for f in unit.functions for p in (*f.inputs, *f.outputs)]
    kernels = {call.kernel for f in unit.functions for block in f.blocks for call in block.calls}
    return {
        "name": model.name, "title": naming.markdown(model.title), "about": naming.markdown(model.about),
        "version": version("tasuki"), "rounding": model.rounding, "functions": unit.functions,
        "first": unit.functions[0], "task": model.task,
        "floating": floating.words(kernels, model.rounding, model.name, model.task),
        "roomiest": max(unit.functions, key=lambda f: f.arena).macro,
        "arena": max(f.arena for f in unit.functions), "ports": sum(p.count * _ITEM[p.type] for p in ports),
        "text_sizes": model.text_sizes, "adapter": model.adapter,
        "own_labels": ", ".join(map(naming.markdown, model.adapter["own_labels"])) if model.adapter else "",
        "model_bytes": sizes[True], "table_bytes": sizes[False], "tflite_bytes": model.tflite_bytes,
        "largest": ", ".join(f"`{name}` ({size} bytes)" for name, size in largest) or "none",
        "notes": list(dict.fromkeys(naming.markdown(n) for program in model.programs for n in program.notes)),
        "origin": [{key: naming.markdown(value) for key, value in row.items()} for row in model.origin],
    }  # fmt: skip


def _selftest_bytes(golden: Mapping[str, Any], unit: Unit) -> int:
    """The memory that the self-test has for itself: outputs, and scratch where no arena is as large."""
    outputs: int = sum(memory.count * _ITEM[memory.type] for memory in golden["outputs"])
    scratch = header.constant("TSK_SELFTEST_SCRATCH")
    return outputs + (scratch if max(16, *(f.arena for f in unit.functions)) < scratch else 0)


def _templates() -> jinja2.Environment:
    found = environment(".", "example")
    found.filters.update(
        lines=literals.lines, decimal=literals.decimal, grid=_grid, prototype=prototype, call=_call, refusal=_refusal,
        vector=_vector, example=_example,
    )  # fmt: skip
    return found


def _grid(parameter: Parameter) -> str:
    """What a value means, with the shortest decimal that is the scale's float32."""
    if parameter.scale is None:
        return "as it is"
    return f"real = {np.float32(parameter.scale)!s} (value {'-' if parameter.zero >= 0 else '+'} {abs(parameter.zero)})"


def prototype(function: Function) -> str:
    """The declaration of ``tsk_<name>_invoke``, without what ends it."""

    def argument(parameter: Parameter, const: str) -> str:
        return f"{const}{parameter.type} {parameter.name}[{parameter.macro}_COUNT]"

    inputs = (argument(parameter, "const ") for parameter in function.inputs)
    outputs = (argument(parameter, "") for parameter in function.outputs)
    return _wrapped(f"int tsk_{function.name}_invoke(", ["void *arena", *inputs, *outputs], ",", ")")


def _refusal(function: Function) -> str:
    """The head of the branch for arguments that can't be."""
    missing = [f"{name} == NULL" for name in _arguments(function)]
    return _wrapped("    if (", [*missing, "((uintptr_t)arena & 15U) != 0U"], " ||", ") {")


def _example(function: Function) -> str:
    """A call as a caller would write it."""
    return _wrapped(f"    return tsk_{function.name}_invoke(", _arguments(function), ",", ");")


def _arguments(function: Function) -> list[str]:
    return ["arena", *(parameter.name for parameter in (*function.inputs, *function.outputs))]


def _vector(case: Case) -> str:
    """One call of the self-test, and the head of the branch for bits that are wrong."""
    call = _wrapped(f"    status = tsk_{case.function}_invoke(", ["arena", *case.inputs, *case.outputs], ",", ");")
    wrong = [f"memcmp({found}, {wanted}, sizeof {wanted}) != 0" for found, wanted in case.compared]
    return "\n".join([call, _wrapped("    if (", ["status != TSK_OK", *wrong], " ||", ") {")])


def _call(call: Call, indent: int) -> str:
    """A call of a kernel with its comment, and what becomes of its status."""
    before = " " * indent
    head = f"{before}{'status = ' if call.status else ''}tsk_{call.kernel}("
    text = [*_comment(call.comment, before), _wrapped(head, call.arguments, ",", ");")]
    if call.status:
        text += [f"{before}if (status != TSK_OK) {{", f"{before}    return status;", f"{before}}}"]
    return "\n".join(text)


def _comment(words: str, before: str) -> list[str]:
    first, *others = textwrap.wrap(words, _WIDTH - len(before) - 6)
    text = [f"{before}/* {first}", *(f"{before} * {line}" for line in others)]
    return [*text[:-1], f"{text[-1]} */"]


def _wrapped(head: str, terms: Sequence[str], between: str, tail: str) -> str:
    """A list of terms within the width, later lines under the first term."""
    lines, indent = [head], " " * len(head)
    for place, term in enumerate(terms):
        text = term + (between if place < len(terms) - 1 else tail)
        if lines[-1] == head:
            lines[-1] += text
        elif len(lines[-1]) + len(text) + 1 > _WIDTH:
            lines.append(indent + text)
        else:
            lines[-1] += f" {text}"
    return "\n".join(lines)
