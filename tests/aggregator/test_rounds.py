"""Rounds: the same updates give the same bytes, whatever the order, the repeats and the cuts."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from fleet_kit import Member, found, join
from hypothesis import given
from hypothesis import strategies as st

from tasuki.aggregator import merge, rounds
from tasuki.aggregator.ledger import Ledger, Version
from tasuki.aggregator.rules import Rules
from tasuki.sdk import adapter
from tasuki.sdk.errors import Refusal
from tasuki.sdk.update import Update

NAMES = ("a", "b", "c")


def members(gateway: Path) -> dict[str, Member]:
    return {name: join(gateway, name) for name in NAMES}


def run_rounds(gateway: Path, fleet: dict[str, Member], order: tuple[str, ...], repeat: int = 1) -> list[bytes]:
    """Two rounds; each device sends its update `repeat` times."""
    rules = Rules(gateway, clock=lambda: 1000.0)
    for version in (0, 1):
        for _ in range(repeat):
            for name in order:
                # The same bytes each time, as a spool would send them.
                outcome, _ = rules.take(_message(fleet[name], version), name)
                assert outcome.status is Refusal.ADMITTED
        assert rules.close_round(1.0, 60) is not None
    return [v.message for v in rules.ledger.versions()]


_MESSAGES: dict[tuple[bytes, str, int], bytes] = {}


def _message(member: Member, version: int) -> bytes:
    key = (member.enrolment.gateway, member.enrolment.device, version)
    return _MESSAGES.setdefault(key, member.message(version, version + 1))


def copy_of(gateway: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(gateway, target)
    return target


@pytest.fixture
def start(tmp_path: Path, tiny_artifact: Path) -> tuple[Path, dict[str, Member]]:
    gateway = found(tmp_path, tiny_artifact)
    return gateway, members(gateway)


def test_order_and_repeats_change_nothing(start: tuple[Path, dict[str, Member]], tmp_path: Path) -> None:
    gateway, fleet = start
    plain = run_rounds(copy_of(gateway, tmp_path / "plain"), fleet, NAMES)
    for number, order in enumerate(itertools.permutations(NAMES)):
        assert run_rounds(copy_of(gateway, tmp_path / f"order{number}"), fleet, order, repeat=2) == plain


def test_a_gateway_that_dies_between_any_two_steps_goes_on_to_the_same_bytes(
    start: tuple[Path, dict[str, Member]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut before and after every commit of the ledger; what is in memory is lost each time."""
    gateway, fleet = start
    plain = run_rounds(copy_of(gateway, tmp_path / "plain"), fleet, NAMES)

    class Cut(Exception):
        pass

    for cut_at in range(1, 17):
        steps = itertools.count(1)
        folder = copy_of(gateway, tmp_path / f"cut{cut_at}")
        for name in ("record", "publish"):
            whole = getattr(Ledger, name)

            def broken(self, *args, whole=whole, steps=steps, cut_at=cut_at):  # type: ignore[no-untyped-def]
                if next(steps) == cut_at:
                    raise Cut
                whole(self, *args)
                if next(steps) == cut_at:
                    raise Cut

            monkeypatch.setattr(Ledger, name, broken)
        try:
            run_rounds(folder, fleet, NAMES)
        except Cut:
            pass
        else:
            pytest.fail(f"step {cut_at} was never reached")
        monkeypatch.undo()
        # The devices send again whatever has no receipt; a round that was closed refuses it as stale.
        rules = Rules(folder, clock=lambda: 1000.0)
        while rules.current.version < 2:
            for name in NAMES:
                rules.take(_message(fleet[name], rules.current.version), name)
            rules.close_round(1.0, 60)
        assert [v.message for v in rules.ledger.versions()] == plain


def test_only_the_newest_update_of_a_device_counts(start: tuple[Path, dict[str, Member]]) -> None:
    gateway, fleet = start
    rules = Rules(gateway, clock=lambda: 1000.0)
    newest = fleet["a"].message(0, 7)
    rules.take(newest, "a")
    rules.take(fleet["a"].message(0, 5), "a")  # overtaken on the way
    waiting, _ = rules.ledger.waiting(0)
    assert len(waiting) == 1
    assert rules.close_round(0.3, 60) is not None


def test_claimed_samples_beyond_the_cap_weigh_nothing(start: tuple[Path, dict[str, Member]]) -> None:
    gateway, _ = start
    rules = Rules(gateway)
    labels, width = rules.artifact.labels, rules.artifact.features
    one, two = (adapter.from_joined(labels, np.full((len(labels), width + 1), v)) for v in (1.0, -1.0))
    zero = adapter.zero(labels, width)
    honest = merge.merge(zero, [Update(one, 64), Update(two, 64)], 64)
    liar = merge.merge(zero, [Update(one, 1 << 31), Update(two, 64)], 64)
    np.testing.assert_array_equal(honest.joined, liar.joined)


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 1000)), min_size=1, max_size=8))
def test_merge_is_the_capped_weighted_mean(parts: list[tuple[float, int]]) -> None:
    zero = adapter.zero(["x", "y"], 2)
    updates = [Update(adapter.from_joined(["x", "y"], np.full((2, 3), value)), n) for value, n in parts]
    weights = [min(n, 64) for _, n in parts]
    values = [float(np.float32(value)) for value, _ in parts]
    wanted = merge.KEEP * merge.SERVER_RATE * np.average(values, weights=weights)
    np.testing.assert_allclose(merge.merge(zero, updates, 64).joined, wanted, rtol=1e-5, atol=1e-6)


def test_a_candidate_that_loses_is_not_published(start: tuple[Path, dict[str, Member]]) -> None:
    gateway, fleet = start
    rules = Rules(gateway, clock=lambda: 1000.0)
    joined = np.zeros((4, 17), np.float32)
    joined[0, -1] = 15.0  # everything becomes the first label
    harm = adapter.from_joined(rules.artifact.labels, joined)
    for name in NAMES:
        outcome, _ = rules.take(fleet[name].message(0, 1, delta=harm), name)
        assert outcome.status is Refusal.ADMITTED
    made = rules.close_round(1.0, 60)
    assert made is not None
    assert made.kept
    assert made.version == 1
    assert made.candidate < made.accuracy == 1.0
    head = rules._published(made)
    assert not head.joined.any(), "the former head goes out again under the new version"


def test_quorum_and_deadline() -> None:
    assert rounds.quorum(10, 0.8) == 8
    assert rounds.quorum(0, 0.5) == 1
    assert rounds.quorum(3, 1.0) == 3
    assert not rounds.closes(0, 1, None, 1e9, 1)
    assert not rounds.closes(2, 3, 100.0, 159.9, 60)
    assert rounds.closes(2, 3, 100.0, 160.0, 60)
    assert rounds.closes(3, 3, 100.0, 100.0, 60)


def test_versions_stay_in_the_ledger(start: tuple[Path, dict[str, Member]]) -> None:
    gateway, _ = start
    first = Rules(gateway).current
    assert isinstance(first, Version)
    assert first.version == 0
    assert Rules(gateway).current == first
