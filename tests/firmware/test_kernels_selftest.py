"""The boot self-test: it passes where every form is right, and fails for each kernel with one wrong bit."""

import ctypes
import re
from typing import Final

import numpy as np
import pytest
from firmware.kernel_kit import build, sources

from tasuki.firmware_bridge.emit.header import RUNTIME

_OK, _SPACE, _SELFTEST = 0, -3, -4
_SCRATCH: Final = 4096
_HEADERS: Final = RUNTIME / "include"
# The kernels that have fast forms, and the names of what they take.
_FAST: Final = {
    "fc_s8": "p, x, y, rows, scratch", "matmul_s8": "p, a, b, y, scratch", "softmax_s8": "p, x, y, rows",
    "add_s8": "p, a, b, y, rows", "mul_s8": "p, a, b, y, rows", "squared_difference_s8": "p, a, b, y, rows",
    "lut_s8": "p, x, y, rows", "reduce_s8": "p, x, y, rows",
}  # fmt: skip


_FAULTS: Final = {
    "right": "",
    "bit": "y[0] = (int8_t)(y[0] ^ ((y[0] & 1) << 1));",  # only where that byte is odd
    "beyond": "y[255] = 1;",
}


@pytest.fixture(scope="module", params=[0, 1], ids=["tflm", "single"])
def probe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The self-test with a probe for each fast form: the plain one, and then the fault that `fault` chose."""
    folder = tmp_path_factory.mktemp("probe")
    select = (_HEADERS / "tsk_select.h").read_text()
    code = '#include "tsk_kernels.h"\nint fault_kernel, fault_kind;\n'
    for number, (kernel, arguments) in enumerate(_FAST.items()):
        prototype = _prototype(kernel)
        select = re.sub(rf"#define tsk_{kernel} .*", f"#define tsk_{kernel} tsk_{kernel}_probe\n{prototype};", select)
        faults = "".join(
            f"    if (fault_kernel == {number} && fault_kind == {kind}) {{ {body} }}\n"
            for kind, body in enumerate(_FAULTS.values())
        )
        code += f"{prototype} {{\n    tsk_{kernel}_plain({arguments});\n{faults}}}\n"
    (folder / "tsk_select.h").write_text(select)
    # A header is looked for beside the one that includes it first.
    (folder / "tsk_kernels.h").write_text((_HEADERS / "tsk_kernels.h").read_text())
    flags = ("-shared", "-fPIC", "-DTSK_SELFTEST=1", f"-DTSK_ROUNDING={request.param}", "-fsanitize=undefined")
    files = [*sources(), RUNTIME / "src" / "tsk_selftest.c"]
    out = build(".selftest.so", "cc", (*flags, "-fno-sanitize-recover=all"), files, code, (folder,))
    return ctypes.CDLL(str(out))


def _run(
    library: ctypes.CDLL, kernel: str = "fc_s8", fault: str = "right", size: int = _SCRATCH, shift: int = 0
) -> int:
    ctypes.c_int.in_dll(library, "fault_kernel").value = list(_FAST).index(kernel)
    ctypes.c_int.in_dll(library, "fault_kind").value = list(_FAULTS).index(fault)
    room = np.full(_SCRATCH + 32, 0xA5, np.uint8)
    start = -room.ctypes.data % 16 + shift
    status: int = library.tsk_selftest_kernels(ctypes.c_void_p(room.ctypes.data + start), ctypes.c_size_t(size))
    assert (room[:start] == 0xA5).all()
    assert (room[start + size :] == 0xA5).all()
    return status


def _prototype(kernel: str) -> str:
    found = re.search(rf"void tsk_{kernel}_plain(\(.*?\));", (_HEADERS / "tsk_kernels.h").read_text(), re.DOTALL)
    assert found
    return f"void tsk_{kernel}_probe{found[1]}"


def test_right_kernels_pass(probe: ctypes.CDLL) -> None:
    assert _run(probe) == _OK


def test_scratch_that_is_too_small_or_crooked_is_refused(probe: ctypes.CDLL) -> None:
    assert _run(probe, size=256) == _SPACE
    assert _run(probe, shift=8) == _SPACE
    assert probe.tsk_selftest_kernels(None, ctypes.c_size_t(_SCRATCH)) == _SPACE


def test_no_byte_beyond_the_scratch_is_touched(probe: ctypes.CDLL) -> None:
    found = [_run(probe, size=size) for size in range(0, _SCRATCH + 1, 64)]
    assert found == sorted(found)
    assert set(found) == {_SPACE, _OK}


@pytest.mark.parametrize("kernel", _FAST)
def test_one_wrong_bit_fails(probe: ctypes.CDLL, kernel: str) -> None:
    assert _run(probe, kernel, "bit") == _SELFTEST


@pytest.mark.parametrize("kernel", _FAST)
def test_a_write_beyond_the_output_fails(probe: ctypes.CDLL, kernel: str) -> None:
    assert _run(probe, kernel, "beyond") == _SELFTEST


def test_every_fast_form_is_tested() -> None:
    text = (_HEADERS / "tsk_select.h").read_text()
    assert set(re.findall(r"#define tsk_(\w+) TSK_FAST", text)) <= set(_FAST)
