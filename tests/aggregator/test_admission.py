"""Admission: each way a message can be wrong has its name; what is authentic is told, what is not is only counted."""

from pathlib import Path

import numpy as np
import pytest
from fleet_kit import Member, found, join
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.aggregator.gateway import Rules
from tasuki.sdk import adapter, cbor, codec, receipt
from tasuki.sdk.envelope import HYBRID, X25519
from tasuki.sdk.errors import Refusal, Refused


@pytest.fixture
def gateway(tmp_path: Path, tiny_artifact: Path) -> Path:
    return found(tmp_path, tiny_artifact)


def status_of(rules: Rules, member: Member, message: bytes) -> Refusal:
    """Take the message and read the receipt as the device would."""
    entry, answer = rules.take(message, member.enrolment.device)
    word = receipt.accept(
        answer,
        fleet="lamps",
        device=member.enrolment.device,
        artifact=member.parts.hash,
        gateway=rules._signing.public_key(),
    )
    assert word.status is entry.status
    return word.status


@pytest.mark.parametrize("suite", [X25519, HYBRID])
def test_a_good_update_is_admitted_in_either_suite(gateway: Path, suite: int) -> None:
    member = join(gateway, "a", suite)
    rules = Rules(gateway)
    assert status_of(rules, member, member.message(0, 1)) is Refusal.ADMITTED


def test_the_same_message_again_gets_the_same_receipt(gateway: Path) -> None:
    member = join(gateway, "a")
    rules = Rules(gateway)
    message = member.message(0, 1)
    for _ in range(3):
        assert status_of(rules, member, message) is Refusal.ADMITTED
    assert rules.ledger.devices() == [("a", 1, 1)]


def test_another_message_under_a_used_number_is_a_replay(gateway: Path) -> None:
    member = join(gateway, "a")
    rules = Rules(gateway)
    status_of(rules, member, member.message(0, 1))
    assert status_of(rules, member, member.message(0, 1, seed=9)) is Refusal.REPLAY
    assert rules.ledger.devices() == [("a", 1, 1)]


def huge(member: Member, value: float) -> adapter.Head:
    joined = np.full((len(member.parts.labels), member.parts.features + 1), value, np.float32)
    return adapter.from_joined(member.parts.labels, joined)


def not_a_number(member: Member) -> bytes:
    fields = codec.pack(huge(member, 1.0))
    fields[6] = np.full(len(member.parts.labels), np.nan, "<f4").tobytes()
    return cbor.encode({1: 1, 7: 5, **fields})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda m: m.message(1, 1), Refusal.STALE_BASE),
        (lambda m: m.message(0, 1, delta=huge(m, 1e3)), Refusal.NORM),
        (lambda m: m.message(0, 1, plain=not_a_number(m)), Refusal.NOT_FINITE),
        (lambda m: m.message(0, 1, delta=adapter.zero(["a", "b"], 16)), Refusal.WRONG_SHAPE),
        (lambda m: m.message(0, 1, delta=adapter.zero(m.parts.labels, 3)), Refusal.WRONG_SHAPE),
        (lambda m: m.message(0, 1, plain=b"\xff\xff"), Refusal.MALFORMED),
        (lambda m: m.message(0, 1, plain=cbor.encode({1: 1})), Refusal.MALFORMED),
        (lambda m: m.message(0, 1, samples=0), Refusal.MALFORMED),
    ],
)
def test_authentic_but_wrong_is_told(gateway: Path, make, reason: Refusal) -> None:  # type: ignore[no-untyped-def]
    member = join(gateway, "a")
    rules = Rules(gateway)
    message = make(member)
    assert status_of(rules, member, message) is reason
    assert status_of(rules, member, message) is reason, "a repeated message gets the same receipt"
    assert rules.ledger.refusals() == {reason.word: 1}
    assert rules.ledger.waiting(0)[0] == []


@pytest.mark.parametrize(
    ("make", "sender", "reason"),
    [
        (lambda a, _: a.message(0, 1), "b", Refusal.BAD_SIGNATURE),
        (lambda a, _: a.message(0, 1, fleet="others"), "a", Refusal.BAD_SIGNATURE),
        (lambda a, _: a.message(0, 1, direction="adapter"), "a", Refusal.BAD_SIGNATURE),
        (lambda a, _: a.message(0, 1, artifact=b"x" * 32), "a", Refusal.WRONG_ARTIFACT),
        (lambda a, b: Member(a.enrolment, b.key, a.parts).message(0, 1), "a", Refusal.BAD_SIGNATURE),
        (lambda a, _: a.message(0, 1)[:-1], "a", Refusal.MALFORMED),
        (lambda a, _: a.message(0, 1) + b"\0", "a", Refusal.MALFORMED),
        (lambda a, _: b"", "a", Refusal.MALFORMED),
        (lambda a, _: b"\xd2" + b"\x81" * 5000, "a", Refusal.MALFORMED),
        (lambda a, _: b"\xd2" * ((1 << 20) + 1), "a", Refusal.OVERSIZE),
    ],
)
def test_not_authentic_is_counted_and_not_answered(gateway: Path, make, sender: str, reason: Refusal) -> None:  # type: ignore[no-untyped-def]
    first, second = join(gateway, "a"), join(gateway, "b")
    rules = Rules(gateway)
    with pytest.raises(Refused) as caught:
        rules.take(make(first, second), sender)
    assert caught.value.reason is reason
    assert rules.ledger.refusals() == {reason.word: 1}


def test_a_device_that_is_not_enrolled(gateway: Path, tmp_path: Path, tiny_artifact: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = join(found(tmp_path / "other", tiny_artifact), "stranger")
    with pytest.raises(Refused, match="unknown device"):
        Rules(gateway).take(stranger.message(0, 1), "stranger")


def test_a_seal_for_another_gateway_is_told(gateway: Path, tmp_path: Path, tiny_artifact: Path) -> None:
    (tmp_path / "other").mkdir()
    elsewhere = join(found(tmp_path / "other", tiny_artifact), "a")
    member = join(gateway, "a")
    mixed = Member(elsewhere.enrolment, member.key, member.parts)
    assert status_of(Rules(gateway), member, mixed.message(0, 1)) is Refusal.BAD_SEAL


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_an_altered_message_is_never_admitted(
    tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path, data
) -> None:  # type: ignore[no-untyped-def]
    rules, member = _shared(tmp_path_factory, tiny_artifact)
    message = bytearray(member.message(0, data.draw(st.integers(1, 1 << 40))))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused):
        rules.take(bytes(message), "a")


_CACHE: list[tuple[Rules, Member]] = []


def _shared(factory: pytest.TempPathFactory, tiny_artifact: Path) -> tuple[Rules, Member]:
    if not _CACHE:
        gateway = found(factory.mktemp("shared"), tiny_artifact)
        member = join(gateway, "a")
        _CACHE.append((Rules(gateway), member))
    return _CACHE[0]
