"""`tasuki convert` and `tasuki distil` as a user calls them: every kind of source, the report, and bad input."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bert_kit import BERT, WORDS, checkpoint, texts
from click.testing import CliRunner, Result

from tasuki.converter import causal_gain, causal_toy, convert, distil_causal, outcome_causal, pack
from tasuki.converter.cli import convert as convert_command
from tasuki.converter.cli import distil as distil_command
from tasuki.converter.wanted import Wanted
from tasuki.sdk import artifact
from tasuki.sdk.errors import (
    CheckpointMissing,
    ConversionError,
    HeadMismatch,
    TasukiError,
    TextsInvalid,
)

REPORTED = ("fidelity.html", "fidelity.json")


def silent(*_: object) -> None:
    pass


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return path


def labelled(path: Path, count: int = 240) -> Path:
    said = texts(4 * count)
    said = list(dict.fromkeys(text for text in said if len(text.split()) > 2))[:count]
    return write_csv(path, [(text, "lamp" if "lamp" in text else "none") for text in said])


def call(command: Any, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("texts") / "texts.csv")


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    checkpoint(folder, BERT)
    return folder


@pytest.fixture(scope="module")
def converted(encoder_folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with a fitted head, two depths, and the report."""
    out = tmp_path_factory.mktemp("converted")
    words = (encoder_folder, "-o", out / "a.tflite", "--data", data, "--tokens", 8, "--depths", "1,2")
    done = call(convert_command, *words, "--report", out / "report", "--name", "lamps", "--json")
    assert done.exit_code == 0, done.output
    (out / "figures.json").write_text(done.stdout.splitlines()[-1])
    return out


def test_an_encoder_becomes_an_artifact(converted: Path) -> None:
    found = artifact.load(converted / "a.tflite")
    assert (found.task, found.depths, found.labels) == ("classify", (1, 2), ("lamp", "none"))
    assert found.manifest["name"] == "lamps"
    assert found.manifest["activations"] == "int8"
    assert found.temperature > 0
    figures = json.loads((converted / "figures.json").read_text())
    assert figures["artifact_bytes"] == (converted / "a.tflite").stat().st_size
    assert figures["judged"]["held out"]["cosine"] > 0.98


def test_the_report_compares_and_names_the_layers(converted: Path) -> None:
    assert tuple(sorted(path.name for path in (converted / "report").iterdir())) == REPORTED
    report = json.loads((converted / "report" / "fidelity.json").read_text())
    assert [row["kind"] for row in report["rows"]] == ["float", "plain", "ours", "baseline"]
    assert report["conversion"]["arena_bytes"] > 1000
    assert {layer["name"] for layer in report["layers"]} > {"0.query", "1.feed.sum"}
    page = (converted / "report" / "fidelity.html").read_text()
    assert "lamps" in page
    assert "<script" not in page


def test_the_same_input_gives_the_same_bytes(converted: Path, encoder_folder: Path, data: Path, tmp_path: Path) -> None:
    words = (
        encoder_folder,
        "-o",
        tmp_path / "b.tflite",
        "--data",
        data,
        "--tokens",
        8,
        "--depths",
        "1,2",
        "--name",
        "lamps",
    )
    assert call(convert_command, *words).exit_code == 0
    assert (tmp_path / "b.tflite").read_bytes() == (converted / "a.tflite").read_bytes()


def test_weights_only_and_a_pruned_vocabulary(encoder_folder: Path, data: Path) -> None:
    made = convert.convert(
        str(encoder_folder), Wanted(data=str(data), tokens=8, activations="float", vocabulary=64), silent
    )
    found = artifact.parse(made.artifact)
    assert found.manifest["activations"] == "float"
    assert made.figures["judged"]["held out"]["cosine_min"] > 0.99


def test_a_classifier_keeps_its_own_labels(tmp_path: Path, data: Path) -> None:
    checkpoint(tmp_path / "c", BERT, labels=("none", "lamp"))
    made = convert.convert(str(tmp_path / "c"), Wanted(data=str(data), tokens=8), silent)
    assert artifact.parse(made.artifact).labels == ("none", "lamp")


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talker") / "student"
    made = distil_causal.distil(causal_toy.teacher(0), causal_toy.talk(0), causal_gain.QUICK, silent, folder,
                                ({"file": "x", "sha256": "0" * 64, "licence": "MIT", "origin": "x"},))  # fmt: skip
    distil_causal.save(made, folder)
    return folder


def test_a_causal_student_becomes_an_artifact_with_a_report(talker: Path, tmp_path: Path) -> None:
    done = call(convert_command, talker, "-o", tmp_path / "t.tflite", "--report", tmp_path / "report", "--json")
    assert done.exit_code == 0, done.output
    found = artifact.load(tmp_path / "t.tflite")
    assert (found.task, found.manifest["tier"]) == ("causal", "mcu-large")
    assert 0 <= found.manifest["start"] < found.logits
    rows = json.loads((tmp_path / "report" / "fidelity.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["teacher", "float", "ours"]
    assert rows[2]["perplexity"] == pytest.approx(rows[1]["perplexity"], rel=0.1)


def test_a_decoder_becomes_an_artifact(tmp_path: Path) -> None:
    talk = causal_toy.talk(1)
    lines = [line for text in (*talk.train, *talk.validation, *talk.held_out) for line in text.splitlines()]
    path = tmp_path / "talk.txt"
    path.write_text("\n".join(f"{line} {n}" for n, line in enumerate(lines)))
    made = outcome_causal.decoder_of(
        causal_toy.teacher(0), None, Wanted(data=str(path), tokens=24, command="tasuki convert"), silent
    )
    found = artifact.parse(made.artifact)
    assert (found.task, found.tokens) == ("causal", 24)
    assert "start" not in found.manifest
    assert 0.8 < made.figures["perplexity_ratio"] < 1.2
    assert made.report is not None
    assert made.report["layers"]


def test_a_keras_file_becomes_an_artifact(data: Path, tmp_path: Path) -> None:
    import keras

    pieces = (
        "[PAD]",
        "[UNK]",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
        *WORDS,
    )
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    ids = keras.Input((8,), dtype="int32")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(len(pieces), 12)(ids))
    keras.Model(ids, keras.layers.Dense(2)(x)).save(tmp_path / "m.keras")
    words = (tmp_path / "m.keras", "-o", tmp_path / "m.tflite", "--data", data)
    done = call(convert_command, *words, "--tokenizer", tmp_path / "vocab.txt", "--report", tmp_path / "report")
    assert done.exit_code == 0, done.output
    found = artifact.load(tmp_path / "m.tflite")
    assert (found.labels, found.features) == (("lamp", "none"), 12)
    assert (tmp_path / "report" / "fidelity.html").is_file()
    assert isinstance(call(convert_command, *words).exception, ConversionError)  # without its tokenizer


def test_one_is_signed_on_request(encoder_folder: Path, data: Path, tmp_path: Path) -> None:
    from tasuki.converter.sign_cli import key

    assert call(key, tmp_path / "k.pem").exit_code == 0
    words = (encoder_folder, "-o", tmp_path / "s.tflite", "--data", data, "--tokens", 8, "--sign", tmp_path / "k.pem")
    assert call(convert_command, *words).exit_code == 0
    artifact.load(tmp_path / "s.tflite", artifact.trusted_key(tmp_path / "k.pub"))


# Bad input: each its named error, before anything is calibrated or trained.


def foreign(folder: Path) -> Path:
    return write_csv(
        folder / "foreign.csv", [(f"включи свет {n} на кухне", "lamp" if n % 2 else "none") for n in range(80)]
    )


def relabelled(folder: Path) -> Path:
    return write_csv(folder / "other.csv", [(text, "lamp" if "lamp" in text else "oven") for text in texts(200)])


BAD: dict[str, tuple[type[TasukiError], Callable[[Path, Path], tuple[object, ...]]]] = {
    "no data": (TextsInvalid, lambda good, folder: ()),
    "no such file": (TextsInvalid, lambda good, folder: ("--data", folder / "none.csv")),
    "empty": (TextsInvalid, lambda good, folder: ("--data", write_csv(folder / "e.csv", []))),
    "another language": (TextsInvalid, lambda good, folder: ("--data", foreign(folder), "--tokens", "8")),
    "too deep": (ConversionError, lambda good, folder: ("--data", good, "--depths", "9")),
    "too long": (ConversionError, lambda good, folder: ("--data", good, "--tokens", "64")),
    "weights only for a chip": (
        ConversionError, lambda good, folder: ("--data", good, "--weights-only", "--tier", "mcu")
    ),
    "two activations": (
        TasukiError, lambda good, folder: ("--data", good, "--weights-only", "--activations", "int16")
    ),
    "depths": (TasukiError, lambda good, folder: ("--data", good, "--depths", "x")),
    "labels for no Keras": (ConversionError, lambda good, folder: ("--data", good, "--labels", good)),
    "no key": (TasukiError, lambda good, folder: ("--data", good, "--sign", folder / "none.pem")),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_named_and_leaves_nothing(what: str, encoder_folder: Path, data: Path, tmp_path: Path) -> None:
    error, words = BAD[what]
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    done = call(convert_command, encoder_folder, "-o", out / "a.tflite", *words(data, tmp_path / "in"))
    assert isinstance(done.exception, error), done.output
    assert list(out.iterdir()) == []


def test_labels_that_the_head_has_not(tmp_path: Path) -> None:
    checkpoint(tmp_path / "c", BERT, labels=("none", "lamp"))
    with pytest.raises((HeadMismatch, TextsInvalid), match="oven"):
        convert.convert(str(tmp_path / "c"), Wanted(data=str(relabelled(tmp_path)), tokens=8), silent)


def test_a_source_that_is_none(tmp_path: Path, data: Path) -> None:
    with pytest.raises(CheckpointMissing, match="minilm"):
        convert.convert(str(tmp_path / "nowhere"), Wanted(data=str(data)), silent)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_checkpoint_that_lacks_a_file_or_is_cut(name: str, tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "c"
    checkpoint(folder, BERT)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ConversionError):
        convert.convert(str(folder), Wanted(data=str(data), tokens=8), silent)
    (folder / name).unlink()
    with pytest.raises(CheckpointMissing, match=name.split(".")[-1]):
        convert.convert(str(folder), Wanted(data=str(data), tokens=8), silent)


def test_what_a_student_has_is_not_given_again(talker: Path, data: Path) -> None:
    with pytest.raises(ConversionError, match="--data"):
        convert.convert(str(talker), Wanted(data=str(data)), silent)


def test_an_interruption_leaves_the_former_artifact(
    encoder_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(b"the former one")

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place in ("pack", "write"):
        monkeypatch.setattr(pack, place, cut)
        done = call(convert_command, encoder_folder, "-o", path, "--data", data, "--tokens", 8)
        monkeypatch.undo()
        assert done.exit_code != 0
        assert path.read_bytes() == b"the former one"
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.tflite"]


def test_a_budget_that_no_student_fits_is_refused_before_the_teacher_reads(data: Path, tmp_path: Path) -> None:
    done = call(distil_command, "--data", data, "--fit", "ram=1K", "--out", tmp_path / "s")
    assert isinstance(done.exception, TasukiError)
    assert "ram=1,000" in str(done.exception)
    assert not (tmp_path / "s").exists()
