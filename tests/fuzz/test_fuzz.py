"""Mutated messages: nothing but named refusals, nothing admitted that its device did not sign, and flat memory."""

import json
import random
from pathlib import Path
from typing import Any

import fuzz_cbor
import pytest
from fuzz_dice import Dice
from fuzz_mutate import awkward
from fuzz_targets import Targets
from fuzz_updates import INPUT_BYTES, run
from need import need

from tasuki.aggregator import admission
from tasuki.sdk import cbor, cose, fleet_record, transfer

# What a process may grow by once it is warm.
_GROWTH_BYTES = 4 << 20
_DEFENCES = {"malformed", "oversize", "unknown device", "bad signature", "bad seal", "wrong suite", "wrong artifact",
             "stale base", "replay", "wrong shape", "not finite", "norm", "wrong fleet", "rollback", "expired",
             "revoked", "no session", "wrong kind", "too old", "mixed parts", "unannounced key"}  # fmt: skip


def test_some_seconds_of_mutated_messages(tmp_path: Path) -> None:
    report = _run(tmp_path, messages=10_000_000, seconds=10, processes=2, traced=3_000)
    assert report["messages"] > 1_000
    assert report["updates_admitted"] > 0
    assert _covered(report["coverage"]) > 0.9


@pytest.mark.slow
@pytest.mark.timeout(14_400)
def test_ten_million_mutated_messages(tmp_path: Path) -> None:
    report = _run(tmp_path, messages=10_000_000, seconds=14_000, processes=2, traced=100_000)
    assert report["messages"] >= 10_000_000
    assert set(report["refusals"]) >= _DEFENCES
    assert _covered(report["coverage"]) > 0.97


@pytest.mark.parametrize(
    ("target", "module", "name", "fault"),
    [
        ("uplink", cose, "_verify", lambda *_: True),
        ("uplink", admission, "ORDER", admission.ORDER[:-1]),  # the norm
        ("gateway", transfer, "check", lambda *_: None),
        ("records", fleet_record, "_forward", lambda *_: True),
        ("records", fleet_record, "_signed_by", lambda *_: True),
    ],
)
def test_a_check_that_is_left_out_is_found(
    target: str, module: Any, name: str, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = Targets()
    monkeypatch.setattr(module, name, fault)
    with pytest.raises(AssertionError):
        _feed(targets, target, 5_000)


def test_the_hostile_writer_without_faults_writes_what_the_readers_take() -> None:
    for seed in range(200):
        dice = Dice(seed.to_bytes(2, "big"))
        value = [awkward(dice), {3: awkward(dice), -1: {"a": awkward(dice)}}, [[1 << 40, -300], "ß", b"\0" * 24]]
        assert fuzz_cbor.write(value, dice, 0) == cbor.encode(value)


def _feed(targets: Targets, name: str, messages: int) -> None:
    source = random.Random(4)
    for _ in range(messages):
        targets.of(name, source.randbytes(INPUT_BYTES))


def _run(folder: Path, **chosen: Any) -> dict[str, Any]:
    need("atheris", "dev")
    need("coverage", "dev")
    report = run(folder=folder, seed=20, **chosen)
    print(json.dumps(report, indent=2))
    assert report["share_before_sealing"] >= 0.5
    assert report["memory"]["growth_bytes"] < _GROWTH_BYTES
    return report


def _covered(coverage: dict[str, Any]) -> float:
    """The share of the readers' branches that were taken."""
    taken, there = (sum(int(one["branches"].split(" of ")[place]) for one in coverage.values()) for place in (0, 1))
    return taken / there
