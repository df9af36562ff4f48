"""Every pair of int8 values of each binary operator, and every value of each unary one, on every emulated board.

The image runs the operators' own models on inputs that it makes itself and says a checksum of each output, which is
compared with that of the TensorFlow Lite Micro interpreter, or of LiteRT's reference for GELU, which Micro lacks. ADD
and its like run dense and with a row that is repeated: the fast kernels have different ways for the two.
"""

import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from firmware.graph_kit import Builder, litert_reference, tflm
from firmware.oracles import scale, zero
from numpy.typing import NDArray

from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.target import boards, image, qemu

pytestmark = pytest.mark.boards

CHIPS = [board.name for board in boards.BOARDS if not board.is_host]
BINARY: Final = ("ADD", "SUB", "MUL", "SQUARED_DIFFERENCE", "MINIMUM", "MAXIMUM")
UNARY: Final = ("TANH", "LOGISTIC", "RELU", "RELU6", "RSQRT", "QUANTIZE", "NEG", "GELU")
_GRIDS: Final = {"TANH": (1 / 128, 0), "LOGISTIC": (1 / 256, -128)}
_A: Final = np.arange(-128, 128, dtype=np.int8).repeat(256).reshape(256, 256)
_B: Final = np.tile(np.arange(-128, 128, dtype=np.int8), 256).reshape(256, 256)


def _binary(kind: str, rng: np.random.Generator, row: bool) -> bytes:
    a, b = scale(rng, 1e-2, 1.0), scale(rng, 1e-2, 1.0)
    out = {"MUL": a * b * 40, "SQUARED_DIFFERENCE": max(a, b) ** 2 * 60}.get(kind, max(a, b) * 1.6)
    zeros = [zero(rng) for _ in range(3)]
    if kind in ("MINIMUM", "MAXIMUM"):
        a = b = out = 0.1
        zeros = [zeros[0]] * 3
    g = Builder()
    x = g.input((256, 256), "int8", a, zeros[0])
    y = g.constant(_B[0], b, zeros[1]) if row else g.input((256, 256), "int8", b, zeros[1])
    g.output(g.op(kind, [x, y], (256, 256), "int8", out, zeros[2]))
    return g.build()


def _unary(kind: str, rng: np.random.Generator) -> bytes:
    g = Builder()
    grid = (scale(rng, 0.05, 1.0), -128 if kind in ("RSQRT", "RELU6") else zero(rng))
    x = g.input((256,), "int8", *grid)
    out = _GRIDS.get(kind, grid if kind == "RELU6" else (scale(rng, 1e-2, 1.0), zero(rng)))
    if kind == "NEG":
        real = g.op("NEG", [g.op("DEQUANTIZE", [x], (256,), "float32")], (256,), "float32")
        g.output(g.op("QUANTIZE", [real], (256,), "int8", *out))
    else:
        g.output(g.op(kind, [x], (256,), "int8", *out))
    return g.build()


def _models() -> dict[str, tuple[bytes, list[NDArray[np.int8]]]]:
    """By name: the model, and its inputs."""
    made: dict[str, tuple[bytes, list[NDArray[np.int8]]]] = {}
    for seed in range(3):
        for kind in BINARY:
            made[f"{kind[:8].lower()}_dense_{seed}"] = _binary(kind, np.random.default_rng(seed), False), [_A, _B]
            made[f"{kind[:8].lower()}_row_{seed}"] = _binary(kind, np.random.default_rng([seed, 1]), True), [_A]
        for kind in UNARY:
            made[f"{kind.lower()}_{seed}"] = _unary(kind, np.random.default_rng([seed, 2])), [_B[0]]
    return made


def _main(models: dict[str, tuple[Generated, list[NDArray[Any]]]]) -> str:
    arena = max(16, *(model.arena_bytes for model, _ in models.values()))
    operands = {id(_A): "a", id(_B): "b"}
    calls = "".join(
        f"    if (tsk_{name}_invoke(arena, {', '.join(operands.get(id(x), 'b') for x in inputs)}, y) != 0) return 1;\n"
        f"    say(y, {inputs[0].size});\n"
        for name, (_, inputs) in models.items()
    )
    return (
        '#include <stdint.h>\n#include "tsk_port.h"\n'
        + "".join(f'#include "{name}.h"\n' for name in models)
        + f"static uint8_t arena[{arena}] TSK_ALIGNED(16);\nstatic int8_t a[65536], b[65536], y[65536];\n"
        + """
static void say(const int8_t *values, int32_t count) {
    uint32_t sum = 0xFFFFFFFFU;
    char line[9];
    for (int32_t i = 0; i < count; i++) {
        sum ^= (uint8_t)values[i];
        for (int32_t bit = 0; bit < 8; bit++) {
            sum = (sum >> 1) ^ (0xEDB88320U & (0U - (sum & 1U)));
        }
    }
    sum = ~sum;
    for (int32_t i = 0; i < 8; i++) {
        line[i] = "0123456789abcdef"[(sum >> (28 - 4 * i)) & 15U];
    }
    line[8] = '\\n';
    tsk_port_write(line, sizeof line);
}
int main(void);
int main(void) {
    for (int32_t i = 0; i < 65536; i++) {
        a[i] = (int8_t)(i / 256 - 128);
        b[i] = (int8_t)(i % 256 - 128);
    }
"""
        + calls
        + "    return 0;\n}\n"
    )


@pytest.mark.parametrize("name", CHIPS)
def test_every_input_of_every_operator(name: str, tmp_path: Path) -> None:
    models = {called: (build.generate(data, called), inputs) for called, (data, inputs) in _models().items()}
    for model, _ in models.values():
        for file, content in model.files.items():
            (tmp_path / file).write_bytes(content)
    (tmp_path / "main.c").write_text(_main(models))
    board = boards.get(name)
    made = image.link(
        board, [tmp_path / "main.c", *(tmp_path / f"{called}.c" for called in models), *image.runtime_sources()],
        tmp_path / "x.elf", include=[tmp_path], defines={"TSK_SELFTEST": 0},
    )  # fmt: skip
    wanted = {}
    for called, (data, inputs) in _models().items():
        (found,) = (litert_reference if called.startswith("gelu") else tflm)(data, inputs)
        wanted[called] = f"{zlib.crc32(found.astype(np.int8).tobytes()):08x}"
    with qemu.running(board, made.path, timeout=60) as line:
        assert {called: line.read_line() for called in models} == wanted
