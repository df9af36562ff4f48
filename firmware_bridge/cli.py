"""`tasuki firmware`: what a firmware engineer does with an artifact."""

import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tasuki.firmware_bridge import build, ecosystems, export
from tasuki.firmware_bridge import text as texts
from tasuki.firmware_bridge.emit.folder import ROUNDINGS
from tasuki.firmware_bridge.target import boards, figures, fits, flash, measure, serving
from tasuki.sdk.console import emit, json_option
from tasuki.sdk.kinds import NAMES

_artifact = click.argument("artifact", type=click.Path(path_type=Path))
_MODEL = (
    click.option("--name", default="model", show_default=True, help="The model's name in C: tsk_NAME_invoke."),
    click.option("--rounding", type=click.Choice(list(ROUNDINGS)), help="Of requantisations."
                 "  [default: what the artifact says, or tflm]"),
    click.option("--state", type=click.Path(path_type=Path), metavar="DIR",
                 help="Build in what a device has learned in this state directory."),
    click.option("--adapter", type=click.Choice(NAMES), help="The kind that it was opened with.  [default: head]"),
)  # fmt: skip
_board = click.option(
    "--board", default="host", show_default=True, metavar="BOARD", help="One of `tasuki firmware boards`, or the folder"
    " of a board of your own.",
)  # fmt: skip


def _seconds(_context: click.Context, _option: click.Parameter, value: float) -> float:
    """A day at most; a comparison also refuses what is no number."""
    if not 0 < value <= 86_400:
        raise click.BadParameter("it is more than 0 and at most 86400 seconds")
    return value


def _model(command: Callable[..., None]) -> Callable[..., None]:
    """The artifact and how it becomes C."""
    for option in reversed(_MODEL):
        command = option(command)
    return _artifact(command)


def _generate(
    artifact: Path, name: str, rounding: str | None, state: Path | None, adapter: str | None
) -> build.Generated:
    if adapter and not state:
        raise click.UsageError("--adapter goes with --state")
    learned = texts.learned(artifact, state, adapter) if state else None
    generated = build.generate(artifact, name, rounding, learned)
    if learned and generated.artifact:
        own = ", ".join(learned.own(generated.artifact.labels)) or "none"
        whose = "of the fleet" if learned.kind == "fleet" else f"{learned.kind}, fitted to {learned.examples} texts"
        labels = f"{len(learned.head.labels)} labels, of its own: {own}"
        click.echo(f"built in: adapter {whose}; {labels}; SHA-256 {learned.digest}", err=True)
    return generated


@click.group()
def firmware() -> None:
    """The artifact as C99 for Cortex-M: built, run in an emulator, flashed, or exported as a library.

    Example: tasuki firmware run lamp.tflite --board mps2-an386 --text 'turn on the kitchen light'
    """


@firmware.command("boards")
@json_option
def list_boards(as_json: bool) -> None:
    """List the boards that an image can be built for.

    A board of your own is a folder with board.ini, port.c (five functions) and link.ld: see the tutorial.

    Example: tasuki firmware boards
    """
    rows = {
        board.name: {
            "core": board.core, "flash": board.flash or None, "ram": board.ram or None, "clock_hz": board.hertz or None,
            "emulator": board.machine and f"qemu-system-arm -M {board.machine}",
        }
        for board in boards.BOARDS
    }  # fmt: skip
    if as_json:
        emit(rows, True)
        return
    for name, row in rows.items():
        limits = (
            f"{row['flash']:,} bytes of flash, {row['ram']:,} of memory" if row["flash"] else "a process, no limits"
        )
        click.echo(f"{name:<11}  {row['core']:<12}  {limits}")


@firmware.command("build")
@_model
@_board
@click.option("--out", type=click.Path(path_type=Path), help="Where it goes.  [default: build/firmware/NAME-BOARD]")
@click.option("--no-image", is_flag=True, help="Only the C: no compiler is needed.")
@json_option
def build_(
    artifact: Path, board: str, out: Path | None, no_image: bool, as_json: bool, name: str, **model: Any
) -> None:
    """Turn ARTIFACT into a folder of C99, and an image of it for the board.

    ARTIFACT is a packaged artifact or a bare full-int8 .tflite file. The image of a classifier or a causal model
    answers lines of text on the serial line; that of a bare model runs what comes over it (image/main.c says how).

    Example: tasuki firmware build lamp.tflite --board mps2-an386
    """
    chosen = boards.get(board)
    generated = _generate(artifact, name, **model)
    fits.check(generated, chosen)
    out = out or Path("build/firmware") / f"{name}-{chosen.name}"
    files, made = dict(generated.files), None
    if not no_image:
        with tempfile.TemporaryDirectory(prefix="tasuki-") as temporary:
            main = serving.application(generated, chosen)
            made = measure.link(generated, chosen, main, Path(temporary) / serving.file_name(name, chosen))
            files |= {"image/main.c": main, f"image/{made.path.name}": made.path.read_bytes()}
    build.write(files, out)
    if made is not None:
        (out / "image" / made.path.name).chmod(0o755)
    found = figures.figures(generated, made)
    if as_json:
        emit({"board": chosen.name, "folder": str(out), **found}, True)
        return
    for line in figures.table(found, chosen):
        click.echo(line)
    click.echo(f"\nC99 with its README: {out.resolve()}")


@firmware.command()
@_model
@_board
@click.option("--text", "asked", multiple=True, metavar="TEXT", help="Say this on the serial line; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the inputs without --text.")
@click.option(
    "--timeout", default=120.0, show_default=True, metavar="SECONDS", callback=_seconds, help="For each answer."
)
@json_option
def run(
    artifact: Path, board: str, asked: tuple[str, ...], seed: int, timeout: float, as_json: bool, **model: Any
) -> None:
    """Build ARTIFACT for a board, start it in the emulator, and print what it answers and what that took.

    With --text, one image answers, and counts the instructions from each text to its answer: tokenizer, model, adapter
    or sampler, not what the serial line takes. Without, an image runs the model once, on inputs that --seed gives, and
    counts that one call. The stack is the deepest since the start, self-test within; RAM is that and all static data.
    Instructions are counted by the emulator, one a nanosecond of its time: they are counts, never speed.

    The exit code is 1 where an answer is an error.

    Example: tasuki firmware run lamp.tflite --board mps2-an386 --text 'turn on the kitchen light'
    """
    chosen = boards.get(board)
    generated = _generate(artifact, **model)
    fits.check(generated, chosen)
    found = serving.run(generated, chosen, asked, seed, timeout)
    answers = found.pop("answers")
    if as_json:
        emit({"board": chosen.name, "answers": [serving.figures(said) for said in answers], **found}, True)
    else:
        for line in serving.lines(asked, answers, found):
            click.echo(line)
        emit({name: found[name] for name in serving.COUNTS if name in found}, False)
    failed = serving.failed(answers)
    if failed:
        why = str(failed[0]).removeprefix("error: ")
        click.echo(f"tasuki: error: {len(failed)} of {len(asked)} texts have no answer; the first: {why}", err=True)
        click.get_current_context().exit(1)


@firmware.command("flash")
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--probe", type=click.Choice(flash.PROBES), default="pyocd", show_default=True, help="What writes it.")
@click.option("--target", required=True, help="The chip: pyOCD's name, or OpenOCD's file such as target/stm32f4x.cfg.")
@click.option("--interface", default=flash.INTERFACE, show_default=True, help="OpenOCD's file for the probe.")
@click.option("--serial", help="Serial number of the probe, where there are several.")
@click.option("--emulated", is_flag=True, help="The target is the board that the emulator has; IMAGE is for that.")
@click.option("--dry-run", is_flag=True, help="Only print the command.")
def flash_(
    image: Path, probe: str, target: str, interface: str, serial: str | None, emulated: bool, dry_run: bool
) -> None:
    """Write IMAGE, an .elf file or a folder that `tasuki firmware build` wrote, to a real board.

    It was built with --board FOLDER, the folder of your own board; an image for an emulated board is refused.

    Example: tasuki firmware flash build/firmware/model-stm32f407 --target stm32f407vgtx --dry-run
    """
    words = flash.command(flash.image_in(image, emulated), probe, target, interface, serial)
    if dry_run:
        click.echo(shlex.join(words))
        return
    flash.run(words)
    click.echo(f"{image} is on the board")


@firmware.command("export")
@_model
@click.option("--as", "layout", required=True, type=click.Choice(list(ecosystems.ECOSYSTEMS)), help="Whose layout.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The new folder, or an unchanged one of this layout."
)
@click.option("--no-compile", is_flag=True, help="Do not compile it first: no Arm compiler is needed.")
def export_(artifact: Path, layout: str, out: Path, no_compile: bool, name: str, **model: Any) -> None:
    """Write ARTIFACT as a library in another build system's layout, with an example.

    Library and example are compiled with arm-none-eabi-gcc first, against stub headers of the other system.

    Example: tasuki firmware export lamp.tflite --as zephyr --out tasuki_lamp
    """
    said = export.export(_generate(artifact, name, **model), layout, out, not no_compile)
    click.echo(f"{out.resolve()}\n{said}")
