"""The tiers' tables and the search: always within the budget, always the best there is."""

import json
from functools import lru_cache

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.converter import tiers
from tasuki.converter.accounting import Shape, account
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.student import StudentShape
from tasuki.converter.tiers import TIERS, Budget, Table, Task, Tier, parse_budget
from tasuki.converter.tiers_cli import tiers as command
from tasuki.sdk.errors import BudgetTooSmall, InputError
from tasuki.sdk.manifest import MAX_TOKENS, MAX_VOCABULARY
from tasuki.sdk.manifest import TIERS as NAMES

MCU = TIERS["mcu"]
WHOLE = MCU.tables["classify"]
# A part of the table, small enough to try everything.
FEW = Tier("mcu", MCU.flash, MCU.ram, {"classify": Table(
    WHOLE.bodies[1:9:3], WHOLE.vocabularies[::2], WHOLE.tokens[1::2], WHOLE.body, WHOLE.vocabulary, WHOLE.length,
)})  # fmt: skip
TASKS = [(tier.name, task) for tier in TIERS.values() for task in tier.tables]


@lru_cache
def priced() -> list[tuple[Shape, int, int]]:
    return [(shape, account(shape).ram, account(shape).file) for shape in tiers.candidates(FEW, 33, "classify")]


def test_the_tiers_are_those_of_the_manifest() -> None:
    assert tuple(TIERS) == NAMES
    assert [(tier.flash, tier.ram) for tier in TIERS.values()] == [
        (400_000, 128_000), (2_000_000, 512_000), (32_000_000, None), (512_000_000, None)
    ]  # fmt: skip


def test_the_standard_student_of_the_smallest_tier() -> None:
    shape = tiers.default("mcu", 33)
    assert shape == StudentShape(1408, 20, 33, width=96, layers=2, heads=4, inner=192)
    assert tiers.fit("mcu", 33, None, None) == shape


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_a_standard_student_is_within_its_tier(name: str, task: Task) -> None:
    tier = TIERS[name]
    shape = tiers.default(name, 33, task)  # type: ignore[call-overload]
    table = tier.tables[task]
    assert (shape.width, shape.vocabulary) == (table.body.width, table.vocabulary)
    cost = account(shape)
    assert cost.flash < cost.file <= tier.flash
    assert cost.ram <= (tier.ram or cost.ram)


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_a_table_is_in_order_and_makes_students(name: str, task: Task) -> None:
    table = TIERS[name].tables[task]
    assert table.body in table.bodies
    assert table.vocabulary in table.vocabularies
    assert table.length in table.tokens
    assert list(table.vocabularies) == sorted(set(table.vocabularies))
    assert list(table.tokens) == sorted(set(table.tokens))
    assert table.vocabularies[-1] <= MAX_VOCABULARY
    assert table.tokens[-1] <= MAX_TOKENS
    for body in table.bodies:
        assert body.width % body.heads == 0
        # Narrow and deep students do not train well.
        assert body.width >= 24 * body.layers
    for shape in tiers.candidates(TIERS[name], 33, task):
        assert tiers.standing(shape, TIERS[name]) > (0, 0, 0, 0)


@given(st.integers(8_000, 130_000), st.integers(30_000, 420_000))
@settings(max_examples=60, deadline=None)
def test_the_search_finds_the_best_that_fits(ram: int, flash: int) -> None:
    fitting = [shape for shape, needs, size in priced() if needs <= min(ram, 128_000) and size <= min(flash, 400_000)]
    if not fitting:
        with pytest.raises(BudgetTooSmall, match="the smallest"):
            tiers.best(FEW, 33, Budget(ram, flash), "classify")
        return
    found = tiers.best(FEW, 33, Budget(ram, flash), "classify")
    assert found in fitting
    assert tiers.standing(found, FEW) == max(tiers.standing(shape, FEW) for shape in fitting)


def test_more_room_never_makes_a_worse_student() -> None:
    standings = [
        tiers.standing(tiers.fit("mcu", 33, 128_000, flash), MCU) for flash in range(60_000, 400_001, 20_000)
    ]  # fmt: skip
    assert standings == sorted(standings)
    assert standings[0] < standings[-1]


def test_a_causal_student_under_a_budget() -> None:
    shape = tiers.fit("mcu-large", 33, 300_000, 1_000_000, "causal")
    assert isinstance(shape, CausalShape)
    assert account(shape).file <= 1_000_000
    assert account(shape).ram <= 300_000


def test_labels_that_leave_no_room_for_the_standard() -> None:
    shape = tiers.default("mcu", 1500)
    assert shape.labels == 1500
    assert tiers.layer_weights(shape) < tiers.layer_weights(tiers.default("mcu", 33))
    assert account(shape).file <= MCU.flash
    with pytest.raises(BudgetTooSmall, match="its bounds"):
        tiers.default("mcu", 4096 * 4)


def test_the_smallest_student_is_named_with_its_needs() -> None:
    smallest = next(iter(tiers.candidates(MCU, 33, "classify")))
    cost = account(smallest)
    with pytest.raises(BudgetTooSmall) as caught:
        tiers.fit("mcu", 33, cost.ram, cost.file - 1)
    assert f"ram={cost.ram:,} and flash={cost.file:,}" in str(caught.value)
    assert f"flash={cost.file - 1:,}" in str(caught.value)
    assert tiers.fit("mcu", 33, cost.ram, cost.file) == smallest


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("ram=96K,flash=300K", Budget(96_000, 300_000)),
        ("flash=1M", Budget(None, 1_000_000)),
        (" FLASH = 2mb , ram=12345", Budget(12_345, 2_000_000)),
        ("ram=0", Budget(0, None)),
    ],
)
def test_budgets(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize(
    "text",
    ["", "ram", "ram=", "ram=-1K", "ram=1.5K", "ram=96G", "rom=96K", "ram=1K,ram=2K", "ram=1K;flash=2K", "ram=٣K"],
)
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(InputError):
        parse_budget(text)


def test_tiers_and_tasks_that_are_not_there() -> None:
    with pytest.raises(InputError, match="mcu-large"):
        tiers.fit("mcus", 33, None, None)
    with pytest.raises(InputError, match="no students for 'causal'"):
        tiers.default("mcu", 33, "causal")


@pytest.mark.parametrize(
    ("budget", "task", "names"),
    [
        (Budget(96_000, 300_000), "classify", ["mcu"]),
        (Budget(20_000, 1_000_000), "classify", ["mcu-large", "mcu"]),
        (Budget(600_000, 300_000), "classify", ["board", "mcu-large", "mcu"]),
        (Budget(96_000, 300_000), "causal", ["mcu-large"]),
        (Budget(None, 10**12), "classify", ["gateway", "board", "mcu-large", "mcu"]),
    ],
)
def test_the_tiers_that_a_budget_belongs_to(budget: Budget, task: Task, names: list[str]) -> None:
    assert [tier.name for tier in tiers.tiers_of(budget, task)] == names


def run(*words: str) -> str:
    found = CliRunner().invoke(command, words, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def test_the_command_prints_a_table() -> None:
    printed = run("--tier", "mcu", "--labels", "33")
    cost = account(tiers.default("mcu", 33))
    (line,) = (line for line in printed.splitlines() if "*" in line)
    assert "2 x   96 (4, 192) *" in line
    assert f"{cost.flash:,}" in line
    assert f"{cost.file:,}" in line
    assert f"{cost.ram:,}" in line
    assert "…" not in printed


def test_the_command_as_json() -> None:
    (found,) = json.loads(run("--tier", "mcu-large", "--task", "causal", "--json"))["tiers"]
    standard = tiers.default("mcu-large", 32, "causal")
    (row,) = (row for row in found["students"] if row["standard"])
    assert (row["vocabulary"], row["tokens"], row["width"]) == (4096, 64, 128)
    assert row["model_bytes"] == account(standard).flash
    assert all(row["artifact_bytes"] <= found["flash"] for row in found["students"])


def test_the_command_fits() -> None:
    found = json.loads(run("--fit", "ram=96K,flash=300K", "--labels", "40", "--json"))
    assert found["tier"] == "mcu"
    assert found["artifact_bytes"] <= 300_000
    assert found["arena_bytes"] <= 96_000
    assert "artifact bytes" in run("--fit", "flash=300K")


def test_the_command_falls_back_to_a_smaller_tier() -> None:
    assert json.loads(run("--fit", "ram=14K,flash=1M", "--json"))["tier"] == "mcu"
    with pytest.raises(BudgetTooSmall):
        run("--fit", "ram=1K")
    with pytest.raises(BudgetTooSmall):
        run("--fit", "ram=14K,flash=1M", "--tier", "mcu-large")
    with pytest.raises(InputError):
        run("--tier", "mcu", "--task", "causal")
