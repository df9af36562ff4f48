"""The whole way of a causal student with a made-up teacher: distilled, kept, converted, packed, compared."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasuki.converter import causal_artifact, causal_gain, causal_run, causal_toy, causal_train, distil_causal
from tasuki.converter.distil_causal import CausalStudent
from tasuki.sdk import artifact
from tasuki.sdk.errors import ConversionError

ORIGIN = ({"file": "words", "sha256": "0" * 64, "licence": "CC0-1.0", "origin": "made up"},)


def silent(phase: str, done: int, total: int, note: str) -> None:
    pass


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASUKI_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def student(own_cache: Path) -> CausalStudent:
    return distil_causal.distil(
        causal_toy.teacher(0), causal_toy.talk(0), replace(causal_gain.QUICK, epochs=1), silent, origin=ORIGIN
    )


def test_a_student_comes_back(student: CausalStudent, tmp_path: Path) -> None:
    assert not distil_causal.is_causal(tmp_path)
    (tmp_path / ".training.npz").write_bytes(b"of a training that has ended")
    distil_causal.save(student, tmp_path)
    assert distil_causal.is_causal(tmp_path)
    found = distil_causal.load(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student.json", "student.npz", "tokenizer.json"]
    for name, value in student.weights.items():
        np.testing.assert_array_equal(value, found.weights[name])
    assert replace(found, weights={}, calibration=0, validation=0, held_out=0) == replace(
        student, weights={}, calibration=0, validation=0, held_out=0
    )
    for name in ("calibration", "validation", "held_out"):
        np.testing.assert_array_equal(getattr(found, name), getattr(student, name))


def spoil(folder: Path, what: str) -> None:
    about = json.loads((folder / "student.json").read_bytes())
    match what:
        case "no json":
            (folder / "student.json").unlink()
        case "another task":
            about["task"] = "classify"
        case "another shape":
            about["shape"]["inner"] = 40
        case "impossible shape":
            about["shape"]["heads"] = 3
        case "unknown field":
            about["recipe"]["wings"] = 2
        case "cut arrays":
            data = (folder / "student.npz").read_bytes()
            (folder / "student.npz").write_bytes(data[: len(data) // 2])
        case "no tokenizer":
            (folder / "tokenizer.json").write_bytes(b"{}")
    if what != "no json":
        (folder / "student.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    "what",
    ["no json", "another task", "another shape", "impossible shape", "unknown field", "cut arrays", "no tokenizer"],
)
def test_what_is_no_student_is_refused(student: CausalStudent, tmp_path: Path, what: str) -> None:
    distil_causal.save(student, tmp_path)
    spoil(tmp_path, what)
    with pytest.raises(ConversionError):
        distil_causal.load(tmp_path)


@pytest.fixture(scope="module")
def packed(student: CausalStudent) -> tuple[bytes, dict[str, object]]:
    return causal_artifact.artifact(student, "toy", "mcu-large", silent)


def test_the_artifact_is_read_and_says_what_it_is(
    student: CausalStudent, packed: tuple[bytes, dict[str, object]]
) -> None:  # fmt: skip
    data, figures = packed
    found = artifact.parse(data)
    shape = student.shape
    assert (found.task, found.tokens, found.logits, found.features) == ("causal", 16, shape.vocabulary, shape.width)
    assert found.manifest["cache"] == {"layers": 1, "heads": 2, "width": 8, "context": 16}
    assert found.manifest["shapes"] == {
        "decode.ids": [1, 1], "decode.position": [1], "decode.features": [1, 16], "decode.logits": [1, 300],
        "prefill.ids": [1, 1], "prefill.position": [1], "prefill.features": [1, 16], "prefill.logits": [1, 300],
    }  # fmt: skip
    assert [source["origin"] for source in found.manifest["origin"]] == ["teacher", "made up"]
    assert found.tokenizer().encode("hello")[0] == student.start
    assert figures["artifact_bytes"] == len(data)
    # The outputs that the manifest names are the model's.
    run = causal_run.CausalRun(found.model)
    details = run._interpreter.get_output_details()
    wanted = [shape.width, shape.vocabulary]
    outputs = [*found.outputs.features, found.outputs.logits]
    assert [int(details[output]["shape"][-1]) for output in outputs] == wanted


def test_the_integers_are_judged_on_held_out_text(
    student: CausalStudent, packed: tuple[bytes, dict[str, object]]
) -> None:  # fmt: skip
    figures = packed[1]
    exact = causal_train.loss(student.shape, student.weights, student.held_out)
    assert figures["perplexity_student"] == pytest.approx(np.exp(exact))
    assert figures["perplexity_int8"] == pytest.approx(np.exp(exact), rel=0.03)
    assert figures["int8_over_float"] == pytest.approx(figures["perplexity_int8"] / figures["perplexity_student"])


def test_the_same_student_gives_the_same_artifact(
    student: CausalStudent, packed: tuple[bytes, dict[str, object]], tmp_path: Path
) -> None:
    distil_causal.save(student, tmp_path)
    assert causal_artifact.artifact(distil_causal.load(tmp_path), "toy", "mcu-large", silent)[0] == packed[0]


def test_a_teacher_without_a_start_token_is_refused() -> None:
    teacher = causal_toy.teacher(0)
    with pytest.raises(ConversionError, match="start token"):
        distil_causal.prepare(
            replace(teacher, config=replace(teacher.config, bos=None)), causal_toy.talk(0), causal_gain.QUICK, silent
        )


@pytest.mark.parametrize("change", [{"batch": 65}, {"shape": {"heads": 3}}])
def test_what_can_not_be_trained_is_refused_before_the_teacher_reads(change: dict[str, object]) -> None:
    phases: list[str] = []
    with pytest.raises(ConversionError):
        distil_causal.prepare(
            causal_toy.teacher(0), causal_toy.talk(0), replace(causal_gain.QUICK, **change),
            lambda phase, done, total, note: phases.append(phase),
        )  # fmt: skip
    assert not phases


def test_both_students_are_compared_and_kept(student: CausalStudent) -> None:
    phases: list[str] = []
    made = causal_gain.build(lambda phase, done, total, note: phases.append(phase), quick=True)
    assert list(dict.fromkeys(phases)) == ["student learns", "learns from text", "quantise", "measure"]
    # What the teacher expects was kept when `student` was made.
    figures = made.figures
    assert not made.cached
    assert figures["gain"] == pytest.approx(figures["perplexity_text_alone"] / figures["perplexity_student"])
    assert figures["gain_lower"] < figures["gain"]
    assert artifact.load(made.artifact).task == "causal"
    phases.clear()
    again = causal_gain.build(lambda phase, done, total, note: phases.append(phase), quick=True)
    assert again.cached
    assert again.figures == figures
    assert not phases
