"""Running a model on a board as a user meets it: lines of text where it takes text, seeded inputs where it does not."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasuki.firmware_bridge import measure, qemu, vectors
from tasuki.firmware_bridge import text as texts
from tasuki.firmware_bridge.boards import Board
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.text import serial
from tasuki.firmware_bridge.text.serial import Answer, Labelled, Written
from tasuki.sdk.errors import WrongTask

# Values of an output that are printed.
_SHOWN = 8


def application(generated: Generated, board: Board) -> bytes:
    """``main.c`` of an image: the serial application where the artifact takes text, else the one that measures."""
    if generated.artifact is None:
        return measure.application(generated, board)
    return texts.application(generated.name)


def file_name(name: str, board: Board) -> str:
    """The image's own."""
    return f"{name}-{board.name}" + ("" if board.is_host else ".elf")


def run(generated: Generated, board: Board, asked: Sequence[str], seed: int, timeout: float) -> dict[str, Any]:
    """Answers to `asked` over the serial line, and what one inference takes on an emulated board.

    Without texts, the model runs on one input that `seed` gives, and `outputs` has the first values of what came.

    Raises:
        WrongTask: Texts for a bare model.
        InputError: The board has no emulator.
        ToolMissing, BuildFailed, ModelTooLarge, BoardSilent: See `image.link` and `qemu`.
    """
    if asked and generated.artifact is None:
        raise WrongTask("a bare model takes no text: package it with `tasuki convert`, or leave --text out")
    qemu.emulator(board)  # before anything is compiled
    found: dict[str, Any] = {"answers": answers(generated, board, asked, timeout) if asked else []}
    if asked and board.is_host:
        return found
    inputs = vectors.random_inputs(generated.graphs[0], np.random.default_rng(seed))
    with tempfile.TemporaryDirectory(prefix="tasuki-") as folder:
        main = measure.application(generated, board)
        made = measure.link(generated, board, main, Path(folder) / file_name(generated.name, board))
        (done,) = measure.run(made, generated, [inputs], timeout)
    if not asked:
        found["outputs"] = {
            port.name: array.reshape(-1)[:_SHOWN].tolist()
            for port, array in zip(generated.functions[0].outputs, done.outputs, strict=True)
        }
    if made.sizes is not None and done.stack is not None:
        found |= {
            "emulated_instructions": done.instructions, "stack_peak_bytes": done.stack,
            "ram_peak_bytes": made.sizes.static + done.stack,
        }  # fmt: skip
    return found


def answers(generated: Generated, board: Board, asked: Sequence[str], timeout: float) -> list[Answer]:
    """What the board says to each line of text.

    Raises:
        BoardSilent: It is not ready, or an answer does not come.
    """
    with tempfile.TemporaryDirectory(prefix="tasuki-") as folder:
        made = measure.link(generated, board, application(generated, board),
                            Path(folder) / file_name(generated.name, board))  # fmt: skip
        with qemu.running(board, made.path, timeout) as line:
            serial.greet(line)
            return serial.ask(line, asked)


def words(answer: Answer) -> str:
    """An answer for people. Milliseconds are left out: an emulator's are no measure of speed."""
    if isinstance(answer, Labelled):
        return f"{answer.label}, {answer.confidence:.1%}{'' if answer.sure else ', unsure'}"
    if isinstance(answer, Written):
        return f"{answer.text!r}, {answer.tokens} tokens, ended by {answer.ending}"
    return str(answer)
