"""The relay benchmark end to end, in its small form: real teacher, texts, broker, gateway and homes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ARMS = ("base", "local", "federated", "personalised", "centralised")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("relay")


@pytest.fixture(scope="module")
def figures(out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tasuki.sdk", "bench", "relay", "--quick", "--json", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ}, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_key_is_there(figures: dict[str, Any]) -> None:
    for arm in ARMS:
        for name in (f"accuracy_{arm}", f"unseen_accuracy_{arm}"):
            assert 0 <= figures[name] <= 1
            assert name in figures["spread"]
    for name in ("seeds", "bytes_up_per_update", "bytes_float32_per_update", "device_rss_mb", "student_bytes",
                 "int8_points_lost", "commit", "seed", "machine", "seconds"):  # fmt: skip
        assert figures[name] is not None


def test_devices_stay_small_and_nothing_is_refused(figures: dict[str, Any]) -> None:
    assert figures["device_rss_mb"] < 150
    assert figures["device_forbidden_modules"] == []
    assert figures["refused"] == 0
    assert figures["student_bytes"] <= 400_000
    assert figures["bytes_up_per_update"] < figures["bytes_float32_per_update"]


def test_learning_helps_where_it_should(figures: dict[str, Any]) -> None:
    assert figures["accuracy_personalised"] > figures["accuracy_base"]
    assert figures["accuracy_personalised"] > figures["accuracy_federated"]
    assert [version["version"] for version in figures["versions"][0]] == [1, 2]


def test_the_report_is_one_page_without_outside_parts(figures: dict[str, Any], out: Path) -> None:
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 4
    assert not {"<script", "<link", 'src="http', "@import"} & set(page.split())
    assert "http" not in page.replace("http://www.w3.org/", "")
    assert json.loads((out / "report.json").read_text())["seconds"] == figures["seconds"]
    for arm in ARMS:
        assert arm in page
