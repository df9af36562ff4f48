"""From anything that can be converted to an artifact: which kind of source it is, and what each kind needs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tasuki.converter import (
    distil_causal,
    encoder,
    keras_model,
    outcome,
    outcome_causal,
    plain_bert,
    student_convert,
    student_folder,
    weights_only,
    wordpiece,
)
from tasuki.converter.data import Data, find_data
from tasuki.converter.families import BertConfig, Checkpoint, LlamaConfig
from tasuki.converter.open_checkpoint import open_checkpoint
from tasuki.converter.outcome import Material, Outcome
from tasuki.converter.quantise import Options
from tasuki.converter.wanted import Wanted
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import ConversionError, TextsInvalid

# What says nothing to a student, which has brought it along.
_CHECKPOINTS = ("data", "depths", "vocabulary", "tokenizer", "labels", "tokens")


def convert(source: str, wanted: Wanted, progress: Progress) -> Outcome:
    """The artifact of `source`: a folder of `tasuki distil`, `minilm`, `smollm2`, a checkpoint's folder, GGUF or Keras.

    Raises ConversionError with its kinds, SourceUnavailable, InputError.
    """
    if distil_causal.is_causal(Path(source)):
        _only(
            wanted, "a causal student", "data", "depths", "vocabulary", "tokenizer", "labels", "tokens", "activations"
        )
        name = Path(source).resolve().name
        return outcome_causal.student(distil_causal.load(Path(source)), name, wanted, progress)
    if student_folder.is_student(Path(source)):
        return _student(student_folder.load(Path(source)), wanted, progress)
    if Path(source).suffix in keras_model.SUFFIXES:
        return _keras(Path(source), wanted, progress)
    model, origin = open_checkpoint(source)
    if isinstance(model.config, LlamaConfig):
        _only(wanted, "a decoder", "depths", "vocabulary", "tokenizer", "labels")
        if wanted.activations == "float":
            raise ConversionError("--weights-only means nothing for a decoder: its cache holds integers; leave it out")
        return outcome_causal.decoder_of(model, origin, wanted, progress)
    return _encoder(model, origin, wanted, progress)


def _encoder(model: Checkpoint, origin: dict[str, str] | None, wanted: Wanted, progress: Progress) -> Outcome:
    assert isinstance(model.config, BertConfig)  # noqa: S101  (the other family is done)
    _only(wanted, "a checkpoint", "tokenizer", "labels")
    data = _data(wanted)
    if wanted.vocabulary is not None:
        model = wordpiece.prune(model, data.train.texts, wanted.vocabulary)
    settings = encoder.EncoderSettings(
        tokens=wanted.tokens or 32,
        depths=wanted.depths,
        activations=wanted.activations,
        tier=wanted.tier or "board",
        seed=wanted.seed,
    )
    head = None
    if not model.labels:
        head = encoder.train_head(model, settings, data.train, progress)
    made = encoder.convert(model, settings, data.train.texts, head=head, progress=progress, origin=origin)
    made = replace(made, name=wanted.name or made.name, origin=(*made.origin, *data.origin))
    ordinary = None
    if head is not None and isinstance(model.config, BertConfig):
        ordinary = plain_bert.function(
            model.config, model.tensors, settings.tokens, made.depths, (head.weight, head.bias)
        )
    return outcome.classifier(made, _material(data), progress, wanted.key, ordinary=ordinary, command=wanted.command)


def _student(trained: student_folder.Student, wanted: Wanted, progress: Progress) -> Outcome:
    _only(wanted, "a distilled student", *_CHECKPOINTS)
    if wanted.tier is not None:
        trained = replace(trained, tier=wanted.tier)
    if wanted.activations == "float":
        weights_only.check_tier(trained.tier)
        made = student_convert.weights_only(trained)
    else:
        made = student_convert.classifier(trained, progress, Options(wide=wanted.activations == "int16"))
    made = replace(made, name=wanted.name or made.name)
    material = Material(trained.learned, trained.unlearned, {"held out": trained.held_out, **trained.tests})
    return outcome.classifier(
        made, material, progress, wanted.key, before=dict(trained.figures), command=wanted.command
    )


def _keras(path: Path, wanted: Wanted, progress: Progress) -> Outcome:
    _only(wanted, "a Keras model", "depths", "vocabulary")
    if wanted.tokenizer is None:
        raise ConversionError(
            f"{path} has no tokenizer inside: give the one it was trained with, --tokenizer vocab.txt or tokenizer.json"
        )
    data = _data(wanted)
    made = keras_model.convert(
        path, wanted.tokenizer, _listed(wanted.labels, data), data.train.texts, wanted.tier or "board",
        wanted.activations, progress, keras_model.KerasSettings(wanted.tokens or 0, wanted.seed),
    )  # fmt: skip
    made = replace(made, name=wanted.name or made.name, origin=(*made.origin, *data.origin))
    return outcome.classifier(made, _material(data), progress, wanted.key, command=wanted.command)


def _data(wanted: Wanted) -> Data:
    if wanted.data is None:
        raise TextsInvalid(
            "calibration needs texts of the kind that the model will read: give --data smart-home, or a .txt, .csv or "
            ".jsonl file"
        )
    return find_data(wanted.data, wanted.seed, text_column=wanted.text_column, label_column=wanted.label_column)


def _material(data: Data) -> Material:
    """Nothing was trained, so the validation texts are as good a test as others."""
    return Material(data.train, data.held_out, data.tests or {"held out": data.validation})


def _listed(file: Path | None, data: Data) -> tuple[str, ...]:
    """The labels of a head, a line each in its order; without a file the sorted ones of the texts."""
    if file is None:
        if data.train.labels is None:
            raise ConversionError("which labels has the head? Give --labels FILE with one a line, in the head's order")
        return tuple(sorted(set(data.train.labels)))
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConversionError(f"the labels {file} can't be read: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())


def _only(wanted: Wanted, kind: str, *senseless: str) -> None:
    """Refuse what says nothing to this kind of source."""
    standard: dict[str, Any] = vars(Wanted())
    for name in senseless:
        if getattr(wanted, name) != standard[name]:
            raise ConversionError(f"--{name.replace('_', '-')} means nothing for {kind}; leave it out")
