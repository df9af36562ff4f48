"""The emitted C: it compiles without a warning whatever the model says, runs, tests itself, and is always the same."""

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from firmware import host_kit
from firmware import program_kit as kit
from hypothesis import given
from hypothesis import strategies as st

from tasuki.firmware_bridge.compiler.ir import Graph
from tasuki.firmware_bridge.compiler.program import Operand, Plan, Port, Program, Step
from tasuki.firmware_bridge.emit import c_unit, header, literals, model_files, naming
from tasuki.firmware_bridge.emit.vectors import Vector
from tasuki.sdk.errors import FirmwareError, ModelUnsupported

# The host's own compiler; clang and g++ come with the tools for the boards.
COMPILERS = ("cc", pytest.param("clang", marks=pytest.mark.boards))
X = np.arange(96, dtype=np.int8).reshape(8, 12)
HOSTILE = (
    "*/ int x = 1; /*", "??/", "a\\", "int", "serving_default_ids:0", "", "  ", "1st", "exp", "y0", "linux", "\n#error",
    "arena", "ünïcode", "memcpy", "tsk_kernels", "A" * 400, "row", "index", "a;b/c:0", '"', "%s", "__attribute__",
)  # fmt: skip


def _small(program: Program | None = None, wanted: Any = None, graph: Graph | None = None) -> SimpleNamespace:
    """What `host_kit` takes of the small program; `wanted` is the self-test's output."""
    program = program or kit.program()
    vector = Vector((X,), (X if wanted is None else wanted,))
    model = model_files.Model(
        "small", "tflm", [graph or kit.graph()], [program], [kit.plan()], [[vector]], "a small model", tflite_bytes=9
    )  # fmt: skip
    made = model_files.write(model)
    return SimpleNamespace(name="small", rounding="tflm", files=made.files, functions=made.functions, made=made)


def test_it_runs_and_both_builds_agree() -> None:
    model = _small()
    runs = [[X], [X[::-1]], [np.roll(X, 5)]]
    careful = host_kit.image([model]).run("small", runs)
    quick = host_kit.shared_library([model]).run("small", runs)
    for one, other in zip(careful, quick, strict=True):
        assert np.array_equal(one[0], other[0])
    assert len({a[0].tobytes() for a in careful}) == 3


def test_the_self_test_finds_a_single_wrong_bit() -> None:
    (right,) = host_kit.shared_library([_small()]).run("small", [[X]])
    wrong = right[0].copy()
    wrong[-1] ^= 1
    assert host_kit.image([_small(wanted=right[0])]).selftest("small") == 0
    assert host_kit.image([_small(wanted=wrong)]).selftest("small") == -4


def test_bad_arguments_are_refused() -> None:
    call = ctypes.CDLL(str(host_kit.shared_library([_small()]).path)).tsk_small_invoke
    memory = np.zeros(1024, np.uint8)
    arena = memory[-memory.ctypes.data % 16 :].ctypes.data
    x = ctypes.c_void_p(memory.ctypes.data + 512)
    y = ctypes.c_void_p(memory.ctypes.data + 700)
    assert call(ctypes.c_void_p(arena), x, y) == 0
    for arguments in ((None, x, y), (ctypes.c_void_p(arena), None, y), (ctypes.c_void_p(arena), x, None)):
        assert call(*arguments) == -1
    for shift in (1, 2, 4, 8):
        assert call(ctypes.c_void_p(arena + shift), x, y) == -1


@pytest.mark.parametrize("compiler", COMPILERS)
def test_names_of_a_hostile_model_are_harmless(compiler: str) -> None:
    """Names that are keywords, macros or built-in functions, or would end a comment, as each kind of name."""
    program = kit.program()
    for start in range(0, len(HOSTILE), 4):
        names = [*HOSTILE[start:], *HOSTILE[:start]]
        buffers = tuple(replace(b, name=names[i % len(names)]) for i, b in enumerate(program.buffers))
        graph = kit.graph()
        tensors = tuple(replace(t, name=names[i]) for i, t in enumerate(graph.tensors))
        ports = [replace(port, name=names[i]) for i, port in enumerate((*program.inputs, *program.outputs))]
        hostile = replace(
            program, buffers=buffers, inputs=(ports[0],), outputs=(ports[1],), notes=tuple(names)
        )  # fmt: skip
        model = _small(hostile, graph=replace(graph, tensors=tensors))
        host_kit.shared_library([model], ("-O0", "-fPIC"), compiler)


@given(st.text(max_size=60) | st.text("abc012._/", min_size=30, max_size=80))
def test_any_text_is_made_a_name_and_a_comment(text: str) -> None:
    name = naming.identifier(text, "in")
    assert name.isascii()
    assert name.isidentifier()
    assert name == name.lower()
    assert len(name) <= naming.MAX_NAME + 1
    assert not set(naming.comment(text)) & set('*/\\?"`|\n\r')
    assert not set(naming.markdown(text)) & set("`|<>[]*\\\n#")


def test_names_that_are_taken_get_a_number() -> None:
    names = naming.Names()
    assert [names.take(n) for n in ("ids", "ids", "IDS", "ids_2", "x")] == ["ids", "ids_2", "IDS_3", "ids_2_2", "x"]


@pytest.mark.parametrize(
    "name", ["", "Lamp", "1st", "tsk_kernels", "int", "a-b", "a" * 25, "../x", "arena", "ä", "string", "con"]
)
def test_a_name_that_c_can_not_have_is_refused(name: str) -> None:
    with pytest.raises(FirmwareError, match="can't be a model's name in C"):
        naming.build_name(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [("serve", "the runtime has tsk_serve_"), ("fc", "the runtime has tsk_fc_s"), ("port", "the runtime has tsk_port_"),
     ("model_text", "end in _text"), ("a_selftest", "end in _text"), ("lamp_serve", "end in _text")],
)  # fmt: skip
def test_a_name_that_meets_others_of_ours_is_refused(name: str, said: str) -> None:
    with pytest.raises(FirmwareError, match=f"{name}' can't be a model's name in C: .*{said}.*choose another"):
        naming.build_name(name)


@pytest.mark.parametrize("name", ["model", "lamp", "text", "fast", "f", "servers", "kernel"])
def test_other_names_are_not_refused(name: str) -> None:
    assert naming.build_name(name) == name


def test_long_names_keep_what_tells_them_apart() -> None:
    kinds = ("weight", "weight_bias", "weight_multiplier", "weight_shift")
    made = [naming.identifier(f"{n}.attend.change.{kind}", "data") for n in (0, 1, 17) for kind in kinds]
    assert len(set(made)) == len(made)
    assert made[:2] == ["data_0_attend_change_weight", "data_0_attend_change_weight_bias"]
    for kind in kinds:
        assert naming.identifier(f"Stateful/encoder/layer_12/attention/self/dense.{kind}", "data").endswith(kind)
        assert "layer_12" in naming.identifier(f"Stateful/encoder/layer_12/attention/self/dense.{kind}", "data")
    assert naming.identifier("a/b/dense_1/MatMul", "data") == "a_b_dense_1_matmul"
    keras = naming.identifier("functional_1/2_add_2_88_mean.weight_multiplier", "data")
    assert keras == "data_1_2_add_2_88_mean_weight_multiplier"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_it_compiles_without_the_self_test(compiler: str) -> None:
    library = host_kit.shared_library([_small()], ("-O1", "-fPIC", "-DTSK_SELFTEST=0"), compiler)
    assert not hasattr(ctypes.CDLL(str(library.path)), "tsk_small_selftest")


def test_the_wrong_rounding_does_not_compile() -> None:
    with pytest.raises(AssertionError, match="made with another rounding: compile everything with -DTSK_ROUNDING=0"):
        host_kit.compile_c(_small().files, "shared", rounding="single")


@pytest.mark.boards
def test_the_header_is_also_one_of_cpp(tmp_path: Path) -> None:
    (tmp_path / "small.h").write_bytes(_small().files["small.h"])
    subprocess.run(
        ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-xc++", "small.h",
         f"-I{header.RUNTIME / 'include'}"],
        cwd=tmp_path, check=True, timeout=60,
    )  # fmt: skip


@pytest.mark.boards
@pytest.mark.parametrize("standard", ["c++11", "c++14", "c++17"])
def test_scales_are_exact_in_cpp(standard: str, tmp_path: Path) -> None:
    """Numbers of the header in an array, as a program of C++ has them."""
    rng = np.random.default_rng(3)
    drawn = rng.integers(1, 0x7F800000, 400, np.uint32).view(np.float32)
    values = np.append(drawn, np.float32([1, 2.5e7, 0.25, 1e-45]))
    numbers = ", ".join(literals.decimal(value) for value in values.tolist())
    (tmp_path / "small.h").write_bytes(_small().files["small.h"])
    (tmp_path / "x.cpp").write_text(
        f'#include "small.h"\nextern "C" {{ extern const float all[]; const float all[] = {{{numbers}}};\n'
        "extern const float y; const float y = TSK_SMALL_Y_SCALE; }\n"
    )
    command = ["g++", f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC", "x.cpp"]
    subprocess.run(
        [*command, f"-I{header.RUNTIME / 'include'}", "-o", "x.so"], cwd=tmp_path, check=True, timeout=60
    )  # fmt: skip
    found = ctypes.CDLL(str(tmp_path / "x.so"))
    assert np.array_equal(np.array((ctypes.c_float * len(values)).in_dll(found, "all"), np.float32), values)
    assert ctypes.c_float.in_dll(found, "y").value == 0.25


def test_extreme_constants_survive() -> None:
    """The ends of each type, and floats to the last bit, through gcc and back."""
    arrays = {
        "int8_t": np.array([-128, 127], np.int8), "int16_t": np.array([-(1 << 15), (1 << 15) - 1], np.int16),
        "int32_t": np.array([-(1 << 31), (1 << 31) - 1], np.int32),
        "int64_t": np.array([-(1 << 63), (1 << 63) - 1, 5], np.int64), "uint8_t": np.array([True, False]),
        "float": np.array([np.finfo(np.float32).tiny, 1e-45, 3.4e38, -0.1, -0.0], np.float32),
        "double": np.array([5e-324, 1.7e308, np.pi, -0.0], np.float64),
    }  # fmt: skip
    text = ["#include <stdint.h>"]
    for kind, data in arrays.items():
        text += [f"const {kind} an_{kind}[] = {{", *literals.lines(data), "};", f"const {kind} *get_{kind}(void);"]
        text += [f"const {kind} *get_{kind}(void) {{ return an_{kind}; }}"]
    library = ctypes.CDLL(str(host_kit.compile_c({"x.c": "\n".join(text).encode()}, "shared")))
    for kind, data in arrays.items():
        get = getattr(library, f"get_{kind}")
        get.restype = ctypes.c_void_p
        assert ctypes.string_at(get(), data.nbytes) == data.tobytes(), kind


def test_constants_that_are_not_finite_are_refused() -> None:
    number = 20
    program = kit.program()
    endless = kit.buffer(number, "model", 4, "bound", np.array([np.inf], np.float32), np.float32)
    params = {"columns": 1, "from": 4, "to": 1}
    step = Step("cast", params, (Operand(number),), (Operand(2),), 1, source=(0,))
    program = replace(program, buffers=(*program.buffers, endless), body=(step, *program.body))
    with pytest.raises(ModelUnsupported, match="the constant bound has values that are not finite"):
        c_unit.unit([kit.graph()], [program], [kit.plan()])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"params": {"lut": Operand(14), "rows": 12}}, r"has other fields: \['columns', 'rows'\]"),
        ({"reads": ()}, "has other pointers"),
        ({"rows": None}, "wrong about rows or scratch"),
        ({"scratch": 16}, "wrong about rows or scratch"),
    ],
)
def test_a_step_that_is_not_as_the_header_says_is_refused(change: dict[str, Any], match: str) -> None:
    step = replace(kit.lut(Operand(0), Operand(1), 8), **change)
    with pytest.raises(ValueError, match=match):
        c_unit.unit([kit.graph()], [kit.with_steps(kit.program(), step)], [kit.plan()])


def test_two_functions_share_what_is_equal() -> None:
    first, second = kit.program("two"), kit.program("two_again")
    unit = c_unit.unit([kit.graph()] * 2, [first, second], [kit.plan()] * 2)
    assert len(unit.arrays) == 5
    assert len(unit.structs) == 3
    assert [f.name for f in unit.functions] == ["two", "two_again"]
    assert unit.functions[0].inputs[0].macro == "TSK_TWO_X"
    assert unit.functions[1].inputs[0].macro == "TSK_TWO_AGAIN_X"


def test_macros_of_different_functions_never_meet() -> None:
    """Input `b_x` of `m` and input `x` of `m_b` would both be TSK_M_B_X."""
    first, second = kit.program("m"), kit.program("m_b")
    first = replace(first, inputs=(replace(first.inputs[0], name="b_x"),))
    unit = c_unit.unit([kit.graph()] * 2, [first, second], [kit.plan()] * 2)
    macros = [p.macro for f in unit.functions for p in (*f.inputs, *f.outputs)]
    assert len(set(macros)) == len(macros)


def test_the_runtimes_header_is_read_right() -> None:
    kernel = header.kernels()["fc_s8"]
    assert kernel.struct == "tsk_fc_s8_t"
    assert kernel.fields[0] == header.Field("weights", "int8_t", pointer=True)
    assert (kernel.reads, kernel.writes, kernel.rows, kernel.scratch) == (("int8_t",), ("int8_t",), True, True)
    assert header.kernels()["gather"].status
    batch = {f.name: f for f in header.kernels()["matmul_s8"].fields}["batch"]
    assert batch.array


def test_an_empty_arena_still_has_a_size_that_c_allows() -> None:
    program = kit.with_steps(kit.program(), kit.lut(Operand(0), Operand(1), 8))
    model = model_files.Model(
        "small", "tflm", [kit.graph()], [program], [Plan({}, 0, 0)], [[Vector((X,), (X,))]], "no arena"
    )  # fmt: skip
    made = model_files.write(model)
    assert b"TSK_SMALL_ARENA_BYTES 16\n" in made.files["small.h"]
    assert b"at(" not in made.files["small.c"]
    found = SimpleNamespace(name="small", rounding="tflm", files=made.files, functions=made.functions)
    ((y,),) = host_kit.image([found]).run("small", [[X]])
    assert np.array_equal(y.reshape(X.shape), kit.program().buffers[-1].data[X])  # type: ignore[index]


def test_the_readme_says_what_there_is() -> None:
    text = _small().files["README.md"].decode()
    assert "| arena, RAM, free between calls | 320 |" in text
    assert "| input | `x` | int8 [8][12] | real = 0.5 (value - 0) |" in text
    assert "- a note" in text
    assert "tsk_small_invoke(arena, x, y)" in text


def test_a_port_without_a_grid_has_no_scale() -> None:
    program = kit.program()
    bare = Port(0, "x", kit.INT8, (8, 12))
    text = _small(replace(program, inputs=(bare,))).files["small.h"].decode()
    assert "TSK_SMALL_X_SCALE" not in text
    assert "TSK_SMALL_Y_SCALE 0.25f\n" in text
