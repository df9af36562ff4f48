"""Libraries in other build systems' layouts: whole, consistent, compiled, or not there at all."""

import re
import subprocess
from pathlib import Path

import pytest

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.ecosystems import ECOSYSTEMS
from tasuki.firmware_bridge.export import export
from tasuki.sdk.errors import BuildFailed, FirmwareError, InputError, ToolMissing

LAYOUTS = sorted(ECOSYSTEMS)
# What each ecosystem's own documents ask for.
ASKED = {
    "cmake": ("CMakeLists.txt", "include/lamp.h", "src/lamp.c", "example/CMakeLists.txt"),
    "zephyr": ("zephyr/module.yml", "zephyr/CMakeLists.txt", "zephyr/Kconfig", "samples/answer/prj.conf"),
    "arduino": ("library.properties", "src/lamp.h", "src/lamp.c", "examples/Answer/Answer.ino"),
    "esp-idf": ("idf_component.yml", "CMakeLists.txt", "examples/answer/main/CMakeLists.txt"),
    "pico": ("CMakeLists.txt", "include/lamp.h", "example/CMakeLists.txt"),
}


@pytest.fixture(scope="module")
def model() -> Generated:
    return build.generate(firmware_models.dyt(0, firmware_models.SMALL), "lamp")


@pytest.fixture(scope="module")
def single() -> Generated:
    return build.generate(firmware_models.dyt(0, firmware_models.SMALL), "lamp", "single")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout(model: Generated, layout: str, tmp_path: Path) -> None:
    said = export(model, layout, tmp_path / "out", compiled=False)
    found = contents(tmp_path / "out")
    assert set(ASKED[layout]) <= set(found)
    assert said == "It was not compiled."
    assert said in found["README.md"].decode()
    for name, content in found.items():
        assert not re.search(rb"\{[{%] ", content), name
        assert str(tmp_path).encode() not in content, name
    # The same again has the same bytes, in the place of the first.
    export(model, layout, tmp_path / "out", compiled=False)
    assert contents(tmp_path / "out") == found


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "arduino"])
def test_the_build_file_names_every_source_and_no_other(model: Generated, layout: str, tmp_path: Path) -> None:
    export(model, layout, tmp_path, compiled=False)
    file = tmp_path / ("zephyr/CMakeLists.txt" if layout == "zephyr" else "CMakeLists.txt")
    named = re.findall(r"[\w./-]+\.c\b", file.read_text().replace("${CMAKE_CURRENT_LIST_DIR}/", ""))
    assert sorted((file.parent / name).resolve() for name in named) == sorted((tmp_path / "src").glob("*.c"))


def test_every_header_that_a_source_includes_is_there(model: Generated, tmp_path: Path) -> None:
    export(model, "arduino", tmp_path, compiled=False)
    for path in (tmp_path / "src").glob("*.[ch]"):
        for name in re.findall(r'#include "([^"]+)"', path.read_text()):
            assert (path.parent / name).exists(), (path.name, name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_rounding_is_the_models_without_a_flag(single: Generated, layout: str, tmp_path: Path) -> None:
    export(single, layout, tmp_path, compiled=False)
    (config,) = tmp_path.rglob("tsk_config.h")
    assert "#define TSK_ROUNDING TSK_ROUNDING_SINGLE\n" in config.read_text()


def test_a_layout_that_is_not_there(model: Generated, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layout 'mbed'; there are cmake"):
        export(model, "mbed", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_is_left_alone(model: Generated, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FirmwareError, match="was not made by"):
        export(model, "cmake", tmp_path, compiled=False)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_without_a_compiler_nothing_is_written(
    model: Generated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="apt-get install gcc-arm-none-eabi"):
        export(model, "zephyr", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_compile_is_not_written(
    model: Generated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gcc", "g++"):
        script = tmp_path / f"arm-none-eabi-{name}"
        script.write_text("#!/bin/sh\necho 'x.c:1:1: error: no' >&2\nexit 1\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(BuildFailed, match=r"compile src/lamp\.c for pico: x\.c:1:1: error: no"):
        export(model, "pico", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.boards
@pytest.mark.parametrize("layout", LAYOUTS)
def test_library_and_example_are_compiled_and_it_says_so(tiny_artifact: Path, layout: str, tmp_path: Path) -> None:
    said = export(build.generate(tiny_artifact, "lamp"), layout, tmp_path)
    assert re.match(r"It was compiled with arm-none-eabi-gcc \d+\.\d+\.\d+ for cortex-m", said)
    assert ("stub headers" in said) == (layout != "cmake")
    assert said in (tmp_path / "README.md").read_text()
    assert "tsk_lamp_classify(" in (tmp_path / ECOSYSTEMS[layout].example).read_text()


@pytest.mark.boards
def test_an_example_that_does_not_compile_stops_the_export(
    model: Generated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stub headers of another system: Zephyr's own are then missing.
    monkeypatch.setattr("tasuki.firmware_bridge.export._STUBS", tmp_path / "none")
    with pytest.raises(BuildFailed, match=r"compile samples/answer/src/main\.c for zephyr: .*zephyr/kernel\.h"):
        export(model, "zephyr", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def cmake(*words: str | Path) -> str:
    done = subprocess.run(["cmake", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.boards
def test_find_package_finds_the_installed_library(model: Generated, tmp_path: Path) -> None:
    export(model, "cmake", tmp_path / "out", compiled=False)
    cmake("-S", tmp_path / "out", "-B", tmp_path / "library")
    cmake("--build", tmp_path / "library", "--parallel", "2")
    cmake("--install", tmp_path / "library", "--prefix", tmp_path / "there")
    cmake("-S", tmp_path / "out/example", "-B", tmp_path / "example", f"-DCMAKE_PREFIX_PATH={tmp_path / 'there'}")
    cmake("--build", tmp_path / "example")
    done = subprocess.run([tmp_path / "example" / "example"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the first value of ")


COMMANDS = {
    "zephyr": ("zephyr_include_directories", "zephyr_library_named", "zephyr_library_compile_options",
               "zephyr_library_sources"),
    "esp-idf": ("idf_component_register", "target_compile_options"),
    "pico": ("add_library", "target_include_directories", "set_target_properties", "target_compile_options"),
}  # fmt: skip


@pytest.mark.boards
@pytest.mark.parametrize("layout", sorted(COMMANDS))
def test_cmake_reads_the_build_file(model: Generated, layout: str, tmp_path: Path) -> None:
    """With commands that print what they get in the place of the other system's."""
    export(model, layout, tmp_path / "out", compiled=False)
    file = tmp_path / "out" / ("zephyr/CMakeLists.txt" if layout == "zephyr" else "CMakeLists.txt")
    stubs = [f'function({name})\n  message(STATUS "{name}: ${{ARGN}}")\nendfunction()' for name in COMMANDS[layout]]
    script = tmp_path / "script.cmake"
    script.write_text("\n".join([*stubs, "set(CONFIG_TASUKI_LAMP y)", f"include({file})", ""]))
    said = cmake("-P", script)
    assert all(f"{name}: " in said for name in COMMANDS[layout])
    assert "src/lamp.c" in said
