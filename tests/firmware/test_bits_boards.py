"""Bit for bit on every emulated board: random graphs and students, 50 to an image, against TensorFlow Lite Micro.

Each image runs the self-tests of its models: fast kernels against plain ones, then golden vectors, which are compared
with the interpreter here before they are believed.
"""

from collections.abc import Sequence
from pathlib import Path

import causal_kit
import numpy as np
import pytest
from firmware import every_operator
from firmware.bits_kit import graphs
from firmware.graph_kit import ORACLES, Builder

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.emit import vectors
from tasuki.firmware_bridge.target import boards, image, qemu
from tasuki.sdk import artifact

pytestmark = pytest.mark.boards

BATCH = 50
BATCHES = 10
CHIPS = [board.name for board in boards.BOARDS if not board.is_host]


def _generated(datas: Sequence[bytes], rounding: str) -> list[Generated]:
    """The models, after their golden vectors have been compared with the oracle."""
    models = [build.generate(data, f"m{place}", rounding) for place, data in enumerate(datas)]
    for model, data in zip(models, datas, strict=True):
        for vector in vectors.make(model.graphs[0], build.ROUNDINGS[rounding], build.VECTORS, build.SEED):
            for mine, theirs in zip(vector.outputs, ORACLES[rounding](data, vector.inputs), strict=True):
                assert np.array_equal(mine, theirs.reshape(mine.shape)), model.name
    return models


def _main(models: Sequence[Generated]) -> str:
    """An application that says the status of each self-test, one a line."""
    arena = max([16, *(model.arena_bytes for model in models)])
    calls = "".join(f"    say(tsk_{model.name}_selftest(arena));\n" for model in models)
    return (
        "#include <stdint.h>\n#include \"tsk_port.h\"\n"
        + "".join(f'#include "{model.name}.h"\n' for model in models)
        + f"static uint8_t arena[{arena}] TSK_ALIGNED(16);\n"
        + "static void say(int status) {\n"
        + "    const char line[2] = {(char)('0' - status), '\\n'};\n"
        + "    tsk_port_write(line, sizeof line);\n}\n"
        + "int main(void);\nint main(void) {\n" + calls + "    return 0;\n}\n"
    )  # fmt: skip


def _sum() -> bytes:
    """What these random graphs lack, and LiteRT computes otherwise."""
    g = Builder()
    g.output(every_operator.sum_(g))
    return g.build()


def _run(models: Sequence[Generated], board: boards.Board, folder: Path) -> None:
    for model in models:
        for name, content in model.files.items():
            (folder / name).write_bytes(content)
    (folder / "main.c").write_text(_main(models))
    own = [folder / f"{model.name}{part}.c" for model in models for part in ("", "_selftest")]
    rounding = ("tflm", "single").index(models[0].rounding)
    made = image.link(
        board, [folder / "main.c", *own, *image.runtime_sources()], folder / "x.elf", include=[folder],
        defines={"TSK_ROUNDING": rounding},
    )  # fmt: skip
    with qemu.running(board, made.path, timeout=60) as line:
        found = {model.name: line.read_line() for model in models}
    assert set(found.values()) == {"0"}, found


@pytest.mark.parametrize("rounding", ["tflm", "single"])
@pytest.mark.parametrize("board", CHIPS)
def test_random_graphs_and_students(board: str, rounding: str, tiny_artifact: Path, tmp_path: Path) -> None:
    small = [made(4, firmware_models.SMALL) for made in firmware_models.MODELS.values()]
    students = [bytes(artifact.load(tiny_artifact).model), bytes(causal_kit.read().model)]
    _run(_generated([*graphs(5000, BATCH), *small, *students, _sum()], rounding), boards.get(board), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("board", CHIPS)
def test_five_hundred_random_graphs(board: str, batch: int, tmp_path: Path) -> None:
    first = 1000 + BATCH * batch
    _run(_generated(graphs(first, BATCH), "tflm"), boards.get(board), tmp_path)
