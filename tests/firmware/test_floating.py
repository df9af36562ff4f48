"""What is computed in floating point is what the READMEs say: by what the linker takes from libgcc, without an FPU."""

import re
import subprocess
from pathlib import Path

import causal_kit
import pytest
from firmware.graph_kit import Builder, small

from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.emit import floating, header
from tasuki.firmware_bridge.target import toolchain

pytestmark = pytest.mark.boards
_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=soft")
# Additions to conversions, of binary32 and of binary64: __aeabi_fmul, __aeabi_ui2f, __aeabi_cdcmple ...
_NAMES = {
    kind: re.compile(rf"\b__aeabi_(?:c?{kind}r?(?:add|sub|mul|div|cmp)|(?:u?[il]|[fd])2{kind}\b|{kind}2)")
    for kind in ("f", "d")
}


@pytest.fixture(scope="module", params=["tflm", "single"])
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A rounding, and the folder of a small model that has it, as a library."""
    folder = tmp_path_factory.mktemp(request.param) / "lamp"
    return request.param, _library(small().build(), request.param, folder)


def _library(source: Path | bytes, rounding: str, folder: Path) -> Path:
    build.write(build.generate(source, "lamp", rounding).files, folder)
    tools = [f"{name}={toolchain.find(f'arm-none-eabi-{tool}')}" for name, tool in (("CC", "gcc"), ("AR", "ar"))]
    subprocess.run(
        ["make", "-s", "-j2", *tools, f"CFLAGS=-O1 {' '.join(_M4)}"], cwd=folder, check=True, timeout=300
    )  # fmt: skip
    return folder


def _taken(folder: Path, function: str) -> set[str]:
    """The kinds of floating point (f binary32, d binary64, m libm) that a program which only has `function` takes."""
    words = [toolchain.find("arm-none-eabi-gcc"), *_M4, "-nostartfiles", "-nostdlib", "-Wl,--gc-sections"]
    words += [f"-Wl,-e,{function}", f"-Wl,-u,{function}", "-L.", "-llamp", "-Wl,--start-group", "-lc_nano", "-lgcc"]
    out = folder.parent / "one.elf"
    subprocess.run([*words, "-specs=nano.specs", "-o", out], cwd=folder, check=True, timeout=60)
    names = _names(out)
    found = {kind for kind, wanted in _NAMES.items() if wanted.search(names)}
    return found | ({"m"} if re.search(r" T (?:exp|log|pow|sqrt|round|floor|ldexp|fabs)", names) else set())


def _names(file: Path) -> str:
    nm = toolchain.find("arm-none-eabi-nm")
    return subprocess.run([nm, file], capture_output=True, text=True, check=True, timeout=60).stdout


def test_every_kernel_is_on_the_right_list(runtime: tuple[str, Path]) -> None:
    rounding, folder = runtime
    found = {name: _taken(folder, f"tsk_{name}_plain") for name in header.kernels()}
    for name, kinds in found.items():
        if name in floating.SINGLE:
            assert kinds == {"f"}, name
        elif name in floating.DOUBLE and rounding == "single" and kinds:
            assert "d" in kinds, name
        else:
            assert kinds == set(), name


def test_fast_kernels_are_too(runtime: tuple[str, Path]) -> None:
    rounding, folder = runtime
    fast = set(re.findall(r" T tsk_(\w+)_dsp\b", _names(folder / "liblamp.a")))
    assert {"fc_s8", "matmul_s8", "softmax_s8"} <= fast
    for name in fast:
        wanted = {"d"} if rounding == "single" and name in floating.DOUBLE else set()
        assert _taken(folder, f"tsk_{name}_dsp") >= wanted
        assert bool(_taken(folder, f"tsk_{name}_dsp")) == bool(wanted), name


def test_the_self_test_computes_as_the_model_does(runtime: tuple[str, Path]) -> None:
    rounding, folder = runtime
    assert bool(_taken(folder, "tsk_lamp_selftest")) == (rounding == "single")
    readme = (folder / "README.md").read_text()
    assert ("computes in integers alone." in readme) == (rounding == "tflm") == (not _taken(folder, "tsk_lamp_invoke"))


def test_text_takes_what_the_readme_says(tiny_artifact: Path, tmp_path: Path) -> None:
    label = _library(tiny_artifact, "tflm", tmp_path / "label" / "lamp")
    assert _taken(label, "tsk_lamp_invoke") == set()
    assert _taken(label, "tsk_lamp_classify") == {"f"}
    assert "`tsk_lamp_classify` computes the confidence in binary32. Where" in (label / "README.md").read_text()
    words = _library(causal_kit.student(), "tflm", tmp_path / "words" / "lamp")
    assert _taken(words, "tsk_lamp_invoke") == set()
    assert _taken(words, "tsk_lamp_generate") == {"f", "d"}
    assert "`tsk_lamp_generate` chooses tokens in binary64. Where" in (words / "README.md").read_text()


def test_floats_at_the_edge_of_a_model_are_named(tmp_path: Path) -> None:
    g = Builder()
    x = g.input((1, 4), "int8", 0.1, name="x")
    g.output(g.op("DEQUANTIZE", [x], (1, 4), "float32", name="y"))
    made = _library(g.build(), "tflm", tmp_path / "lamp")
    assert _taken(made, "tsk_lamp_invoke") == {"f"}
    readme = (made / "README.md").read_text()
    assert "`tsk_lamp_invoke` converts between floats and integers in binary32. Where" in readme
