"""`tasuki tiers`: the tables of students, and the best one under a budget."""

from dataclasses import asdict
from typing import Any, Final, cast

import click

from tasuki.converter import tiers as tables
from tasuki.converter.accounting import Cost, Shape, account
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.tiers import TASKS, TIERS, Budget, Task, Tier
from tasuki.sdk.console import emit, json_option
from tasuki.sdk.errors import BudgetTooSmall, InputError

_COLUMNS: Final = {
    "vocabulary": "vocabulary", "tokens": "tokens", "parameters": "parameters", "model bytes": "model_bytes",
    "artifact": "artifact_bytes", "arena": "arena_bytes", "mult.-acc.": "multiply_accumulates",
}  # fmt: skip
# Where the output is no terminal.
_PLAIN_WIDTH: Final = 132


@click.command()
@click.option("--fit", "budget", metavar="BUDGET", help="Choose the best student under a budget: ram=96K,flash=300K.")
@click.option("--labels", default=32, show_default=True, type=click.IntRange(2, 4096), help="How many labels it has.")
@click.option(
    "--task", default=None, type=click.Choice(TASKS), help="What it does.  [default: all; classify for --fit]"
)
@click.option("--tier", default=None, type=click.Choice(list(TIERS)),
              help="Only this tier.  [default: all; for --fit what the budget belongs to]")  # fmt: skip
@json_option
def tiers(budget: str | None, labels: int, task: str | None, tier: str | None, as_json: bool) -> None:
    """Show which students there are, and what each costs: exactly, and before any training.

    Bytes of the model are those of the int8 flatbuffer, the arena's those of TensorFlow Lite Micro on this machine,
    multiply-accumulates those of one text (a causal student's: of one token). The artifact is the model, exactly, and
    an estimate of what comes with it. K is 1,000 and M 1,000,000. A star marks a tier's standard student.

    Example: tasuki tiers --fit ram=96K,flash=300K --labels 40
    """
    if budget is not None:
        wanted, doing = tables.parse_budget(budget), cast(Task, task or "classify")
        chosen, shape = _fit(wanted, labels, doing, tier)
        emit({"tier": chosen.name, "task": doing, "labels": labels, **_row(shape, account(shape))}, as_json)
        return
    kept = [one for one in TIERS.values() if tier in (None, one.name)]
    found = [(one, doing) for one in kept for doing in one.tables if task in (None, doing)]
    if not found:
        raise InputError(f"tier {tier} has no students for {task!r}; it has them for {', '.join(kept[0].tables)}")
    if as_json:
        emit({"labels": labels, "tiers": [_figures(one, doing, labels) for one, doing in found]}, True)
        return
    for one, doing in found:
        _show(_figures(one, doing, labels))


def _fit(budget: Budget, labels: int, task: Task, tier: str | None) -> tuple[Tier, Shape]:
    """The best of the tier, or of the largest tier that has one for the budget."""
    wanted = (tables.find(tier),) if tier is not None else tables.tiers_of(budget, task)
    for place, one in enumerate(wanted):
        try:
            return one, tables.fit(one.name, labels, budget.ram, budget.flash, task)
        except BudgetTooSmall:
            if place == len(wanted) - 1:
                raise
    raise BudgetTooSmall(f"no tier has students for {task!r}")


def _figures(tier: Tier, task: Task, labels: int) -> dict[str, Any]:
    """A tier's students of standard vocabulary and length that are within its bounds, the smallest first of all."""
    standard = tables.default(tier.name, labels, task)
    shapes = [shape for shape in tables.rows(tier, labels, task) if tables.fits(account(shape), tier, Budget())]
    if standard not in shapes:
        shapes.append(standard)
    rows = [{**_row(shape, account(shape)), "standard": shape == standard} for shape in shapes]
    return {"tier": tier.name, "task": task, "flash": tier.flash, "ram": tier.ram, "students": rows}


def _row(shape: Shape, cost: Cost) -> dict[str, Any]:
    sizes = {name: size for name, size in asdict(shape).items() if name not in ("labels", "context")}
    return {
        **sizes,
        "tokens": shape.context if isinstance(shape, CausalShape) else shape.tokens,
        "parameters": cost.parameters,
        "model_bytes": cost.flash,
        "artifact_bytes": cost.file,
        "arena_bytes": cost.ram,
        "multiply_accumulates": cost.multiply_accumulates,
    }


def _show(figures: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    ram = "any working memory" if figures["ram"] is None else f"working memory to {figures['ram']:,} bytes"
    title = f"{figures['tier']}, {figures['task']}: artifact to {figures['flash']:,} bytes, {ram}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("layers x width (heads, inner)", no_wrap=True)
    for heading in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in figures["students"]:
        body = (
            f"{row['layers']:>2} x {row['width']:>4} ({row['heads']}, {row['inner']}){' *' if row['standard'] else ''}"
        )
        table.add_row(body, *(f"{row[name]:,}" for name in _COLUMNS.values()))
    console = Console()
    (console if console.is_terminal else Console(width=_PLAIN_WIDTH)).print(table)
