"""The attacks that the Uptane standard lists (2.1.0, section 5), each against a device's or a gateway's half.

Eavesdrop and drop-request are about the line; slow retrieval and freeze about time; rollback, endless data, mixed parts
and arbitrary content about what is taken. The attacker is the broker: it has all that was ever sent, and no key.
"""

import time
from pathlib import Path

import pytest
from link_kit import (
    GATEWAY,
    KEY,
    PARTS,
    adapter_content,
    adapter_message,
    enrolment_of,
    receipt_message,
    spool,
    state_of,
)
from protocol_kit import DEVICE, FLEET, head, plain_update, signing

from tasuki.sdk import downlink, topics, transfer
from tasuki.sdk.errors import Refusal
from tasuki.sdk.exchange import Exchange
from tasuki.sdk.state import State
from tasuki.sdk.state_size import ADAPTER_BYTES

YEAR = 365 * 24 * 3600.0
ADAPTER = topics.adapter(FLEET)


class Out:
    """The way out, and what was asked for."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.heard: list[str] = []

    def publish(self, kind: str, topic: str, payload: bytes, expires: float | None) -> None:
        self.sent.append((topic, payload))

    def listen(self, topic: str) -> None:
        self.heard.append(topic)

    def room(self, topic: str) -> int:
        return 1 << 20


class Victim:
    """A device's half, with its clock."""

    def __init__(self, state: State, now: float | None = None) -> None:
        self.state, self.out = state, Out()
        self.now = time.time() if now is None else now
        self.exchange = Exchange(state, enrolment_of(1), PARTS, None, lambda: self.now, KEY)

    def hear(self, topic: str, payload: bytes) -> None:
        self.exchange.receive(topic, payload, self.out)

    def announce(self, version: int, **how: int) -> None:
        self.hear(ADAPTER, adapter_message(version, **how))

    def part(self, version: int, data: bytes | None = None, index: int = 0) -> None:
        self.hear(topics.part_down(FLEET, version, index), adapter_content(version) if data is None else data)

    def install(self, version: int) -> None:
        self.announce(version)
        self.part(version)
        assert self.version == version

    @property
    def version(self) -> int:
        return self.state.number("version")

    def refused(self, reason: Refusal) -> int:
        return self.exchange.result.ignored_because[reason.word]


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(state_of(tmp_path))


def test_eavesdrop_what_travels_up_shows_nothing_of_the_table(victim: Victim) -> None:
    plain = plain_update(head(0))
    message = spool(victim.state)
    victim.exchange.send(victim.out)
    assert victim.out.sent == [(topics.up(FLEET, DEVICE), message)]
    for at in range(len(plain) - 8):
        assert plain[at : at + 8] not in message
    again = spool(victim.state)
    # The same table sealed twice has nothing in common but the header.
    assert sum(a == b for a, b in zip(message[30:], again[30:], strict=False)) < 40


def test_drop_what_is_dropped_is_sent_again_as_it_was(victim: Victim) -> None:
    message = spool(victim.state)
    for _ in range(3):
        victim.exchange.send(victim.out)
    assert [payload for _, payload in victim.out.sent] == [message] * 3
    assert not victim.exchange.done(None)
    victim.hear(topics.receipts(FLEET, DEVICE), receipt_message(message))
    assert victim.state.spooled() == []


def test_slow_retrieval_a_content_that_does_not_come_changes_nothing_and_is_named(victim: Victim) -> None:
    victim.install(1)
    victim.announce(2, part=64)
    assert victim.out.heard[-1] == topics.part_down(FLEET, 2, "+")
    victim.part(2, transfer.cut(adapter_content(2), 64, 0))
    assert victim.version == 1
    assert not victim.exchange.done(None)
    assert "not all of its parts came" in victim.exchange.missing(None)
    # What is in use stays whole.
    assert victim.state.adapter() == (1, adapter_content(1))


def test_freeze_an_old_word_expires_and_the_device_knows_until_when_it_was_good(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    victim = Victim(state_of(tmp_path), now)
    victim.announce(1, issued=int(now), expires=int(now) + 3600)
    assert int.from_bytes(victim.state.get("fresh") or b"", "big") == int(now) + 3600
    victim.now += 3601
    victim.announce(1, issued=int(now), expires=int(now) + 3600)
    assert victim.refused(Refusal.EXPIRED) == 1


def test_rollback_an_older_version_is_refused_whatever_the_clock_says(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    Victim(state).install(3)
    for clock in (0.0, time.time() - YEAR, time.time() + YEAR):
        victim = Victim(state, clock)
        victim.announce(2)
        victim.part(2)
        assert victim.refused(Refusal.ROLLBACK) == 1
        assert victim.version == 3


def test_rollback_during_a_download(victim: Victim) -> None:
    victim.announce(5)
    victim.announce(4)
    assert victim.refused(Refusal.ROLLBACK) == 1
    victim.part(4)
    assert victim.refused(Refusal.MIXED_PARTS) == 1
    victim.part(5)
    assert victim.version == 5


def test_endless_data_no_more_is_taken_than_was_announced_and_no_more_announced_than_there_is_room(
    victim: Victim,
) -> None:
    huge = downlink.Announcement(1, 0, 0, transfer.offer(bytes(ADAPTER_BYTES + 1), 1 << 16))
    from protocol_kit import ARTIFACT

    victim.hear(ADAPTER, downlink.publish(huge, FLEET, ARTIFACT, GATEWAY))
    assert victim.refused(Refusal.OVERSIZE) == 1
    assert victim.out.heard == []
    victim.announce(1, part=64)
    victim.part(1, bytes(65))
    assert victim.refused(Refusal.OVERSIZE) == 2
    for index in (10_000, 1 << 40):
        victim.part(1, bytes(64), index)
    assert victim.refused(Refusal.MALFORMED) == 2
    before = victim.state.size()
    for _ in range(2000):
        victim.part(1, bytes(64))
    assert victim.refused(Refusal.MIXED_PARTS) == 2000
    assert victim.state.size() == before


def test_mix_and_match_parts_of_two_versions_never_make_one(victim: Victim) -> None:
    first, second = ([transfer.cut(adapter_content(version), 64, index) for index in range(2)] for version in (1, 2))
    victim.announce(2, part=64)
    victim.part(2, second[0], 0)
    victim.part(2, first[1], 1)
    victim.part(1, first[1], 1)
    assert victim.refused(Refusal.MIXED_PARTS) == 2
    assert victim.version == 0


def test_arbitrary_content_by_any_other_key_or_under_another_name(victim: Victim) -> None:
    for key in (KEY, signing("stranger"), signing("former gateway")):
        victim.hear(ADAPTER, adapter_message(1, key))
    assert victim.refused(Refusal.BAD_SIGNATURE) == 3
    # A retained message of a former fleet on the same topic.
    victim.hear(ADAPTER, adapter_message(1, signing("former gateway"), fleet="elm"))
    assert victim.refused(Refusal.WRONG_FLEET) == 1
    # The device's own messages, and a receipt, in the adapter's place.
    own = spool(victim.state)
    victim.hear(ADAPTER, own)
    victim.hear(ADAPTER, receipt_message(own))
    assert victim.refused(Refusal.BAD_SIGNATURE) == 5
    assert (victim.version, len(victim.state.spooled())) == (0, 1)


def test_a_receipt_for_another_message_of_the_same_number_removes_nothing(victim: Victim) -> None:
    """The gateway answers what a broker forged in a device's name: it is not about what the device sent."""
    message = spool(victim.state)
    forged = bytearray(message)
    forged[-1] ^= 1
    victim.hear(topics.receipts(FLEET, DEVICE), receipt_message(bytes(forged), Refusal.BAD_SIGNATURE))
    assert len(victim.state.spooled()) == 1
    victim.hear(topics.receipts(FLEET, DEVICE), receipt_message(message, Refusal.NORM))
    assert victim.exchange.result.refused == [Refusal.NORM]


@pytest.mark.parametrize("off", [-YEAR, YEAR])
def test_a_clock_that_is_off_by_a_year_is_named_and_set_by_a_fresh_receipt(tmp_path: Path, off: float) -> None:
    real = 1_800_000_000.0
    victim = Victim(state_of(tmp_path), real + off)
    good = {"issued": int(real), "expires": int(real) + 86_400}
    victim.announce(1, **good)
    # Ahead: the word seems expired. Behind: the word itself says that it is later.
    assert victim.refused(Refusal.EXPIRED) == (1 if off > 0 else 0)
    message = spool(victim.state, now=victim.now, lifetime=YEAR)
    victim.hear(topics.receipts(FLEET, DEVICE), receipt_message(message, now=real))
    assert abs(victim.exchange.result.clock_off + off) < 2
    victim.announce(2, **good)
    victim.part(2)
    assert victim.version == 2
    # Still no way back to what is really expired.
    victim.announce(3, issued=int(real) - 7200, expires=int(real) - 3600)
    assert victim.refused(Refusal.EXPIRED) == (2 if off > 0 else 1)


def test_a_replayed_receipt_sets_no_clock(victim: Victim) -> None:
    message = spool(victim.state)
    word = receipt_message(message, now=victim.now - YEAR)
    other = receipt_message(b"another", now=victim.now - YEAR)
    victim.hear(topics.receipts(FLEET, DEVICE), other)
    assert victim.exchange.result.clock_off == 0
    victim.hear(topics.receipts(FLEET, DEVICE), word)
    victim.exchange.result.clock_off = 0
    victim.hear(topics.receipts(FLEET, DEVICE), word)
    assert victim.exchange.result.clock_off == 0
