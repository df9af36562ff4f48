"""Keras models: what ordinary layers become, that they answer as Keras does, and what is refused by name."""

import hashlib
import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from lsb_kit import micro

from tasuki.converter import execute, keras_model, plain, tflite_import
from tasuki.converter.assemble import Classifier, agreement
from tasuki.converter.compile import check_micro
from tasuki.converter.keras_model import KerasSettings, convert, load
from tasuki.sdk.errors import (
    CheckpointCorrupt,
    CheckpointMissing,
    CheckpointUnsupported,
    ConversionError,
    HeadMismatch,
    TextsInvalid,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("light", "lamp", "music", "radio", "on", "off", "play", "stop", "the", "please", "kitchen", "hall")
PIECES = ("[PAD]", "[UNK]", *LETTERS, *(f"##{c}" for c in LETTERS), *WORDS)
TOKENS, LABELS = 10, ("light_on", "light_off", "music", "none")


def texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 7))) for _ in range(count)]


def entry(mask: bool = False) -> tuple[Any, Any]:
    ids = keras.Input((TOKENS,), dtype="int32")
    return ids, layers.Embedding(len(PIECES), 16, mask_zero=mask)(ids)


def block(x: Any, activation: str = "relu", add: bool = True) -> Any:
    found = layers.MultiHeadAttention(2, 8)(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, found]) if add else x + found)
    found = layers.Dense(16)(layers.Dense(24, activation=activation)(x))
    return layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x, found]))


def end(ids: Any, x: Any, **how: Any) -> Any:
    return keras.Model(ids, layers.Dense(len(LABELS), **how)(layers.Dropout(0.1)(x)))


def bag() -> Any:
    ids, x = entry()
    x = layers.Dense(12, activation="relu")(layers.GlobalAveragePooling1D()(x))
    return end(ids, x, activation="softmax")


def transformer() -> Any:
    ids, x = entry()
    places = layers.Embedding(TOKENS, 16)(keras.ops.arange(TOKENS))
    return end(ids, layers.GlobalAveragePooling1D()(block(x + places)))


def gelu_and_mask() -> Any:
    ids, x = entry(mask=True)
    return end(ids, layers.GlobalAveragePooling1D()(block(x, "gelu")), activation="softmax")


def mask_lost() -> Any:
    """`x + y` hands no mask on, so the average reads what padding found."""
    ids, x = entry(mask=True)
    return end(ids, layers.GlobalAveragePooling1D()(block(x, add=False)))


def causal_mask() -> Any:
    ids, x = entry(mask=True)
    x = layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization(scale=False)(layers.LayerNormalization(center=False)(x))
    return end(ids, layers.GlobalAveragePooling1D()(x))


def rms_and_maximum() -> Any:
    ids, x = entry()
    x = layers.GlobalMaxPooling1D()(layers.Dense(16, activation="tanh")(layers.RMSNormalization()(x)))
    return end(ids, layers.Rescaling(2.0, 0.5)(x), activation="sigmoid")


def first_token() -> Any:
    ids, x = entry()
    return end(ids, layers.LayerNormalization()(layers.Dense(16)(x[:, 0])))


def arithmetic() -> Any:
    ids, x = entry()
    y = layers.Dense(16, activation="silu")(x)
    x = layers.Flatten()(layers.Concatenate()([layers.Multiply()([x, y]), y]))
    x = layers.Dense(8, activation="relu")(x)
    return end(ids, layers.ReLU()(layers.Subtract()([x, x * 0.3])))


def sequential() -> Any:
    return keras.Sequential([
        keras.Input((TOKENS,), dtype="int32"), layers.Embedding(len(PIECES), 16), layers.GlobalAveragePooling1D(),
        layers.Dense(len(LABELS), activation="softmax"),
    ])  # fmt: skip


MODELS = {f.__name__: f for f in (bag, transformer, gelu_and_mask, mask_lost, causal_mask, rms_and_maximum, first_token,
                                  arithmetic, sequential)}  # fmt: skip


def shaken(make: Any, seed: int = 0) -> Any:
    """With weights and biases away from where they start."""
    keras.utils.set_random_seed(seed)
    model = make()
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(weight + 0.2 * rng.standard_normal(weight.shape))
    return model


def ready(model: Any, count: int = 64, **how: Any) -> Classifier:
    return convert(model, PIECES, LABELS, texts(count), **how)


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_answers_as_keras_does(name: str) -> None:
    model = shaken(MODELS[name])
    rng = np.random.default_rng(1)
    ids = rng.integers(1, len(PIECES), (12, TOKENS)).astype(np.int32)
    ids[:6, 4:] = 0
    graph, exact, padding_counts = keras_model._graphs(model, ids)
    found = execute.run(exact, {"ids": ids})
    assert found["features.1"].shape == (12, exact.constants[keras_model._head(exact)].shape[1])
    got = keras_model._answers(np.asarray(found["logits"]), np.asarray(model(ids)))
    np.testing.assert_allclose(got, model(ids), atol=1e-4 * max(1.0, float(np.abs(model(ids)).max())))
    assert padding_counts == (name not in ("gelu_and_mask", "causal_mask"))
    # GELU is replaced by what microcontrollers have.
    check_micro({"classify": graph})
    assert ("GELU" in {node.operator for node in exact.nodes}) == (name == "gelu_and_mask")


@pytest.mark.parametrize("name", ["bag", "gelu_and_mask"])
def test_in_integers_it_stays_near_and_runs_on_a_chip(name: str) -> None:
    model = shaken(MODELS[name])
    made = ready(model, tier="mcu")
    held_out = texts(40, 9)
    (features, logits), (wanted, exact) = made.run(held_out), made.float_run(held_out)
    assert agreement(features, wanted).min() > 0.99
    assert np.corrcoef(logits.ravel(), exact.ravel())[0, 1] > 0.995
    assert made.calibration["kept"] in ("ours", "plain")
    assert made.calibration["error_ours"] < 0.02
    ids = made.encode(held_out[:8])
    chip = micro(made.compiled.model, ids)[made.outputs.logits].reshape(8, -1)
    # Whichever conversion was kept, the file says what its integers mean.
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_content=made.compiled.model)
    scale, zero = interpreter.get_output_details()[made.outputs.logits]["quantization"]
    assert np.abs((chip.astype(float) - zero) * scale - logits[:8]).max() <= 4 * scale


def test_two_conversions_give_the_same_bytes() -> None:
    first, second = (ready(shaken(bag)).compiled.model for _ in range(2))
    assert first == second


def test_the_other_activations() -> None:
    model = shaken(transformer)
    held_out = texts(20, 9)
    for kind, least in (("int16", 0.999), ("float", 0.999)):
        made = ready(model, activations=kind)
        assert made.activations == kind
        assert agreement(made.run(held_out)[0], made.float_run(held_out)[0]).mean() > least
    with pytest.raises(ConversionError, match="tier mcu takes integers only"):
        ready(model, activations="float", tier="mcu")
    with pytest.raises(ConversionError, match="no int16 GATHER"):
        ready(model, activations="int16", tier="mcu")


def test_one_sigmoid_becomes_two_logits() -> None:
    ids, x = entry()
    made_of = keras.Model(ids, layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling1D()(x)))
    made = convert(made_of, PIECES, ("off", "on"), texts(64))
    rows = made.encode(texts(10, 3))
    _, logits = made.float_run(texts(10, 3))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares[:, 1:], made_of(rows), atol=1e-5)


def test_a_file_is_read_and_answers_as_the_object(tmp_path: Path) -> None:
    model = shaken(gelu_and_mask)
    model.save(tmp_path / "model.keras")
    ids = np.random.default_rng(0).integers(1, 60, (4, TOKENS)).astype(np.int32)
    np.testing.assert_array_equal(load(tmp_path / "model.keras")(ids), model(ids))
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    made = convert(tmp_path / "model.keras", tmp_path / "vocab.txt", LABELS, texts(40))
    assert (made.name, made.origin[0]["file"]) == ("model", "model")
    assert made.origin[0]["sha256"] == hashlib.sha256((tmp_path / "model.keras").read_bytes()).hexdigest()
    with pytest.raises(CheckpointMissing, match=r"the tokenizer .*none.json can't be read"):
        convert(tmp_path / "model.keras", tmp_path / "none.json", LABELS, texts(40))


def altered(folder: Path, change: Any) -> Path:
    """A saved model with another configuration."""
    bag().save(folder / "whole.keras")
    with zipfile.ZipFile(folder / "whole.keras") as whole, zipfile.ZipFile(folder / "bad.keras", "w") as bad:
        for name in whole.namelist():
            data = whole.read(name)
            if name == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config).encode()
            bad.writestr(name, data)
    return folder / "bad.keras"


def test_files_that_want_to_run_something_are_refused_by_layer(tmp_path: Path) -> None:
    def other(module: str, kind: str) -> Any:
        def change(config: dict[str, Any]) -> None:
            layer = config["config"]["layers"][2]
            layer["module"], layer["class_name"], layer["config"]["name"] = module, kind, "evil"

        return change

    for module, kind in (("keras.layers", "Lambda"), ("os", "system"), ("keras.layers", "LSTM"),
                         ("keras.layers", "TextVectorization"), ("keras.src.utils.file_utils", "get_file"),
                         ("builtins", "function")):  # fmt: skip
        with pytest.raises(CheckpointUnsupported, match=f"bad.keras: layer 'evil' is {module}.{kind}; supported: Act"):
            load(altered(tmp_path, other(module, kind)))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="is not there"):
        load(tmp_path / "none.keras")
    with pytest.raises(CheckpointUnsupported, match=".keras file"):
        load(tmp_path / "model.h5")
    (tmp_path / "text.keras").write_text("no")
    with pytest.raises(CheckpointCorrupt, match="text.keras can't be read"):
        load(tmp_path / "text.keras")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(CheckpointCorrupt, match="empty.keras can't be read"):
        load(tmp_path / "empty.keras")


def test_layers_that_are_not_supported_are_named() -> None:
    ids, x = entry()
    conv = end(ids, layers.GlobalMaxPooling1D()(layers.Conv1D(8, 3, name="tap")(x)))
    with pytest.raises(ConversionError, match=r"layer tap.*: CONV_2D in this form is not supported; supported: ADD"):
        ready(conv)
    six = end(ids, layers.Dense(8, activation="relu6", name="six")(layers.Flatten()(x)))
    with pytest.raises(ConversionError, match=r"layer six.*FULLY_CONNECTED"):
        ready(six)
    with pytest.raises(ConversionError, match="must end in a Dense layer"):
        ready(keras.Model(ids, layers.GlobalAveragePooling1D()(x)))
    with pytest.raises(ConversionError, match="must end in a Dense layer"):
        ready(keras.Model(ids, layers.Dense(4)(x)))


def test_labels_tokens_and_texts_that_do_not_fit() -> None:
    model = bag()
    with pytest.raises(HeadMismatch, match="4 outputs, but 3 different labels"):
        convert(model, PIECES, LABELS[:3], texts(64))
    with pytest.raises(ConversionError, match="takes 10 tokens, not 12"):
        convert(model, PIECES, LABELS, texts(64), settings=KerasSettings(tokens=12))
    with pytest.raises(TextsInvalid, match="3 usable calibration texts"):
        convert(model, PIECES, LABELS, texts(3))
    with pytest.raises(ConversionError, match="must start with"):
        convert(model, PIECES[2:], LABELS, texts(64))
    with pytest.raises(ConversionError, match=r"ids up to \d+, but the table has 66 rows"):
        convert(model, (*PIECES, "zebra"), LABELS, ["zebra", *texts(64)])
    free = keras.Input((None,), dtype="int32")
    pooled = layers.GlobalAveragePooling1D()(layers.Embedding(len(PIECES), 8)(free))
    any_length = keras.Model(free, layers.Dense(4)(pooled))
    with pytest.raises(ConversionError, match="say how many"):
        convert(any_length, PIECES, LABELS, texts(64))
    made = convert(any_length, PIECES, LABELS, texts(64), settings=KerasSettings(tokens=7))
    assert made.tokenizer.tokens == 7
    with pytest.raises(ConversionError, match="int8, int16, float, not int4"):
        ready(model, activations="int4")


def test_a_float_file_of_another_kind_is_refused() -> None:
    function = plain.Function({"x": ((1, 4), np.dtype(np.float32))}, lambda v: {"out": v["x"] * 2})
    with pytest.raises(ConversionError, match="not ids int32"):
        tflite_import.read(plain.convert(function, "float"))


@pytest.mark.slow
def test_a_trained_model_keeps_its_accuracy_and_ours_is_no_worse_than_plain() -> None:
    model = gelu_and_mask()
    lines = texts(1200)
    targets = np.array([("light" in t) + 2 * ("play" in t) for t in lines])
    made = ready(model)
    ids = made.encode(lines)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(ids[:800], targets[:800], epochs=8, batch_size=32, verbose=0)
    made = convert(model, PIECES, LABELS, lines[:400])
    assert made.calibration["kept"] == min(("ours", "plain"), key=lambda who: made.calibration[f"error_{who}"])
    right = (model.predict(ids[800:], verbose=0).argmax(1) == targets[800:]).mean()
    assert right > 0.95
    assert (made.run(lines[800:])[1].argmax(1) == targets[800:]).mean() > right - 0.005
