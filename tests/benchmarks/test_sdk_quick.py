"""The SDK benchmark, small: every key is there, and what repeats holds."""

import json
import subprocess
import sys

import pytest

KEYS = {
    "predict_ratio", "generate_ratio", "learn_example_ratio", "refit_speedup", "cold_start_ratio", "rss_extra_mb",
    "ece", "personalised_worse_users", "personalised_gain_lower", "commit", "seed", "machine", "seconds",
}  # fmt: skip


@pytest.mark.timeout(280)
def test_the_quick_run_prints_every_key() -> None:
    command = [sys.executable, "-m", "tasuki.sdk", "bench", "sdk", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) >= KEYS
    assert figures["users"] == 3
    assert figures["personalised_worse_users"] == 0
    assert figures["rss_extra_mb"] <= 30
    assert figures["refit_loss_excess"] <= 1e-6
    assert 0 <= figures["ece"] <= 1
