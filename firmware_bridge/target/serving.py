"""Running a model on a board as a user meets it: lines of text where it takes text, seeded inputs where it does not."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasuki.firmware_bridge import text as texts
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.emit import vectors
from tasuki.firmware_bridge.emit.templating import environment
from tasuki.firmware_bridge.target import measure, qemu
from tasuki.firmware_bridge.target.boards import Board
from tasuki.firmware_bridge.target.image import Image
from tasuki.firmware_bridge.text import serial
from tasuki.firmware_bridge.text.serial import Answer, Failed, Labelled, Written
from tasuki.sdk.errors import WrongTask

# Values of an output that are printed.
SHOWN: Final = 8
# What `run` gives as single figures, where the board is emulated.
COUNTS: Final = ("emulated_instructions", "stack_peak_bytes", "ram_peak_bytes")


@dataclass(frozen=True)
class Said:
    """An answer, and how many instructions the emulated core executed from the text to it.

    They are None on the host, and where the answer is an error.
    """

    answer: Answer
    instructions: int | None


def application(generated: Generated, board: Board) -> bytes:
    """``main.c`` of an image: the serial application where the artifact takes text, else the one that measures."""
    if generated.artifact is None:
        return measure.application(generated, board)
    return texts.application(generated.name)


def file_name(name: str, board: Board) -> str:
    """The image's own."""
    return f"{name}-{board.name}" + ("" if board.is_host else ".elf")


def counted(generated: Generated, board: Board) -> bytes:
    """``main.c`` that answers as `application` does, and counts on a board: see `templates/counted.c.j2`."""
    if generated.artifact is None or board.is_host:
        return application(generated, board)
    template = environment().get_template("counted.c.j2")
    text = template.render(name=generated.name, task=generated.artifact.task, hertz=board.hertz)
    return text.encode("ascii")


def run(generated: Generated, board: Board, asked: Sequence[str], seed: int, timeout: float) -> dict[str, Any]:
    """What one image, `counted`, says to `asked`, and on a board how deep its stack was and how much memory it took.

    Without texts, the model runs once, on inputs that `seed` gives; `outputs` has the first values of what came,
    `output_values` how many there are.

    Raises:
        WrongTask: Texts for a bare model.
        InputError: The board has no emulator.
        ToolMissing, BuildFailed, ModelTooLarge, BoardSilent: See `image.link` and `qemu`.
    """
    if asked and generated.artifact is None:
        raise WrongTask("a bare model takes no text: package it with `tasuki convert`, or leave --text out")
    qemu.emulator(board)  # before anything is compiled
    main = counted(generated, board) if asked else measure.application(generated, board)
    with tempfile.TemporaryDirectory(prefix="tasuki-") as folder:
        made = measure.link(generated, board, main, Path(folder) / file_name(generated.name, board))
        found, stack = _asked(made, asked, timeout) if asked else _seeded(made, generated, seed, timeout)
    if made.sizes is not None and stack is not None:
        found |= {"stack_peak_bytes": stack, "ram_peak_bytes": made.sizes.static + stack}
    return found


def _asked(made: Image, asked: Sequence[str], timeout: float) -> tuple[dict[str, Any], int | None]:
    """The answers, and the deepest that the stack got; None on the host, or where all answers are errors."""
    said, stack = list[Said](), None
    with qemu.running(made.board, made.path, timeout) as line:
        serial.greet(line)
        line.write(b"".join(map(serial.encode, asked)))
        for _ in asked:
            answer, instructions = serial.read(line), None
            if not (made.board.is_host or isinstance(answer, Failed)):
                ticks, stack = measure.numbers(line.read_line(), "took", 2, made.board)
                instructions = measure.instructions(ticks, made.board)
            said.append(Said(answer, instructions))
    return {"answers": said}, stack


def _seeded(made: Image, generated: Generated, seed: int, timeout: float) -> tuple[dict[str, Any], int | None]:
    """The first values of each output, and the deepest that the stack got; None on the host."""
    inputs = vectors.random_inputs(generated.graphs[0], np.random.default_rng(seed))
    (done,) = measure.run(made, generated, [inputs], timeout)
    outputs = {
        port.name: array.reshape(-1)
        for port, array in zip(generated.functions[0].outputs, done.outputs, strict=True)
    }  # fmt: skip
    found: dict[str, Any] = {
        "answers": [], "seed": seed, "outputs": {name: values[:SHOWN].tolist() for name, values in outputs.items()},
        "output_values": {name: values.size for name, values in outputs.items()},
    }  # fmt: skip
    if done.instructions is not None:
        found["emulated_instructions"] = done.instructions
    return found, done.stack


def figures(said: Said) -> dict[str, Any]:
    """An answer as JSON has it. An emulator's milliseconds are left out: they are no measure of speed."""
    found = asdict(said.answer)
    if said.instructions is not None:
        del found["milliseconds"]
        found["emulated_instructions"] = said.instructions
    return found


def lines(asked: Sequence[str], answers: Sequence[Said], found: Mapping[str, Any]) -> list[str]:
    """What `run` found for people: the answers, or without texts the outputs, and what they are of."""
    if not asked:
        counts = found["output_values"]
        said = {name: " ".join(f"{value:.4g}" for value in values) for name, values in found["outputs"].items()}
        return [
            f"one call of the model on inputs from seed {found['seed']}; at most {SHOWN} values of each output:",
            *(f"{name}: {values} (of {counts[name]:,})" for name, values in said.items()),
        ]
    return [
        f"{text!r}: {words(said.answer)}"
        + ("" if said.instructions is None else f"; {said.instructions:,} emulated instructions")
        for text, said in zip(asked, answers, strict=True)
    ]


def failed(answers: Sequence[Said]) -> list[Failed]:
    """The answers that are errors."""
    return [said.answer for said in answers if isinstance(said.answer, Failed)]


def words(answer: Answer) -> str:
    """An answer for people. Milliseconds are left out: an emulator's are no measure of speed."""
    if isinstance(answer, Labelled):
        return f"{answer.label}, {answer.confidence:.1%}{'' if answer.sure else ', unsure'}"
    if isinstance(answer, Written):
        return f"{answer.text!r}, {answer.tokens} tokens, ended by {answer.ending}"
    return str(answer)
