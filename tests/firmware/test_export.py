"""Libraries in other build systems' layouts: whole, consistent, compiled, or not there at all."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import causal_kit
import pytest
from firmware.folder_kit import tree

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.ecosystems import ECOSYSTEMS
from tasuki.firmware_bridge.emit.header import RUNTIME
from tasuki.firmware_bridge.emit.templating import TEMPLATES
from tasuki.firmware_bridge.export import export
from tasuki.firmware_bridge.target.toolchain import C_FLAGS
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


@pytest.fixture(scope="module")
def causal() -> Generated:
    return build.generate(causal_kit.student(), "lamp")


@pytest.fixture(params=["bare", "classify", "causal"])
def each(request: pytest.FixtureRequest, model: Generated, causal: Generated, tiny_artifact: Path) -> Generated:
    """A bare model, a classifier and a causal model."""
    made = {"bare": model, "causal": causal}
    return made.get(request.param) or build.generate(tiny_artifact, "lamp")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout(model: Generated, layout: str, tmp_path: Path) -> None:
    said = export(model, layout, tmp_path / "out", compiled=False)
    found = tree(tmp_path / "out")
    assert set(ASKED[layout]) <= set(found)
    assert said == "It was not compiled."
    assert said in found["README.md"].decode()
    for name, content in found.items():
        assert not re.search(rb"\{[{%] ", content), name
        assert str(tmp_path).encode() not in content, name
    # The same again has the same bytes, in the place of the first.
    export(model, layout, tmp_path / "out", compiled=False)
    assert tree(tmp_path / "out") == found


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


def test_headers_of_the_runtime_alone_are_not_in_reach_of_others(model: Generated, tmp_path: Path) -> None:
    export(model, "cmake", tmp_path, compiled=False)
    own, exported = ({path.name for path in folder.glob("src/*.h")} for folder in (RUNTIME, tmp_path))
    assert own == exported


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_readme_names_model_and_memory(model: Generated, layout: str, tmp_path: Path) -> None:
    export(model, layout, tmp_path, compiled=False)
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("# Lamp, a model in C\n")
    assert f"takes {model.arena_bytes} bytes of memory that the caller gives" in " ".join(readme.split())


def test_users_include_the_header_of_what_the_model_does(model: Generated, tiny_artifact: Path, tmp_path: Path) -> None:
    for made, header in ((model, "lamp.h"), (build.generate(tiny_artifact, "lamp"), "lamp_text.h")):
        export(made, "arduino", tmp_path / header, compiled=False)
        assert f"includes={header}\n" in (tmp_path / header / "library.properties").read_text()


def test_a_models_name_is_no_markup(tiny_artifact: Path, tmp_path: Path) -> None:
    made = build.generate(tiny_artifact, "lamp")
    assert made.artifact is not None
    hostile = made.artifact._replace(manifest={**made.artifact.manifest, "name": "tiny <b>"})
    export(replace(made, artifact=hostile), "cmake", tmp_path, compiled=False)
    assert (tmp_path / "README.md").read_text().startswith("# Tiny _b_, a model in C\n")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_rounding_is_the_models_without_a_flag(single: Generated, layout: str, tmp_path: Path) -> None:
    export(single, layout, tmp_path, compiled=False)
    (config,) = tmp_path.rglob("tsk_config.h")
    assert "#define TSK_ROUNDING TSK_ROUNDING_SINGLE\n" in config.read_text()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_example_of_a_causal_model_writes_text(causal: Generated, layout: str, tmp_path: Path) -> None:
    export(causal, layout, tmp_path, compiled=False)
    example = (tmp_path / ECOSYSTEMS[layout].example).read_text()
    assert "tsk_lamp_generate(&memory, prompt, sizeof prompt - 1, " in example
    assert "tsk_lamp_invoke" not in example


def test_a_position_is_one_of_the_context(causal: Generated, tmp_path: Path) -> None:
    """The table of positions has more rows than the cache has slots."""
    export(causal, "cmake", tmp_path, compiled=False)
    wanted = f"| input | `position` | int32 [1], 0 to {causal_kit.CONTEXT - 1} |"
    assert wanted in (tmp_path / "MODEL.md").read_text()
    assert f"position: int32 [1], 0 to {causal_kit.CONTEXT - 1}." in (tmp_path / "include" / "lamp.h").read_text()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_model_is_described_without_a_makefile(model: Generated, layout: str, tmp_path: Path) -> None:
    export(model, layout, tmp_path, compiled=False)
    said = (tmp_path / "MODEL.md").read_text()
    assert "make CC=" not in said
    assert "runtime/src" not in said
    assert "## Build it\n`README.md` beside it says how.\n\n| flag, the same for all files |" in said
    assert "## In your firmware\n" in said


def test_arduino_boards_of_eight_bits_are_not_promised(model: Generated, tmp_path: Path) -> None:
    export(model, "arduino", tmp_path, compiled=False)
    (listed,) = re.findall(r"^architectures=(.*)$", (tmp_path / "library.properties").read_text(), re.MULTILINE)
    promised = listed.split(",")
    assert {"esp32", "mbed_nano", "rp2040", "samd"} <= set(promised) == set(promised) - {"*", "avr", "megaavr"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_building_as_the_readme_says_leaves_the_folder_alone(model: Generated, layout: str, tmp_path: Path) -> None:
    export(model, layout, tmp_path, compiled=False)
    readme = (tmp_path / "README.md").read_text()
    for option in (" -B ", " -d "):
        assert all(part.startswith("../") for part in readme.split(option)[1:])
    assert "the copy" in readme or "Copy this folder" in readme or "../tasuki_lamp_build" in readme


def test_a_folder_that_was_built_in_or_changed(model: Generated, tmp_path: Path) -> None:
    export(model, "cmake", tmp_path, compiled=False)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "CMakeCache.txt").write_text("")
    export(model, "cmake", tmp_path, compiled=False)
    (tmp_path / "example" / "main.c").write_text("mine")
    with pytest.raises(
        FirmwareError, match=r"would lose example/main\.c \(changed\): move it, or choose another --out"
    ):
        export(model, "cmake", tmp_path, compiled=False)
    with pytest.raises(FirmwareError, match="has the layout 'cmake', not 'pico'"):
        export(model, "pico", tmp_path, compiled=False)
    assert (tmp_path / "example" / "main.c").read_text() == "mine"


def test_a_layout_that_is_not_there(model: Generated, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layout 'mbed'; there are cmake"):
        export(model, "mbed", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_is_left_alone(model: Generated, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FirmwareError, match="was not made by"):
        export(model, "cmake", tmp_path, compiled=False)
    assert tree(tmp_path) == {"notes.txt": b"mine"}


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


def installed(out: Path, *flags: str) -> Path:
    """The example of the export `out`, built as its README says."""
    there = out.parent
    cmake("-S", out, "-B", there / "library", *flags)
    cmake("--build", there / "library", "--parallel", "2")
    cmake("--install", there / "library", "--prefix", there / "there")
    cmake("-S", out / "example", "-B", there / "example", f"-DCMAKE_PREFIX_PATH={there / 'there'}", *flags)
    cmake("--build", there / "example")
    return there / "example" / "example"


@pytest.mark.boards
def test_find_package_finds_the_installed_library(each: Generated, tmp_path: Path) -> None:
    export(each, "cmake", tmp_path / "out", compiled=False)
    done = subprocess.run([installed(tmp_path / "out")], capture_output=True, text=True, errors="replace", check=True)
    wanted = {
        None: r"the first value of \w+ is -?\d+\n",
        "classify": r"\w+, \d+ %\n",
        "causal": r"(?s).+\n\d+ tokens\n",
    }
    assert re.fullmatch(wanted[each.artifact.task if each.artifact else None], done.stdout)
    export(each, "cmake", tmp_path / "out", compiled=False)


# What the other system has beside the headers that the examples include: here it does nothing.
STAND_INS = {
    "zephyr": (
        "#include <zephyr/kernel.h>\n#include <zephyr/sys/printk.h>\n"
        "int32_t k_msleep(int32_t ms) { return ms; }\nvoid printk(const char *format, ...) { (void)format; }\n"
    ),
    "arduino": (
        "#include <Arduino.h>\nLine Serial;\nvoid Line::begin(unsigned long) {}\n"
        "size_t Line::println(const char *) { return 0; }\n"
        "size_t Line::write(const uint8_t *, size_t count) { return count; }\n"
        "void delay(unsigned long) {}\nint main() { setup(); for (;;) loop(); }\n"
    ),
    "esp-idf": (
        '#include "freertos/FreeRTOS.h"\n#include "freertos/task.h"\n'
        "void vTaskDelay(TickType_t ticks) { (void)ticks; }\nint main(void) { app_main(); }\n"
    ),
    "pico": (
        '#include "pico/stdlib.h"\nbool stdio_init_all(void) { return true; }\n'
        "void sleep_ms(uint32_t ms) { (void)ms; }\n"
    ),
}
# How it links a library: from its archive, and Zephyr all of it, less what nothing calls.
LINKED = {"zephyr": ("-Wl,--gc-sections", "-Wl,--whole-archive", "library.a", "-Wl,--no-whole-archive")}


@pytest.mark.boards
@pytest.mark.parametrize("layout", sorted(STAND_INS))
def test_the_example_links_without_a_port(each: Generated, layout: str, tmp_path: Path) -> None:
    export(each, layout, tmp_path / "out", compiled=False)
    ecosystem = ECOSYSTEMS[layout]
    core = [
        *ecosystem.cores[0],
        f"-I{tmp_path / 'out' / ecosystem.headers}",
        f"-I{TEMPLATES / 'export/stubs' / layout}",
    ]

    def gcc(*words: str | Path) -> None:
        done = subprocess.run(
            ["arm-none-eabi-g++" if layout == "arduino" and "-c" not in words else "arm-none-eabi-gcc", *core, *words],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    gcc(*C_FLAGS, "-c", *sorted((tmp_path / "out" / "src").glob("*.c")))
    subprocess.run(["arm-none-eabi-ar", "rcs", "library.a", *tmp_path.glob("*.o")], cwd=tmp_path, check=True)
    kind = "c++" if layout == "arduino" else "c"
    (tmp_path / "stand_ins").write_text(STAND_INS[layout])
    own = ("-x", kind, tmp_path / "out" / ecosystem.example, tmp_path / "stand_ins", "-x", "none")
    gcc(*own, *LINKED.get(layout, ("library.a",)), "-specs=nosys.specs", "-o", "example.elf")


@pytest.mark.boards
def test_the_cmake_example_links_for_a_board_without_a_port(each: Generated, tmp_path: Path) -> None:
    export(each, "cmake", tmp_path / "out", compiled=False)
    flags = {
        "SYSTEM_NAME": "Generic", "C_COMPILER": "arm-none-eabi-gcc", "C_FLAGS": " ".join(ECOSYSTEMS["cmake"].cores[0]),
        "EXE_LINKER_FLAGS": "-specs=nosys.specs",
    }  # fmt: skip
    image = installed(tmp_path / "out", *(f"-DCMAKE_{name}={value}" for name, value in flags.items()))
    assert any(path.read_bytes()[:4] == b"\x7fELF" for path in image.parent.glob("example*") if path.is_file())


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
