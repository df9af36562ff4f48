"""How far TensorFlow Lite Micro, LiteRT's reference kernels and XNNPACK are apart, measured, and in the manifest."""

import numpy as np
import pytest
from need import need

from tasuki.benchmarks import firmware_models
from tasuki.benchmarks.tflite_builder import Builder
from tasuki.converter import causal_artifact, causal_pack, causal_student, causal_toy, rounding_difference
from tasuki.converter.causal_pack import CausalModel
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.causal_texts import windows
from tasuki.converter.pruned import prune
from tasuki.sdk import artifact

PAIRS = ("tflm_to_single", "tflm_to_xnnpack", "single_to_xnnpack")
SHAPE = CausalShape(vocabulary=300, context=16, width=16, layers=1, heads=2, inner=24)
ORIGIN = ({"file": "words", "sha256": "0" * 64, "licence": "CC0-1.0", "origin": "made up"},)


def dense(bias: int = 0, scale: float = 0.01) -> bytes:
    """A dense layer of 64 outputs on 16 int8 inputs."""
    g = Builder()
    x = g.input((1, 16), "int8", 0.05, 3)
    w = g.constant(np.random.default_rng(0).integers(-127, 128, (64, 16), np.int8), np.full(64, 0.003, np.float32))
    b = g.constant(np.full(64, bias, np.int32), np.full(64, 0.05 * 0.003, np.float32))
    g.output(g.op("FULLY_CONNECTED", [x, w, b], (1, 64), scale=scale, zero=-5))
    return g.build()


def inputs(rows: int) -> list[list[np.ndarray]]:
    return [[row[None]] for row in np.random.default_rng(1).integers(-128, 128, (rows, 16), np.int8)]


def test_the_figures_are_those_of_the_three_interpreters() -> None:
    model, feeds = dense(), inputs(300)
    found = rounding_difference.measure(model, feeds)
    chip = need("tflite_micro", "dev").runtime.Interpreter.from_bytes(model, arena_size=1 << 16)
    reference = rounding_difference._Litert(model, "BUILTIN_REF")
    steps = []
    for (row,) in feeds:
        chip.set_input(row, 0)
        chip.invoke()
        steps.append(np.abs(chip.get_output(0).astype(int) - reference([row])[0].astype(int)))
    seen = np.concatenate(steps).ravel()
    assert found["inputs"] == 300
    assert found["tflm_to_single"] == {
        "values": 300 * 64, "largest": seen.max(), "mean": round(seen.mean(), 6), "share": round((seen > 0).mean(), 6),
    }  # fmt: skip
    # One layer alone: never more than one step, and seldom.
    assert found["tflm_to_single"]["largest"] == 1
    assert 0 < found["tflm_to_single"]["share"] < 0.1
    assert all(found[pair]["largest"] <= 1 for pair in PAIRS)


def test_kernels_that_all_saturate_do_not_differ() -> None:
    found = rounding_difference.measure(dense(bias=2**29), inputs(8))
    assert all(found[pair] == {"values": 512, "largest": 0, "mean": 0.0, "share": 0.0} for pair in PAIRS)


def test_a_model_that_tflm_lacks_an_operator_for_says_so_and_has_the_rest() -> None:
    g = Builder()
    g.output(g.op("GELU", [g.input((1, 16), "int8", 0.05)], (1, 16), scale=0.05, approximate=True))
    found = rounding_difference.measure(g.build(), inputs(4))
    assert found["tflm"].startswith("not measured: TensorFlow Lite Micro can't run this model")
    assert set(found) == {"inputs", "tflm", "single_to_xnnpack"}


def test_without_tflm_the_field_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding_difference, "find_spec", lambda name: None)
    found = rounding_difference.measure(dense(), inputs(4))
    assert found["tflm"] == "not measured: tflite-micro is not installed, or not made for this platform"
    assert found["single_to_xnnpack"]["values"] == 256


def test_without_texts_the_field_says_why() -> None:
    assert rounding_difference.measure(dense(), []) == {"inputs": 0, "tflm": "not measured: there are no texts"}


def test_float_outputs_have_no_steps() -> None:
    ids = firmware_models.ids(0, firmware_models.SMALL, 4)[:, 0]
    with pytest.raises(ValueError, match="integers"):
        rounding_difference.of_classifier(firmware_models.dyt(0, firmware_models.SMALL), ids)


def test_a_causal_manifest_has_the_figures_of_every_step() -> None:
    teacher, corpus = causal_toy.teacher(0), causal_toy.talk(0)
    vocabulary = prune(teacher.tokenizer, corpus.train, 300, 0, [1])
    weights = causal_student.initial(SHAPE, 1)
    text = windows(vocabulary.load(), corpus.train, SHAPE.context, vocabulary.start, 24)

    def packed(tier: str) -> dict[str, object]:
        made = CausalModel(
            name="toy", tier=tier, compiled=causal_artifact.compile_student(SHAPE, weights, text, 0),
            graphs=causal_artifact.graphs(SHAPE, weights), depth=1, start=vocabulary.start, stop=(1,),
            pad=vocabulary.start, tokenizer=vocabulary.tokenizer, activations="int8", origin=ORIGIN,
            calibration={"windows": len(text)}, notes={},
        )  # fmt: skip
        calibration = artifact.parse(causal_pack.packed(made, text[:10], {})).manifest["calibration"]
        assert calibration["windows"] == 24
        return dict(calibration.get("rounding_difference", {}))

    found = packed("mcu-large")
    assert found["inputs"] == rounding_difference.STEPS
    # Key, value, features, logits of each step.
    values = rounding_difference.STEPS * (16 + 16 + 16 + 300)
    assert all(found[pair]["values"] == values for pair in PAIRS)  # type: ignore[index]
    assert 0 < found["tflm_to_single"]["mean"] < 0.5  # type: ignore[index]
    assert packed("board") == {}
