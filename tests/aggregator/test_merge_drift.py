"""The merge over many rounds: it never swings past what the fleet agrees on, and does not drift from the body."""

import numpy as np
import pytest

from tasuki.aggregator import merge
from tasuki.sdk import adapter, kinds
from tasuki.sdk.adapter import Head
from tasuki.sdk.problem import Problem
from tasuki.sdk.update import Update

LABELS = ("a", "b", "c")
WIDTH = 5


class Homes:
    """Devices with examples of their own; `alike` gives all of them the same ones."""

    def __init__(self, seed: int, alike: bool) -> None:
        rng = np.random.default_rng(seed)
        inputs = np.c_[rng.standard_normal((200, WIDTH)), np.ones(200)]
        self.moment = (inputs.T @ inputs / 200).astype(np.float32)
        self.data = []
        for _ in range(4):
            features = rng.standard_normal((20, WIDTH)).astype(np.float32)
            base = rng.standard_normal((20, len(LABELS))).astype(np.float32)
            self.data.append((features, base, rng.integers(0, len(LABELS), 20)))
        if alike:
            self.data = self.data[:1] * 4

    def round(self, head: Head) -> Head:
        updates = []
        for features, base, targets in self.data:
            offset = adapter.logits(head, features, base)
            problem = Problem(LABELS, features, offset, targets, self.moment, np.ones(len(LABELS)))
            updates.append(Update(kinds.make("head", WIDTH).fit(problem), len(targets)))
        return merge.merge(head, updates, 64)

    def loss(self, head: Head) -> float:
        total = 0.0
        for features, base, targets in self.data:
            shares = adapter.probabilities(adapter.logits(head, features, base))
            total -= float(np.log(shares[np.arange(len(targets)), targets]).sum())
        return total


@pytest.mark.parametrize("seed", range(5))
def test_devices_that_agree_are_not_overshot(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < merge.SERVER_RATE < 2
    monkeypatch.setattr(merge, "KEEP", 1.0)
    homes = Homes(seed, alike=True)
    head = adapter.zero(LABELS, WIDTH)
    steps = []
    for _ in range(12):
        following = homes.round(head)
        steps.append(float(np.linalg.norm(following.joined - head.joined)))
        assert homes.loss(following) <= homes.loss(head) + 1e-3
        head = following
    assert steps[-1] < 0.1 * steps[0]


@pytest.mark.parametrize("seed", range(3))
def test_the_head_does_not_drift_for_ever(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    homes = Homes(seed, alike=True)
    # What a line can part has no finite optimum: each round pulls to the last head only, and the logits go on growing.
    features, base, _ = homes.data[0]
    homes.data = [(features, base, (features[:, 0] > 0).astype(int))]

    def late_growth() -> float:
        head = adapter.zero(LABELS, WIDTH)
        sizes = []
        for _ in range(120):
            head = homes.round(head)
            sizes.append(float(np.linalg.norm(head.joined)))
        return sizes[119] / sizes[59] - 1

    assert abs(late_growth()) < 0.01
    monkeypatch.setattr(merge, "KEEP", 1.0)
    assert late_growth() > 0.05
