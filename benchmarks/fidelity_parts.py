"""The parts of the fidelity benchmark; each is called in a process of its own (`fidelity`)."""

import importlib
import json
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from tokenizers import Tokenizer

from tasuki.benchmarks import latency
from tasuki.converter import (
    arena,
    assemble,
    build,
    causal_gain,
    causal_run,
    causal_texts,
    causal_toy,
    chat,
    decoder,
    distil,
    encoder,
    fidelity_report,
    outcome,
    pack,
    plain,
    plain_bert,
    student_convert,
    tiers,
)
from tasuki.converter.assemble import Classifier
from tasuki.converter.data import SMART_HOME, Data, find_data
from tasuki.converter.families import BertConfig, Checkpoint
from tasuki.converter.open_checkpoint import open_checkpoint
from tasuki.converter.outcome import Material
from tasuki.converter.texts import Texts, read_texts
from tasuki.sdk.console import Progress, progress_bars

_SENTENCES: Final = 1000
# The held-out text of SmolLM2; of its int16 form, whose kernels are slow, fewer windows are read.
_WINDOWS: Final = 48
_TOKENS: Final = 96
_WIDE: Final = 8
_DECODER: Final = decoder.DecoderSettings()
Figures = dict[str, Any]


def minilm(out: Path, seed: int, quick: bool, progress: Progress) -> Figures:
    """MiniLM-L6 to full int8, beside the plain conversion of the same float model with the same head."""
    model, origin = open_checkpoint("minilm")
    data = find_data(SMART_HOME, seed, 2 if quick else None)
    unseen = data.tests["unseen"]
    count = 60 if quick else _SENTENCES
    tests = {"unseen": Texts(unseen.texts[:count], (unseen.labels or ())[:count])}
    settings = encoder.EncoderSettings(texts=32 if quick else encoder.EncoderSettings().texts)
    began = time.monotonic()
    head = encoder.train_head(model, settings, data.train, progress)
    fitted = time.monotonic()
    made = encoder.convert(model, settings, data.train.texts, head=head, progress=progress, origin=origin)
    seconds, memory = time.monotonic() - fitted, _peak_mb()
    assert isinstance(model.config, BertConfig)  # noqa: S101  (MiniLM is one)
    function = plain_bert.function(model.config, model.tensors, settings.tokens, made.depths, (head.weight, head.bias))
    found = outcome.classifier(
        made, Material(data.train, data.held_out, tests), progress, ordinary=function,
        command="tasuki bench fidelity",
    )  # fmt: skip
    assert found.report is not None  # noqa: S101  (asked for)
    ordinary = plain.convert(function, "int8", {"ids": made.encode(data.train.texts[:200])})
    ids = made.encode(tests["unseen"].texts[:50])
    spent = latency.side_by_side({"ours": made.compiled.model, "plain": ordinary}, ids, 10 if quick else 100)
    rows = {row["kind"]: row for row in found.report["rows"]}
    rows["ours"]["milliseconds"], rows["plain"]["milliseconds"] = spent["ours"], spent["plain"]
    micro = _in_micro(made, tests["unseen"].texts[: 8 if quick else 100])
    edge = _edge(made, function, data.train, tests["unseen"])
    if edge is not None:
        found.report["rows"].append(edge)
    fidelity_report.write(found.report, out)
    judged = found.figures["judged"]["unseen"]
    return {
        "minilm_cosine": judged["cosine"],
        "minilm_cosine_min": judged["cosine_min"],
        "minilm_cosine_plain": rows["plain"]["cosine"],
        "minilm_cosine_plain_min": rows["plain"]["cosine_min"],
        "minilm_cosine_ai_edge_quantizer": None if edge is None else edge["cosine"],
        **({} if edge is not None else {"minilm_cosine_ai_edge_quantizer_why": "ai-edge-quantizer is not installed"}),
        "minilm_points_lost": 100 * (judged["float"] - judged["artifact"]),
        "minilm_accuracy": {"float": judged["float"], "int8": judged["artifact"],
                            "plain": rows["plain"]["accuracy"].get("unseen")},
        "minilm_latency_ratio": spent["ours"] / spent["plain"],
        "minilm_milliseconds": spent,
        "minilm_bytes": found.figures["artifact_bytes"],
        "minilm_tflm": micro is not None and micro > 0.9,
        "minilm_cosine_tflm": micro,
        "minilm_arena_bytes": outcome.working_memory(made.compiled.model),
        "minilm_sentences": len(tests["unseen"].texts),
        "minilm_seconds": round(seconds, 1),
        "minilm_head_seconds": round(fitted - began, 1),
        "minilm_peak_mb": memory,
    }  # fmt: skip


def mcu(
    out: Path, seed: int, quick: bool, progress: Progress, data: Path | None = None, test: Path | None = None
) -> Figures:
    """The standard student of tier `mcu`, the same without a teacher, and the n-grams; on human text where given."""
    built = build.build(build.REPORTED_SPLIT, seed, quick, progress)
    texts = find_data(SMART_HOME, build.REPORTED_SPLIT, build.recipe(seed, quick).per_template)
    trained = distil.load(built.artifact.parent)
    found = _student(trained, texts.train, texts.tests, progress, out)
    alone = _alone(trained, texts, progress)
    teacher = trained.figures["teacher"]["unseen"]
    figures: Figures = {
        "mcu_bytes": built.artifact.stat().st_size,
        "mcu_model_bytes": found["model_bytes"],
        "mcu_arena_bytes": arena.measured_arena(found["model"]),
        "mcu_multiply_accumulates": found["multiply_accumulates"],
        "mcu_accuracy": {"teacher": teacher, "float": found["float"]["unseen"], "int8": found["int8"]["unseen"],
                         "without_teacher": alone["unseen"], "ngrams": found["ngrams"]["unseen"],
                         "plain": found["plain"].get("unseen")},
        "mcu_int8_points_lost": 100 * (found["float"]["unseen"] - found["int8"]["unseen"]),
        "mcu_points_below_teacher": 100 * (teacher - found["int8"]["unseen"]),
        "distil_gain_points": 100 * (found["int8"]["unseen"] - alone["unseen"]),
        "ngram_margin_points": 100 * (found["int8"]["unseen"] - found["ngrams"]["unseen"]),
        "mcu_distil_seconds": trained.figures["distil_seconds"],
    }  # fmt: skip
    if data is not None:
        figures |= _human(out / "human", data, test, seed, quick, progress)
    return figures


def smollm2(out: Path, seed: int, quick: bool, progress: Progress) -> Figures:
    """SmolLM2-135M to full static int8 and int16, beside the plain form of the same graph; perplexity a token."""
    model, _ = (causal_toy.teacher(seed), None) if quick else open_checkpoint("smollm2")
    corpus = causal_toy.talk(seed) if quick else chat.conversations()
    settings = decoder.DecoderSettings(context=24, chunk=4, windows=4, tokens=12, measured=2) if quick else _DECODER
    count, tokens = (4, 12) if quick else (_WINDOWS, _TOKENS)
    held_out = causal_texts.windows(Tokenizer.from_buffer(model.tokenizer), corpus.held_out, tokens, 0, count)[:, 1:]
    began = time.monotonic()
    made = decoder.convert(model, corpus.train, settings, progress)
    seconds, memory = time.monotonic() - began, _peak_mb()
    exact = decoder.float_loss(model, made.start, held_out, progress)
    figures: Figures = {
        "smollm2_bytes": len(made.compiled.model),
        "smollm2_operators": list(made.compiled.operators),
        "smollm2_wide_layers": made.notes["wide_layers"],
        "smollm2_seconds": round(seconds, 1),
        "smollm2_peak_mb": memory,
        "smollm2_perplexity_float": float(np.exp(exact)),
        "smollm2_perplexity_ratio": float(np.exp(causal_run.loss(made.compiled.model, held_out) - exact)),
        "smollm2_held_out_tokens": int(held_out[:, 1:].size),
    }
    del made
    wide = decoder.convert(model, corpus.train, replace(settings, activations="int16"), progress)
    figures |= _ratio("smollm2_perplexity_ratio_int16", wide.compiled.model, model, wide.start, held_out[:_WIDE])
    del wide
    narrow = decoder.plain(model, corpus.train, settings, progress)
    figures |= _ratio("smollm2_perplexity_ratio_plain", narrow.compiled.model, model, narrow.start, held_out)
    return figures


def _ratio(name: str, model: bytes, of: Checkpoint, start: int, windows: causal_texts.Windows) -> Figures:
    return {name: float(np.exp(causal_run.loss(model, windows) - decoder.float_loss(of, start, windows)))}


def causal(out: Path, seed: int, quick: bool, progress: Progress) -> Figures:
    """A causal student of tier `mcu-large`, with its teacher and from the text alone."""
    built = causal_gain.build(progress, seed, quick)
    return {
        "causal_distil_gain": built.figures["gain"],
        "causal_perplexity": {name.removeprefix("perplexity_"): value for name, value in built.figures.items()
                              if name.startswith("perplexity_")},
        "causal_bytes": built.artifact.stat().st_size,
        "causal_arena_bytes": built.figures["arena_bytes"],
        "causal_int8_over_float": built.figures["int8_over_float"],
    }  # fmt: skip


def _student(
    trained: distil.Student, train: Texts, tests: Mapping[str, Texts], progress: Progress, out: Path
) -> Figures:
    made = student_convert.classifier(trained, progress)
    found = outcome.classifier(
        made, Material(train, trained.unlearned, tests), progress, before=dict(trained.figures),
        command="tasuki bench fidelity",
    )  # fmt: skip
    assert found.report is not None  # noqa: S101  (asked for)
    fidelity_report.write(found.report, out)
    pack.write(out / "student.tflite", found.artifact)
    rows = {row["kind"]: row["accuracy"] for row in found.report["rows"]}
    return {
        "model": made.compiled.model,
        "bytes": len(found.artifact),
        "model_bytes": len(made.compiled.model),
        "multiply_accumulates": made.compiled.multiply_accumulates,
        "float": rows["float"],
        "int8": rows["ours"],
        "ngrams": rows["baseline"],
        "plain": rows["plain"],
    }


def _alone(trained: distil.Student, data: Data, progress: Progress) -> dict[str, float]:
    """Accuracy by test of the same student without a teacher: int8, from labels alone, all else the same."""
    who = distil.find_teacher("minilm")
    recipe = trained.recipe.labels_only()
    made = distil.distil(who, data, trained.shape, recipe, progress)
    whole = student_convert.classifier(made, progress)
    return {role: found["artifact"] for role, found in assemble.judge(whole, data.tests).items()}


def _human(out: Path, data: Path, test: Path | None, seed: int, quick: bool, progress: Progress) -> Figures:
    """The same on a file of human text: a student of tier `mcu`, its teacher and the n-grams."""
    texts = find_data(str(data), seed)
    tests = {"test": read_texts(test)} if test is not None else {"held out": texts.held_out}
    texts = replace(texts, tests=tests)
    shape = tiers.default("mcu", len(set(texts.train.labels or ())))
    recipe = build.recipe(seed, quick)
    trained = distil.distil(distil.find_teacher("minilm"), texts, shape, recipe, progress, out)
    whole = Texts(texts.train.texts + texts.validation.texts,
                  (texts.train.labels or ()) + (texts.validation.labels or ()))  # fmt: skip
    found = _student(trained, whole, tests, progress, out)
    alone = _alone(trained, texts, progress)
    (role,) = tests
    teacher = trained.figures["teacher"][role]
    return {
        "human_accuracy": {"teacher": teacher, "float": found["float"][role], "int8": found["int8"][role],
                           "without_teacher": alone[role], "ngrams": found["ngrams"][role]},
        "human_ngram_margin_points": 100 * (found["int8"][role] - found["ngrams"][role]),
        "human_points_below_teacher": 100 * (teacher - found["int8"][role]),
        "human_distil_gain_points": 100 * (found["int8"][role] - alone[role]),
        "human_bytes": found["bytes"],
        "human_texts": len(tests[role].texts),
        "human_recipe": asdict(trained.recipe),
    }  # fmt: skip


def _in_micro(made: Classifier, texts: tuple[str, ...]) -> float | None:
    """Mean cosine to float of the features that TensorFlow Lite Micro gives; None if it can't run the model."""
    try:
        runtime = importlib.import_module("tflite_micro").runtime
        interpreter = runtime.Interpreter.from_bytes(made.compiled.model, arena_size=64 << 20)
    except (ModuleNotFoundError, RuntimeError, ValueError):
        return None
    ids = made.encode(texts)
    wanted, _ = made.reference(ids)
    found = []
    for row in ids:
        interpreter.set_input(row[None], 0)
        interpreter.invoke()
        joined = []
        for number in made.outputs.features:
            about = interpreter.get_output_details(number)["quantization_parameters"]
            raw = interpreter.get_output(number)[0].astype(np.float32)
            joined.append((raw - about["zero_points"][0]) * about["scales"][0])
        found.append(np.concatenate(joined))
    return float(assemble.agreement(np.stack(found), wanted).mean())


def _edge(made: Classifier, function: plain.Function, train: Texts, test: Texts) -> fidelity_report.Row | None:
    """What ai-edge-quantizer makes of the same float model; None if it is not installed."""
    try:
        importlib.import_module("ai_edge_quantizer")
    except ModuleNotFoundError:
        return None
    feeds = {"ids": made.encode(train.texts[:200])}
    model = plain.edge(plain.convert(function, "float"), function, feeds)
    features, _ = outcome.plain_run(made, model, function, test)
    near = assemble.agreement(features, made.float_run(test.texts)[0])
    return fidelity_report.row(
        "ai-edge-quantizer, static int8", "plain", len(model), cosine=(float(near.mean()), float(near.min()))
    )


def _peak_mb() -> float:
    """The most memory that this process has had, in MB of a million bytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)


_PARTS: Final = {"minilm": minilm, "mcu": mcu, "smollm2": smollm2, "causal": causal}


@click.command()
@click.argument("part", type=click.Choice(list(_PARTS)))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--seed", default=0)
@click.option("--quick", is_flag=True)
@click.option("--data", type=click.Path(path_type=Path))
@click.option("--test", type=click.Path(path_type=Path))
def main(part: str, out: Path, seed: int, quick: bool, data: Path | None, test: Path | None) -> None:
    """Run one part and write its figures to OUT/figures.json."""
    with progress_bars() as progress:
        if part == "mcu":
            figures = mcu(out, seed, quick, progress, data, test)
        else:
            figures = _PARTS[part](out, seed, quick, progress)
    pack.write(out / "figures.json", json.dumps(figures, indent=1, sort_keys=True).encode())


if __name__ == "__main__":
    main()
