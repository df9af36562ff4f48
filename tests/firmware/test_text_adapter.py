"""The adapter in C: the answers of the SDK's scorer, and what a device has learned, baked in."""

import ctypes
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import artifact_kit
import numpy as np
import pytest
from firmware.kernel_kit import library
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasuki.firmware_bridge import text
from tasuki.firmware_bridge.compiler.program import Port, Program
from tasuki.firmware_bridge.text import classify
from tasuki.firmware_bridge.text.learned import Learned
from tasuki.sdk import Device, artifact
from tasuki.sdk.adapter import CONFIDENT, Head, probabilities
from tasuki.sdk.classifier import Classifier
from tasuki.sdk.errors import InputError, ModelUnsupported, StateError, StateLocked, WrongTask
from tasuki.sdk.features import Grid
from tasuki.sdk.manifest import write
from tasuki.sdk.runtime import Output, Outputs
from tasuki.sdk.scorer import Scorer

_WIDTHS = (3, 7)
Codes = NDArray[np.int8]


class _Table(ctypes.Structure):
    _fields_ = (
        ("names", ctypes.POINTER(ctypes.c_char_p)), ("labels", ctypes.c_int32), ("logits", ctypes.c_int32),
        ("features", ctypes.c_int32), ("zero", ctypes.c_int32), ("step", ctypes.c_float), ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p), ("gate", ctypes.c_float), ("floor", ctypes.c_float),
    )  # fmt: skip


class _Answer(ctypes.Structure):
    _fields_ = (
        ("label", ctypes.c_int32), ("name", ctypes.c_char_p), ("confidence", ctypes.c_float),
        ("second", ctypes.c_float), ("sure", ctypes.c_int32),
    )  # fmt: skip


def in_c(folded: classify.Folded, logits: Codes, features: Codes) -> Any:
    """What `tsk_adapter_answer` says."""
    names = (ctypes.c_char_p * len(folded.labels))(*(label.encode() for label in folded.labels))
    weight, bias = (None if values is None else values.ctypes.data for values in (folded.weight, folded.bias))
    table = _Table(
        names, len(folded.labels), len(logits), len(features), folded.zero, folded.step, weight, bias, folded.gate,
        folded.floor,
    )  # fmt: skip
    answer = _Answer()
    library().tsk_adapter_answer(
        ctypes.byref(table), ctypes.c_void_p(logits.ctypes.data), ctypes.c_void_p(features.ctypes.data),
        ctypes.byref(answer),
    )  # fmt: skip
    assert answer.name == folded.labels[answer.label].encode()
    return answer


def _parts(labels: int) -> artifact.Artifact:
    """Two depths of 3 and 7 features, as outputs 2 and 0; the logits are output 1."""
    encoded = write(artifact_kit.listed(artifact_kit.about()))
    parts = artifact.parse(artifact_kit.with_manifest(encoded))
    return parts._replace(
        labels=tuple(f"label {n}" for n in range(labels)), logits=labels, widths=_WIDTHS, features=sum(_WIDTHS),
        outputs=Outputs((2, 0), 1),
    )  # fmt: skip


def port(name: str, width: int, scale: float = 0.1, zero: int = 0) -> Port:
    """An int8 output [1, width]."""
    return Port(0, name, np.dtype(np.int8), (1, width), float(np.float32(scale)), zero)


def _output(made: Port) -> Output:
    grid = (made.scale, made.zero)
    return Output({"name": made.name, "index": 0, "shape": made.shape, "dtype": made.type, "quantization": grid})


@settings(deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1), labels=st.integers(2, 70), own=st.integers(0, 3),
    adapted=st.sampled_from(["none", "local", "bias", "fleet"]), temperature=st.floats(0.05, 5), gate=st.floats(0.2, 5),
)  # fmt: skip
def test_answers_are_the_scorers(
    seed: int, labels: int, own: int, adapted: str, temperature: float, gate: float
) -> None:
    rng = np.random.default_rng(seed)
    parts = _parts(labels)
    logits = port("logits", labels, rng.uniform(0.01, 0.2), int(rng.integers(-128, 128)))
    depths = [port(f"h{n}", n, rng.uniform(0.005, 0.05), int(rng.integers(-128, 128))) for n in _WIDTHS]
    program = Program("m", "tflm", (), (), (), (depths[1], logits, depths[0]))
    z, h = rng.integers(-128, 128, labels).astype(np.int8), rng.integers(-128, 128, 10).astype(np.int8)
    head = limit = learned = None
    if adapted != "none":
        width = 0.0 if adapted == "bias" else 1.0
        weight = (width * rng.standard_normal((labels + own, 10))).astype(np.float32)
        bias = rng.standard_normal(labels + own).astype(np.float32)
        names = (*parts.labels, *(f"own {n}" for n in range(own)))
        head, limit = Head(names, weight, bias), gate if adapted == "fleet" else None
        learned = Learned(head, temperature, limit, 0.6)
    else:
        temperature = parts.temperature
    base, grid = Grid([_output(logits)]), Grid([_output(depth) for depth in depths])
    if limit is not None and abs(probabilities(base.real((z,)) / np.float32(gate)).max() - CONFIDENT) < 1e-4:
        return  # either is right
    folded = classify.fold(parts, program, learned)
    assert (folded.weight is None) == (adapted in ("none", "bias"))
    answer = in_c(folded, z, h)
    raw = (z, (h[:3], h[3:]))
    best, share, second = Scorer(base, grid, temperature, head, limit)(raw)
    assert answer.confidence == pytest.approx(share, abs=2e-5)
    assert answer.second == pytest.approx(second, abs=2e-5)
    # Two labels that are equally good but for the last bit may change places.
    assert answer.label == best or abs(share - second) < 2e-5
    floor = folded.floor
    if abs(share - floor) > 1e-4 and abs(second - floor) > 1e-4:
        assert bool(answer.sure) == (share >= floor > second)


def test_the_first_of_equals_is_the_answer() -> None:
    folded = classify.Folded(("a", "b", "c"), 0, 0.1, None, None, 0.0, 0.5)
    answer = in_c(folded, np.array([-5, 7, 7], np.int8), np.zeros(1, np.int8))
    assert (answer.label, answer.confidence == answer.second, answer.sure) == (1, True, 0)


def test_an_answer_is_sure_if_it_alone_reaches_the_floor() -> None:
    folded = classify.Folded(("a", "b"), 0, 0.1, None, None, 0.0, 0.5)
    sure = [in_c(folded, np.array(codes, np.int8), np.zeros(1, np.int8)).sure for codes in ((7, 7), (7, 8), (0, -128))]
    assert sure == [0, 1, 1]


def _teach(device: Device) -> None:
    for times in range(6):
        device.learn(f"make it cosy {'now ' * times}", "cosy", new_label=True)
        device.learn(f"stop the radio {'please ' * times}", "music_stop")


@pytest.mark.parametrize("kind", ["head", "low_rank", "bias", "statistics"])
def test_what_a_device_has_learned_is_what_it_answers_with(tiny_artifact: Path, tmp_path: Path, kind: str) -> None:
    with Device.open(tiny_artifact, tmp_path / "state", adapter=kind) as device:
        _teach(device)
    parts = artifact.load(tiny_artifact)
    learned = text.learned(tiny_artifact, tmp_path / "state", kind)
    # One of the device's own answers in any case; a fleet's only where the body is not confident.
    assert learned.gate is None
    classifier = Classifier(parts)
    program = Program("m", "tflm", (), (), (), _ports(classifier, parts))
    folded = classify.fold(parts, program, learned)
    assert folded.labels == (*parts.labels, "cosy")
    with Device.open(tiny_artifact, tmp_path / "state", adapter=kind) as device:
        for said in ("make it cosy", "play a song in the hall", "stop", "turn on the kitchen lamp", "radio now"):
            z, (h,) = classifier.run(said)
            answer, wanted = in_c(folded, np.ascontiguousarray(z[0]), h), device.predict(said)
            assert folded.labels[answer.label] == wanted.label
            assert answer.confidence == pytest.approx(wanted.probability, abs=1e-5)
            assert bool(answer.sure) is not wanted.uncertain


def test_a_folder_without_a_state_is_refused_and_left_alone(tiny_artifact: Path, tmp_path: Path) -> None:
    for state in (tmp_path / "none", tmp_path / "mine"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=f"{state.name} has no state.db: name the state directory"):
            text.learned(tiny_artifact, state)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_before_anything_is_learned_there_is_nothing_to_build_in(tiny_artifact: Path, tmp_path: Path) -> None:
    Device.open(tiny_artifact, tmp_path / "state").close()
    with pytest.raises(InputError, match=r"state answers as its artifact does \(no examples yet\): there is nothing"):
        text.learned(tiny_artifact, tmp_path / "state")


def test_reading_a_state_writes_nothing(tiny_artifact: Path, tmp_path: Path) -> None:
    """Whatever the folder allows, and whatever the log has that a device which was cut off left."""
    state = tmp_path / "state"
    with Device.open(tiny_artifact, state) as device:
        _teach(device)
        left = {path.name: path.read_bytes() for path in state.iterdir()}
    assert len(left["state.db-wal"]) > 0
    for path in state.iterdir():
        path.unlink()
    for name, content in left.items():
        (state / name).write_bytes(content)
        (state / name).chmod(0o444)
    state.chmod(0o555)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) for path in state.iterdir()}
    learned = text.learned(tiny_artifact, state)
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) for path in state.iterdir()}
    state.chmod(0o755)
    assert after == before
    assert (learned.kind, learned.examples, learned.own(artifact.load(tiny_artifact).labels)) == ("head", 12, ("cosy",))
    assert learned.digest == text.learned(tiny_artifact, state).digest


def test_a_state_that_is_open_elsewhere_is_refused(tiny_artifact: Path, tmp_path: Path) -> None:
    """The device is open in another process, which is told when it may close it."""
    code = (
        "import sys; from tasuki.sdk import Device; device = Device.open(*sys.argv[1:]); print('open', flush=True);"
        "sys.stdin.read(); device.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(tiny_artifact), str(tmp_path / "state")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StateLocked, match=r"state/state\.db is open in another process"):
            text.learned(tiny_artifact, tmp_path / "state")
        other.communicate(timeout=60)
    assert other.returncode == 0


def test_errors_name_the_state_itself(tiny_artifact: Path, tmp_path: Path) -> None:
    Device.open(tiny_artifact, tmp_path / "state").close()
    (tmp_path / "state" / "state.db").write_bytes(b"SQLite format 3\0" + bytes(4080))
    with pytest.raises(StateError, match=f"^{tmp_path}/state/state.db "):
        text.learned(tiny_artifact, tmp_path / "state")


def test_every_number_of_an_adapter_is_in_its_digest() -> None:
    head = Head(("a", "b"), np.ones((2, 3), np.float32), np.zeros(2, np.float32))
    usual = Learned(head, 1.0, None, 0.5)
    other = Head(("a", "b"), np.ones((2, 3), np.float32), np.float32([0, 1e-45]))
    for one in (
        Learned(other, 1.0, None, 0.5), Learned(replace(head, labels=("a", "c")), 1.0, None, 0.5),
        Learned(head, 1.5, None, 0.5), Learned(head, 1.0, 1.0, 0.5), Learned(head, 1.0, None, 0.25),
    ):  # fmt: skip
        assert one.digest != usual.digest
    assert Learned(head, 1, None, 0.5, "bias", 3).digest == usual.digest


def test_other_outputs_and_tasks_are_refused(tmp_path: Path) -> None:
    import causal_kit

    parts = _parts(2)
    ports = [port("h", 3, 0.1, 0), port("logits", 2, 0.1, 0), Port(0, "deep", np.dtype(np.float32), (1, 7))]
    with pytest.raises(ModelUnsupported, match="the output deep is float32"):
        classify.fold(parts, Program("m", "tflm", (), (), (), tuple(ports)), None)
    ports = [port("h", 7, 0.1, 0), port("logits", 2, 1e38, 0), port("deep", 3, 0.1, 0)]
    with pytest.raises(ModelUnsupported, match="scale 1e\\+38 is out of all bounds"):
        classify.fold(parts, Program("m", "tflm", (), (), (), tuple(ports)), None)
    with pytest.raises(ModelUnsupported, match=r"checkpoint's tokenizer\.json"):
        classify.generate(parts._replace(tokenizer_json=b"{}"), Program("m", "tflm", (), (), (), ()), "m", None)
    path = tmp_path / "causal.tflite"
    path.write_bytes(causal_kit.student())
    Device.open(path, tmp_path / "state").close()
    with pytest.raises(WrongTask, match="a causal model's adapter"):
        text.learned(path, tmp_path / "state")


def test_a_gate_that_leaves_float32_is_refused() -> None:
    parts = _parts(2)
    ports = port("h", 7), port("logits", 2), port("deep", 3)
    head = Head(parts.labels, np.ones((2, 10), np.float32), np.zeros(2, np.float32))
    with pytest.raises(ModelUnsupported, match="scale 0.1 is out of all bounds"):
        classify.fold(parts, Program("m", "tflm", (), (), (), ports), Learned(head, 1.0, 1e-32, 0.5))


def test_more_inputs_or_outputs_are_refused() -> None:
    parts = _parts(2)
    ids, ports = port("ids", 8), (port("h", 7), port("logits", 2), port("deep", 3))
    for inputs, outputs in (((ids, ids), ports), ((), ports), ((ids,), (*ports, port("more", 3)))):
        with pytest.raises(ModelUnsupported, match="other inputs or outputs than ids, features and logits"):
            classify.generate(parts, Program("m", "tflm", (), (), inputs, outputs), "m", None)


def _ports(classifier: Classifier, parts: artifact.Artifact) -> tuple[Port, ...]:
    grids = {parts.outputs.logits: classifier.base, parts.outputs.features[0]: classifier.grid}
    ordered = [grids[place] for place in sorted(grids)]
    return tuple(port("output", grid.width, grid.scales[0], int(grid.zeros[0])) for grid in ordered)
