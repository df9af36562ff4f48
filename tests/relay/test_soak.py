"""The soak, and that its check finds what it is for."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from soak_check import Row, Told, heads, problems, replay

HERE = Path(__file__)
sys.path.insert(0, str(HERE.parents[1] / "aggregator"))

from fleet_kit import found, join  # noqa: E402

from tasuki.aggregator.gateway import Rules  # noqa: E402
from tasuki.sdk.errors import Refusal  # noqa: E402

KIT = HERE.with_name("soak_kit.py")
# Half an hour, unless somebody has less, or more.
SECONDS = os.environ.get("TASUKI_SOAK_SECONDS", "1800")


def digest(device: str, sequence: int) -> str:
    return f"{device}{sequence:062x}"


World = tuple[dict[str, Told], list[Row], dict[str, int]]


def world(counts: list[int], refused: set[int]) -> World:
    """A run without fault: of each device so many updates, those in `refused` (counted through) not admitted."""
    told: dict[str, Told] = {}
    rows: list[Row] = []
    highest: dict[str, int] = {}
    for number, count in enumerate(counts):
        name, log = f"d{number}", Told()
        for sequence in range(1, count + 1):
            status = Refusal.STALE_BASE if len(rows) in refused else Refusal.ADMITTED
            log.sealed[sequence].add(digest(name, sequence))
            (log.refused if status else log.admitted)[sequence].add(digest(name, sequence))
            rows.append(Row(name, sequence, digest(name, sequence), status))
        told[name], highest[name] = log, count
    return told, rows, highest


WORLDS = st.builds(world, st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sets(st.integers(1, 8)))


@given(WORLDS)
def test_a_run_without_fault_has_no_problem(made: World) -> None:
    assert problems(*made) == []


def lose(told: dict[str, Told], rows: list[Row], highest: dict[str, int]) -> None:
    """The ledger has forgotten an update that was acknowledged as admitted."""
    rows.pop(0)


def double(told: dict[str, Told], rows: list[Row], highest: dict[str, int]) -> None:
    """One update counts twice, under another number."""
    rows.append(replace(rows[0], sequence=rows[0].sequence + 100))


def replace_content(told: dict[str, Told], rows: list[Row], highest: dict[str, int]) -> None:
    rows[0] = replace(rows[0], digest="ff" * 32)


def refuse_after_all(told: dict[str, Told], rows: list[Row], highest: dict[str, int]) -> None:
    rows[0] = replace(rows[0], status=Refusal.NORM)


def believe_the_refusal(told: dict[str, Told], rows: list[Row], highest: dict[str, int]) -> None:
    """The device was told that it was refused, and it was admitted."""
    log = told["d0"]
    log.refused[1], log.admitted[1] = log.admitted[1], set()


def forget(told: dict[str, Told], rows: list[Row], highest: dict[str, int]) -> None:
    """The device has dropped an update without a word."""
    highest["d0"] += 1


def forge(told: dict[str, Told], rows: list[Row], highest: dict[str, int]) -> None:
    rows.append(Row("nobody", 1, "ee" * 32, Refusal.ADMITTED))


@pytest.mark.parametrize("spoil", [lose, double, replace_content, refuse_after_all, believe_the_refusal, forget, forge])
@given(WORLDS)
def test_the_check_finds(spoil: Callable[[dict[str, Told], list[Row], dict[str, int]], None], made: World) -> None:
    """The first update of the first device is always an admitted one."""
    spoil(*made)
    assert problems(*made) != []


@pytest.mark.parametrize("line", ["sealed 1", "sealed 1 abcd", f"seen 1 {'00' * 32}", f"sealed one {'00' * 32}"])
def test_a_log_with_something_else_in_it_is_not_read(tmp_path: Path, line: str) -> None:
    log = tmp_path / "d0.log"
    log.write_text(f"sealed 1 {'00' * 32}\n{line}\n")
    with pytest.raises(ValueError):
        Told.read(log)


def test_a_replay_gives_the_same_versions_and_only_of_the_same_updates(tmp_path: Path, tiny_artifact: Path) -> None:
    gateway = found(tmp_path, tiny_artifact)
    members = [join(gateway, name) for name in ("attic", "cellar")]
    rules = Rules(gateway)
    for version in range(3):
        for number, member in enumerate(members):
            rules.take(member.message(version, version + 1, seed=number), member.enrolment.device)
        assert rules.close_round(1.0, 60.0) is not None
    rules.ledger.close()
    made = heads(gateway)
    assert [(version, devices) for version, devices, _ in made] == [(0, 0), (1, 2), (2, 2), (3, 2)]
    assert replay(gateway, tmp_path / "again") == made
    with sqlite3.connect(gateway / "ledger.db") as db:
        db.execute("DELETE FROM updates WHERE device='attic' AND base_version=1")
    db.close()
    assert replay(gateway, tmp_path / "without") != made


def soak(*words: str) -> None:
    done = subprocess.run([sys.executable, str(KIT), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    figures = json.loads(done.stdout)
    assert figures["problems"] == []
    assert min(figures["kills"].values()) > 0
    assert figures["admitted"] > 0
    assert figures["acknowledged"] == figures["sealed"]


@pytest.mark.slow
def test_a_short_soak_on_the_embedded_broker() -> None:
    """It forgets everything when it is killed: sessions, queues, what was retained."""
    soak("--seconds", "30", "--seed", "2", "--devices", "12", "--broker", "embedded")


@pytest.mark.slow
@pytest.mark.mosquitto
@pytest.mark.timeout(float(SECONDS) + 900)
def test_a_long_soak_on_mosquitto() -> None:
    soak("--seconds", SECONDS, "--seed", "1", "--devices", "50", "--broker", "mosquitto")
