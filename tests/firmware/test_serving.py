"""Running a model for a person: what is refused before anything is compiled, and the words of an answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.target import boards, elf, figures, serving
from tasuki.firmware_bridge.target.image import Image
from tasuki.firmware_bridge.target.serving import Said
from tasuki.firmware_bridge.text.serial import Failed, Labelled, Written
from tasuki.sdk.errors import InputError, WrongTask

BARE = build.generate(firmware_models.dyt(0, firmware_models.SMALL), "lamp")


def test_what_can_not_run_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mute = replace(boards.get("mps2-an386"), name="mute", machine=None)
    with pytest.raises(InputError, match="mute has no emulator"):
        serving.run(BARE, mute, (), 0, 1.0)
    with pytest.raises(WrongTask, match="a bare model takes no text"):
        serving.run(BARE, mute, ("hello",), 0, 1.0)


def test_an_image_is_called_after_model_and_board() -> None:
    assert [serving.file_name("lamp", boards.get(name)) for name in ("host", "mps2-an386")] == [
        "lamp-host", "lamp-mps2-an386.elf",
    ]  # fmt: skip


def test_words() -> None:
    answers = (
        Labelled("on", 0.98765, True, 12), Labelled("off", 0.4, False, 12), Written("a\n", "stop", 3, 12),
        Failed("text"),
    )  # fmt: skip
    assert [serving.words(answer) for answer in answers] == [
        "on, 98.8%", "off, 40.0%, unsure", "'a\\n', 3 tokens, ended by stop",
        "error: text (there is nothing to read in it)",
    ]  # fmt: skip


ANSWERS = (
    Said(Labelled("on", 0.98765, True, 12), 3_308_360), Said(Written("a", "stop", 3, 12), None),
    Said(Failed("text"), None),
)  # fmt: skip


def test_what_was_counted_stands_in_the_place_of_milliseconds() -> None:
    assert [serving.figures(said) for said in ANSWERS] == [
        {"label": "on", "confidence": 0.98765, "sure": True, "emulated_instructions": 3_308_360},
        {"text": "a", "ending": "stop", "tokens": 3, "milliseconds": 12},
        {"error": "text"},
    ]
    assert serving.lines("abc", ANSWERS, {}) == [
        "'a': on, 98.8%; 3,308,360 emulated instructions", "'b': 'a', 3 tokens, ended by stop",
        "'c': error: text (there is nothing to read in it)",
    ]  # fmt: skip
    assert serving.failed(ANSWERS) == [Failed("text")]


def test_outputs_say_what_they_are_of() -> None:
    found = {"seed": 3, "outputs": {"y": [1, -2], "z": [0.123456]}, "output_values": {"y": 1200, "z": 1}}
    assert serving.lines((), (), found) == [
        "one call of the model on inputs from seed 3; at most 8 values of each output:", "y: 1 -2 (of 1,200)",
        "z: 0.1235 (of 1)",
    ]  # fmt: skip


def taken(code: int, tables: int, model: int) -> dict[str, int]:
    """Figures of an image with these sections; tokenizer and labels have 100 and 20 bytes."""
    generated = replace(BARE, text_sizes=(("tokenizer", 100), ("labels", 20)))
    sizes = elf.Sizes(code=code, tables=tables, model=model, data=8, bss=512)
    found = figures.figures(generated, Image(boards.get("mps2-an386"), Path("image.elf"), sizes, 300))
    parts = ("code_without_tables", "table", "tokenizer", "labels", "model")
    assert sum(found[f"{part}_bytes"] for part in parts) == found["flash_bytes"] == code + tables + model + 8
    assert (found["static_bytes"], found["ram_bytes"]) == (520, 820)
    return found


def test_the_parts_of_an_image_are_apart() -> None:
    model = BARE.model_bytes
    found = taken(5000, 1020, model + 100 + 7)
    assert (found["code_without_tables_bytes"], found["table_bytes"], found["model_bytes"]) == (5008, 1007, model)
    # Of several functions one is not linked.
    assert taken(5000, 1020, model + 100 - 30)["model_bytes"] == model - 30
    # A linker script of one's own has no section for the model, or puts all constants beside the code.
    found = taken(5000, 1020 + model + 100, 0)
    assert (found["table_bytes"], found["model_bytes"]) == (1000, model)
    found = taken(5000 + 1020 + model + 100, 0, 0)
    assert (found["code_without_tables_bytes"], found["table_bytes"], found["model_bytes"]) == (6008, 0, model)


def test_the_table_names_each_part() -> None:
    lines = figures.table(taken(5000, 1020, BARE.model_bytes + 100), boards.get("mps2-an386"))
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "arena", "static", "stack", "ram", "code", "table", "text", "text", "model", "flash",
    ]  # fmt: skip
    bare = figures.table(figures.figures(BARE, None), boards.get("host"))
    assert [line.split()[0] for line in bare] == ["arena", "table", "model"]
    assert "made by the compiler" in bare[1]
