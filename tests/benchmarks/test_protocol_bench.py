"""The protocol benchmark: its federation is the relay's, its labels are what they say, and its small form runs."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tasuki.aggregator.judge import HeldOut
from tasuki.benchmarks import protocol_fleet, protocol_open, protocol_students, protocol_wire
from tasuki.benchmarks.protocol_fleet import Fleet, Lived, Outcome, coded, float32, int8_rows, points_lost, within
from tasuki.benchmarks.protocol_students import relabelled, scopes
from tasuki.benchmarks.protocol_wire import Devices, NotAdmitted
from tasuki.converter.homes import Split, split
from tasuki.sdk import adapter, fleet_table
from tasuki.sdk.adapter import Floats
from tasuki.sdk.envelope import HYBRID, RESUMED, X25519
from tasuki.sdk.learned import Body, Lesson

KEYS = {
    "bytes_ratio_x25519", "bytes_ratio_hybrid", "messages_per_device", "points_lost", "overhead_x25519",
    "overhead_hybrid", "open_rate_ratio", "open_rate_ratio_undecoded",
}  # fmt: skip
STAMP = {"commit", "machine", "seed", "seconds"}
LABELS = ("bright", "dark", "warm")
WIDTH, HOMES, ROUNDS = 6, 3, 3
ARTIFACT = bytes(range(32))


def _features(rng: np.random.Generator, targets: list[int]) -> Floats:
    """Examples of each label around a place of their own, which the body does not know."""
    centres = np.eye(len(LABELS), WIDTH)
    return np.asarray(centres[targets] + 0.1 * rng.standard_normal((len(targets), WIDTH)), np.float32)


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    """Three homes that teach an undecided body three labels."""
    rng = np.random.default_rng(7)
    told = [0, 1, 2] * 4
    features = _features(rng, told)
    inputs = np.concatenate([features, np.ones((len(told), 1), np.float32)], 1)
    moment = np.asarray(inputs.T @ inputs / len(told), np.float32)
    body = Body(LABELS, 1.0, moment, ((0.1, 0.9),))
    none = np.zeros((len(told), len(LABELS)), np.float32)
    homes = []
    for _ in range(HOMES):
        mine = _features(rng, told)
        lessons = tuple(
            Lesson(mine[: 4 * n], none[: 4 * n], [LABELS[t] for t in told[: 4 * n]]) for n in range(1, ROUNDS + 1)
        )
        homes.append(Lived(lessons, LABELS, _features(rng, told), none, np.array(told, np.intp)))
    judge = HeldOut(features, none, np.array(told, np.intp), 1.0)
    return Fleet(body, fleet_table.make("head", LABELS, WIDTH, moment, {}), judge, tuple(homes))


def _devices(fleet: Fleet, suite: int) -> Devices:
    return Devices(ARTIFACT, fleet.table, protocol_wire.make_keys(), suite)


# --- the federation -----------------------------------------------------------------------------------------


def test_a_fleet_learns_what_its_homes_say(fleet: Fleet) -> None:
    before = protocol_fleet.right(fleet, fleet.table.zero()).mean()
    found = protocol_fleet.run(fleet, coded(float32, 1))
    assert before < 0.5
    assert found.accuracy > 0.9
    assert found.kept == ROUNDS
    assert set(found.sizes) == {fleet.table.float32_bytes}
    assert len(found.sizes) == HOMES * ROUNDS


def test_a_wire_that_brings_nothing_leaves_the_body_alone(fleet: Fleet) -> None:
    found = protocol_fleet.run(fleet, lambda place, version, delta, samples: (b"", fleet.table.zero()))
    np.testing.assert_array_equal(found.right, protocol_fleet.right(fleet, fleet.table.zero()))


def test_the_judge_keeps_out_what_answers_worse_unless_told_not_to(fleet: Fleet) -> None:
    wrong = fleet.table.zero()
    wrong.weight[(1, 2, 0), (0, 1, 2)] = 5.0
    held = protocol_fleet.run(fleet, lambda place, version, delta, samples: (b"", wrong))
    free = protocol_fleet.run(fleet, lambda place, version, delta, samples: (b"", wrong), veto=False)
    assert held.kept == 0
    np.testing.assert_array_equal(held.right, protocol_fleet.right(fleet, fleet.table.zero()))
    assert free.kept == ROUNDS
    assert free.accuracy == 0


def test_error_memory_is_what_was_left_out(fleet: Fleet) -> None:
    given: list[Floats] = []

    def half(table: Floats, seed: int) -> tuple[bytes, Floats]:
        given.append(table)
        return b"", np.asarray(table / 2, np.float32)

    delta = adapter.from_joined(LABELS, np.ones((len(LABELS), WIDTH + 1)))
    forgetting, keeping = coded(half, 1, 0.0), coded(half, 1, 0.5)
    for wire in (forgetting, keeping):
        for version in range(2):
            wire(0, version, delta, 1)
        wire(1, 0, delta, 1)
    assert [float(table[0, 0]) for table in given] == [1.0, 1.0, 1.0, 1.0, 1.25, 1.0]


def test_a_codec_never_gets_one_seed_twice() -> None:
    seeds: list[int] = []

    def made(table: Floats, seed: int) -> tuple[bytes, Floats]:
        seeds.append(seed)
        return b"", table

    delta = adapter.zero(LABELS, WIDTH)
    for partition in range(2):
        wire = coded(made, partition)
        for version in range(5):
            for place in range(16):
                wire(place, version, delta, 1)
    assert len(set(seeds)) == len(seeds)


def test_int8_rows_and_budgets_stay_near_the_table(fleet: Fleet) -> None:
    table = np.random.default_rng(3).standard_normal((len(LABELS), WIDTH + 1)).astype(np.float32)
    data, told = int8_rows(fleet.table)(table, 1)
    assert len(data) == len(LABELS) * (WIDTH + 8)
    assert np.abs(told - table).max() <= np.abs(table).max() / 127
    data, told = within(fleet.table, 20)(table, 1)
    assert len(data) <= 20
    assert np.linalg.norm(told - table) < np.linalg.norm(table)


def test_points_lost_are_paired_over_the_seeds() -> None:
    def outcome(share: float) -> Outcome:
        return Outcome(np.arange(10)[None] < 10 * share, (1,), 1)

    better, worse = [outcome(0.9), outcome(0.5)], [outcome(0.8), outcome(0.4)]
    found = points_lost(better, worse)
    assert found["mean"] == pytest.approx(10)
    assert found["upper95"] - found["lower95"] == pytest.approx(0)
    spread = points_lost([outcome(0.9), outcome(0.5)], [outcome(0.9), outcome(0.4)])
    # Student's quantile of one degree of freedom is 12.706; the differences 0 and 10 have a standard error of 5.
    assert spread["upper95"] == pytest.approx(5 + 12.706 * 5, rel=1e-4)


# --- the sealed wire ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [X25519, HYBRID])
def test_sealed_updates_are_counted_whole_and_pay_the_encapsulation_once(fleet: Fleet, suite: int) -> None:
    devices = _devices(fleet, suite)
    found = protocol_fleet.run(fleet, protocol_wire.sealed(devices))
    assert found.sizes == tuple(len(one.message) for one in devices.sent)
    assert Counter(one.code for one in devices.sent) == {suite: HOMES, RESUMED: HOMES * (ROUNDS - 1)}
    assert [one.version for one in devices.sent] == [n // HOMES for n in range(HOMES * ROUNDS)]
    assert found.accuracy > 0.9


def test_a_refused_update_stops_the_run(fleet: Fleet) -> None:
    devices = _devices(fleet, X25519)
    wire = protocol_wire.sealed(devices)
    wire(0, 0, fleet.table.zero(), 1)
    with pytest.raises(NotAdmitted, match="home-00, update 1: replay"):
        wire(0, 0, fleet.table.zero(), 1)


def test_rates_have_a_figure_for_each_side(fleet: Fleet) -> None:
    devices = _devices(fleet, X25519)
    protocol_fleet.run(fleet, protocol_wire.sealed(devices))
    founding = [one for one in devices.sent if one.code == X25519]
    fresh = Devices(ARTIFACT, fleet.table, devices.keys, X25519)
    found = protocol_open.rates(founding, protocol_wire.desk(fresh), calls=16)
    assert set(found["microseconds"]) == {"bare", "opened", "decoded"}
    assert found["ratio"] > 0
    assert found["ratio_undecoded"] > 0


def test_rates_are_not_measured_on_what_is_refused(fleet: Fleet) -> None:
    devices = _devices(fleet, X25519)
    protocol_fleet.run(fleet, protocol_wire.sealed(devices))
    with pytest.raises(NotAdmitted):
        protocol_open.rates(devices.sent[:1], protocol_wire.desk(devices), calls=16)


# --- the finer labels ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[0, 1000])
def parts(request: pytest.FixtureRequest) -> Split:
    return split(request.param, 8)


def test_finer_labels_are_as_many_as_asked_and_divide_the_intents(parts: Split) -> None:
    fine = relabelled(parts, scopes(), 64)
    assert len(fine.labels) == 64
    assert {c.label for c in fine.public} == set(fine.labels)
    assert {t.label for t in fine.private} <= set(fine.labels)
    for before, after in ((parts.public, fine.public), (parts.gateway, fine.gateway), (parts.unseen, fine.unseen)):
        assert [(c.text, c.template) for c in before] == [(c.text, c.template) for c in after]
        assert [c.label for c in before] == [c.label.split("/")[0] for c in after]
    # The homes' own labels stay strangers.
    assert fine.own == parts.own


def test_more_labels_than_there_are_scopes_are_refused(parts: Split) -> None:
    with pytest.raises(ValueError, match="labels can be told apart, not 1000"):
        relabelled(parts, scopes(), 1000)


def test_every_template_has_a_scope(parts: Split) -> None:
    known = scopes()
    assert {t.key for t in parts.book.templates} == set(known)
    assert known[next(t.key for t in parts.book.templates if t.text.startswith("(light up|illuminate)"))] == "area"


# --- the command --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_run_prints_every_key(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tasuki.sdk", "bench", "protocol", "--quick", "--json", "--out", str(tmp_path),
               "--part", "fleet", "--part", "open", "--part", "curve"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) >= KEYS | STAMP
    assert set(figures["heads"]) == set(protocol_students.HEADS)
    for head in figures["heads"].values():
        assert set(head) >= KEYS
        assert head["messages_per_device"] == 2
        assert head["bytes_per_update_x25519"] < head["bytes_per_update_hybrid"] < head["bytes_float32_per_update"]
        assert Path(head["curve"]["plot"]).read_text().startswith("<?xml")
    for name in KEYS - {"open_rate_ratio", "open_rate_ratio_undecoded"}:
        assert figures[name] == max(head[name] for head in figures["heads"].values())
    assert figures["open_rate_ratio"] == min(head["open_rate_ratio"] for head in figures["heads"].values())
