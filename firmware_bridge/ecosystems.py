"""The layouts that other build systems want a C library in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tasuki.sdk.errors import InputError

_M0: Final = ("-mcpu=cortex-m0plus", "-mthumb")
_M4F: Final = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
_M33: Final = ("-mcpu=cortex-m33", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16")


@dataclass(frozen=True)
class Ecosystem:
    """One layout.

    `sources` and `headers` are folders; `files` are paths with the template of each, where {name} and {library} stand
    for the model and the library; `example` is the one of them that calls the model. `cores` are the flags that the
    library and its example are compiled with. `use` tells a person what to do with the folder.
    """

    title: str
    sources: str
    headers: str
    files: Mapping[str, str]
    example: str
    cores: tuple[tuple[str, ...], ...]
    use: str


ECOSYSTEMS: Final[Mapping[str, Ecosystem]] = {
    "cmake": Ecosystem(
        "CMake", "src", "include",
        {
            "CMakeLists.txt": "CMakeLists.txt",
            "example/CMakeLists.txt": "example.CMakeLists.txt",
            "example/main.c": "main.c",
        },
        "example/main.c", (_M4F,),
        "In this folder,\n\n"
        "    cmake -S . -B ../{library}_build\n"
        "    cmake --build ../{library}_build\n"
        "    cmake --install ../{library}_build --prefix WHERE\n\n"
        "install it, built in a folder beside this one; `find_package({library})` then finds it, as the project in\n"
        "`example` does:\n\n"
        "    cmake -S example -B ../{library}_example -DCMAKE_PREFIX_PATH=WHERE\n"
        "    cmake --build ../{library}_example",
    ),
    "zephyr": Ecosystem(
        "Zephyr", "src", "include",
        {
            "zephyr/module.yml": "module.yml",
            "zephyr/CMakeLists.txt": "CMakeLists.txt",
            "zephyr/Kconfig": "Kconfig",
            "samples/answer/CMakeLists.txt": "sample.CMakeLists.txt",
            "samples/answer/prj.conf": "prj.conf",
            "samples/answer/sample.yaml": "sample.yaml",
            "samples/answer/src/main.c": "main.c",
        },
        "samples/answer/src/main.c", (_M4F, _M33),
        "In this folder, `west build -b BOARD -d ../{library}_build samples/answer` builds the sample beside it. In a\n"
        "project of your own, name this folder in `ZEPHYR_EXTRA_MODULES` or in the west manifest.",
    ),
    "arduino": Ecosystem(
        "Arduino", "src", "src",
        {
            "library.properties": "library.properties",
            "keywords.txt": "keywords.txt",
            "examples/Answer/Answer.ino": "Answer.ino",
        },
        "examples/Answer/Answer.ino", (_M0, _M4F),
        "Copy this folder into `libraries` of the sketchbook; the example is then in the menu, under its name.",
    ),
    "esp-idf": Ecosystem(
        "ESP-IDF", "src", "include",
        {
            "idf_component.yml": "idf_component.yml",
            "CMakeLists.txt": "CMakeLists.txt",
            "examples/answer/CMakeLists.txt": "project.CMakeLists.txt",
            "examples/answer/main/CMakeLists.txt": "main.CMakeLists.txt",
            "examples/answer/main/main.c": "main.c",
        },
        # The chips are no Arm cores: the plain kernels are what they get.
        "examples/answer/main/main.c", ((*_M0, "-DTSK_KERNELS=TSK_KERNELS_PLAIN"),),
        "Copy this folder into `components` of a project, under the name `{library}`; `idf.py build` in\n"
        "`examples/answer` of the copy builds the example.",
    ),
    "pico": Ecosystem(
        "the Pico SDK", "src", "include",
        {
            "CMakeLists.txt": "CMakeLists.txt",
            "example/CMakeLists.txt": "example.CMakeLists.txt",
            "example/main.c": "main.c",
        },
        "example/main.c", (_M0, _M33),
        "`add_subdirectory()` this folder and link `{library}`, as the project in `example` does; in this folder,\n"
        "`cmake -S example -B ../{library}_build && cmake --build ../{library}_build` builds it beside.",
    ),
}  # fmt: skip


def get(name: str) -> Ecosystem:
    """The layout of this name.

    Raises:
        InputError: There is none.
    """
    if name not in ECOSYSTEMS:
        raise InputError(f"no layout {name!r}; there are {', '.join(ECOSYSTEMS)}")
    return ECOSYSTEMS[name]
