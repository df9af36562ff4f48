"""The budgets of `benchmarks/budgets.toml`, the bars that they must stay below, and the benchmark that records them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tasuki.benchmarks import budgets, firmware, firmware_models
from tasuki.benchmarks.cli import bench
from tasuki.benchmarks.tflite_builder import Builder
from tasuki.sdk.errors import ArtifactMissing, ModelUnsupported

# What this must never exceed: a share of what TensorFlow Lite Micro with CMSIS-NN takes on the same model.
BARS = {
    ("mps2-an386", "dyt"): {"instructions": 18_200_000, "ram_bytes": 27_731, "code_bytes": 19_693},
    ("mps2-an386", "ln"): {"instructions": 19_300_000, "ram_bytes": 29_715, "code_bytes": 20_796},
    ("mps3-an547", "dyt"): {"instructions": 7_700_000, "ram_bytes": 28_148, "code_bytes": 17_898},
    ("mps3-an547", "ln"): {"instructions": 7_600_000, "ram_bytes": 30_131, "code_bytes": 19_115},
}
MODEL_SHARE = 1.02
UPDATE = "if this is meant: tasuki bench firmware --record"


def figures(**changed: int) -> dict[str, dict[str, dict[str, int]]]:
    return {"mps2-an386": {"dyt": {**dict.fromkeys(budgets.FIGURES, 1000), **changed}}}


def test_what_is_written_is_read() -> None:
    text = budgets.written(figures(instructions=12_345_678))
    assert budgets.read(text) == figures(instructions=12_345_678)
    assert "tasuki bench firmware --record" in text


@pytest.mark.parametrize("name", budgets.FIGURES)
def test_growth_past_two_percent_is_told(name: str) -> None:
    assert budgets.grown(figures(**{name: 1020}), figures()) == []
    assert budgets.grown(figures(**{name: 1}), figures()) == []
    (line,) = budgets.grown(figures(**{name: 1021}), figures())
    assert line == f"mps2-an386, dyt: {name} 1,021, 2.1% above its budget 1,000"


def test_a_model_without_a_budget_is_told() -> None:
    assert len(budgets.grown(figures(), {})) == len(budgets.FIGURES)


def test_every_board_and_twin_has_every_budget_below_its_bar() -> None:
    recorded = budgets.read(budgets.FILE.read_text())
    assert set(recorded) == set(firmware.BOARDS)
    for board, models in recorded.items():
        assert set(models) == set(firmware.TWINS)
        for model, found in models.items():
            assert set(found) == set(budgets.FIGURES)
            for name, most in BARS.get((board, model), {}).items():
                assert found[name] <= most, (board, model, name)


@pytest.mark.parametrize("words", [("--quick",), ("--model", "a.tflite"), ("--board", "mps2-an386")])
def test_only_the_full_run_is_recorded(words: tuple[str, ...]) -> None:
    before = budgets.FILE.read_bytes()
    done = CliRunner().invoke(bench, ["firmware", "--record", *words])
    assert done.exit_code == 2
    assert "full run" in done.output
    assert budgets.FILE.read_bytes() == before


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return firmware.run(firmware.Plan(), lambda *_: None)


@pytest.mark.boards
@pytest.mark.timeout(1200)
def test_the_twins_stay_within_their_budgets(measured: dict[str, Any]) -> None:
    over = budgets.grown(measured["boards"], budgets.read(budgets.FILE.read_text()))
    assert not over, "\n".join([*over, UPDATE])


@pytest.mark.boards
@pytest.mark.timeout(1200)
def test_bits_bars_and_bounds_on_every_board(measured: dict[str, Any]) -> None:
    for board, models in measured["boards"].items():
        for model, found in models.items():
            place = (board, model)
            assert found["mismatches"] == 0, place
            assert found["stack_bytes"] <= found["stack_bound_bytes"], place
            assert found["model_bytes"] <= MODEL_SHARE * found["tflite_bytes"], place
            assert found["ram_bytes"] == found["static_bytes"] + found["stack_bytes"], place
            for name, most in BARS.get(place, {}).items():
                assert found[name] <= most, (*place, name, found[name])


@pytest.mark.boards
def test_the_command_prints_one_object_and_a_table(tmp_path: Path) -> None:
    path = tmp_path / "small.tflite"
    path.write_bytes(firmware_models.rmsnorm(0, firmware_models.SMALL))
    words = ["firmware", "--model", str(path), "--board", "mps3-an547"]
    first, again = (CliRunner().invoke(bench, [*words, "--json"]).stdout.splitlines()[-1] for _ in range(2))
    found = json.loads(first)
    assert {"commit", "seed", "machine", "seconds"} <= set(found)
    keys = {"instructions", "ram_bytes", "stack_bytes", "code_bytes", "mismatches"}
    assert keys <= set(found["boards"]["mps3-an547"]["small"])
    assert found["boards"]["mps3-an547"]["small"]["mismatches"] == 0
    assert json.loads(again)["boards"] == found["boards"], "the same figures every time"
    assert "no measure of speed" in CliRunner().invoke(bench, words).stdout


def test_a_wrong_bit_is_counted() -> None:
    one = np.array([0.0, 1.0, np.nan], np.float32)
    other = np.array([-0.0, 1.0, np.nan], np.float32)
    assert firmware.differing([one], [one]) == 0
    assert firmware.differing([one], [other]) == 1


def test_a_model_that_the_reference_does_not_run_says_why() -> None:
    g = Builder()
    g.output(g.op("GELU", [g.input((1, 8), "int8", 0.05)], (1, 8), "int8", 0.05))
    said = firmware.reference(g.build(), [[np.zeros((1, 8), np.int8)]], 1)
    assert isinstance(said, str)
    assert "does not run this model" in said


def test_files_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / place for place in ("a/lamp.tflite", "b/lamp.tflite", "other.tflite")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(firmware_models.dyt(0, firmware_models.SMALL))
    monkeypatch.setattr(firmware, "on_board", lambda *_: {"mismatches": 0})
    monkeypatch.setattr(firmware, "reference", lambda *_: "not asked")
    monkeypatch.setattr(firmware, "interpreter_arena", lambda *_: {})
    found = firmware.run(firmware.Plan(models=paths, boards=("mps2-an386",), inputs=1), lambda *_: None)["boards"]
    assert list(found["mps2-an386"]) == [str(paths[0]), str(paths[1]), "other"]
    first, *rows = firmware.table({"boards": found})
    assert len({row.index("0", len(str(tmp_path))) for row in rows[:2]}) == 1, "columns below each other"
    assert len(first) == len(rows[0])


def test_a_file_that_can_not_be_measured_is_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.tflite", tmp_path / "bad.tflite"
    good.write_bytes(firmware_models.dyt(0, firmware_models.SMALL))
    g = Builder()
    weights = g.constant(np.ones((3, 4), np.float32))
    g.output(g.op("FULLY_CONNECTED", [g.input((1, 4), "float32"), weights, None], (1, 3), "float32"))
    bad.write_bytes(g.build())

    def run(path: Path) -> None:
        firmware.run(firmware.Plan(models=(good, path), boards=("mps2-an386",)), pytest.fail)

    with pytest.raises(ArtifactMissing, match=r"there is no file .*/nosuch\.tflite"):
        run(tmp_path / "nosuch.tflite")
    with pytest.raises(ModelUnsupported, match=r"^bad\.tflite: .*FULLY_CONNECTED"):
        run(bad)
