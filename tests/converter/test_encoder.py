"""From an encoder's checkpoint to integers: what is found on texts, what comes out, and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bert_kit import BERT, DISTILBERT, checkpoint, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from lsb_kit import litert, micro, simulate

from tasuki.converter import assemble, bert, encoder, equalise
from tasuki.converter.encoder import EncoderSettings, LinearHead
from tasuki.converter.families import BertConfig, Checkpoint, LlamaConfig
from tasuki.converter.quantise import INT8, grid_of, on_grid
from tasuki.converter.texts import Texts
from tasuki.sdk.errors import CheckpointUnsupported, ConversionError, HeadMismatch, TextsInvalid

SMALL = EncoderSettings(tokens=8, texts=120)
TEXTS = texts(120)
UNSEEN = texts(60, seed=9)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return checkpoint(tmp_path_factory.mktemp("m") / "classifier", BERT, labels=("on", "off", "dim"))


@pytest.fixture(scope="module")
def made(classifier: Checkpoint) -> assemble.Classifier:
    return encoder.convert(classifier, SMALL, TEXTS)


def test_int8_answers_as_float_does(made: assemble.Classifier) -> None:
    (features, logits), (wanted, exact) = made.run(UNSEEN), made.float_run(UNSEEN)
    assert features.shape == (60, 32)
    assert logits.shape == (60, 3)
    assert assemble.agreement(features, wanted).min() > 0.99
    assert np.corrcoef(logits.ravel(), exact.ravel())[0, 1] > 0.99
    assert made.labels == ("on", "off", "dim")
    assert made.calibration["texts"] == 120


def test_simulation_litert_and_micro_are_a_few_steps_apart(made: assemble.Classifier) -> None:
    ids = made.encode(UNSEEN)
    simulated = simulate(made.graph, made.compiled.plan, ids)
    runtime, chip = litert(made.compiled.model, ids), micro(made.compiled.model, ids)
    # A step of rounding in the first layer has grown by the last one: least in the mean over the tokens, most in the
    # logits, whose range is narrow here.
    bounds = {"features.2": (5, 0.8), "logits": (16, 4.0)}
    for number, (name, wanted) in enumerate(simulated.items()):
        for found in (runtime[number], chip[number]):
            apart = np.abs(found.reshape(wanted.shape).astype(int) - wanted)
            assert apart.max() <= bounds[name][0], name
            assert apart.mean() < bounds[name][1], name


def test_two_conversions_give_the_same_bytes(classifier: Checkpoint, made: assemble.Classifier) -> None:
    assert encoder.convert(classifier, SMALL, TEXTS).compiled.model == made.compiled.model
    other = encoder.convert(classifier, dataclasses.replace(SMALL, texts=60, seed=1), TEXTS)
    assert other.compiled.model != made.compiled.model


@pytest.mark.parametrize("config", [DISTILBERT, BERT | {"hidden_act": "relu", "pad_token_id": 17}])
def test_distilbert_and_another_padding(tmp_path: Path, config: dict[str, Any]) -> None:
    made = encoder.convert(checkpoint(tmp_path / "m", config, labels=("a", "b")), SMALL, TEXTS)
    assert (made.encode(UNSEEN) == made.pad).any()
    features, wanted = made.run(UNSEEN)[0], made.float_run(UNSEEN)[0]
    assert assemble.agreement(features, wanted).min() > 0.99


def test_int16_is_nearer_to_float(classifier: Checkpoint, made: assemble.Classifier) -> None:
    wide = encoder.convert(classifier, dataclasses.replace(SMALL, activations="int16"), TEXTS)
    wanted = made.float_run(UNSEEN)[0]
    lost = [1 - assemble.agreement(found.run(UNSEEN)[0], wanted).mean() for found in (made, wide)]
    assert lost[1] < lost[0] / 2
    assert wide.activations == "int16"


def test_weights_only_is_nearer_still_and_not_for_microcontrollers(
    classifier: Checkpoint, made: assemble.Classifier
) -> None:
    settings = dataclasses.replace(SMALL, activations="float")
    whole = encoder.convert(classifier, settings, TEXTS)
    assert whole.activations == "float"
    wanted = made.float_run(UNSEEN)[0]
    lost = [1 - assemble.agreement(found.run(UNSEEN)[0], wanted).mean() for found in (made, whole)]
    assert lost[1] < lost[0]
    assert whole.compiled.model != made.compiled.model
    with pytest.raises(ConversionError, match="mcu"):
        encoder.convert(classifier, dataclasses.replace(settings, tier="mcu"), TEXTS)


def test_features_of_two_depths_with_a_fitted_head(tmp_path: Path) -> None:
    found = checkpoint(tmp_path / "m", BERT)
    several = dataclasses.replace(SMALL, depths=(1, 2))
    labels = ["lamp" if "lamp" in text else "door" if "door" in text else "none" for text in TEXTS]
    head = encoder.train_head(found, several, Texts(tuple(TEXTS), tuple(labels)))
    assert head.labels == ("door", "lamp", "none")
    assert head.weight.shape == (3, 64)
    made = encoder.convert(found, several, TEXTS, head, labels=labels)
    features, logits = made.run(TEXTS)
    floats = encoder.features(found, several, TEXTS)
    np.testing.assert_allclose(made.float_run(TEXTS)[0], floats, atol=1e-4)
    assert assemble.agreement(features, floats).min() > 0.99
    assert (logits.argmax(1) == made.float_run(TEXTS)[1].argmax(1)).mean() > 0.95


@pytest.mark.parametrize("power", [1e-2, 1.0, 1e2])
def test_a_head_for_two_labels_fits_whatever_the_scale(power: float) -> None:
    rng = np.random.default_rng(0)
    found = (power * rng.standard_normal((200, 5))).astype(np.float32)
    head = encoder.fit_head(found, ["yes" if row[0] > 0 else "no" for row in found])
    assert head.labels == ("no", "yes")
    assert head.weight.shape == (2, 5)
    right = (found @ head.weight.T + head.bias).argmax(1) == (found[:, 0] > 0)
    assert right.mean() > 0.95


def test_a_constant_loud_first_token_is_a_sink(tmp_path: Path) -> None:
    found = checkpoint(tmp_path / "m", BERT)
    config = found.config
    assert isinstance(config, BertConfig)
    ids = encode(found, TEXTS)
    assert equalise.measure(config, found.tensors, ids).sinks == {}
    # The first layer hardly attends, and writes a large number into one channel where the state points to [CLS].
    tensors = dict(found.tensors)
    tensors["encoder.layer.0.attention.output.dense.weight"] = (
        0.02 * found.tensors["encoder.layer.0.attention.output.dense.weight"]
    )
    state = bert_state(dataclasses.replace(found, tensors=tensors), ids)
    up, down = (tensors[f"encoder.layer.0.{part}.weight"].copy() for part in ("intermediate.dense", "output.dense"))
    mean = state[:, 0].mean(0)
    others = state[:, 1:][ids[:, 1:] != 0]
    direction = np.linalg.solve(others.T @ others / len(others) + 1e-3 * np.eye(32), mean)
    direction /= direction @ mean
    up[0] = 40 * direction
    down[:, 0] = 0
    down[5, 0] = 50
    bias = tensors["encoder.layer.0.intermediate.dense.bias"].copy()
    bias[0] = -34
    tensors |= {
        "encoder.layer.0.intermediate.dense.weight": up, "encoder.layer.0.output.dense.weight": down,
        "encoder.layer.0.intermediate.dense.bias": bias,
    }  # fmt: skip
    loud = dataclasses.replace(found, tensors=tensors)
    measured = equalise.measure(config, tensors, ids)
    assert set(measured.sinks) == {"0.feed"}
    labels = ["lamp" if "lamp" in text else "none" for text in TEXTS]
    head = encoder.train_head(loud, SMALL, Texts(tuple(TEXTS), tuple(labels)))
    made = encoder.convert(loud, SMALL, TEXTS, head)
    assert made.calibration["sinks"] == ["0.feed"]
    assert assemble.agreement(made.run(UNSEEN)[0], made.float_run(UNSEEN)[0]).min() > 0.97


def encode(found: Checkpoint, lines: list[str]) -> np.ndarray:
    from tasuki.sdk.checkpoint_tokenizer import CheckpointTokenizer

    tokenizer = CheckpointTokenizer(found.tokenizer, 8, 0)
    return np.stack([tokenizer.encode(line) for line in lines])


def bert_state(found: Checkpoint, ids: np.ndarray) -> np.ndarray:
    """What the first layer's attention leaves, [n, tokens, width], with gain and offset."""
    from tasuki.converter import execute

    config = found.config
    assert isinstance(config, BertConfig)
    seen: dict[str, Any] = {}

    def note(node: Any, y: Any) -> Any:
        seen[node.output] = np.asarray(y)
        return y

    execute.run(bert.lower(config, found.tensors, 8, (2,), exact=True), {"ids": ids}, hook=note)
    name = "encoder.layer.0.attention.output.LayerNorm"
    states = seen["0.attention.norm"] * found.tensors[f"{name}.weight"] + found.tensors[f"{name}.bias"]
    return np.asarray(states.reshape(*ids.shape, 32))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(0, 3))
def test_stepped_gains_are_on_their_grid(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    gain = (rng.choice([-1, 0, 1], 24, p=[0.2, 0.1, 0.7]) * np.exp(spread * rng.standard_normal(24))).astype(np.float32)
    scales = np.exp(spread * rng.standard_normal(24)).astype(np.float32)
    found = equalise.stepped(gain, scales)
    assert np.isfinite(found).all()
    assert (found != 0).all()
    ratio = gain / found
    assert (ratio >= 0).all()
    grid = grid_of(float(ratio.min()), float(ratio.max()), INT8)
    np.testing.assert_allclose(on_grid(ratio, grid), ratio, rtol=1e-5)
    # No scale moves by more than half a step of its ratio.
    old = np.abs(gain) / scales
    assert np.abs(old - ratio).max() <= grid.scale[0] * 1.001


def test_still_tells_constants_from_messages() -> None:
    rng = np.random.default_rng(0)
    constant = rng.standard_normal(16)
    near = (constant + 0.001 * rng.standard_normal((50, 16))).astype(np.float32)
    found = equalise.still(near)
    assert found is not None
    np.testing.assert_allclose(found, constant, atol=0.01)
    near[7] *= 1.1
    assert equalise.still(near) is None
    assert equalise.still(near[:1]) is None


def head_of(rows: int, columns: int, labels: tuple[str, ...] = ("a", "b")) -> LinearHead:
    return LinearHead(np.zeros((rows, columns), np.float32), np.zeros(rows, np.float32), labels)


@pytest.mark.parametrize(
    ("change", "more", "error", "words"),
    [
        ({"tokens": 17}, {}, ConversionError, "17 tokens, but .* to 16"),
        ({"depths": (0, 1)}, {}, ConversionError, "depths 0, 1.* 2 layers"),
        ({"depths": (2, 1)}, {}, ConversionError, "must ascend"),
        ({"depths": (3,)}, {}, ConversionError, "2 layers"),
        ({"activations": "int4"}, {}, ConversionError, "int4"),
        ({}, {"texts": []}, TextsInvalid, "0 usable calibration texts"),
        ({}, {"texts": [" "] * 99}, TextsInvalid, "0 usable"),
        ({}, {"texts": ["明かりをつけて"] * 99}, TextsInvalid, "another language"),
        ({}, {"labels": ["on", "off"]}, HeadMismatch, "'dim' of the head is not among"),
        ({}, {"labels": ["on", "off", "dim", "warm"]}, HeadMismatch, "'warm' is not in the head"),
        ({}, {"head": head_of(2, 31)}, HeadMismatch, r"weights \[2, 31\].*\[2, 32\]"),
        ({}, {"head": head_of(3, 32)}, HeadMismatch, r"weights \[3, 32\]"),
    ],
)
def test_what_is_refused_before_anything_runs(
    classifier: Checkpoint, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], more: dict[str, Any],
    error: type[ConversionError], words: str,
) -> None:  # fmt: skip
    def never(*_: object, **__: object) -> None:
        raise AssertionError("minutes are being spent")

    monkeypatch.setattr(equalise, "measure", never)
    with pytest.raises(error, match=words):
        encoder.convert(classifier, dataclasses.replace(SMALL, **change), more.pop("texts", TEXTS), **more)


def test_an_encoder_without_a_classifier_needs_a_head(tmp_path: Path) -> None:
    found = checkpoint(tmp_path / "m", BERT)
    with pytest.raises(HeadMismatch, match="no classifier: give labelled texts"):
        encoder.convert(found, SMALL, TEXTS)
    with pytest.raises(TextsInvalid, match="no labels"):
        encoder.train_head(found, SMALL, Texts(tuple(TEXTS)))
    with pytest.raises(TextsInvalid, match="at least two"):
        encoder.train_head(found, SMALL, Texts(tuple(TEXTS), ("on",) * len(TEXTS)))


def test_a_causal_model_is_no_encoder(classifier: Checkpoint) -> None:
    llama = LlamaConfig(10, 8, 2, 4, 2, 2, 16, 32, 1e-5, 100000.0, True, 1, 2)
    with pytest.raises(CheckpointUnsupported, match="causal"):
        encoder.convert(dataclasses.replace(classifier, config=llama), SMALL, TEXTS)


def test_progress_ends(classifier: Checkpoint) -> None:
    said: dict[str, tuple[int, int]] = {}
    encoder.convert(
        classifier, dataclasses.replace(SMALL, adapt=False), TEXTS,
        progress=lambda phase, done, total, note: said.__setitem__(phase, (done, total)),
    )  # fmt: skip
    assert set(said) == {"measure", "quantise"}
    assert all(done == total for done, total in said.values())


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_minilm_in_integers_is_near_to_float() -> None:
    """Fewer calibration texts than a conversion has, on a split that no figure comes from."""
    from tasuki.converter import teacher
    from tasuki.converter.checkpoint import read
    from tasuki.converter.homes import split

    found, parts = read(teacher.folder()), split(1001, 8)
    fewer = EncoderSettings(texts=200)
    public = parts.public[::4]
    head = encoder.train_head(found, fewer, Texts(tuple(c.text for c in public), tuple(c.label for c in public)))
    made = encoder.convert(found, fewer, [command.text for command in parts.public], head)
    assert made.calibration["sinks"] == ["0.feed", "1.feed", "2.feed", "3.feed"]
    unseen = [command.text for command in parts.unseen[:100]]
    wanted, near = made.float_run(unseen)[0], made.run(unseen)[0]
    assert assemble.agreement(near, wanted).mean() > 0.99
    chip = micro(made.compiled.model, made.encode(unseen[:10]), 1 << 23)[0].reshape(10, -1)
    grid = made.compiled.plan.grids["features.6"]
    assert assemble.agreement((chip.astype(np.float32) - grid.zero) * grid.scale[0], wanted[:10]).min() > 0.95
    assert len(made.compiled.model) < 24e6
