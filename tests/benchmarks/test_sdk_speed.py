"""The speed benchmark measures what it says: all sides on the same texts, in turns. Times are not tested."""

from collections import Counter
from pathlib import Path

import pytest

from tasuki.benchmarks import sdk_speed

TEXTS = ("turn on the light", "stop the music", "please make it cosy now")


def test_every_side_gets_every_text(tiny_artifact: Path) -> None:
    seen: dict[str, list[str]] = {"one": [], "two": []}
    order: list[str] = []

    def side(name: str):  # type: ignore[no-untyped-def]
        def answer(text: str) -> None:
            seen[name].append(text)
            order.append(name)

        return answer

    found = sdk_speed.predict_ratio(tiny_artifact, {name: side(name) for name in seen}, TEXTS, calls=200)
    assert seen["one"] == seen["two"]
    assert set(Counter(seen["one"])) == set(TEXTS)
    # In blocks, and neither side is always the first.
    block = len(order) // 8
    assert [len(set(order[at : at + block])) for at in range(0, len(order), block)] == [1] * 8
    assert {order[at] for at in range(0, len(order), 2 * block)} == {"one", "two"}
    assert set(found["microseconds"]) == {"bare", "tokenise", "one", "two"}
    for name, ratio in found["ratio"].items():
        assert ratio == pytest.approx(found["microseconds"][name] / found["microseconds"]["bare"])
    assert 0 < found["tokenise_share"] < 1


def test_the_quick_path_answers_with_and_without_adapters(tiny_artifact: Path) -> None:
    answers = sdk_speed.answers(tiny_artifact)
    assert set(answers) == {"base", "local", "fleet"}
    shares = {name: [answer(text)[1] for text in TEXTS] for name, answer in answers.items()}
    assert all(0.25 <= share <= 1 for row in shares.values() for share in row)
    # The adapters are really there.
    assert shares["local"] != shares["base"]
