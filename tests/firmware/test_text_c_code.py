"""What becomes C: any label and any number comes out as it went in, with gcc and clang and without a warning."""

import ctypes
import subprocess
from pathlib import Path

import artifact_kit
import causal_kit
import numpy as np
import pytest
from firmware import serve_kit, text_kit
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.firmware_bridge import text
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.target.boards import PORTS
from tasuki.firmware_bridge.target.image import RUNTIME
from tasuki.firmware_bridge.target.toolchain import find
from tasuki.firmware_bridge.text.c_code import number, string
from tasuki.sdk import artifact
from tasuki.sdk.manifest import write

_ARM = "arm-none-eabi-gcc"
_HOSTILE = ('"', "\\", "*/ int x; /*", "??/", "%s", "a\\", "é电\U0001f600", "a" * 64, "// x", "0", "turn_on", "turn on")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), min_size=1, max_size=30))
@settings(deadline=None, max_examples=8)
def test_strings(words: list[str]) -> None:
    words += _HOSTILE
    code = f"const char *words[{len(words)}] = {{{', '.join(map(string, words))}}};\n"
    found = (ctypes.c_char_p * len(words)).in_dll(text_kit.compiled(code), "words")
    assert [word.decode() for word in found if word is not None] == words


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=200))
@settings(deadline=None, max_examples=8)
def test_numbers(values: list[float]) -> None:
    code = f"const float values[{len(values)}] = {{{', '.join(map(number, values))}}};\n"
    found = (ctypes.c_float * len(values)).in_dll(text_kit.compiled(code), "values")
    np.testing.assert_array_equal(np.array(found, np.float32), np.array(values, np.float32))


def test_hostile_labels_become_distinct_constants() -> None:
    labels = list(_HOSTILE)
    fields = artifact_kit.listed(artifact_kit.about(labels=labels, logits={"output": 2, "width": len(labels)}))
    parts = artifact.parse(artifact_kit.with_manifest(write(fields)))
    from firmware.test_text_adapter import port

    from tasuki.firmware_bridge.compiler.program import Port, Program

    ids = Port(0, "ids", np.dtype(np.int32), (1, 8))
    program = Program("m", "tflm", (), (), (ids,), (port("a", 3), port("b", 2), port("c", len(labels))))
    files = text.generate(parts, [program], "lamp").files
    header = files["lamp_text.h"].decode()
    assert "TSK_LAMP_LABEL_TURN_ON = 10," in header
    assert "TSK_LAMP_LABEL_TURN_ON_2 = 11," in header
    assert files == text.generate(parts, [program], "lamp").files
    code = files["lamp_text.c"].decode().split("#include")[0] + header
    assert code.isascii()


@pytest.fixture(scope="module")
def both(tiny_artifact: Path) -> list[Generated]:
    """A classifier and a causal model."""
    return [serve_kit.generated(tiny_artifact.read_bytes()), serve_kit.generated(causal_kit.student())]


@pytest.mark.parametrize("compiler", ["cc", *(pytest.param(c, marks=pytest.mark.boards) for c in ("clang", _ARM))])
def test_compilers_have_nothing_to_say(both: list[Generated], compiler: str, tmp_path: Path) -> None:
    names = ("tokenizer", "adapter", "utf8", "bpe", "sampler", "causal", "serve")
    for place, made in enumerate(both):
        folder = tmp_path / str(place)
        folder.mkdir()
        for name, content in {**made.files, "main.c": text.application(made.name)}.items():
            (folder / name).write_bytes(content)
        own = [folder / name for name in ("main.c", "model_text.c", "model_serve.c")]
        sources = [*own, *(RUNTIME / "src" / f"tsk_{name}.c" for name in names)]
        for source in sources:
            for selftest in (0, 1):
                command = [
                    find(compiler), "-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror",
                    "-pedantic",
                    f"-DTSK_SELFTEST={selftest}", f"-I{folder}", f"-I{RUNTIME / 'include'}",
                    f"-I{RUNTIME / 'src'}", f"-I{PORTS}", "-fsyntax-only", source,
                ]  # fmt: skip
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                assert (done.returncode, done.stderr) == (0, ""), source


@pytest.mark.boards
def test_the_headers_are_cpp_too(both: list[Generated], tmp_path: Path) -> None:
    for made in both:
        for name in ("model.h", "model_text.h"):
            (tmp_path / name).write_bytes(made.files[name])
        user = tmp_path / "user.cpp"
        user.write_text('#include "model_text.h"\nint use(tsk_model_text_t *m) { return tsk_model_serve(m); }\n')
        command = [
            find(_ARM), "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{tmp_path}",
            f"-I{RUNTIME / 'include'}", f"-I{PORTS}", "-S", "-o", "-", user,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "\ttsk_model_serve\n" in done.stdout.replace(" ", "\t")
