"""The refit benchmark in a small form: its keys, and that the two fits it times are of the same loss."""

import numpy as np
import pytest

from tasuki.benchmarks import sdk_refit


@pytest.fixture(scope="module")
def figures() -> dict[str, object]:
    return sdk_refit.run(rounds=1, examples=400, width=64, labels=32)


def test_it_measures_its_keys(figures: dict[str, object]) -> None:
    assert set(figures) == {
        "refit_speedup",
        "refit_ms",
        "sklearn_ms",
        "refit_objective",
        "sklearn_objective",
        "refit_setting",
        "refit_loss_excess",
        "refit_settings",
        "refit_speedup_flat",
        "refit_loss_excess_flat",
        "refit_settings_flat",
    }
    settings = figures["refit_settings"]
    assert isinstance(settings, list)
    assert len(settings) == len(sdk_refit.STRENGTHS) * len(sdk_refit.THREADS)
    assert figures["refit_speedup"] == min(setting["speedup"] for setting in settings)
    assert all(setting["refit_ms"] > 0 for setting in settings)


def test_the_refit_ends_no_higher_than_scikit_learn(figures: dict[str, object]) -> None:
    for name in ("refit_loss_excess", "refit_loss_excess_flat"):
        excess = figures[name]
        assert isinstance(excess, float)
        assert excess <= 1e-6
    assert isinstance(figures["refit_objective"], float)
    assert figures["refit_objective"] > 0


def test_the_mixture_is_as_hard_as_it_says() -> None:
    features, targets = sdk_refit.mixture(3, 20_000, 8, 5, 0.0)
    centres = np.stack([features[targets == label].mean(0) for label in range(5)])
    nearest = ((features[:, None] - centres) ** 2).sum(2).argmin(1)
    assert (nearest == targets).mean() == pytest.approx(sdk_refit.BAYES, abs=0.02)
