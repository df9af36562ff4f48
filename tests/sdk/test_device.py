"""The device: answers, learns, forgets, and names what is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasuki.sdk import Device, artifact, runtime
from tasuki.sdk.errors import (
    ArtifactCorrupt,
    BrokerUnreachable,
    EmptyText,
    InputError,
    KeyInvalid,
    MissingExtra,
    NotEnrolled,
    StateLocked,
    TextTooLong,
    UnknownLabel,
)


@pytest.fixture
def device(tiny_artifact: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    with Device.open(tiny_artifact, state=tmp_path / "state") as opened:
        yield opened


def test_prediction_has_all_its_figures(device: Device) -> None:
    answer = device.predict("turn on the light")
    assert answer.label in device.labels
    assert 0 <= answer.margin <= answer.probability <= 1
    assert answer.latency_ms > 0
    assert device.version == 0


def test_batch_gives_what_single_calls_give(device: Device) -> None:
    texts = ["turn on the light", "play music", "stop"]
    assert [a.label for a in device.predict_batch(texts)] == [device.predict(t).label for t in texts]


def test_learning_changes_the_answer_and_survives(tiny_artifact: Path, tmp_path: Path) -> None:
    text = "make it cosy now"
    with Device.open(tiny_artifact, state=tmp_path) as device:
        before = device.predict(text).label
        wanted = next(label for label in device.labels if label != before)
        for _ in range(2):
            device.learn(text, wanted)
        # One example proves nothing about other texts, but this very one was taught.
        assert device.predict(text).label == wanted
        assert device.predict(text, using="global").label == before
        probability = device.predict(text).probability
    with Device.open(tiny_artifact, state=tmp_path) as device:
        answer = device.predict(text)
        assert answer.label == wanted
        assert answer.probability == pytest.approx(probability, abs=1e-2)
        assert device.forget(everything=True) == 1
        assert device.predict(text).label == before
    with Device.open(tiny_artifact, state=tmp_path) as device:
        assert device.predict(text).label == before


def test_own_labels_need_to_be_asked_for_and_stay(tiny_artifact: Path, tmp_path: Path) -> None:
    with Device.open(tiny_artifact, state=tmp_path) as device:
        with pytest.raises(UnknownLabel, match="new_label=True"):
            device.learn("make it cosy", "movie_night")
        for text in ("make it cosy", "cosy please", "cosy now"):
            device.learn(text, "movie_night", new_label=True)
        assert device.predict("make it cosy").label == "movie_night"
    with Device.open(tiny_artifact, state=tmp_path) as device:
        assert device.labels[-1] == "movie_night"
        device.learn("so cosy", "movie_night")
        assert device.status()["own_labels"] == ["movie_night"]


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u2003"])
def test_empty_text(device: Device, text: str) -> None:
    with pytest.raises(EmptyText):
        device.predict(text)
    with pytest.raises(EmptyText):
        device.learn(text, "light_on")
    assert device.status()["examples"] == 0


def test_text_of_a_megabyte(device: Device) -> None:
    with pytest.raises(TextTooLong):
        device.predict("a" * 1_000_000)
    with pytest.raises(TextTooLong):
        device.learn("a " * 500_000, "light_on")


@pytest.mark.parametrize("text", ["turn \ud800 on", "\x00\x01", "日本語のテキスト", "a" * 60_000, "!!!"])
def test_odd_text_gets_an_answer(device: Device, text: str) -> None:
    device.predict(text)
    device.learn(text, "light_on")
    assert device.status()["examples"] == 1


@pytest.mark.parametrize("label", ["", " ", "a\nb", "x" * 65, "\ud800"])
def test_labels_that_are_none(device: Device, label: str) -> None:
    with pytest.raises(InputError):
        device.learn("turn on", label, new_label=True)


def test_wrong_types(device: Device) -> None:
    with pytest.raises(InputError):
        device.predict(b"bytes")  # type: ignore[arg-type]
    with pytest.raises(InputError):
        device.learn("text", 3, new_label=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="using"):
        device.predict("text", using="nobody")  # type: ignore[arg-type]


def test_two_devices_on_one_state(device: Device, tiny_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(StateLocked):
        Device.open(tiny_artifact, state=tmp_path / "state")


def test_sync_needs_an_enrolment(device: Device, tmp_path: Path) -> None:
    with pytest.raises(NotEnrolled):
        device.sync()
    with pytest.raises(KeyInvalid):
        device.enrol(b"{}")
    with pytest.raises(KeyInvalid, match="can't be read"):
        device.enrol(tmp_path / "nothing")


def test_embed_gives_features_and_logits(device: Device) -> None:
    features, base = device.embed(["turn on", "stop music"])
    assert features.shape == (2, 16)
    assert base.shape == (2, 4)
    assert features.dtype == base.dtype == np.float32


def test_key_is_private(device: Device, tmp_path: Path) -> None:
    assert len(device.public_key) == 32
    assert (tmp_path / "state" / "device.key").stat().st_mode & 0o777 == 0o600


def test_a_model_that_the_runtime_cannot_load_is_named() -> None:
    with pytest.raises(ArtifactCorrupt):
        runtime.Body(b"\x1c\x00\x00\x00TFL3" + b"\x00" * 64, runtime.Outputs((0,), 1))


def test_no_runtime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "RUNTIMES", ("tasuki_no_such_module",))
    with pytest.raises(MissingExtra, match="pip install"):
        runtime.load_interpreter()


def test_a_device_process_stays_small(tiny_artifact: Path, tmp_path: Path) -> None:
    script = """
import json, sys
from pathlib import Path
from tasuki.sdk import Device
with Device.open(sys.argv[1], state=sys.argv[2]) as device:
    device.predict("turn on the light")
    device.learn("make it cosy", "light_on")
peak = [l.split()[1] for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")]
print(json.dumps([int(peak[0]) * 1024 / 1e6, sorted({m.split(".")[0] for m in sys.modules})]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_artifact), str(tmp_path)], capture_output=True, text=True, check=True
    )
    megabytes, loaded = json.loads(done.stdout)
    assert megabytes < 150
    assert not set(loaded) & {"tensorflow", "keras", "matplotlib", "sklearn", "scipy", "flask", "django", "fastapi"}


def test_own_labels_have_no_part_in_what_travels(tiny_artifact: Path, tmp_path: Path) -> None:
    """The sealed update is the same, whatever was learned under labels of the device's own."""
    from tasuki.aggregator import fleet
    from tasuki.sdk import cbor, cose, enrolment, envelope, fleet_table, keys, update

    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    fleet.init(tmp_path / "gateway", "lamps", tiny_artifact, held_out, port=9)
    parts = artifact.load(tiny_artifact)
    opened, left = [], []
    for name, own in (("plain", ()), ("private", ("make it cosy", "cosy song please"))):
        with Device.open(tiny_artifact, state=tmp_path / name) as device:
            made = fleet.enrol(tmp_path / "gateway", name, device.public_key)
            device.enrol(enrolment.encode(made))
            device.learn("lamp on please", "light_on")
            for text in own:
                device.learn(text, "movie_night", new_label=True)
            device.learn("play music now", "music_play")
            with pytest.raises(BrokerUnreachable):
                device.sync(timeout=0.1)
            (waiting,) = device._state.spooled()
            left.append(device._state.get("pending.memory"))
        bound = envelope.Context("lamps", name, "up", parts.hash, 0, waiting.sequence, envelope.HYBRID)
        sealed = cose.parse(waiting.message).payload
        recipient = keys.load_sealing(tmp_path / "gateway" / "keys")[envelope.HYBRID]
        opened.append(envelope.decrypt(sealed, bound, recipient))
    # All but the root of the chain, which is drawn anew for each device.
    roots = [cbor.decode(plain)[9] for plain in opened]
    assert roots[0] != roots[1]
    assert opened[0].replace(roots[0], b"") == opened[1].replace(roots[1], b"")
    assert left[0] == left[1], "nor in what is left for the next one"
    table = fleet_table.make("head", parts.labels, parts.features, parts.moment, parts.manifest)
    assert update.decode(opened[0], table).samples == 2
    assert b"cosy" not in opened[1]
    assert b"movie" not in opened[1]
