"""Admission: each way a message can be wrong has its name; its device is told, and only what it signed is kept."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fleet_kit import Member, found, join
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.aggregator import admission
from tasuki.aggregator.admission import WINDOW, Stage
from tasuki.aggregator.rules import Rules
from tasuki.sdk import adapter, cbor, codec, cose, offer, receipt, sealing, session
from tasuki.sdk.envelope import HYBRID, RESUMED, SUITES, X25519, Context
from tasuki.sdk.errors import Refusal


@pytest.fixture
def gateway(tmp_path: Path, tiny_artifact: Path) -> Path:
    return found(tmp_path, tiny_artifact)


def status_of(rules: Rules, member: Member, message: bytes) -> Refusal:
    """Take the message and read the receipt as the device would."""
    outcome, answer = rules.take(message, member.enrolment.device)
    assert answer is not None
    word = receipt.accept(
        answer,
        fleet="lamps",
        device=member.enrolment.device,
        artifact=member.parts.hash,
        gateways=[member.enrolment.gateway],
    )
    assert word.digest == receipt.digest_of(message)
    assert word.version == rules.current.version
    assert word.status is outcome.status
    return word.status


def sequences(rules: Rules) -> list[int]:
    return [number for number in range(1, 9) if rules.ledger.seen("a", number) is not None]


def founded(member: Member, sequence: int = 1, version: int = 0) -> tuple[bytes, session.Chain]:
    """A message that brings the root of a chain."""
    root = hashlib.sha256(b"root").digest()
    delta = adapter.zero(member.parts.labels, member.parts.features)
    return member.message(version, sequence, plain=member.plain(delta, root=root)), session.found(sequence, root)


def resumed(member: Member, chain: session.Chain, sequence: int, version: int = 0, plain: bytes | None = None) -> bytes:
    made = member.plain(adapter.zero(member.parts.labels, member.parts.features)) if plain is None else plain
    bound = Context("lamps", member.enrolment.device, "up", member.parts.hash, version, sequence, RESUMED)
    return session.seal(made, bound, chain, member.key)[0]


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
    fields = codec.pack(huge(member, 1.0), 1)
    fields[6] = np.full(len(member.parts.labels), np.nan, "<f4").tobytes()
    return cbor.encode({1: 1, 7: 5, **fields})


def former(member: Member, delta: adapter.Head, kind: int = 1) -> bytes:
    """An update of format 1, as the first version wrote it."""
    return cbor.encode({1: 1, 7: 5, **codec.pack(delta, kind)})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda m: m.message(1, 1), Refusal.STALE_BASE),
        (lambda m: m.message(0, 1, delta=huge(m, 1e3)), Refusal.NORM),
        (lambda m: m.message(0, 1, plain=not_a_number(m)), Refusal.NOT_FINITE),
        (lambda m: m.message(0, 1, plain=former(m, adapter.zero(("a", "b"), 16))), Refusal.WRONG_SHAPE),
        (lambda m: m.message(0, 1, plain=former(m, adapter.zero(m.parts.labels, 3))), Refusal.WRONG_SHAPE),
        (lambda m: m.message(0, 1, plain=former(m, huge(m, 0.1), kind=3)), Refusal.WRONG_KIND),
        (lambda m: resumed(m, session.found(1, bytes(32)), 2), Refusal.NO_SESSION),
        (lambda m: m.message(0, 1, plain=b"\xff\xff"), Refusal.MALFORMED),
        (lambda m: m.message(0, 1, plain=cbor.encode({1: 1})), Refusal.MALFORMED),
        (lambda m: m.message(0, 1, samples=0), Refusal.MALFORMED),
    ],
)
def test_authentic_but_wrong_is_told(gateway: Path, make: Callable[[Member], bytes], reason: Refusal) -> None:
    member = join(gateway, "a")
    rules = Rules(gateway)
    message = make(member)
    assert status_of(rules, member, message) is reason
    assert status_of(rules, member, message) is reason, "a repeated message gets the same receipt"
    assert rules.ledger.refusals() == {reason.word: 1}
    assert rules.ledger.waiting(0)[0] == []


NOT_AUTHENTIC: list[tuple[Callable[[Member, Member], bytes], str, Refusal]] = [
    (lambda a, _: a.message(0, 1), "b", Refusal.BAD_SIGNATURE),
    (lambda a, _: a.message(0, 1, fleet="others"), "a", Refusal.WRONG_FLEET),
    (lambda a, _: a.message(0, 1, direction="adapter"), "a", Refusal.BAD_SIGNATURE),
    (lambda a, _: a.message(0, 1, direction="offer"), "a", Refusal.BAD_SIGNATURE),
    (lambda a, _: a.message(0, 1, artifact=b"x" * 32), "a", Refusal.WRONG_ARTIFACT),
    (lambda a, _: a.message(0, 1, artifact=a.parts.hash[:4] + bytes(28)), "a", Refusal.BAD_SIGNATURE),
    (lambda a, b: Member(a.enrolment, b.key, a.parts).message(0, 1), "a", Refusal.BAD_SIGNATURE),
    (lambda a, _: first_header(a, "b"), "a", Refusal.BAD_SIGNATURE),
    (lambda a, _: a.message(0, 1)[:-1], "a", Refusal.MALFORMED),
    (lambda a, _: a.message(0, 1) + b"\0", "a", Refusal.MALFORMED),
    (lambda a, _: b"", "a", Refusal.MALFORMED),
    (lambda a, _: b"\xd2" + b"\x81" * 5000, "a", Refusal.MALFORMED),
    (lambda a, _: b"\xd2" * ((1 << 20) + 1), "a", Refusal.OVERSIZE),
]


def first_header(member: Member, signer: str, sequence: int = 1) -> bytes:
    """A message with the header of number 1 and an update of format 1, as the first version sent it."""
    bound = Context("lamps", member.enrolment.device, "up", member.parts.hash, 0, sequence, X25519)
    recipient = sealing.sealing_public(X25519, member.enrolment.sealing)
    plain = former(member, adapter.zero(member.parts.labels, member.parts.features))
    sealed = SUITES[X25519].encrypt(plain, recipient, info=bound.encode())
    header = cose.Header(0, sequence, X25519, member.parts.hash[:8], signer)
    return cose.sign(header, sealed, bound.encode(), member.key)


@pytest.mark.parametrize(("make", "sender", "reason"), NOT_AUTHENTIC)
def test_not_authentic_is_told_by_its_digest_and_kept_nowhere(
    gateway: Path, make: Callable[[Member, Member], bytes], sender: str, reason: Refusal
) -> None:
    """Whoever sent it learns why; the receipt names no number, and the number stays free for what the device signs."""
    members = {"a": join(gateway, "a"), "b": join(gateway, "b")}
    rules = Rules(gateway)
    message = make(members["a"], members["b"])
    outcome, answer = rules.take(message, sender)
    assert (outcome.status, outcome.sequence, outcome.entry, outcome.told) == (reason, 0, None, True)
    assert outcome.stage < Stage.AUTHENTIC
    assert status_of(rules, members[sender], message) is reason
    assert answer is not None
    assert rules.ledger.refusals() == {reason.word: 2}
    assert rules.ledger.devices() == [("a", 0, 0), ("b", 0, 0)]
    for name, member in members.items():
        assert status_of(rules, member, member.message(0, 1)) is Refusal.ADMITTED, name


@pytest.mark.parametrize("case", NOT_AUTHENTIC)
def test_on_an_unknown_devices_topic_nothing_is_answered(
    gateway: Path, case: tuple[Callable[[Member, Member], bytes], str, Refusal]
) -> None:
    first, second = join(gateway, "a"), join(gateway, "b")
    rules = Rules(gateway)
    outcome, answer = rules.take(case[0](first, second), "stranger")
    assert (answer, outcome.told, outcome.entry) == (None, False, None)
    assert outcome.status in (Refusal.UNKNOWN_DEVICE, Refusal.MALFORMED, Refusal.OVERSIZE)
    assert rules.ledger.refusals() == {outcome.status.word: 1}


def test_a_device_that_is_not_enrolled(gateway: Path, tmp_path: Path, tiny_artifact: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = join(found(tmp_path / "other", tiny_artifact), "stranger")
    outcome, answer = Rules(gateway).take(stranger.message(0, 1), "stranger")
    assert (outcome.status, outcome.stage, answer) == (Refusal.UNKNOWN_DEVICE, Stage.PARSED, None)


def test_a_seal_for_another_gateway_is_told(gateway: Path, tmp_path: Path, tiny_artifact: Path) -> None:
    (tmp_path / "other").mkdir()
    elsewhere = join(found(tmp_path / "other", tiny_artifact), "a")
    member = join(gateway, "a")
    mixed = Member(elsewhere.enrolment, member.key, member.parts)
    assert status_of(Rules(gateway), member, mixed.message(0, 1)) is Refusal.BAD_SEAL


# --- numbers ------------------------------------------------------------------------------------------------------


def test_what_is_older_than_the_window_is_refused_and_leaves_no_entry(gateway: Path) -> None:
    """So the ledger may forget what is older, and no old message counts again."""
    member = join(gateway, "a")
    rules = Rules(gateway)
    top = 5000
    assert status_of(rules, member, member.message(0, top)) is Refusal.ADMITTED
    for number in (0, 1, top - WINDOW):
        assert status_of(rules, member, member.message(0, number)) is Refusal.TOO_OLD
    assert status_of(rules, member, member.message(0, top - WINDOW + 1)) is Refusal.ADMITTED
    assert rules.ledger.devices() == [("a", 2, top)]


def test_number_0_is_never_taken(gateway: Path) -> None:
    member = join(gateway, "a")
    assert status_of(Rules(gateway), member, member.message(0, 0)) is Refusal.TOO_OLD


def test_a_replay_does_not_replace_the_entry_and_a_refused_number_is_spent(gateway: Path) -> None:
    member = join(gateway, "a")
    rules = Rules(gateway)
    stale, good = member.message(7, 1), member.message(0, 1)
    assert status_of(rules, member, stale) is Refusal.STALE_BASE
    assert status_of(rules, member, good) is Refusal.REPLAY
    assert status_of(rules, member, stale) is Refusal.STALE_BASE
    assert sequences(rules) == [1]


# --- what earlier versions sent -------------------------------------------------------------------------------


def test_a_message_of_the_first_version_is_admitted_once(gateway: Path) -> None:
    member = join(gateway, "a")
    rules = Rules(gateway)
    message = first_header(member, "a")
    assert status_of(rules, member, message) is Refusal.ADMITTED
    assert status_of(rules, member, message) is Refusal.ADMITTED
    assert rules.ledger.devices() == [("a", 1, 1)]
    assert status_of(rules, member, first_header(member, "a", 2)) is Refusal.ADMITTED


# --- resumed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [X25519, HYBRID])
def test_a_chain_is_followed_from_where_it_was_founded(gateway: Path, suite: int) -> None:
    member = join(gateway, "a", suite)
    rules = Rules(gateway)
    first, chain = founded(member)
    assert status_of(rules, member, first) is Refusal.ADMITTED
    for number in (2, 5, 4, 1 + session.MAX_UPDATES):
        message = resumed(member, chain, number)
        assert status_of(rules, member, message) is Refusal.ADMITTED
        assert status_of(rules, member, message) is Refusal.ADMITTED, "again"
    # A gateway that was restarted follows it on.
    assert status_of(Rules(gateway), member, resumed(member, chain, 7)) is Refusal.ADMITTED


def test_a_refused_update_founds_no_chain(gateway: Path) -> None:
    member = join(gateway, "a")
    rules = Rules(gateway)
    first, chain = founded(member, version=3)
    assert status_of(rules, member, first) is Refusal.STALE_BASE
    assert rules.ledger.session("a") is None
    assert status_of(rules, member, resumed(member, chain, 2)) is Refusal.NO_SESSION


def test_the_chain_of_one_device_opens_nothing_of_another(gateway: Path) -> None:
    member, other = join(gateway, "a"), join(gateway, "b")
    rules = Rules(gateway)
    first, chain = founded(member)
    assert status_of(rules, member, first) is Refusal.ADMITTED
    assert status_of(rules, other, resumed(other, chain, 2)) is Refusal.NO_SESSION


def test_a_resumed_update_founds_no_chain(gateway: Path) -> None:
    member = join(gateway, "a")
    rules = Rules(gateway)
    first, chain = founded(member)
    assert status_of(rules, member, first) is Refusal.ADMITTED
    kept = rules.ledger.session("a")
    rooted = member.plain(adapter.zero(member.parts.labels, member.parts.features), root=bytes(32))
    assert status_of(rules, member, resumed(member, chain, 2, plain=rooted)) is Refusal.MALFORMED
    assert rules.ledger.session("a") == kept


# --- revoked ------------------------------------------------------------------------------------------------------


def test_a_revoked_device_is_told_and_kept_nowhere(gateway: Path) -> None:
    member = join(gateway, "a")
    rules = Rules(gateway)
    assert status_of(rules, member, member.message(0, 1)) is Refusal.ADMITTED
    assert rules.ledger.revoke("a", 0.0)
    for message in (member.message(0, 1), member.message(0, 2), member.message(9, 3)):
        assert status_of(rules, member, message) is Refusal.REVOKED
    assert sequences(rules) == [1]
    assert rules.ledger.waiting(0)[0] == [], "nor does what came before count"


# --- total --------------------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_an_altered_message_is_never_admitted(
    tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path, data: st.DataObject
) -> None:
    rules, member = _shared(tmp_path_factory, tiny_artifact)
    message = bytearray(member.message(0, data.draw(st.integers(1, 1 << 40))))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] ^= data.draw(st.integers(1, 255))
    outcome, _ = rules.take(bytes(message), "a")
    assert outcome.stage < Stage.AUTHENTIC
    assert outcome.status in (Refusal.MALFORMED, Refusal.BAD_SIGNATURE, Refusal.WRONG_FLEET, Refusal.WRONG_ARTIFACT)
    assert rules.ledger.devices() == [("a", 0, 0)]


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: cose.TAG_SIGN1 + data))
@settings(max_examples=100, deadline=None)
def test_any_bytes_have_an_outcome(tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path, data: bytes) -> None:
    rules, member = _shared(tmp_path_factory, tiny_artifact)
    assert status_of(rules, member, data) is Refusal.MALFORMED


@given(plain=st.binary(max_size=60), suite=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_whatever_an_enrolled_device_signs_has_an_outcome(
    tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path, plain: bytes, suite: int
) -> None:
    rules, member = _shared(tmp_path_factory, tiny_artifact)
    direction = "offer" if suite == offer.CODE else "up"
    bound = Context("lamps", "a", direction, member.parts.hash, 0, 1 << 41, suite)
    message = cose.sign(bound.header(), plain, bound.encode(), member.key)
    wanted = {0: Refusal.MALFORMED, 1: Refusal.BAD_SEAL, 2: Refusal.BAD_SEAL, 3: Refusal.NO_SESSION}
    outcome = admit(rules, message)
    assert outcome.status is wanted.get(suite, Refusal.WRONG_SUITE)
    assert outcome.stage >= Stage.AUTHENTIC


def admit(rules: Rules, message: bytes) -> admission.Outcome:
    """Judged, and not kept: the number stays free."""
    return admission.admit(message, "a", 0, rules._desk)


_CACHE: list[tuple[Rules, Member]] = []


def _shared(factory: pytest.TempPathFactory, tiny_artifact: Path) -> tuple[Rules, Member]:
    if not _CACHE:
        gateway = found(factory.mktemp("shared"), tiny_artifact)
        member = join(gateway, "a")
        _CACHE.append((Rules(gateway), member))
    return _CACHE[0]
