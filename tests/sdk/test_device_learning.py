"""What a device makes of its examples: which adapter answers and why, what forgetting leaves, what limits forbid."""

import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasuki.sdk import Conditions, Device, Limits, policy
from tasuki.sdk.errors import InputError, KeyInvalid, NotEnrolled, StateMismatch, UnknownLabel, WrongTask

ROOT = Path(__file__).resolve().parents[2]
COSY = ("make it cosy", "cosy please", "cosy now", "cosy light please", "the hall cosy", "make the kitchen cosy")


@pytest.fixture
def device(tiny_artifact: Path, tmp_path: Path) -> Iterator[Device]:
    with Device.open(tiny_artifact, state=tmp_path / "state") as opened:
        yield opened


def teach(device: Device, texts: tuple[str, ...] = COSY, label: str = "movie_night") -> None:
    for text in texts:
        device.learn(text, label, new_label=True, durable=False)
    device.flush()


def test_before_anything_is_learned_the_fleet_answers(device: Device) -> None:
    said = device.explain("turn on the light")
    assert (said.answered_by, said.reason) == ("global", "no examples yet")
    assert {answer.label for answer in said.answers.values()} == {device.predict("turn on the light").label}


def test_the_local_adapter_answers_once_it_helps_texts_that_it_did_not_see(device: Device) -> None:
    teach(device)
    said = device.explain("make it cosy light")
    assert said.answered_by == device.predict("make it cosy light").answered_by == "local"
    assert said.verdict.local_loss < said.verdict.global_loss  # type: ignore[operator]
    assert said.answers["local"].label == "movie_night" != said.answers["global"].label
    assert device.predict("make it cosy light", "global").answered_by == "global"
    assert "6 cached examples" in said.reason


def test_examples_that_contradict_each_other_change_no_other_answer(device: Device) -> None:
    """Labels at random: no adapter can help texts that it did not see, so the fleet's goes on answering."""
    rng = np.random.default_rng(0)
    words = ("switch", "turn", "on", "off", "the", "light", "lamp", "kitchen", "music", "song", "radio", "now")
    for _ in range(60):
        text = " ".join(rng.choice(words, 5))
        device.learn(text, device.labels[rng.integers(4)], durable=False)
    other = "please stop the bedroom radio"
    assert device.explain(other).answered_by == "global"
    assert device.predict(other).label == device.predict(other, "global").label
    taught = device._memory.examples()[0].text
    assert taught is not None
    assert device.explain(taught).reason == "this very text was taught"


@pytest.mark.parametrize("kind", ["head", "low_rank", "bias", "statistics"])
def test_every_kind_learns_and_answers_as_its_equation(tiny_artifact: Path, tmp_path: Path, kind: str) -> None:
    with Device.open(tiny_artifact, tmp_path, adapter=kind) as device:
        teach(device)
        features, base = device.embed(["make it cosy light"])
        task = device._classify
        assert task is not None
        assert device.labels[-1] == "movie_night"
        learned = task.outcome
        assert learned.local is not None
        scores = task.wanted.make().project(features) @ learned.local.weight.T + learned.local.bias
        scores[:, :4] += base
        said = device.explain("make it cosy light").answers["local"]
        shares = np.exp(scores[0] / learned.temperature) / np.exp(scores[0] / learned.temperature).sum()
        assert said.label == learned.labels[int(shares.argmax())]
        assert said.probability == pytest.approx(float(shares.max()), abs=1e-4)
        assert device.status()["adapter"] == kind


def test_a_kind_that_the_artifact_does_not_admit(tiny_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="admits"):
        Device.open(tiny_artifact, tmp_path, adapter="lora")


def test_forgetting_one_text_one_label_or_everything(device: Device, tmp_path: Path) -> None:
    before = device.predict("make it cosy light", "local")
    teach(device)
    device.learn("play the radio", "music_play")
    assert device.forget("make it cosy") == 1
    assert device.forget("make it cosy") == 0
    assert device.forget(label="movie_night") == 5
    assert device.labels == ("light_off", "light_on", "music_play", "music_stop")
    assert device.predict("make it cosy light").label == before.label
    with pytest.raises(UnknownLabel):
        device.learn("so cosy", "movie_night")
    assert device.forget(everything=True) == 1
    assert [entry[1:] for entry in device.status()["log"]] == [
        ["forgotten", "one text: 1 examples"],
        ["forgotten", "one text: 0 examples"],
        ["forgotten", "the label 'movie_night': 5 examples"],
        ["forgotten", "everything: 1 examples"],
    ]
    device.close()
    content = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    assert b"cosy" not in content.replace(b"movie_night", b"")


@pytest.mark.parametrize("wanted", [{}, {"text": "a", "label": "b"}, {"label": "b", "everything": True}])
def test_forgetting_asks_for_one_thing(device: Device, wanted: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="only one"):
        device.forget(**wanted)


def test_what_is_not_durable_is_on_disk_after_a_flush(tiny_artifact: Path, tmp_path: Path) -> None:
    device = Device.open(tiny_artifact, tmp_path / "state")
    device.learn("make it cosy", "light_on", durable=False)
    shutil.copytree(tmp_path / "state", tmp_path / "before")
    device.flush()
    shutil.copytree(tmp_path / "state", tmp_path / "after")
    device.close()
    for name, count in (("before", 0), ("after", 1)):
        with Device.open(tiny_artifact, tmp_path / name) as again:
            assert again.status()["examples"] == count


def test_threads_share_a_device(device: Device) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                device.learn(f"cosy {number} {turn}", "movie_night", new_label=True, durable=turn % 3 == 0)
                assert device.predict("turn on the light").label in device.labels
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    device.flush()
    assert device.status()["examples"] == 40
    assert len(device._state.examples()) == 40


# --- another body ---------------------------------------------------------------------------------------------------


@pytest.fixture
def other_artifact(tiny_artifact: Path, tmp_path: Path) -> Path:
    """The same model under another name: another hash, so another body to a device."""
    from tasuki.converter import pack
    from tasuki.sdk import artifact

    parts = artifact.load(tiny_artifact)
    assert isinstance(parts.model, bytes)
    about = {name: value for name, value in parts.manifest.items() if name not in ("format", "parts")}
    members = {artifact.VOCABULARY: "\n".join(parts.vocabulary).encode(), artifact.MOMENT: parts.moment.tobytes()}
    path = tmp_path / "other.tflite"
    path.write_bytes(pack.pack(parts.model, members, {**about, "name": "other"}))
    return path


def test_a_new_body_learns_the_kept_texts(tiny_artifact: Path, other_artifact: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Device.open(tiny_artifact, state) as device:
        teach(device)
        key = device.public_key
        answer = device.predict("make it cosy light")
    with pytest.raises(StateMismatch, match="replace"):
        Device.open(other_artifact, state)
    with Device.open(other_artifact, state, replace=True) as device:
        assert device.status()["examples"] == len(COSY)
        assert device.predict("make it cosy light").label == answer.label == "movie_night"
        assert device.public_key == key
        assert "6 of 6 examples" in device.status()["log"][-1][2]
        with pytest.raises(NotEnrolled):
            device.sync()
    with Device.open(other_artifact, state) as device:
        assert device.status()["examples"] == len(COSY)


def test_without_texts_nothing_can_be_taken_over(
    tiny_artifact: Path, other_artifact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "state"
    with caplog.at_level(logging.WARNING, "tasuki"), Device.open(tiny_artifact, state, keep_texts=False) as device:
        teach(device)
        assert device.predict("make it cosy light").label == "movie_night"
        assert device.predict("make it cosy").answered_by == "local"
    assert "texts are not kept" in caplog.text
    assert b"cosy" not in b"".join(path.read_bytes() for path in state.iterdir())
    with Device.open(other_artifact, state, replace=True) as device:
        assert device.status()["examples"] == 0
        assert "0 of 6 examples" in device.status()["log"][-1][2]


# --- limits and confidence ------------------------------------------------------------------------------------------


def test_limits_put_a_fit_off_but_keep_the_example(tiny_artifact: Path, tmp_path: Path) -> None:
    seen = {"battery": 0.1}
    limits = Limits(min_battery=0.5)
    with Device.open(tiny_artifact, tmp_path, limits=limits, conditions=lambda: Conditions(**seen)) as device:
        teach(device)
        assert device.predict("make it cosy light").answered_by == "global"
        assert device.status()["may_learn"] == {
            "allowed": False, "reason": "the battery is at 10%, min_battery is 50%", "retry_after": None
        }  # fmt: skip
        assert device.status()["examples"] == len(COSY)
        seen["battery"] = 0.9
        device._postponed_until = 0.0
        assert device.predict("make it cosy light").label == "movie_night"


def test_forgetting_does_not_wait_for_the_limits(tiny_artifact: Path, tmp_path: Path) -> None:
    seen = {"battery": 0.9}
    limits = Limits(min_battery=0.5)
    with Device.open(tiny_artifact, tmp_path, limits=limits, conditions=lambda: Conditions(**seen)) as device:
        before = device.predict("make it cosy light").label
        teach(device)
        device.learn("play the radio", "music_play")
        assert device.predict("make it cosy light").label == "movie_night"
        seen["battery"] = 0.1
        assert device.forget(label="movie_night") == len(COSY)
        assert device.predict("make it cosy light").label == before != "movie_night"


def test_limits_of_memory_bound_the_cache(tiny_artifact: Path, tmp_path: Path) -> None:
    room = policy.fit_bytes(20, 16, 4)
    with Device.open(tiny_artifact, tmp_path, limits=Limits(ram=room)) as device:
        assert device.status()["capacity"] == 20
        for number in range(30):
            device.learn(f"cosy {number}", device.labels[number % 4], durable=False)
        assert device.status()["examples"] == 20
    with pytest.raises(InputError, match="at least"):
        Device.open(tiny_artifact, tmp_path, limits=Limits(ram=1000))
    with pytest.raises(InputError, match="disk"):
        Device.open(tiny_artifact, tmp_path, limits=Limits(disk=1000))


def test_levels_flag_more_the_stricter_they_are(device: Device) -> None:
    texts = [f"{a} {b} {c}" for a in ("turn", "play", "cosy") for b in ("on", "off", "music") for c in ("light", "now")]
    flagged = [sum(device.predict(text, level=level).uncertain for text in texts) for level in (0.01, 0.1, 0.5)]
    assert flagged == sorted(flagged, reverse=True)
    assert flagged[0] == len(texts)  # the artifact has no row for so low a level: nothing is sure
    for level in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="level"):
            device.predict("turn on", level=level)


# --- embedding ------------------------------------------------------------------------------------------------------


def test_status_is_plain_json(device: Device) -> None:
    teach(device)
    status = json.loads(json.dumps(device.status()))
    assert status["examples"] == len(COSY)
    assert status["answers"] == "local"
    assert status["disk_bytes"] < 8 << 20


def test_a_classifier_neither_writes_nor_scores(device: Device) -> None:
    with pytest.raises(WrongTask):
        device.generate("turn")
    with pytest.raises(WrongTask):
        device.score("turn")


@pytest.mark.parametrize("label", ["x" * 10_000, "", "a\tb", 7, None])
def test_labels_that_cannot_be(device: Device, label: Any) -> None:
    with pytest.raises(InputError):
        device.learn("turn on", label, new_label=True)
    assert device.status()["examples"] == 0


def test_an_artifact_must_be_signed_by_the_key_that_is_given(tiny_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyInvalid):
        Device.open(tiny_artifact, tmp_path, verify=tmp_path / "nothing.pub")


def test_a_mapped_model_answers_alike(device: Device, tiny_artifact: Path, tmp_path: Path) -> None:
    with Device.open(tiny_artifact, tmp_path / "mapped", mapped=True, threads=2) as mapped:
        assert mapped.predict("turn on the light")[:3] == device.predict("turn on the light")[:3]


def test_import_and_answers_load_neither_mqtt_nor_cryptography(tiny_artifact: Path, tmp_path: Path) -> None:
    script = """
import sys
import tasuki.sdk
early = {name.partition(".")[0] for name in sys.modules}
assert not early & {"ai_edge_litert", "tflite_runtime"}, early
with tasuki.sdk.Device.open(sys.argv[1], sys.argv[2]) as device:
    device.predict("turn on the light")
    device.learn("make it cosy", "light_on")
loaded = {name.partition(".")[0] for name in sys.modules}
unwanted = {"paho", "cryptography", "cbor2", "click", "rich", "asyncio", "tensorflow", "keras", "tokenizers"}
assert not loaded & unwanted, loaded & unwanted
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(tiny_artifact), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
