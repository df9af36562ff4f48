"""The benchmark of generation in its small form; its times are not looked at."""

from pathlib import Path

import causal_kit as kit
import pytest

from tasuki.benchmarks import sdk_generate
from tasuki.sdk import generate


def test_figures(tmp_path: Path) -> None:
    path = tmp_path / "toy.tflite"
    path.write_bytes(kit.student())
    found = sdk_generate.run(path, ("how was", "~"), tokens=6, rounds=2)
    assert set(found) == {
        "generate_ratio", "sampled_ratio", "bare_tokens_per_second", "generate_tokens_per_second",
        "sampled_tokens_per_second", "tokens",
    }  # fmt: skip
    assert all(value > 0 for value in found.values())
    assert found["tokens"] == 2 * 2 * 6


def test_ways_that_differ_are_no_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "toy.tflite"
    path.write_bytes(kit.student())
    monkeypatch.setattr(sdk_generate.Bare, "greedy", lambda self, prompt, count: [0] * count)
    with pytest.raises(sdk_generate.WaysDiffer, match="how was"):
        sdk_generate.run(path, ("how was",), tokens=3, rounds=1)


def test_the_bare_loop_is_greedy_generation() -> None:
    model = generate.text_model(kit.read())
    made = generate.generate(model, "the lake", max_tokens=9)
    list(made)
    bare = sdk_generate.Bare(kit.read().model)
    assert bare.greedy([*model.first, *model.ids("the lake")], made.tokens) == list(made.ids)
