"""What the tests think of `tsk_kernels.h` is what the compiler thinks; configurations that cannot be are refused."""

import ctypes
import re
import subprocess
from pathlib import Path

import pytest
from firmware.kernel_kit import FLAGS, Compiler, build, header, includes, kernels, library, sources, structs
from firmware.test_kernels_products import fc_scratch, matmul_scratch

from tasuki.firmware_bridge.emit.header import RUNTIME

_COMPILERS = ("cc", pytest.param("clang", marks=pytest.mark.boards))


@pytest.mark.parametrize("compiler", _COMPILERS)
def test_structs_are_laid_out_as_the_tests_say(compiler: Compiler) -> None:
    lines = [f'printf("%zu\\n", sizeof({name}));' for name in structs()]
    lines += [f'printf("%zu\\n", offsetof({name}, {f}));' for name, s in structs().items() for f, *_ in s._fields_]
    code = "#include <stdio.h>\n#include <tsk_kernels.h>\nint main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    program = build(".layout.exe", compiler, (), [], code)
    found = [int(line) for line in subprocess.run([program], capture_output=True, check=True).stdout.split()]
    wanted = [ctypes.sizeof(s) for s in structs().values()]
    wanted += [getattr(s, f).offset for s in structs().values() for f, *_ in s._fields_]
    assert found == wanted


def test_nothing_of_the_header_is_missed() -> None:
    declared = set(re.findall(r"tsk_(\w+)_plain\(", header()))
    assert declared == set(kernels())
    assert len(re.findall(r"\btypedef struct\b", header())) == len({*structs().values()})


@pytest.mark.parametrize("rounding", ["tflm", "single"])
@pytest.mark.parametrize("compiler", _COMPILERS)
def test_every_kernel_is_defined(rounding: str, compiler: Compiler) -> None:
    # Both compilers, with all warnings as errors.
    found = library(rounding, compiler)
    assert all(hasattr(found, f"tsk_{name}_plain") for name in kernels())


@pytest.mark.parametrize("size", [1, 4, 5, 131])
def test_scratch_is_what_the_macros_say(size: int) -> None:
    code = "#include <tsk_kernels.h>\nint scratch(int n, int k);\nint scratch(int n, int k) { return n ? "
    code += "TSK_MATMUL_S8_SCRATCH(n, k) : TSK_FC_S8_SCRATCH(k); }\n"
    found = ctypes.CDLL(str(build(".scratch.so", "cc", ("-shared", "-fPIC"), [], code)))
    assert found.scratch(0, size) == fc_scratch(size)
    assert found.scratch(7, size) == matmul_scratch(7, size)


_REFUSED = {
    "TSK_ROUNDING=2": "TSK_ROUNDING must be",
    "TSK_KERNELS=3": "TSK_KERNELS must be",
    "TSK_KERNELS=1": "needs the DSP extension",
    "TSK_KERNELS=2": "needs Helium",
    "TSK_SELFTEST=2": "TSK_SELFTEST must be",
}


@pytest.mark.parametrize("choice", _REFUSED)
def test_impossible_choices_do_not_compile(choice: str, tmp_path: Path) -> None:
    code = tmp_path / "choice.c"
    code.write_text("#include <tsk_kernels.h>\n")
    command = ["cc", *FLAGS, *includes(), f"-D{choice}", "-c", "-o", tmp_path / "choice.o", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert _REFUSED[choice] in done.stderr


def test_kernels_use_no_allocation_and_no_libm() -> None:
    for path in sources():
        text = path.read_text()
        assert not re.search(r"\b(malloc|calloc|realloc|alloca|free)\b", text), path.name
        assert "<math.h>" not in text, path.name


def test_headers_stand_alone(tmp_path: Path) -> None:
    for path in sorted(RUNTIME.glob("*/tsk_*.h")):
        if (
            path.name == "tsk_select.h"
            or path.name.endswith(("_dsp.h", "_mve.h"))
            or path.stem in ("tsk_dsp", "tsk_mve")
        ):
            # Parts of tsk_kernels.h and of files for one target.
            continue
        code = tmp_path / "alone.c"
        code.write_text(f'#include "{path.name}"\n#include "{path.name}"\ntypedef int something;\n')
        ports = f"-I{RUNTIME.parent / 'ports'}"
        subprocess.run(["cc", *FLAGS, *includes(), ports, "-c", "-o", tmp_path / "alone.o", code], check=True)
