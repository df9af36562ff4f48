"""`tasuki distil` and `tasuki convert`: what an ML engineer does."""

import json
from pathlib import Path

import click

from tasuki.converter import build as builds
from tasuki.converter import distil as distilling
from tasuki.converter import pack
from tasuki.converter.homes import split
from tasuki.sdk.console import emit, json_option, progress_bars
from tasuki.sdk.errors import ConversionError


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the student.")
@click.option("--seed", default=0, show_default=True, help="Seed of the training.")
@click.option("--split-seed", default=builds.REPORTED_SPLIT, show_default=True, help="Seed of the split by template.")
@click.option("--quick", is_flag=True, help="A smaller run of the same kind, to try things out.")
@json_option
def distil(out: Path, seed: int, split_seed: int, quick: bool, as_json: bool) -> None:
    """Distil MiniLM-L6 into a student of the tier `mcu`, on smart-home commands.

    Example: tasuki distil --out student
    """
    wanted = builds.recipe(seed, quick)
    with progress_bars() as progress:
        trained, figures = builds.make_student(split(split_seed, wanted.per_template), wanted, progress)
    distilling.save(trained, out)
    pack.write(out / "figures.json", json.dumps(figures, indent=1, sort_keys=True).encode())
    emit({"student": str(out), **figures}, as_json)


@click.command()
@click.argument("student", type=click.Path(path_type=Path))
@click.option("-o", "--output", default="student.tflite", show_default=True, type=click.Path(path_type=Path),
              help="The artifact.")  # fmt: skip
@json_option
def convert(student: Path, output: Path, as_json: bool) -> None:
    """Turn the STUDENT folder of `tasuki distil` into one full-int8 .tflite artifact.

    Example: tasuki convert student -o lamp.tflite
    """
    trained = distilling.load(student)
    try:
        figures = json.loads((student / "figures.json").read_text())
    except (OSError, ValueError) as error:
        raise ConversionError(f"{student}/figures.json can't be read ({error}); run `tasuki distil` again") from None
    parts = split(trained.split_seed, trained.recipe.per_template)
    with progress_bars() as progress:
        data, figures = builds.convert(trained, parts, figures, progress)
    pack.write(output, data)
    emit({"artifact": str(output), **figures}, as_json)
