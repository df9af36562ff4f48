"""A device with a causal model: writes, scores, and learns the words that follow."""

from collections.abc import Iterator
from pathlib import Path

import causal_kit
import numpy as np
import pytest

from tasuki.sdk import Device
from tasuki.sdk.errors import EmptyText, InputError, NotEnrolled, TextTooLong, WrongTask

SAID = tuple(f"the {thing} is {state}" for thing in ("lamp", "door", "fan") for state in ("on", "off", "mine", "old"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "talker.tflite"
    path.write_bytes(causal_kit.student())
    return path


@pytest.fixture
def device(file: Path, tmp_path: Path) -> Iterator[Device]:
    with Device.open(file, tmp_path / "state") as opened:
        yield opened


def test_text_comes_in_pieces_and_repeats(device: Device) -> None:
    made = device.generate("hello", max_tokens=8, temperature=1.0, seed=3)
    pieces = list(made)
    assert "".join(pieces) == made.text
    assert made.tokens <= 8
    assert made.reason in ("stop", "length", "context")
    assert "".join(device.generate("hello", max_tokens=8, temperature=1.0, seed=3)) == made.text


def test_a_text_may_be_left_and_another_begun(device: Device) -> None:
    whole = "".join(device.generate("hello", max_tokens=8))
    first = device.generate("hello", max_tokens=8)
    begun = next(first)
    assert "".join(device.generate("good", max_tokens=4)) == "".join(device.generate("good", max_tokens=4))
    assert begun + "".join(first) == whole
    device.generate("hello").close()


@pytest.mark.parametrize("kind", ["low_rank", "bias"])
def test_learning_makes_what_was_said_likelier(file: Path, tmp_path: Path, kind: str) -> None:
    unseen = "the door is new"
    with Device.open(file, tmp_path / kind, adapter=kind) as device:
        before = device.score(unseen)
        for text in SAID:
            device.learn(text, durable=False)
        device.flush()
        after = device.score(unseen)
        assert after.tokens == before.tokens
        assert after.nats < before.nats
        status = device.status()
        assert status["answers"] == "local"
        assert "tokens of texts that its fit did not see" in status["why"]
        assert device.forget(everything=True) == len(SAID)
        assert device.score(unseen) == before
    with Device.open(file, tmp_path / kind, adapter=kind) as device:
        assert device.score(unseen) == before


def test_what_was_learned_survives(file: Path, tmp_path: Path) -> None:
    scores = []
    for _ in range(2):
        with Device.open(file, tmp_path / "state") as device:
            if not device.status()["examples"]:
                for text in SAID:
                    device.learn(text)
            scores.append(device.score("the door is new").nats)
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_noise_is_not_learned(device: Device) -> None:
    """Letters at random: nothing in them helps the texts that are held out."""
    rng = np.random.default_rng(0)
    for _ in range(12):
        device.learn("".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz0123456789"), 12)), durable=False)
    status = device.status()
    if status["answers"] == "local":
        assert device.score("".join(rng.choice(list("abcdefghij"), 12))).nats > 0
    assert status["examples"] == 12


def test_what_a_causal_model_does_not_do(device: Device) -> None:
    for wrong in (lambda: device.predict("a"), lambda: device.embed(["a"]), lambda: device.explain("a"),
                  lambda: device.enrol(b"{}"), lambda: device.labels):  # fmt: skip
        with pytest.raises(WrongTask):
            wrong()
    with pytest.raises(InputError, match="label"):
        device.learn("a", "b")
    with pytest.raises(NotEnrolled):
        device.sync()


def test_prompts_that_cannot_be(device: Device) -> None:
    with pytest.raises(TextTooLong, match="tokens"):
        device.generate("word " * 200)
    with pytest.raises(TextTooLong):
        device.generate("a" * 70_000)
    for bad in ({"temperature": -1.0}, {"top_p": 0.0}, {"max_tokens": 0}, {"top_k": -1}, {"seed": -1}):
        with pytest.raises(InputError):
            device.generate("hello", **bad)  # type: ignore[arg-type]
    with pytest.raises(EmptyText):
        device.learn("  ")
    with pytest.raises(InputError):
        device.generate(b"bytes")  # type: ignore[arg-type]
    list(device.generate("\x00\x07 \ud800", max_tokens=3))
