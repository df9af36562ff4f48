"""What a model takes on each board as C, and whether its bits are TensorFlow Lite Micro's.

    tasuki bench firmware --json

Each model is compiled twice for each board: without the self-test, which is what is measured and what `code_bytes`
counts, and with it, for `code_bytes_selftest`. It runs in QEMU on seeded inputs, and every output is compared with
that of the PyPI package `tflite_micro`. Instructions are those that the emulator counted: no measure of speed.
`ram_bytes` is everything static (arena, inputs and outputs within) and the deepest stack that was seen. `code_bytes`
has the tables within, `model_bytes` what aligns the model's constants.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.benchmarks import firmware_models, provenance
from tasuki.converter import arena
from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.emit import vectors
from tasuki.firmware_bridge.target import boards, measure
from tasuki.firmware_bridge.target.boards import Board
from tasuki.sdk import artifact
from tasuki.sdk.errors import ConversionError, MissingExtra

Progress = Callable[[str, int, int, str], None]
Arrays = Sequence[NDArray[Any]]
BOARDS: Final = tuple(board.name for board in boards.BOARDS if not board.is_host)
TWINS: Final[Mapping[str, str]] = {"dyt": "dyt", "ln": "layernorm", "ln_gains": "layernorm_gains"}
SEED: Final = 0
_ARENA: Final = 8 << 20
_COLUMNS: Final = ("instructions", "ram_bytes", "stack_bytes", "code_bytes", "table_bytes", "model_bytes", "mismatches")


@dataclass(frozen=True)
class Plan:
    """`models` are files; without any, the seeded twins of the reference models are measured."""

    models: Sequence[Path] = ()
    boards: Sequence[str] = BOARDS
    inputs: int = 16
    quick: bool = False


QUICK: Final = Plan(boards=("mps2-an386", "mps3-an547"), inputs=2, quick=True)


def run(plan: Plan, progress: Progress) -> dict[str, Any]:
    """The figures of every model on every board, in `boards`.

    Raises:
        FirmwareError: A model that can't become C, a missing tool, a board that does not answer; see the subclasses.
        ArtifactMissing: There is no such file.
    """
    began = time.monotonic()
    models = _files(plan.models) if plan.models else _twins(plan.quick)
    # All are compiled before any is measured: one that can't be is told at once, by its file's name.
    made = {name: build.generate(model) for name, model in models.items()}
    found: dict[str, dict[str, Any]] = {board: {} for board in plan.boards}
    steps = len(models) * len(plan.boards)
    for number, (name, generated) in enumerate(made.items()):
        rng = np.random.default_rng(SEED)
        inputs = [vectors.random_inputs(generated.graphs[0], rng) for _ in range(plan.inputs)]
        model = models[name]
        content = model if isinstance(model, bytes) else artifact.read(model)
        flatbuffer = content[: generated.tflite_bytes]  # an artifact begins with it
        wanted = reference(flatbuffer, inputs, len(generated.programs[0].outputs))
        beside = interpreter_arena(flatbuffer)
        for place, board in enumerate(plan.boards):
            progress("boards", number * len(plan.boards) + place, steps, f"{name} on {board}")
            found[board][name] = on_board(generated, boards.get(board), inputs, wanted) | beside
    progress("boards", steps, steps, "")
    return {"boards": found, "inputs": plan.inputs, **provenance.stamp(began, SEED)}


def on_board(
    generated: Generated, board: Board, inputs: Sequence[Arrays], wanted: Sequence[Arrays] | str
) -> dict[str, Any]:
    """The figures of one model on one board.

    Mismatches are single values whose bits differ from `wanted`, which may be the reason why there is none.
    """
    main = measure.application(generated, board)
    with tempfile.TemporaryDirectory(prefix="tasuki-") as temporary:
        folder = Path(temporary)
        bare = measure.link(generated, board, main, folder / "bare" / "image", selftest=False)
        full = measure.link(generated, board, main, folder / "full" / "image", selftest=True)
        runs = measure.run(bare, generated, inputs)
        measure.run(full, generated, inputs[:1])
    figures: dict[str, Any] = {
        "arena_bytes": generated.arena_bytes, "model_bytes": generated.model_bytes,
        "tflite_bytes": generated.tflite_bytes,
    }  # fmt: skip
    if isinstance(wanted, str):
        figures |= {"mismatches": None, "mismatches_why": wanted}
    else:
        figures["mismatches"] = sum(differing(run.outputs, golden) for run, golden in zip(runs, wanted, strict=True))
    if bare.sizes is None or full.sizes is None:
        raise ValueError(f"{board.name} is no board with an image to measure")
    stack = max(run.stack or 0 for run in runs)
    return figures | {
        "instructions": max(run.instructions or 0 for run in runs), "stack_bytes": stack,
        "stack_bound_bytes": bare.stack, "static_bytes": bare.sizes.static, "ram_bytes": bare.sizes.static + stack,
        "code_bytes": bare.sizes.flash - bare.sizes.model, "table_bytes": bare.sizes.tables,
        "code_bytes_selftest": full.sizes.flash - full.sizes.model, "model_bytes": bare.sizes.model,
    }  # fmt: skip


def reference(model: bytes, inputs: Sequence[Arrays], outputs: int) -> list[list[NDArray[Any]]] | str:
    """What TensorFlow Lite Micro's interpreter answers on this machine, or why it does not."""
    try:
        from tflite_micro import runtime
    except ImportError:
        return "tflite_micro is not installed: pip install 'tasuki[converter]' (Linux, x86-64)"
    try:
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=_ARENA)
    except RuntimeError as error:
        return f"TensorFlow Lite Micro does not run this model: {' '.join(str(error).split())}"
    found = []
    for arrays in inputs:
        # Its planner may reuse an input's memory: all of them are set before each run.
        for place, array in enumerate(arrays):
            interpreter.set_input(array, place)
        interpreter.invoke()
        found.append([np.array(interpreter.get_output(place)) for place in range(outputs)])
    return found


def interpreter_arena(model: bytes) -> dict[str, Any]:
    """`tflm_arena_bytes`: the least working memory that TensorFlow Lite Micro's interpreter starts with on this host.

    Its pointers have eight bytes here and its kernels are the reference ones; weights are not in it, nor is the stack.
    """
    try:
        return {"tflm_arena_bytes": arena.measured_arena(model)}
    except (ConversionError, MissingExtra) as error:
        return {"tflm_arena_bytes": None, "tflm_arena_bytes_why": str(error)}


def differing(ours: Arrays, theirs: Arrays) -> int:
    """Values whose bits differ."""
    return sum(
        int(np.count_nonzero(a.reshape(-1).view(_bits(a)) != b.reshape(-1).view(_bits(b))))
        for a, b in zip(ours, theirs, strict=True)
    )


def _bits(array: NDArray[Any]) -> str:
    return f"u{array.itemsize}"


def _twins(quick: bool) -> dict[str, Path | bytes]:
    shape = firmware_models.SMALL if quick else firmware_models.REFERENCE
    return {name: firmware_models.MODELS[made](SEED, shape) for name, made in TWINS.items()}


def _files(paths: Sequence[Path]) -> dict[str, Path | bytes]:
    """The files by their stems, by their whole paths where two have the same."""
    stems = [path.stem for path in paths]
    return {path.stem if stems.count(path.stem) == 1 else str(path): path for path in paths}


def table(figures: Mapping[str, Any]) -> list[str]:
    """The figures for people, a line for each model on each board."""
    wide = max(12, *(len(model) for models in figures["boards"].values() for model in models))
    lines = [f"{'board':<11}  {'model':<{wide}}" + "".join(f"{name.removesuffix('_bytes'):>14}" for name in _COLUMNS)]
    for board, models in figures["boards"].items():
        for model, found in models.items():
            cells = ("" if found.get(name) is None else f"{found[name]:,}" for name in _COLUMNS)
            lines.append(f"{board:<11}  {model:<{wide}}" + "".join(f"{cell:>14}" for cell in cells))
    return [
        *lines,
        "Instructions are counted by the emulator: no measure of speed. The rest is bytes; code has the tables within.",
    ]
