"""Whether a model fits a board: to the byte."""

from dataclasses import replace

import pytest

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.target import boards, fits
from tasuki.sdk.errors import ModelTooLarge

MODEL = build.generate(firmware_models.dyt(0, firmware_models.SMALL), "lamp")
BOARD = boards.get("mps2-an386")


def test_constants_fit_flash_to_the_byte() -> None:
    assert MODEL.table_bytes > 0
    taken = MODEL.model_bytes + MODEL.table_bytes
    fits.check(MODEL, replace(BOARD, flash=taken))
    with pytest.raises(ModelTooLarge, match=rf"takes 1 bytes more flash than the {taken - 1:,} of {BOARD.name}: "):
        fits.check(MODEL, replace(BOARD, flash=taken - 1))


def test_arena_inputs_and_outputs_fit_memory_to_the_byte() -> None:
    (program,) = MODEL.programs
    ports = [buffer.bytes for buffer in program.buffers if buffer.place in ("input", "output")]
    assert len(ports) == len(program.inputs) + len(program.outputs)
    taken = MODEL.arena_bytes + sum(ports)
    fits.check(MODEL, replace(BOARD, ram=taken))
    with pytest.raises(ModelTooLarge, match=rf"takes 1 bytes more memory than the {taken - 1:,} of {BOARD.name}: "):
        fits.check(MODEL, replace(BOARD, ram=taken - 1))


def test_the_host_has_no_limits() -> None:
    fits.check(MODEL, boards.get("host"))
