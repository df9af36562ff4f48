"""`tasuki distil` and `tasuki convert`: what an ML engineer does."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tasuki.converter import convert as conversion
from tasuki.converter import distil_any, fidelity_report, pack
from tasuki.converter.wanted import Wanted
from tasuki.sdk import keys
from tasuki.sdk.console import emit, json_option, progress_bars
from tasuki.sdk.errors import InputError

_TIERS = click.Choice(["mcu", "mcu-large", "board", "gateway"])


_Command = TypeVar("_Command", bound=Callable[..., Any])


def _texts(wanted: str) -> Callable[[_Command], _Command]:
    """The options that name texts; `wanted` says which."""

    def add(command: _Command) -> _Command:
        for option in (
            click.option("--label-column", default="label", show_default=True, help="Its column with the labels."),
            click.option("--text-column", default="text", show_default=True, help="Its column with the texts."),
            click.option("--data", metavar="TEXTS", help=wanted),
        ):
            command = option(command)
        return command

    return add


@click.command()
@click.option("--teacher", default="minilm", show_default=True, metavar="MODEL",
              help="minilm, smollm2, a checkpoint's folder, a .gguf file, or a folder of `tasuki distil`.")  # fmt: skip
@_texts("smart-home, chat, or a .txt, .csv or .jsonl file.  [default: smart-home; for a decoder, chat]")
@click.option("--tier", type=_TIERS, help="How large the student is.  [default: mcu; for a decoder, mcu-large]")
@click.option("--fit", metavar="BUDGET", help="The best student of the tier under a budget: ram=96K,flash=300K.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the student.")
@click.option("--name", help="The student's name.  [default: that of the texts]")
@click.option("--epochs", type=click.IntRange(1, 10_000), help="At most so many; it ends early when nothing improves.")
@click.option("--seed", default=0, show_default=True, help="Seed of the training.")
@click.option("--split-seed", default=0, show_default=True, help="Seed that divides the texts into roles.")
@click.option("--quick", is_flag=True, help="A smaller run of the same kind, to try things out.")
@json_option
def distil(
    teacher: str, data: str | None, text_column: str, label_column: str, tier: str | None, fit: str | None, out: Path,
    name: str | None, epochs: int | None, seed: int, split_seed: int, quick: bool, as_json: bool,
) -> None:  # fmt: skip
    """Distil a student from a teacher and texts; an interrupted training goes on when it is called again.

    Texts without labels are labelled by the teacher, which must have a classifier then. Texts for a decoder need no
    labels.

    Example: tasuki distil --data commands.csv --tier mcu --out student
    """
    wanted = distil_any.Wanted(
        teacher, data, text_column, label_column, tier, fit, name, epochs, seed, split_seed, quick
    )
    with progress_bars() as progress:
        figures = distil_any.distil(wanted, out, progress)
    emit({"student": str(out), **figures}, as_json)


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("-o", "--output", default="model.tflite", show_default=True, type=click.Path(path_type=Path),
              help="The artifact.")  # fmt: skip
@_texts("smart-home, chat, or a .txt, .csv or .jsonl file. A student brings its own.")
@click.option("--tier", type=_TIERS, help="What it is for.  [default: board; a student's own]")
@click.option(
    "--tokens", type=click.IntRange(2, 4096), help="Length of the input; a decoder's context.  [default: 32; 256]"
)
@click.option("--depths", metavar="N,N", help="Layers below the features, such as 3,6.  [default: the last]")
@click.option("--activations", type=click.Choice(["int8", "int16"]), default="int8", show_default=True,
              help="Type of what flows between layers.")  # fmt: skip
@click.option("--weights-only", is_flag=True, help="Float activations, int8 weights; for Linux boards only.")
@click.option("--vocabulary", type=click.IntRange(64), help="Keep at most so many pieces of a checkpoint's vocabulary.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="A Keras model's vocab.txt or tokenizer.json.")
@click.option("--labels", type=click.Path(path_type=Path), help="A Keras model's labels, one a line.")
@click.option("--name", help="The artifact's name.  [default: that of the source]")
@click.option("--sign", metavar="KEY", type=click.Path(path_type=Path), help="Sign it with this key of `tasuki key`.")
@click.option("--report", type=click.Path(path_type=Path, file_okay=False),
              help="Folder for fidelity.html and fidelity.json: what was lost, and where.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed that divides the texts and draws from them.")
@json_option
def convert(
    source: str, output: Path, data: str | None, text_column: str, label_column: str, tier: str | None,
    tokens: int | None, depths: str | None, activations: str, weights_only: bool, vocabulary: int | None,
    tokenizer: Path | None, labels: Path | None, name: str | None, sign: Path | None, report: Path | None, seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Turn SOURCE into one full-int8 .tflite artifact.

    SOURCE is a folder of `tasuki distil`, a checkpoint's folder (BERT or Llama family, safetensors), a .gguf or .keras
    file, or minilm or smollm2 from the package registry. All but students need --data: texts of the kind that the model
    will read.

    Example: tasuki convert student -o lamp.tflite --report report
    """
    if weights_only and activations != "int8":
        raise InputError("--weights-only means float activations: leave out --activations")
    wanted = Wanted(
        data=data,
        text_column=text_column,
        label_column=label_column,
        tier=tier,
        tokens=tokens,
        depths=_numbers(depths),
        activations="float" if weights_only else "int16" if activations == "int16" else "int8",
        vocabulary=vocabulary,
        tokenizer=tokenizer,
        labels=labels,
        name=name,
        seed=seed,
        key=None if sign is None else keys.load_artifact_key(sign),
        command=None if report is None else shlex.join(["tasuki", *sys.argv[1:]]),
    )
    with progress_bars() as progress:
        made = conversion.convert(source, wanted, progress)
    pack.write(output, made.artifact)
    figures: dict[str, Any] = {"artifact": str(output), **made.figures}
    if report is not None and made.report is not None:
        _, page = fidelity_report.write(made.report, report)
        figures["report"] = str(page)
    emit(figures, as_json)


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(f"--depths {text}: give layers, such as 3,6") from None
