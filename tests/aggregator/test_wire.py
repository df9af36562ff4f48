"""Device and gateway, message by message: parts, sessions, error memory, joining, key roll-over, and any disorder."""

import hashlib
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fleet_kit import Member, found, join
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_kit import Wire

from tasuki.aggregator import fleet, rotation
from tasuki.aggregator.rules import Rules
from tasuki.sdk import artifact, compression, cose, downlink, enrolment, fleet_record, keys, sealing, session, update
from tasuki.sdk import join as joining
from tasuki.sdk.envelope import HYBRID, RESUMED, X25519
from tasuki.sdk.errors import KeyInvalid, Refusal, Unauthorised
from tasuki.sdk.exchange import Exchange
from tasuki.sdk.signing import EDDSA, ES256, Software


def make(folder: Path, artifact_file: Path, limit: int = 1 << 20, suite: int = X25519) -> Wire:
    folder.mkdir(exist_ok=True)
    gateway = found(folder, artifact_file)
    member = join(gateway, "attic", suite)
    return Wire(folder / "state", Rules(gateway), member, limit)


def admitted(wire: Wire) -> list[bytes]:
    return [plain for _, plain in wire.rules.ledger.waiting(wire.rules.current.version)[0]]


# --- parts ---------------------------------------------------------------------------------------------------


def test_what_is_too_large_for_the_broker_goes_in_parts_and_counts_once(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact, limit=400, suite=HYBRID)
    message = wire.learn()
    assert len(message) > 1200
    wire.talk()
    assert wire.exchange.result.admitted == 1
    assert len(admitted(wire)) == 1
    assert wire.rules.ledger.offered("attic") is None
    assert wire.rules.ledger.parts("attic") == []


@pytest.mark.parametrize("algorithm", [EDDSA, ES256])
def test_a_cut_between_parts_resumes_with_what_is_missing(tmp_path: Path, tiny_artifact: Path, algorithm: int) -> None:
    """Also where the same offer has another signature each time."""
    wire = make(tmp_path, tiny_artifact, limit=400, suite=HYBRID)
    if algorithm == ES256:
        member = Member(
            fleet.enrol(wire.rules._folder, "p256", (key := keys.make_signing(ES256)).public), key, wire.parts
        )
        wire.state.close()
        wire = Wire(tmp_path / "p256", wire.rules, member, 400)
    wire.learn(budget=4000)
    wire.exchange.send(wire.out)
    for answer in wire.to_gateway(*wire.out.sent.pop()):
        wire.exchange.receive(*answer, wire.out)
    count = len(wire.out.sent)
    assert count > 1
    assert wire.to_gateway(*wire.out.sent[0]) == []
    # The gateway dies, and so does the device: both go on from their disks.
    folder = wire.rules._folder
    wire.rules.ledger.close()
    wire.rules = Rules(folder)
    wire.out.sent.clear()
    wire.fresh()
    wire.exchange.send(wire.out)
    for answer in wire.to_gateway(*wire.out.sent.pop()):
        wire.exchange.receive(*answer, wire.out)
    assert len(wire.out.sent) == count - 1
    wire.talk()
    assert wire.exchange.result.admitted == 1


def test_parts_that_nobody_offered_or_that_are_altered_are_not_kept(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact, limit=400, suite=HYBRID)
    outcome, answer = wire.rules.take_part(b"x" * 100, "attic", 1, 0)
    assert (outcome.status, answer) == (Refusal.MIXED_PARTS, None)
    wire.learn()
    wire.exchange.send(wire.out)
    for answer_ in wire.to_gateway(*wire.out.sent.pop()):
        wire.exchange.receive(*answer_, wire.out)
    topic, data = wire.out.sent[0]
    outcome, _ = wire.rules.take_part(bytes(len(data)), "attic", 1, 0)
    assert outcome.status is Refusal.MIXED_PARTS
    assert wire.rules.ledger.parts("attic") == []
    assert wire.rules.ledger.refusals() == {"mixed parts": 2}
    assert wire.to_gateway(topic, data) == []


def test_an_echo_of_the_gateways_wish_costs_the_device_nothing(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact, limit=400, suite=HYBRID)
    wire.learn()
    wire.exchange.send(wire.out)
    (answer,) = wire.to_gateway(*wire.out.sent.pop())
    wire.exchange.receive(*answer, wire.out)
    sent = len(wire.out.sent)
    wire.exchange.receive(*answer, wire.out)
    assert len(wire.out.sent) == sent


def test_an_adapter_in_many_parts_comes_in_any_order(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact)
    wire.learn()
    wire.talk()
    assert wire.rules.close_round(0.5, 3600) is not None
    record, word, *parts = wire.announced(part=64)
    assert len(parts) > 1
    wire.fresh()
    wire.exchange.receive(*word, wire.out)
    for part in reversed(parts):
        assert wire.state.number("version") == 0
        wire.exchange.receive(*part, wire.out)
    assert wire.state.number("version") == 1
    assert wire.exchange.done(1)
    assert record[0].endswith("/record")


# --- sessions and error memory ---------------------------------------------------------------------------------


def code_of(message: bytes) -> int:
    return cose.parse(message).header.code


@pytest.mark.parametrize("suite", [X25519, HYBRID])
def test_later_updates_are_resumed_and_short(tmp_path: Path, tiny_artifact: Path, suite: int) -> None:
    wire = make(tmp_path, tiny_artifact, suite=suite)
    sizes = []
    for turn in range(3):
        message = wire.learn(turn, budget=100)
        sizes.append(len(message))
        assert code_of(message) == (suite if turn == 0 else RESUMED)
        wire.talk()
        wire.fresh()
    assert wire.exchange.result.refused == []
    assert sizes[0] - sizes[1] >= (60 if suite == X25519 else 1100)


def test_a_gateway_that_lost_the_session_says_so_and_the_device_founds_another(
    tmp_path: Path, tiny_artifact: Path
) -> None:
    wire = make(tmp_path, tiny_artifact)
    wire.learn(0)
    wire.talk()
    wire.rules.ledger._db.execute("DELETE FROM sessions")
    wire.fresh()
    assert code_of(wire.learn(1)) == RESUMED
    wire.talk()
    assert wire.exchange.result.refused == [Refusal.NO_SESSION]
    wire.fresh()
    assert code_of(wire.learn(1)) == X25519
    wire.talk()
    assert wire.exchange.result.admitted == 1


def test_a_chain_ends_and_a_new_one_begins_with_fresh_randomness(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact)
    codes = []
    for turn in range(session.MAX_UPDATES + 3):
        codes.append(code_of(wire.learn(turn % 3, budget=64)))
        wire.exchange.send(wire.out)
        for answer in wire.to_gateway(*wire.out.sent.pop()):
            wire.exchange.receive(*answer, wire.out)
    assert Counter(codes) == {X25519: 2, RESUMED: session.MAX_UPDATES + 1}
    assert codes[session.MAX_UPDATES + 1] == X25519


def decoded(wire: Wire, number: int = -1) -> np.ndarray:
    return update.decode(admitted(wire)[number], wire.member.table).delta.joined


def test_what_compression_left_out_comes_with_the_next_update(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact)
    metric = wire.member.table.metric.root
    delta = wire.member.delta(0).joined
    told = np.zeros_like(delta)
    errors = []
    for turn in range(1, 6):
        wire.learn(0, budget=64)
        wire.talk()
        told += decoded(wire)
        # The next round: another base version, so what this one left out is owed.
        wire.rules.current = replace(wire.rules.current, version=turn)
        wire.state.install_adapter(turn, downlink.content(wire.member.table.zero(), wire.member.table))
        errors.append(float(np.linalg.norm((turn * delta - told) @ metric)))
        wire.fresh()
    whole = float(np.linalg.norm(delta @ metric))
    # Without feedback the error would grow by the same amount each time.
    assert errors[-1] < 2.5 * max(errors[0], 0.05 * whole)
    assert errors[-1] < 0.6 * 5 * errors[0]


def test_a_refused_update_leaves_the_memory_as_it_was(tmp_path: Path, tiny_artifact: Path) -> None:
    wire, twin = make(tmp_path / "a", tiny_artifact), make(tmp_path / "b", tiny_artifact)
    for one in (wire, twin):
        one.learn(0, budget=64)
        one.talk()
        one.fresh()
    memory = wire.state.get("memory")
    assert memory
    assert memory == twin.state.get("memory")
    # One of the two sends an update that is refused: its base is not the current version any more.
    wire.rules.current = replace(wire.rules.current, version=1)
    wire.learn(1, budget=64)
    wire.exchange.send(wire.out)
    for answer in wire.to_gateway(*wire.out.sent.pop()):
        wire.exchange.receive(*answer, wire.out)
    assert wire.exchange.result.refused == [Refusal.STALE_BASE]
    assert wire.state.get("memory") == memory
    assert wire.state.get("pending.memory") is None


def test_of_two_updates_of_one_version_only_the_last_leaves_a_memory(tmp_path: Path, tiny_artifact: Path) -> None:
    """The gateway counts the newest of each device for a version, so what the one before left out is not owed."""
    once, twice = make(tmp_path / "a", tiny_artifact), make(tmp_path / "b", tiny_artifact)
    twice.learn(1, budget=64)
    twice.talk()
    for wire in (once, twice):
        wire.fresh()
        wire.learn(0, budget=64)
        wire.talk()
    assert (decoded(once) == decoded(twice)).all()
    assert once.state.get("memory") == twice.state.get("memory")


def test_forgetting_empties_the_memory_too(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact)
    wire.learn(0, budget=64)
    assert wire.state.get("pending.memory")
    wire.talk()
    assert wire.state.get("memory")
    wire.learn(1, budget=64)
    wire.state.forget([], {}, "everything")
    assert [wire.state.get(key) for key in ("memory", "pending.memory", "pending.session")] == [None] * 3
    assert wire.state.spooled() == []


def test_no_update_exceeds_the_records_norm(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact)
    huge = replace(wire.member.delta(0), weight=wire.member.delta(0).weight * 1e4)
    object.__setattr__(wire.member, "delta", lambda seed: huge)
    wire.learn(0)
    wire.talk()
    assert wire.exchange.result.admitted == 1
    told = update.decode(admitted(wire)[0], wire.member.table).delta
    assert 15 < compression.norm(told.joined, wire.member.table.metric) <= 20


# --- joining and key roll-over -----------------------------------------------------------------------------------


def by_token(gateway: Path, name: str = "porch", valid: float = 3600.0) -> Member:
    key = Software(Ed25519PrivateKey.generate())
    made = fleet.enrol(gateway, name, None, X25519, valid_seconds=valid)
    return Member(made, key, artifact.load(gateway / "artifact.tflite"))


def request(member: Member, key: Software | None = None) -> bytes:
    known = member.enrolment
    assert known.join is not None
    recipient = sealing.sealing_public(known.suite, known.sealing)
    return joining.make(known.join, fleet=known.fleet, device=known.device, artifact=known.artifact,
                        suite=known.suite, recipient=recipient, signer=key or member.key)  # fmt: skip


def joined(wire: Wire, message: bytes) -> Exchange:
    wire.exchange = Exchange(wire.state, wire.member.enrolment, wire.parts, None, time.time, wire.member.key, message)
    wire.talk()
    return wire.exchange


def test_a_one_time_token_lets_one_device_in_once(tmp_path: Path, tiny_artifact: Path) -> None:
    gateway = found(tmp_path, tiny_artifact)
    rules, member = Rules(gateway), by_token(gateway)
    wire = Wire(tmp_path / "state", rules, member)
    wire.learn()
    result = joined(wire, request(member)).result
    assert (result.admitted, rules.ledger.key_of("porch")) == (1, member.key.public)
    # The receipt was lost: the same device asks again and is told the same.
    assert joined(wire, request(member)).done(None)
    # Somebody else has the file, too: the token is spent.
    thief = Wire(tmp_path / "thief", rules, replace(member, key=Software(Ed25519PrivateKey.generate())))
    with pytest.raises(Unauthorised, match="one-time token"):
        joined(thief, request(thief.member))
    assert rules.ledger.key_of("porch") == member.key.public


def test_an_expired_or_revoked_token_lets_nobody_in(tmp_path: Path, tiny_artifact: Path) -> None:
    gateway = found(tmp_path, tiny_artifact)
    rules = Rules(gateway)
    late, gone = by_token(gateway, "late", valid=-1.0), by_token(gateway, "gone")
    fleet.revoke(gateway, "gone")
    for member in (late, gone):
        name = member.enrolment.device
        outcome, _ = rules.take_join(request(member), name)
        assert outcome.status in (Refusal.BAD_TOKEN, Refusal.REVOKED)
        assert rules.ledger.key_of(name) is None


def rotate(gateway: Path, step: str) -> None:
    root = keys.load_signing(gateway / "root" / "root.pem")
    rotation.install(gateway, fleet_record.issue(rotation.draft(gateway, step), root))


def test_devices_follow_an_announced_roll_over_while_the_gateway_runs(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact)
    gateway, former = wire.rules._folder, wire.rules.keys.signer.public
    assert not wire.rules.refresh()
    rotate(gateway, rotation.ANNOUNCE)
    assert wire.rules.refresh()
    wire.learn(0)
    wire.talk()
    assert (wire.exchange.result.admitted, wire.exchange.result.record) == (1, 2)
    rotate(gateway, rotation.FINISH)
    assert wire.rules.refresh()
    assert wire.rules.keys.signer.public != former
    # Sealed to the former key, under the record before: still opened, and answered with the new key.
    wire.member = replace(wire.member, enrolment=enrolment.decode(wire.state.get("enrolment") or b""))
    wire.fresh()
    wire.learn(1)
    wire.talk()
    assert (wire.exchange.result.refused, wire.exchange.result.admitted) == ([], 1)
    assert wire.exchange.result.record == 3
    wire.member = replace(wire.member, enrolment=enrolment.decode(wire.state.get("enrolment") or b""))
    assert wire.member.enrolment.gateway == wire.rules.keys.signer.public
    wire.fresh()
    wire.learn(2)
    wire.talk()
    assert wire.exchange.result.admitted == 1


def test_a_key_that_the_old_one_did_not_announce_is_refused(tmp_path: Path, tiny_artifact: Path) -> None:
    """The root alone can't bring a new gateway in: it is signed by the root, and by a key that nobody knows."""
    wire = make(tmp_path, tiny_artifact)
    gateway = wire.rules._folder
    root = keys.load_signing(gateway / "root" / "root.pem")
    known = enrolment.record_of(wire.member.enrolment)
    assert known is not None
    intruder = Software(Ed25519PrivateKey.generate())
    forged = fleet_record.issue(replace(known, version=2, signing=intruder.public), root)
    topic = "tasuki/lamps/record"
    for signer, reason in ((intruder, Refusal.BAD_SIGNATURE), (wire.rules.keys.signer, Refusal.UNANNOUNCED_KEY)):
        wire.exchange.receive(topic, fleet_record.announce(forged, signer), wire.out)
        assert wire.exchange.result.ignored_because[reason.word] == 1
    assert wire.exchange.member.gateway == known.signing


def test_a_device_that_knows_its_maker_takes_no_other_root(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact)
    enrolment.check_root(wire.member.enrolment, keys.load_signing(wire.rules._folder / "root" / "root.pem").public)
    with pytest.raises(KeyInvalid, match="root"):
        enrolment.check_root(wire.member.enrolment, Software(Ed25519PrivateKey.generate()).public)


def test_a_revoked_device_is_told_so_and_its_waiting_update_does_not_count(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact)
    wire.learn(0)
    wire.talk()
    assert len(admitted(wire)) == 1
    fleet.revoke(wire.rules._folder, "attic")
    assert admitted(wire) == []
    wire.fresh()
    wire.learn(1)
    wire.talk()
    assert wire.exchange.result.refused == [Refusal.REVOKED]
    assert wire.rules.ledger.refusals() == {"revoked": 1}


# --- disorder ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_disorder_on_the_way_ends_in_the_same_result(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path
) -> None:
    """Messages are lost, repeated, reordered and truncated at will; syncs are cut; then the line holds."""
    folder = tmp_path_factory.mktemp("wire")
    wire = make(folder, tiny_artifact, data.draw(st.sampled_from([400, 1 << 20])), HYBRID)
    up: list[tuple[str, bytes]] = []
    down: list[tuple[str, bytes]] = []
    known: list[tuple[str, bytes]] = []  # what a broker has ever seen, to bring again
    digests = set()
    for turn in range(data.draw(st.integers(1, 4))):
        digests.add(wire.learn(turn, budget=200))
        wire.fresh()
        wire.exchange.send(wire.out)
        for _ in range(data.draw(st.integers(0, 12))):
            up += wire.out.sent
            known += wire.out.sent
            wire.out.sent.clear()
            queue = data.draw(st.sampled_from([up, down]))
            if not queue:
                queue = known
            if not queue:
                continue
            topic, payload = queue[data.draw(st.integers(0, len(queue) - 1))]
            match data.draw(st.sampled_from(["deliver", "deliver", "deliver", "repeat", "truncate", "lose"])):
                case "truncate":
                    payload = payload[: data.draw(st.integers(0, len(payload)))]
                case "lose":
                    queue.remove((topic, payload))
                    continue
            if "/receipt/" in topic:
                wire.exchange.receive(topic, payload, wire.out)
            else:
                answers = wire.to_gateway(topic, payload)
                down += answers
                known += answers
    wire.out.sent.clear()
    for _ in range(3):
        wire.fresh()
        wire.talk()
    assert wire.exchange.done(None)
    assert wire.state.spooled() == []
    rows = wire.rules.ledger._db.execute("SELECT sequence, digest, status FROM updates").fetchall()
    assert len({sequence for sequence, _, _ in rows}) == len(rows)
    genuine = {hashlib.sha256(message).digest() for message in digests}
    assert {digest for _, digest, _ in rows} <= genuine
    assert max(sequence for sequence, _, _ in rows) == wire.state.number("sequence")
    wire.state.close()
    wire.rules.ledger.close()


def test_an_offer_that_is_refused_ends_the_update_that_it_offers(tmp_path: Path, tiny_artifact: Path) -> None:
    wire = make(tmp_path, tiny_artifact, limit=400, suite=HYBRID)
    wire.learn()
    wire.rules.current = replace(wire.rules.current, version=1)
    wire.exchange.send(wire.out)
    for answer in wire.to_gateway(*wire.out.sent.pop()):
        wire.exchange.receive(*answer, wire.out)
    assert wire.exchange.result.refused == [Refusal.STALE_BASE]
    assert wire.state.spooled() == []
