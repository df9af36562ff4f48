"""Fast kernels (the DSP extension and Helium) against the plain ones, on each emulated board."""

from pathlib import Path

import pytest
from firmware.compile_all import newlib

from tasuki.firmware_bridge.target import boards, image, qemu, toolchain

pytestmark = pytest.mark.boards

CHIP = Path(__file__).parent / "chip" / "fast.c"
KERNELS = {"fc_s8", "matmul_s8", "softmax_s8", "add_s8", "squared_difference_s8", "mul_s8", "lut_s8", "reduce_s8"}
# Where memory ends that the boards' linker scripts leave free: a read past it faults.
MEMORY_ENDS = {"mps2-an500": "0x61000000u", "mps2-an505": "0x81000000u"}


@pytest.mark.parametrize("rounding", [0, 1], ids=["tflm", "single"])
@pytest.mark.parametrize("name", [board.name for board in boards.BOARDS if not board.is_host])
def test_same_bits(name: str, rounding: int, tmp_path: Path) -> None:
    defines: dict[str, int | str] = {"TSK_ROUNDING": rounding, "TSK_SELFTEST": 0}
    if name in MEMORY_ENDS:
        defines["MEMORY_END"] = MEMORY_ENDS[name]
    board, out = boards.get(name), tmp_path / "fast.elf"
    image.link(board, [CHIP, *image.runtime_sources()], out, defines=defines)
    _check(board, out)


@pytest.mark.parametrize("optimise", ["-Os", "-O2"])
@pytest.mark.parametrize("name", ["mps2-an386", "mps3-an547"])
def test_same_bits_by_clang(name: str, optimise: str, tmp_path: Path) -> None:
    """Clang compiles the kernels; the start-up, the port and the C library are GCC's."""
    board, out = boards.get(name), tmp_path / "fast.elf"
    common = boards.PORTS / "common"
    include = [f"-I{path}" for path in (image.RUNTIME / "include", image.RUNTIME / "src", boards.PORTS, common)]
    clang = [toolchain.find("clang"), "--target=arm-none-eabi", "-fshort-enums", "-isystem", newlib(), optimise]
    gcc = [toolchain.find("arm-none-eabi-gcc"), "-nostartfiles", "-specs=nano.specs", "-Wl,--gc-sections", "-O2"]
    flags = [*board.flags, "-std=c99", "-ffunction-sections", "-DTSK_SELFTEST=0", *include]
    objects = []
    for source in (CHIP, *_kernels()):
        objects.append(tmp_path / f"{source.stem}.o")
        toolchain.run([*clang, *flags, "-c", source, "-o", objects[-1]], f"compile {source.name}")
    files = [*objects, *common.glob("*.c"), board.port / "port.c"]
    places = [f"-L{common}", f"-L{board.port}", "-T", board.port / "link.ld"]
    toolchain.run([*gcc, *flags, *files, *places, "-o", out], "link")
    _check(board, out)


def _kernels() -> list[Path]:
    plain = {f"tsk_{name}" for name in ("fc", "matmul", "softmax", "elementwise", "lut", "reduce")}
    return [path for path in image.runtime_sources() if path.stem in plain or path.stem.endswith(("_dsp", "_mve"))]


def _check(board: boards.Board, elf: Path) -> None:
    said: dict[str, tuple[int, int]] = {}
    with qemu.running(board, elf, timeout=60) as line:
        while (words := line.read_line().split()) != ["done"]:
            kernel, cases, mismatches = words
            said[kernel] = int(cases), int(mismatches)
    assert said.keys() == KERNELS
    assert all(cases >= 300 for cases, _ in said.values())
    assert {kernel: wrong for kernel, (_, wrong) in said.items() if wrong} == {}
