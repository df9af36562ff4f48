"""A model as a library in another build system's layout, with an example, compiled before it is written."""

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import jinja2

from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.ecosystems import Ecosystem, get
from tasuki.firmware_bridge.emit import folder as folders
from tasuki.firmware_bridge.emit import naming
from tasuki.firmware_bridge.emit.folder import runtime_files
from tasuki.firmware_bridge.emit.templating import TEMPLATES, environment
from tasuki.firmware_bridge.target.toolchain import C_FLAGS, find, run

_STUBS: Final = TEMPLATES / "export" / "stubs"
_JOBS: Final = 2
_CXX_FLAGS: Final = ("-std=gnu++11", "-O2", "-Wall", "-Wextra", "-Werror", "-x", "c++")


def export(generated: Generated, layout: str, out: Path, compiled: bool = True) -> str:
    """Write `generated` to the folder `out` in the layout `layout`, and say how it was compiled before.

    It is compiled with arm-none-eabi-gcc and stub headers in the place of the other system's, unless `compiled` is
    false. Nothing is written if anything fails.

    Raises:
        InputError: No such layout.
        ToolMissing: There is no Arm compiler.
        BuildFailed: It does not compile.
        FirmwareError: `out` can't be written, or is not ours.
    """
    ecosystem = get(layout)
    files = _library(generated, ecosystem)
    words = _words(generated, ecosystem, files)
    templates = environment(f"export/{layout}", "export")
    for path, template in ecosystem.files.items():
        files[path] = _printed(templates, f"{template}.j2", words)
    said = _compile(files, layout, ecosystem) if compiled else "It was not compiled."
    files["README.md"] = _printed(templates, "README.md.j2", {**words, "compiled": said})
    folders.place(files, out, layout)
    return said


def _library(generated: Generated, ecosystem: Ecosystem) -> dict[str, bytes]:
    """C files and headers in their folders, the README of the model, and its figures."""
    files = {"MODEL.md": _without_makefile(generated.files["README.md"]), folders.FACTS: generated.files[folders.FACTS]}
    for path, content in {**generated.files, **runtime_files(generated.rounding)}.items():
        name = Path(path).name
        private = path.startswith("runtime/src/")
        if name.endswith(".c") or (name.endswith(".h") and private):
            files[f"{ecosystem.sources}/{name}"] = content
        elif name.endswith(".h"):
            files[f"{ecosystem.headers}/{name}"] = content
    return files


def _without_makefile(readme: bytes) -> bytes:
    """The README of a model whose folder has no Makefile: of how it is built, the flags alone."""
    before, heading, after = readme.partition(b"\n## Build it\n")
    table = after.index(b"\n| flag")
    return before + heading + b"`README.md` beside it says how.\n" + after[table:]


def _words(generated: Generated, ecosystem: Ecosystem, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What the templates print."""
    function, packed = generated.functions[0], generated.artifact
    library = f"tasuki_{generated.name}"
    called = naming.markdown(packed.manifest["name"]) if packed else generated.name
    return {
        "name": generated.name, "library": library, "macro": f"TSK_{generated.name.upper()}",
        "title": f"{called[:1].upper()}{called[1:]}, a model in C", "version": version("tasuki"),
        "arena": generated.arena_bytes,
        "task": packed.task if packed else None, "ecosystem": ecosystem.title,
        "use": ecosystem.use.format(library=library),
        "header": f"{generated.name}_text.h" if packed else f"{generated.name}.h",
        "inputs": function.inputs, "outputs": function.outputs,
        "sources": sorted(path for path in files if path.endswith(".c")),
    }  # fmt: skip


def _printed(templates: jinja2.Environment, template: str, words: Mapping[str, Any]) -> bytes:
    return templates.get_template(template).render(words).encode("ascii")


def _compile(files: Mapping[str, bytes], layout: str, ecosystem: Ecosystem) -> str:
    """Compile the library and its example for each core of the layout."""
    compilers = {".c": find("arm-none-eabi-gcc"), ".ino": find("arm-none-eabi-g++")}
    with tempfile.TemporaryDirectory(prefix="tasuki-") as temporary:
        folder = Path(temporary)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        include = [f"-I{folder / part}" for part in {ecosystem.sources, ecosystem.headers}]

        def one(task: tuple[int, tuple[str, ...], str]) -> None:
            number, core, name = task
            suffix = Path(name).suffix
            flags = C_FLAGS if suffix == ".c" else _CXX_FLAGS
            stubs = (f"-I{_STUBS / layout}",) if name == ecosystem.example else ()
            words = [compilers[suffix], *core, *flags, *include, *stubs, "-c", folder / name]
            run([*words, "-o", folder / f"{number}.o"], f"compile {name} for {layout}")

        names = [name for name in files if Path(name).suffix in compilers]
        tasks = [(core, name) for core in ecosystem.cores for name in names]
        with ThreadPoolExecutor(_JOBS) as pool:
            list(pool.map(one, [(number, *task) for number, task in enumerate(tasks)]))
    cores = " and ".join(core[0].removeprefix("-mcpu=") for core in ecosystem.cores)
    release = run([compilers[".c"], "-dumpfullversion"], "ask the compiler for its version").strip()
    stubs = f", and stub headers\nin the place of those of {ecosystem.title}" if (_STUBS / layout).is_dir() else ""
    return f"It was compiled with arm-none-eabi-gcc {release} for {cores}{stubs}."
