"""Generated C on the host: compiled once for each content (cached under build/), run, and its bits read back.

    image = host_kit.image([build.generate(data, "a"), build.generate(other, "b")])   # one executable, ASan and UBSan
    outputs = image.run("a", [inputs, inputs])      # for each run a tuple of arrays, in the order of the model
    image.run("a_prefill", …)                       # the second function of a model with two signatures
    image.selftest("a")                             # the status of tsk_a_selftest

    library = host_kit.shared_library([build.generate(data)])     # a shared object through ctypes, no sanitizers, -O2
    library.run("model", [inputs])                         # the same

    host_kit.compile_c({"x.c": b"…"}, "shared")            # any C with the runtime: the path of the .so

Before each run the arena and the outputs are filled with 0xA5, so that a read of what nobody wrote shows. A sanitizer's
finding, or a status other than TSK_OK, is an AssertionError with what was said.
"""

import contextlib
import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jinja2 import Template
from numpy.typing import NDArray

from tasuki.firmware_bridge.emit.c_form import Function
from tasuki.firmware_bridge.emit.folder import runtime_files
from tasuki.firmware_bridge.emit.literals import C_TYPES

if TYPE_CHECKING:
    from tasuki.firmware_bridge.build import Generated

CACHE = Path(__file__).parents[2] / "build" / "firmware-tests"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
SANITIZERS = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
PLAIN = ("-O2", "-fPIC")
DTYPES = {name: kind for kind, name in reversed(C_TYPES.items())}
Runs = Sequence[Sequence[NDArray[Any]]]


@dataclass(frozen=True, eq=False)
class Image:
    """An executable that reads calls and inputs from stdin, and writes statuses and outputs to stdout."""

    path: Path
    functions: tuple[Function, ...]
    models: tuple[str, ...]

    def run(self, name: str, runs: Runs) -> list[tuple[NDArray[Any], ...]]:
        """The outputs of ``tsk_<name>_invoke`` for each of `runs`, the inputs of one call."""
        place = [function.name for function in self.functions].index(name)
        function = self.functions[place]
        asked = b"".join(np.int32(place).tobytes() + _inputs(function, inputs) for inputs in runs)
        said, found = self._exchange(asked), []
        size = 4 + sum(_bytes(parameter) for parameter in function.outputs)
        assert len(said) == size * len(runs)
        for start in range(0, len(said), size):
            status = int.from_bytes(said[start : start + 4], "little", signed=True)
            assert status == 0, f"tsk_{name}_invoke returned {status}"
            found.append(_outputs(function, said[start + 4 : start + size]))
        return found

    def selftest(self, name: str) -> int:
        """What ``tsk_<name>_selftest`` returns."""
        said = self._exchange(np.int32(-1 - self.models.index(name)).tobytes())
        return int.from_bytes(said, "little", signed=True)

    def _exchange(self, asked: bytes) -> bytes:
        done = subprocess.run([self.path], input=asked, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout


@dataclass(frozen=True, eq=False)
class Library:
    """A shared object with the functions of some models."""

    path: Path
    functions: tuple[Function, ...]

    def run(self, name: str, runs: Runs) -> list[tuple[NDArray[Any], ...]]:
        """The outputs of ``tsk_<name>_invoke`` for each of `runs`."""
        function = next(f for f in self.functions if f.name == name)
        call = getattr(ctypes.CDLL(str(self.path)), f"tsk_{name}_invoke")
        found = []
        for inputs in runs:
            raw = np.full(function.arena + 32, 0xA5, np.uint8)
            arena = raw[-raw.ctypes.data % 16 :]
            given = np.frombuffer(_inputs(function, inputs), np.uint8)
            parts = _parts(given, function.inputs)
            outputs = [np.full(_bytes(p), 0xA5, np.uint8) for p in function.outputs]
            status = call(*(ctypes.c_void_p(a.ctypes.data) for a in (arena, *parts, *outputs)))
            assert status == 0, f"tsk_{name}_invoke returned {status}"
            found.append(_outputs(function, b"".join(o.tobytes() for o in outputs)))
        return found


def image(models: Sequence["Generated"], flags: Sequence[str] = SANITIZERS, compiler: str = "gcc") -> Image:
    """An executable of all `models`, which have different names, one rounding, and self-tests."""
    functions = tuple(function for model in models for function in model.functions)
    names = tuple(model.name for model in models)
    main = _main(functions, names)
    path = compile_c({**_sources(models), "main.c": main.encode()}, "executable", flags, compiler, _rounding(models))
    return Image(path, functions, names)


def shared_library(models: Sequence["Generated"], flags: Sequence[str] = PLAIN, compiler: str = "gcc") -> Library:
    """A shared object of all `models`, which have different names and one rounding."""
    functions = tuple(function for model in models for function in model.functions)
    path = compile_c(_sources(models), "shared", flags, compiler, _rounding(models))
    return Library(path, functions)


def compile_c(
    sources: Mapping[str, bytes], kind: Literal["executable", "shared"], flags: Sequence[str] = PLAIN,
    compiler: str = "gcc", rounding: str = "tflm",
) -> Path:  # fmt: skip
    """Compile and link `sources` with the runtime, warnings being errors. Once for each content, flags and compiler."""
    own = {name: content for name, content in sources.items() if name.endswith((".c", ".h"))}
    runtime = runtime_files(rounding)
    key = hashlib.sha256(repr((own, runtime, kind, tuple(flags), compiler)).encode()).hexdigest()[:24]
    path = CACHE / f"{key}.{'so' if kind == 'shared' else 'exe'}"
    if not path.exists():
        objects = _objects(runtime, flags, compiler)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            _write(Path(folder), own)
            includes = [f"-I{folder}", f"-I{objects}/runtime/include", f"-I{objects}/runtime/src"]
            made = _compile(Path(folder), [n for n in own if n.endswith(".c")], [*flags, *includes], compiler)
            made += sorted((objects / "runtime" / "src").glob("*.o"))
            out = Path(folder) / "out"
            shared = ["-shared", "-Wl,--no-undefined"] if kind == "shared" else []
            _call([compiler, *flags, *shared, "-Wl,--gc-sections", *map(str, made), "-o", str(out), "-lm"])
            out.rename(path)
    return path


def _objects(runtime: Mapping[str, bytes], flags: Sequence[str], compiler: str) -> Path:
    """The folder of the compiled runtime. The serial application needs a board, so it is left out."""
    CACHE.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(repr((runtime, tuple(flags), compiler)).encode()).hexdigest()[:24]
    folder = CACHE / f"runtime-{key}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
            made = Path(temporary) / "made"
            _write(made, runtime)
            sources = [n for n in runtime if n.endswith(".c") and not n.endswith("tsk_serve.c")]
            _compile(made, sources, [*flags, f"-I{made}/runtime/include"], compiler)
            # Another process may have been as quick.
            with contextlib.suppress(OSError):
                made.rename(folder)
    return folder


def _compile(folder: Path, sources: Sequence[str], flags: Sequence[str], compiler: str) -> list[Path]:
    def one(source: str) -> Path:
        out = folder / f"{source}.o"
        sections = ["-ffunction-sections", "-fdata-sections"]
        _call([compiler, *WARNINGS, *flags, *sections, "-c", str(folder / source), "-o", str(out)])
        return out.rename(out.with_name(out.name.replace(".c.o", ".o")))

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, sources))


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[:4000]}"


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _sources(models: Sequence["Generated"]) -> dict[str, bytes]:
    return {name: content for model in models for name, content in model.files.items() if name.endswith((".c", ".h"))}


def _rounding(models: Sequence["Generated"]) -> str:
    (rounding,) = {model.rounding for model in models}
    return rounding


def _bytes(parameter: Any) -> int:
    return int(parameter.count * np.dtype(DTYPES[parameter.type]).itemsize)


def _inputs(function: Function, inputs: Sequence[NDArray[Any]]) -> bytes:
    for parameter, array in zip(function.inputs, inputs, strict=True):
        assert array.nbytes == _bytes(parameter), f"{parameter.name} takes {_bytes(parameter)} bytes"
    return b"".join(np.ascontiguousarray(array).tobytes() for array in inputs)


def _parts(data: NDArray[np.uint8], parameters: Sequence[Any]) -> list[NDArray[np.uint8]]:
    ends = np.cumsum([_bytes(p) for p in parameters])
    # Copies, so that each is aligned.
    return [data[end - _bytes(p) : end].copy() for end, p in zip(ends, parameters, strict=True)]


def _outputs(function: Function, data: bytes) -> tuple[NDArray[Any], ...]:
    parts = _parts(np.frombuffer(data, np.uint8), function.outputs)
    return tuple(part.view(DTYPES[p.type]) for part, p in zip(parts, function.outputs, strict=True))


def _main(functions: Sequence[Function], names: Sequence[str]) -> str:
    """The C of the executable's loop over calls."""
    ports = [
        ([(p, f"in_{i}_{j}") for j, p in enumerate(f.inputs)], [(p, f"out_{i}_{j}") for j, p in enumerate(f.outputs)])
        for i, f in enumerate(functions)
    ]
    arena = max([16, *(function.arena for function in functions)])
    return _MAIN.render(functions=functions, ports=ports, names=names, arena=arena)


_MAIN = Template(
    """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
{% for name in names %}
#include "{{ name }}.h"
{% endfor %}

static uint8_t arena_of_selftests[{{ arena }}] __attribute__((aligned(16)));
{% for f in functions %}
{% set inputs, outputs = ports[loop.index0] %}
static uint8_t arena_{{ loop.index0 }}[{{ [16, f.arena] | max }}] __attribute__((aligned(16)));
{% for p, name in inputs + outputs %}
static {{ p.type }} {{ name }}[{{ p.count }}];
{% endfor %}

static int call_{{ loop.index0 }}(void) {
    int32_t status;
{% for _, name in inputs %}
    if (fread({{ name }}, sizeof {{ name }}, 1, stdin) != 1) {
        return 1;
    }
{% endfor %}
    memset(arena_{{ loop.index0 }}, 0xA5, sizeof arena_{{ loop.index0 }});
{% for _, name in outputs %}
    memset({{ name }}, 0xA5, sizeof {{ name }});
{% endfor %}
    status = tsk_{{ f.name }}_invoke(
        arena_{{ loop.index0 }}{% for _, name in inputs + outputs %}, {{ name }}{% endfor %});
    fwrite(&status, sizeof status, 1, stdout);
{% for _, name in outputs %}
    fwrite({{ name }}, sizeof {{ name }}, 1, stdout);
{% endfor %}
    return 0;
}
{% endfor %}

int main(void) {
    int32_t asked;
    while (fread(&asked, sizeof asked, 1, stdin) == 1) {
        int32_t status = 1;
        switch (asked) {
{% for f in functions %}
        case {{ loop.index0 }}:
            if (call_{{ loop.index0 }}() != 0) {
                return 1;
            }
            continue;
{% endfor %}
{% for name in names %}
        case {{ -1 - loop.index0 }}:
            status = tsk_{{ name }}_selftest(arena_of_selftests);
            break;
{% endfor %}
        default:
            return 1;
        }
        fwrite(&status, sizeof status, 1, stdout);
    }
    return 0;
}
""",
    trim_blocks=True,
)
