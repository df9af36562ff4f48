"""The adapter in C: the answers of the SDK's scorer, and what a device has learned, baked in."""

import ctypes
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
from tasuki.sdk.errors import InputError, ModelUnsupported, WrongTask
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


@pytest.mark.parametrize("kind", ["head", "low_rank", "bias", "statistics"])
def test_what_a_device_has_learned_is_what_it_answers_with(tiny_artifact: Path, tmp_path: Path, kind: str) -> None:
    with Device.open(tiny_artifact, tmp_path / "state", adapter=kind) as device:
        for times in range(6):
            device.learn(f"make it cosy {'now ' * times}", "cosy", new_label=True)
            device.learn(f"stop the radio {'please ' * times}", "music_stop")
    parts = artifact.load(tiny_artifact)
    learned = text.learned(tiny_artifact, tmp_path / "state", kind)
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


def test_before_anything_is_learned_nothing_is_baked_in(tiny_artifact: Path, tmp_path: Path) -> None:
    parts = artifact.load(tiny_artifact)
    program = Program("m", "tflm", (), (), (), _ports(Classifier(parts), parts))
    with pytest.raises(InputError, match="no state directory"):
        text.learned(tiny_artifact, tmp_path / "state")
    Device.open(tiny_artifact, tmp_path / "state").close()
    learned = text.learned(tiny_artifact, tmp_path / "state")
    folded = classify.fold(parts, program, learned)
    assert (folded.weight, folded.bias, folded.gate) == (None, None, 0.0)
    assert vars(folded) == vars(classify.fold(parts, program, None))


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
    (tmp_path / "state").mkdir()
    with pytest.raises(WrongTask, match="a causal model's adapter"):
        text.learned(path, tmp_path / "state")


def _ports(classifier: Classifier, parts: artifact.Artifact) -> tuple[Port, ...]:
    grids = {parts.outputs.logits: classifier.base, parts.outputs.features[0]: classifier.grid}
    ordered = [grids[place] for place in sorted(grids)]
    return tuple(port("output", grid.width, grid.scales[0], int(grid.zeros[0])) for grid in ordered)
