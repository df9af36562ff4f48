"""What commands share: figures for people or as JSON, progress bars, errors as one line."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

Progress = Callable[[str, int, int, str], None]

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def emit(figures: Mapping[str, Any], as_json: bool) -> None:
    """Print `figures` to stdout: a table, or one line of JSON."""
    if as_json:
        click.echo(json.dumps(figures, sort_keys=True))
        return
    width = max((len(name) for name in figures), default=0)
    for name, value in figures.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {_words(value)}")


def _words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items()) or "none"
    return "none" if value is None else str(value)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A callback ``(phase, done, total, note)`` that draws a bar a phase on stderr, with the time left.

    Where stderr is no terminal, it prints a line when a phase begins and ends.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def draw(phase: str, done: int, total: int, note: str) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=total, note=note)
            bars.update(tasks[phase], completed=done, total=total, note=note)

        yield draw


def _lines() -> Progress:
    began: dict[str, float] = {}
    ended: set[str] = set()

    def line(phase: str, done: int, total: int, note: str) -> None:
        if phase not in began:
            began[phase] = time.monotonic()
            click.echo(f"{phase} ...", err=True)
        if done >= total and phase not in ended:
            ended.add(phase)
            seconds = time.monotonic() - began[phase]
            click.echo(f"{phase} done in {seconds:.0f} s {note}".rstrip(), err=True)

    return line
