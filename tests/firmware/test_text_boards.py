"""Text in, label out, over the serial line of every emulated board: 1,000 commands of phrasings nobody trained on."""

import functools
import random
from collections.abc import Sequence
from pathlib import Path

import causal_kit
import pytest
from firmware import serve_kit
from firmware.serve_kit import Classifying, Writing

from tasuki.firmware_bridge import text
from tasuki.firmware_bridge.target import boards, serving
from tasuki.firmware_bridge.text import serial
from tasuki.firmware_bridge.text.serial import Labelled, Written
from tasuki.sdk import Device
from tasuki.sdk.generate import text_model
from tasuki.sdk.sampling import Sampler

pytestmark = pytest.mark.boards
EMULATED = tuple(board.name for board in boards.BOARDS if not board.is_host)
COMMANDS = 1000
# The emulator and its clock of instructions are slow on a busy machine.
TIMEOUT = 240.0


@functools.cache
def _student(quick: bool) -> Path:
    """The standard student, or its small form; from the cache, or trained first."""
    from tasuki.converter.build import build

    return build(quick=quick).artifact


@functools.cache
def _commands() -> tuple[str, ...]:
    from tasuki.converter.build import REPORTED_SPLIT
    from tasuki.converter.homes import split

    unseen = sorted(command.text for command in split(REPORTED_SPLIT).unseen)
    return tuple(random.Random(0).sample(unseen, COMMANDS))


@functools.cache
def _expected(quick: bool) -> tuple[tuple[str, float, bool] | None, ...]:
    """TFLM on this machine, followed by the SDK's adapter."""
    sdk = Classifying(_student(quick).read_bytes())
    return tuple(sdk.says(command.encode()) for command in _commands())


@functools.cache
def _litert(quick: bool, folder: Path) -> tuple[str, ...]:
    """The labels of LiteRT on this machine, followed by the SDK's adapter."""
    with Device.open(_student(quick), folder / f"state {quick}") as device:
        return tuple(device.predict(command).label for command in _commands())


def _agreement(board: str, quick: bool, folder: Path) -> float:
    """The share of labels that are LiteRT's; all answers are TFLM's, or the test fails."""
    made = serve_kit.linked(serve_kit.generated(_student(quick).read_bytes()), board)
    with serve_kit.serving(made, TIMEOUT) as line:
        answers = serial.ask(line, _commands())
    _check(answers, _expected(quick))
    labels = [answer.label for answer in answers if isinstance(answer, Labelled)]
    return sum(map(str.__eq__, labels, _litert(quick, folder))) / len(labels)


def _check(answers: Sequence[serial.Answer], expected: Sequence[tuple[str, float, bool] | None]) -> None:
    for command, answer, wanted in zip(_commands(), answers, expected, strict=False):
        assert isinstance(answer, Labelled), command
        assert wanted is not None
        assert (answer.label, answer.sure) == (wanted[0], wanted[2]), command
        assert answer.confidence == pytest.approx(wanted[1], abs=1e-4), command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("board", EMULATED)
def test_a_thousand_commands(board: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agreement = _agreement(board, True, folder)
    with capsys.disabled():
        print(f"\n{board}: {COMMANDS:,} commands as TFLM and the SDK's adapter; {agreement:.1%} as LiteRT")
    assert agreement >= 0.99


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("board", EMULATED)
def test_a_thousand_commands_to_the_standard_student(
    board: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agreement = _agreement(board, False, folder)
    with capsys.disabled():
        print(f"\n{board}, standard student: {agreement:.1%} as LiteRT")
    assert agreement >= 0.99


@pytest.mark.parametrize("board", EMULATED)
def test_texts_are_written_as_on_this_machine(board: str) -> None:
    made, parts = serve_kit.generated(causal_kit.student()), causal_kit.read()
    sdk = Writing(parts, text_model(parts))
    prompts = ("hello how are", "music", "we went to the lake", "")
    with serve_kit.serving(serve_kit.linked(made, board), TIMEOUT) as line:
        answers = serial.ask(line, prompts)
    for prompt, answer in zip(prompts, answers, strict=True):
        written, ids, reason = sdk.write(prompt, 64, Sampler())
        assert isinstance(answer, Written)
        assert (answer.text, answer.tokens, answer.ending) == (written, len(ids), reason)


@pytest.mark.parametrize("board", EMULATED)
def test_texts_are_counted_from_prompt_to_end(board: str) -> None:
    made, chosen, prompts = serve_kit.generated(causal_kit.student()), boards.get(board), ("hello how are", "music", "")
    found = serving.run(made, chosen, (*prompts, *prompts), 0, TIMEOUT)
    with serve_kit.serving(serve_kit.linked(made, board), TIMEOUT) as line:
        plain = [serving.words(answer) for answer in serial.ask(line, prompts)]
    assert [serving.words(said.answer) for said in found["answers"]] == plain * 2, "as the image that build gives"
    counts = [said.instructions for said in found["answers"]]
    # The clock stands while a part of the text is written: one tick of it for each part.
    parts = max(said.answer.tokens for said in found["answers"]) + 2
    for first, again in zip(counts[:3], counts[3:], strict=True):
        assert abs(first - again) <= 50 * parts
    step = serving.run(made, chosen, (), 0, TIMEOUT)
    for said in found["answers"]:
        assert said.instructions > said.answer.tokens * 0.9 * step["emulated_instructions"]
    assert found["stack_peak_bytes"] > step["stack_peak_bytes"]


@pytest.mark.timeout(600)
def test_what_a_device_has_learned_answers_on_a_board(folder: Path) -> None:
    artifact = _student(True)
    with Device.open(artifact, folder / "taught") as device:
        for words in ("now", "please", "at home", "for us", "again"):
            device.learn(f"movie night {words}", "movie_night", new_label=True)
            device.learn(f"make it dark {words}", "turn_off")
    learned = text.learned(artifact, folder / "taught")
    assert "movie_night" in learned.head.labels
    made = serve_kit.linked(serve_kit.generated(artifact.read_bytes(), learned), "mps2-an386")
    sdk = Classifying(artifact.read_bytes(), learned)
    asked = ["movie night tonight", "make it dark", *_commands()[:100]]
    with serve_kit.serving(made, TIMEOUT) as line:
        answers = serial.ask(line, asked)
    assert isinstance(answers[0], Labelled)
    assert answers[0].label == "movie_night"
    for command, answer in zip(asked, answers, strict=True):
        wanted = sdk.says(command.encode())
        assert isinstance(answer, Labelled)
        assert wanted is not None
        assert (answer.label, answer.sure) == (wanted[0], wanted[2]), command
