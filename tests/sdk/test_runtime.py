"""The seam to the interpreter with one that gives what the test says: depths, types, and what a file may not do."""

import subprocess
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasuki.sdk import artifact, runtime
from tasuki.sdk.errors import ArtifactCorrupt, InputError
from tasuki.sdk.runtime import Body, Options, Outputs


def output(name: str, values: Any, kind: type, scale: float = 0.0, zero: int = 0) -> dict[str, Any]:
    found = np.array(values, kind)
    return {"name": name, "index": name, "shape": found.shape, "dtype": kind, "quantization": (scale, zero),
            "values": found}  # fmt: skip


OUTPUTS = [
    output("logits", [[-128, 127]], np.int8, 0.5, -1),
    output("deep", [[1000, -32768, 32767]], np.int16, 0.25),
    output("shallow", [[7, 8]], np.int8, 2.0, 7),
    output("plain", [[0.5, -1.5]], np.float32),
]


class FakeInterpreter:
    outputs = OUTPUTS
    input_ = {"index": 0, "shape": np.array([1, 4]), "dtype": np.int32}  # noqa: RUF012
    fails = False
    given: dict[str, Any]

    def __init__(self, num_threads: int, **given: Any) -> None:
        type(self).given = {"num_threads": num_threads, **given}

    def allocate_tensors(self) -> None:
        pass

    def get_input_details(self) -> list[dict[str, Any]]:
        return [self.input_]

    def get_output_details(self) -> list[dict[str, Any]]:
        return self.outputs

    def set_tensor(self, index: int, ids: Any) -> None:
        assert ids.shape == (1, 4)

    def invoke(self) -> None:
        if self.fails:
            raise RuntimeError("gather index out of bounds")

    def get_tensor(self, name: str) -> Any:
        return next(o["values"] for o in self.outputs if o["name"] == name)


def use(monkeypatch: pytest.MonkeyPatch, **other: Any) -> type[FakeInterpreter]:
    made = type("Interpreter", (FakeInterpreter,), other)
    monkeypatch.setattr(runtime, "load_interpreter", lambda: ("fake", made))
    return made


IDS = np.zeros(4, np.int32)


def test_features_of_all_depths_come_joined_and_dequantised(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    body = Body(b"", Outputs((2, 1, 3), 0))
    assert (body.widths, body.shape, body.tokens) == ((2, 3, 2), (7, 2), 4)
    features, logits = body.run(IDS)
    np.testing.assert_array_equal(features, [0, 2, 250, -8192, 8191.75, 0.5, -1.5])
    np.testing.assert_array_equal(logits, [-63.5, 64])
    assert features.dtype == logits.dtype == np.float32


@pytest.mark.parametrize(
    "wrong",
    [
        output("x", [[1, 2]], np.int8, 0.0),
        output("x", [[1, 2]], np.int8, np.nan),
        output("x", [[1, 2]], np.int16, np.inf),
        output("x", [[1, 2]], np.int8, -1.0),
        output("x", [[1, 2]], np.int32, 1.0),
        output("x", [[1, 2]], np.float64),
        output("x", [[[1, 2]]], np.int8, 1.0),
        output("x", [[1], [2]], np.int8, 1.0),
    ],
)
def test_outputs_that_no_artifact_has(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]) -> None:
    use(monkeypatch, outputs=[wrong, *OUTPUTS])
    with pytest.raises(ArtifactCorrupt, match="output x"):
        Body(b"", Outputs((0,), 1))


def test_an_output_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    with pytest.raises(ArtifactCorrupt):
        Body(b"", Outputs((0, 9), 1))


@pytest.mark.parametrize("wrong", [{"shape": np.array([2, 4])}, {"shape": np.array([4])}, {"dtype": np.float32}])
def test_inputs_that_no_artifact_has(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]) -> None:
    use(monkeypatch, input_={**FakeInterpreter.input_, **wrong})
    with pytest.raises(ArtifactCorrupt, match="input"):
        Body(b"", Outputs((2,), 0))


def test_a_model_that_fails_or_gives_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, fails=True)
    with pytest.raises(ArtifactCorrupt, match="out of bounds"):
        Body(b"", Outputs((2,), 0)).run(IDS)
    use(monkeypatch, outputs=[output("x", [[np.nan, 1]], np.float32), *OUTPUTS])
    with pytest.raises(ArtifactCorrupt, match="not finite"):
        Body(b"", Outputs((0,), 1)).run(IDS)


def test_the_raw_codes_are_those_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    body = Body(b"", Outputs((2, 1), 0))
    logits = body.answer(IDS[None])
    np.testing.assert_array_equal(logits, [[-128, 127]])
    shallow, deep = body.raw_features()
    assert (logits.dtype, shallow.dtype, deep.dtype) == (np.int8, np.int8, np.int16)
    np.testing.assert_array_equal(deep, [1000, -32768, 32767])


# --- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, 65, -1, True, 2.0, "2", None])
def test_threads_that_make_no_sense(threads: Any) -> None:
    with pytest.raises(InputError, match="threads"):
        Options(threads)


@pytest.mark.parametrize("library", ["", 3, b"x.so"])
def test_delegates_that_are_no_paths(library: Any) -> None:
    with pytest.raises(InputError, match="delegate"):
        Options(delegate=library)


@pytest.mark.parametrize("threads", [1, 64])
def test_the_threads_reach_the_runtime(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    made = use(monkeypatch)
    Body(b"m", Outputs((2,), 0), Options(threads))
    assert made.given == {"num_threads": threads, "model_content": b"m"}


def test_a_delegate_is_loaded_with_what_the_runtime_has_beside_its_class(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = use(monkeypatch)
    beside = types.ModuleType("fake.interpreter")
    beside.load_delegate = lambda library: ("loaded", library)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake.interpreter", beside)
    library = compiled(tmp_path, WITHOUT_KERNELS)
    Body(b"m", Outputs((2,), 0), Options(2, library))
    assert made.given == {
        "num_threads": 2, "model_content": b"m", "experimental_delegates": [("loaded", str(library))]
    }  # fmt: skip


# The plug-in interface of both runtimes; this one has nothing to offer.
WITHOUT_KERNELS = """
#include <stddef.h>
void* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
  report("no such chip here");
  return NULL;
}
void tflite_plugin_destroy_delegate(void* delegate) {}
"""
# TfLiteDelegate (tflite/core/c/common.h): data, Prepare, ..., flags. Prepare takes no node and is content.
IDLE = """
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
struct delegate { void* data; int (*prepare)(void*, struct delegate*); void* others[16]; };
static int prepare(void* context, struct delegate* self) { fputs("delegate was asked", stderr); return 0; }
void* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
  struct delegate* made = calloc(1, sizeof *made);
  made->prepare = prepare;
  return made;
}
void tflite_plugin_destroy_delegate(void* made) { free(made); }
"""
RUN = """
import sys
from tasuki.sdk import artifact
from tasuki.sdk.runtime import Body, Options
parts = artifact.load(sys.argv[1], mapped=True)
body = Body(parts.model, parts.outputs, Options(1, sys.argv[2]))
print(body.run(parts.tokenizer().encode("turn on the light"))[1].tolist())
"""


def compiled(folder: Path, source: str) -> Path:
    """A shared library; fails the test without a C compiler."""
    made = folder / f"delegate-{zlib.crc32(source.encode())}.so"
    words = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", made]
    try:
        subprocess.run(words, input=source, text=True, check=True)
    except FileNotFoundError:
        pytest.fail("no C compiler: apt-get install gcc libc6-dev")
    return made


def test_libraries_that_are_no_delegates(tiny_artifact: Path, tmp_path: Path) -> None:
    parts = artifact.load(tiny_artifact)
    noise = tmp_path / "noise.so"
    noise.write_bytes(b"no library")
    foreign = compiled(tmp_path, "int nothing;")
    for library in (tmp_path / "missing.so", noise, foreign):
        with pytest.raises(InputError, match=library.name):
            Body(parts.model, parts.outputs, Options(delegate=library))
    with pytest.raises(InputError, match="no such chip here"):
        Body(parts.model, parts.outputs, Options(delegate=compiled(tmp_path, WITHOUT_KERNELS)))


def test_a_delegate_takes_part(tiny_artifact: Path, tmp_path: Path) -> None:
    """In a process of its own: a delegate's mistake would take this one with it."""
    words = [sys.executable, "-c", RUN, tiny_artifact, compiled(tmp_path, IDLE)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "delegate was asked" in done.stderr
    parts = artifact.load(tiny_artifact)
    plain = Body(parts.model, parts.outputs).run(parts.tokenizer().encode("turn on the light"))[1]
    assert done.stdout.strip() == str(plain.tolist())
