"""`tasuki inspect` prints how far the kernels are apart, where an artifact says so."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tasuki.converter import pack
from tasuki.sdk import artifact
from tasuki.sdk.inspect_cli import inspect

FIGURES = {
    "inputs": 64,
    "single_to_xnnpack": {"values": 1280, "largest": 1, "mean": 0.0125, "share": 0.0125},
    "tflm_to_single": {"values": 1280, "largest": 3, "mean": 0.25, "share": 0.2},
}


def printed(path: Path, *options: str) -> str:
    done = CliRunner().invoke(inspect, [str(path), *options])
    assert done.exit_code == 0, done.output
    return done.output


def changed(tiny: Path, folder: Path, fields: dict[str, Any]) -> Path:
    """The tiny artifact with other `fields` in its manifest."""
    model, encoded, parts = pack._taken(tiny.read_bytes(), "tiny")
    about = {k: v for k, v in json.loads(encoded).items() if k not in ("format", "parts")}
    pack.write(folder / "changed.tflite", pack.pack(model, parts, {**about, **fields}))
    return folder / "changed.tflite"


def test_figures_have_a_heading_of_their_own(tiny_artifact: Path, tmp_path: Path) -> None:
    path = changed(tiny_artifact, tmp_path, {"calibration": {"texts": 64, "rounding_difference": FIGURES}})
    lines = printed(path).splitlines()
    start = lines.index("rounding difference")
    assert lines[start + 1 : start + 4] == [
        "  inputs             64",
        "  single to xnnpack  largest 1, mean 0.0125, share 0.0125, values 1280",
        "  tflm to single     largest 3, mean 0.25, share 0.2, values 1280",
    ]
    assert lines[lines.index("calibration") + 1 :][0].split() == ["texts", "64"]
    assert json.loads(printed(path, "--json"))["calibration"]["rounding_difference"] == FIGURES


def test_an_artifact_without_figures_is_read_and_says_so(tiny_artifact: Path) -> None:
    assert "rounding_difference" not in artifact.load(tiny_artifact).manifest["calibration"]
    lines = printed(tiny_artifact).splitlines()
    assert lines[lines.index("rounding difference") + 1] == "  not recorded  convert again to have it measured"
    assert "rounding_difference" not in json.loads(printed(tiny_artifact, "--json"))["calibration"]


def test_other_tiers_are_not_asked_for_figures(tiny_artifact: Path, tmp_path: Path) -> None:
    path = changed(tiny_artifact, tmp_path, {"tier": "board"})
    assert "rounding difference" not in printed(path)


@pytest.mark.parametrize("figures", [3, "unknown", [1, 2], {}, None])
def test_whatever_else_stands_there_does_no_harm(tiny_artifact: Path, tmp_path: Path, figures: Any) -> None:
    calibration = {"texts": 64, "rounding_difference": figures}
    assert "not recorded" in printed(changed(tiny_artifact, tmp_path, {"calibration": calibration}))
