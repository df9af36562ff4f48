"""`tasuki demo` and `tasuki bench`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tasuki.benchmarks import budgets, fidelity, firmware, protocol, relay, report, sdk
from tasuki.sdk.console import emit, progress_bars

_out = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("build/relay"),
    show_default=True,
    help="Where the report goes.",
)
_quick = click.option("--quick", is_flag=True, help="A smaller run of the same kind; its figures mean nothing.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")


@click.command()
@_out
@_quick
@_json
def demo(out: Path, quick: bool, as_json: bool) -> None:
    """The whole relay on this machine, with one seed: teacher to fleet and back, then report.html.

    Example: tasuki demo
    """
    plan = relay.QUICK if quick else replace(relay.Plan(), seeds=1)
    _run(plan, out, as_json)


@click.group()
def bench() -> None:
    """Measure, and print what was measured.

    Example: tasuki bench relay --json
    """


@bench.command("relay")
@_out
@_quick
@_json
@click.option("--seeds", type=click.IntRange(1, 20), help="How many partitions; default 3.")
def bench_relay(out: Path, quick: bool, as_json: bool, seeds: int | None) -> None:
    """Accuracy, bytes, latency and memory of the relay over several seeds; the student stays the same.

    Example: tasuki bench relay --json
    """
    plan = relay.QUICK if quick else relay.Plan()
    _run(replace(plan, seeds=seeds) if seeds else plan, out, as_json)


@bench.command("fidelity")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/fidelity"), show_default=True,
              help="Where the reports go, one a part.")  # fmt: skip
@_quick
@_json
@click.option("--part", "parts", multiple=True, type=click.Choice(fidelity.PARTS), help="Only this; repeatable.")
@click.option("--data", type=click.Path(path_type=Path), help="Human text, CSV with text and label: one more student.")
@click.option("--test", type=click.Path(path_type=Path), help="Its test; else a part of the same file is held out.")
@click.option("--seed", default=0, show_default=True, help="Seed of trainings, calibration and divisions.")
def bench_fidelity(
    out: Path, quick: bool, as_json: bool, parts: tuple[str, ...], data: Path | None, test: Path | None, seed: int
) -> None:
    """What conversion and distillation lose: MiniLM, the `mcu` student, SmolLM2, and the causal student.

    Example: tasuki bench fidelity --json
    """
    plan = fidelity.Plan(parts or fidelity.PARTS, data, test, seed, quick)
    with progress_bars() as progress:
        figures = fidelity.run(plan, out, progress)
    if as_json:
        click.echo(json.dumps(figures, sort_keys=True))
        return
    emit(figures, False)
    click.echo(f"\nreports: {out.resolve()}")


@bench.command("sdk")
@_quick
@_json
@click.option("--part", "parts", multiple=True, type=click.Choice(sdk.PARTS), help="Only this; repeatable.")
@click.option("--seed", default=1, show_default=True, help="Partition of the homes; from 100 on chose settings.")
def bench_sdk(quick: bool, as_json: bool, parts: tuple[str, ...], seed: int) -> None:
    """What the SDK costs over calling the interpreter, what learning gains, and what its confidence is worth.

    Example: tasuki bench sdk --json
    """
    with progress_bars() as progress:
        figures = sdk.run(sdk.Plan(parts or sdk.PARTS, seed, quick), progress)
    if as_json:
        click.echo(json.dumps(figures, sort_keys=True))
        return
    emit({name: value for name, value in figures.items() if not isinstance(value, (dict, list))}, False)


@bench.command("protocol")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/protocol"), show_default=True,
              help="Where the plots go.")  # fmt: skip
@_quick
@_json
@click.option("--part", "parts", multiple=True, type=click.Choice(protocol.PARTS), help="Only this; repeatable.")
@click.option("--seeds", type=click.IntRange(1, 99), help="How many partitions of the homes; default 24.")
def bench_protocol(out: Path, quick: bool, as_json: bool, parts: tuple[str, ...], seeds: int | None) -> None:
    """Bytes of an update, what they lose in accuracy, and how fast a gateway opens updates.

    Example: tasuki bench protocol --json
    """
    plan = protocol.QUICK if quick else protocol.Plan()
    plan = replace(plan, parts=parts or plan.parts, seeds=seeds or plan.seeds)
    with progress_bars() as progress:
        figures = protocol.run(plan, out, progress)
    if as_json:
        click.echo(json.dumps(figures, sort_keys=True))
        return
    emit({name: value for name, value in figures.items() if not isinstance(value, (dict, list))}, False)
    for head, found in figures["heads"].items():
        if "curve" in found:
            click.echo(f"plot of {head}: {found['curve']['plot']}")


@bench.command("firmware")
@_quick
@_json
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Any full-int8 .tflite file or artifact instead of the seeded twins; repeatable.",
)
@click.option("--board", "chosen", multiple=True, type=click.Choice(firmware.BOARDS), help="Only this; repeatable.")
@click.option("--record", is_flag=True, help="Make these figures the budgets of the tests.")
def bench_firmware(quick: bool, as_json: bool, models: tuple[Path, ...], chosen: tuple[str, ...], record: bool) -> None:
    """Instructions, memory and code of models as C on each emulated board, and their bits against TFLM's.

    Example: tasuki bench firmware --json
    """
    if record and (quick or models or chosen):
        raise click.UsageError("budgets are recorded from the full run alone: leave --quick, --model and --board out")
    plan = firmware.QUICK if quick else firmware.Plan()
    with progress_bars() as progress:
        figures = firmware.run(replace(plan, models=models, boards=chosen or plan.boards), progress)
    if record:
        budgets.FILE.write_text(budgets.written(figures["boards"]), encoding="utf-8")
        click.echo(f"recorded: {budgets.FILE}", err=True)
    if as_json:
        click.echo(json.dumps(figures, sort_keys=True))
        return
    for line in firmware.table(figures):
        click.echo(line)


def _run(plan: relay.Plan, out: Path, as_json: bool) -> None:
    with progress_bars() as progress:
        figures = relay.run(plan, out, progress)
    page = report.write(figures, out)
    if as_json:
        click.echo(json.dumps(figures, sort_keys=True))
        return
    emit(_table(figures), False)
    click.echo(f"\nreport: {page.resolve()}")


def _table(figures: dict[str, Any]) -> dict[str, str]:
    arms = ("base", "local", "federated", "personalised", "centralised")
    rows = {
        f"{arm:<13}": f"{figures[f'accuracy_{arm}']:6.1%} of later commands, "
        f"{figures[f'unseen_accuracy_{arm}']:6.1%} of unseen phrasings"
        for arm in arms
    }
    corrected = figures["corrected"]
    return {
        **rows,
        "corrected": f"{corrected['before']:6.1%} of the answers in round one, {corrected['after']:.1%} in the last",
        "update": f"{figures['bytes_up_per_update']:,.0f} bytes sealed, {figures['bytes_float32_per_update']:,} bare",
        "student": f"{figures['student_bytes']:,} bytes, {figures['int8_points_lost']:+.2f} points lost to int8",
        "device": f"{figures['device_rss_mb']:.0f} MB resident, {figures['predict_ms']['median']:.2f} ms an answer,"
        f" {figures['learn_ms']['median']:.1f} ms to learn",
        "time": f"{figures['seconds']:.0f} s, {figures['seeds']} seed{'s' if figures['seeds'] > 1 else ''}",
    }
