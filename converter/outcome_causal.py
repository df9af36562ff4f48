"""What came of a causal conversion: the artifact of a student or a published decoder, figures and fidelity report."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

from tasuki.converter import (
    causal_artifact,
    causal_pack,
    causal_run,
    causal_texts,
    chat,
    decoder,
    fidelity,
    fidelity_report,
    plain_causal,
)
from tasuki.converter.causal_pack import CausalModel
from tasuki.converter.causal_texts import Corpus, Windows
from tasuki.converter.distil_causal import CausalStudent
from tasuki.converter.families import Checkpoint, LlamaConfig
from tasuki.converter.fidelity_report import Figures, Row
from tasuki.converter.outcome import Outcome, working_memory
from tasuki.converter.texts import read_texts
from tasuki.converter.wanted import Wanted
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import TextsInvalid

# Tokens whose layers are compared, and held-out windows for the figures of a published decoder.
_LOOKED_AT: Final = 32
_HELD_OUT: Final = 16


def student(trained: CausalStudent, name: str, wanted: Wanted, progress: Progress) -> Outcome:
    """The artifact of a causal student. Raises ConversionError."""
    progress("quantise", 0, 1, "")
    made = causal_artifact.model(trained, wanted.name or name, wanted.tier or "mcu-large")
    progress("quantise", 1, 1, "")
    data, figures = causal_artifact.judged(made, trained, progress, wanted.key)
    if wanted.command is None:
        return Outcome(data, figures)
    rows = [
        fidelity_report.row("teacher", "teacher", perplexity=figures["perplexity_teacher"]),
        fidelity_report.row("float model", "float", perplexity=figures["perplexity_student"]),
        fidelity_report.row("Tasuki int8", "ours", len(data), perplexity=figures["perplexity_int8"]),
    ]
    return Outcome(data, figures, _report(made, data, rows, trained.held_out, progress, wanted.command))


def decoder_of(checkpoint: Checkpoint, origin: Mapping[str, str] | None, wanted: Wanted, progress: Progress) -> Outcome:
    """The artifact of a published decoder, calibrated on the caller's texts. Raises ConversionError, TextsInvalid."""
    assert isinstance(checkpoint.config, LlamaConfig)  # noqa: S101  (the caller has looked)
    corpus, texts_origin = _corpus(wanted)
    standard = decoder.DecoderSettings()
    settings = replace(
        standard,
        context=wanted.tokens or standard.context,
        activations=wanted.activations,
        tier=wanted.tier or standard.tier,
    )
    found = decoder.convert(checkpoint, corpus.train, settings, progress)
    stop = () if checkpoint.config.eos is None else (checkpoint.config.eos,)
    made = CausalModel(
        name=wanted.name or found.name,
        tier=found.tier,
        compiled=found.compiled,
        graphs=found.graphs,
        depth=checkpoint.config.layers,
        start=None,
        stop=stop,
        pad=found.start,
        tokenizer=found.tokenizer,
        activations=found.activations,
        origin=((*((origin,) if origin else found.origin), *texts_origin)),
        calibration=found.calibration,
        notes=found.notes,
    )
    tokenizer = Tokenizer.from_buffer(checkpoint.tokenizer)
    length = min(settings.tokens, settings.context)
    validation, held_out = (
        causal_texts.windows(tokenizer, texts, length, 0, _HELD_OUT)[:, 1:]
        for texts in (corpus.validation, corpus.held_out)
    )
    exact = decoder.float_loss(checkpoint, found.start, held_out, progress)
    progress("measure", 0, 1, "")
    whole = causal_run.loss(found.compiled.model, held_out)
    progress("measure", 1, 1, "")
    figures: dict[str, Any] = {
        "perplexity_float": float(np.exp(exact)),
        f"perplexity_{found.activations}": float(np.exp(whole)),
        "perplexity_ratio": float(np.exp(whole - exact)),
        "held_out_tokens": int(held_out[:, 1:].size),
        "model_bytes": len(found.compiled.model),
        "operators": list(found.compiled.operators),
    }
    accuracy = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    data = causal_pack.packed(made, validation, accuracy, wanted.key)
    figures["artifact_bytes"] = len(data)
    if wanted.command is None:
        return Outcome(data, figures)
    rows = [
        fidelity_report.row("float model", "float", perplexity=figures["perplexity_float"]),
        fidelity_report.row(
            f"Tasuki {found.activations}", "ours", len(data), perplexity=figures[f"perplexity_{found.activations}"]
        ),
    ]
    return Outcome(data, figures, _report(made, data, rows, held_out, progress, wanted.command))


def _corpus(wanted: Wanted) -> tuple[Corpus, tuple[Mapping[str, str], ...]]:
    if wanted.data == "chat":
        return chat.conversations(wanted.seed), (chat.ORIGIN,)
    if wanted.data is None:
        raise TextsInvalid(
            "calibration needs text of the kind that the model will continue: give --data chat, or a .txt, .csv or "
            ".jsonl file"
        )
    texts = read_texts(wanted.data, wanted.text_column, wanted.label_column)
    return causal_texts.divide(replace(texts, labels=None), wanted.seed), ()


def _report(
    made: CausalModel, data: bytes, rows: list[Row], windows: Windows, progress: Progress, command: str
) -> Figures:
    """The report; the layers are those of `decode`, which has every layer once."""
    graph = made.graphs["decode"]
    feeds, real = plain_causal.examples(graph, plain_causal.float_step(graph), windows[:1, :-1][:, :_LOOKED_AT])
    layers = fidelity.layers(
        made.compiled, graph, feeds, real, lambda done, total: progress("compare layers", done, total, "")
    )
    return {
        "name": made.name,
        "tier": made.tier,
        "task": "causal",
        "activations": made.activations,
        "artifact_bytes": len(data),
        "conversion": fidelity.summary(made.compiled, graph, layers, working_memory),
        "rows": rows,
        "roles": {"held out": {"texts": len(windows), "about": f"windows of {windows.shape[1] - 1} tokens"}},
        "confidence": None,
        "calibration": dict(made.calibration),
        "origin": [dict(source) for source in made.origin],
        "notes": dict(made.notes),
        "command": command,
        "layer_texts": len(real),
        "layers": fidelity_report.layer_rows(layers),
    }
