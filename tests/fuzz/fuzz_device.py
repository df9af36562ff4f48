"""A device in conversation: what comes on its topics, in any order, altered, repeated, of other fleets and versions."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from fuzz_dice import Dice
from fuzz_mutate import change_bytes
from fuzz_trial import Moment, Trial
from fuzz_world import (
    ARTIFACT,
    FLEET,
    GATEWAY,
    HALL,
    KITCHEN,
    NEXT_GATEWAY,
    PORCH,
    ROOT,
    World,
    artifact_of,
    changed_message,
    public_of,
    secret,
    sha256,
    table_of,
    twin,
)

from tasuki.sdk import adapter, downlink, fleet_record, receipt, topics, transfer
from tasuki.sdk.downlink import Announcement
from tasuki.sdk.enrolment import Enrolment
from tasuki.sdk.envelope import HYBRID, X25519
from tasuki.sdk.errors import Refusal, Refused, Unauthorised
from tasuki.sdk.exchange import Exchange
from tasuki.sdk.fleet_record import Record
from tasuki.sdk.receipt import Receipt
from tasuki.sdk.state import Spooled

NOW = 1_700_000_000
_PART, _STEPS, _CURRENT = 100, 14, 3
_JOIN = secret("a request to join", 200)


class _State:
    """A device's state in memory: only what a conversation touches."""

    def __init__(self, spool: list[Spooled]) -> None:
        self.version, self.installed = _CURRENT, list[tuple[int, bytes]]()
        self.spool, self.forgotten = list(spool), list[bytes]()

    def number(self, key: str) -> int:
        return self.version if key == "version" else 0

    def put(self, key: str, value: bytes) -> None:
        assert len(value) < 1 << 16, key

    def remove(self, *keys: str) -> None:
        assert keys

    def journal(self, event: str, detail: str, now: float | None = None) -> None:
        assert len(detail) < 1000, event

    def spend(self, day: int, count: int, going: int = 0) -> int:
        return count

    def count(self, more: Mapping[str, int]) -> None:
        assert more

    def spooled(self, now: float | None = None) -> list[Spooled]:
        return list(self.spool)

    def unspool(self, digest: bytes, admitted: bool = True) -> int | None:
        for item in self.spool:
            if sha256(item.message).startswith(digest):
                self.spool.remove(item)
                self.forgotten.append(digest)
                return item.sequence
        return None

    def install_adapter(self, version: int, message: bytes) -> None:
        if version <= self.version:
            raise Refused(Refusal.ROLLBACK)
        self.version = version
        self.installed.append((version, message))


class _Out:
    """The way out; a device speaks on its own topics only."""

    def publish(self, kind: str, topic: str, payload: bytes, expires: float | None) -> None:
        assert topic.startswith(topics.up(FLEET, KITCHEN)) or topic == topics.join(FLEET, KITCHEN), topic
        assert payload, kind

    def listen(self, topic: str) -> None:
        assert topic.startswith(topics.adapter(FLEET)), topic

    def room(self, topic: str) -> int:
        return 256


class DeviceSide:
    """Up to 14 messages to a device that has version 3, fleet record 3 and two updates in its spool."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._spool = [Spooled(number, _CURRENT, secret(f"update {number}", 700), NOW) for number in (7, 8)]
        self._told = {receipt.digest_of(item.message) for item in self._spool[:1]}
        self._contents: dict[int, list[bytes]] = {version: [] for version in range(2, 8)}
        self._messages = [*self._adapters(), *self._receipts(), *self._records()]

    def __call__(self, dice: Dice) -> Trial:
        state = _State(self._spool)
        signer, asked = self._world.signers[KITCHEN], dice.pick((None, None, None, _JOIN))
        member = replace(self._enrolment, root=None, record=None) if dice.one_in(10) else self._enrolment
        exchange = Exchange(state, member, artifact_of("head"), None, lambda: NOW, signer, asked)
        out = _Out()
        exchange.send(out)
        at = dice.below(len(self._messages))
        for _ in range(1 + dice.below(_STEPS)):
            topic, payload = self._messages[at % len(self._messages)]
            at = at + 1 if dice.one_in(2) else dice.below(len(self._messages))
            try:
                exchange.receive(*self._altered(topic, payload, dice), out)
            except Unauthorised:
                assert asked is not None
        exchange.settle()
        self._sound(state)
        known = exchange.result.ignored_because.most_common(1)
        reason = Refusal[known[0][0].upper().replace(" ", "_")] if known else Refusal.ADMITTED
        return Trial("device", Moment.AFTER_SIGNING, reason)

    def _altered(self, topic: str, payload: bytes, dice: Dice) -> tuple[str, bytes]:
        other = dice.pick(self._messages)
        match dice.below(12):
            case 0:
                return other[0], payload
            case 1:
                elsewhere = (topic + "/0", topic + "/04/1", topic[:-1], topic.upper(), topic.replace(FLEET, "elm"), "")
                own = (topics.part_up(FLEET, KITCHEN, 7, 0), topics.receipts(FLEET, "Kitchen"))
                return dice.pick((*elsewhere, *own)), payload
            case 2:
                return topic, change_bytes(payload, dice, [other[1]])
            case 3 if payload.startswith(b"\xd2") and other[1].startswith(b"\xd2"):
                return topic, dice.pick((twin(payload), changed_message(payload, dice, [other[1]])))
            case _:
                return topic, payload

    def _sound(self, state: _State) -> None:
        """Versions go forward, to what a gateway announced; an update goes on a receipt for it."""
        versions = [version for version, _ in state.installed]
        assert versions == sorted(set(versions))
        assert all(version > _CURRENT for version in versions)
        assert all(content in self._contents[version] for version, content in state.installed)
        assert set(state.forgotten) <= self._told

    def _adapters(self) -> list[tuple[str, bytes]]:
        """Announcements by either key with their parts: an old one, good ones, and three that come to nothing."""
        table, messages = table_of("head"), []
        rows, columns = table.shape
        for version in self._contents:
            joined = np.random.default_rng(version).standard_normal((rows, columns + 1))
            content = downlink.content(adapter.from_joined(table.labels, joined), table)
            if version == 6:
                content = change_bytes(content, Dice(b"six"))
            offered = transfer.offer(content, _PART)
            if version == 7:
                offered = transfer.Offer(offered.size, offered.part, bytes(32), offered.hashes)
            name = NEXT_GATEWAY if version % 2 else GATEWAY
            said = Announcement(version, NOW - 9, NOW + 9, offered)
            message = downlink.publish(said, FLEET, ARTIFACT, self._world.signers[name])
            self._contents[version].append(content)
            messages.append((topics.adapter(FLEET), self._world.keep(name, message)))
            messages += [(topics.part_down(FLEET, version, index), transfer.cut(content, _PART, index))
                         for index in range(len(offered.hashes))]  # fmt: skip
        return messages

    def _receipts(self) -> list[tuple[str, bytes]]:
        """For the first update in the spool; for the second only such as are not the gateway's, or another device's."""
        first, second = (receipt.digest_of(item.message) for item in self._spool)
        asked = receipt.digest_of(_JOIN)
        made = [
            (GATEWAY, KITCHEN, 7, Refusal.ADMITTED, first, ()),
            (NEXT_GATEWAY, KITCHEN, 7, Refusal.NO_SESSION, first, ()),
            (GATEWAY, KITCHEN, 7, Refusal.NORM, first, ()),
            (GATEWAY, KITCHEN, 8, Refusal.PARTS_WANTED, second, (0, 1, 5, 900)),
            (GATEWAY, KITCHEN, 8, Refusal.ADMITTED, secret("another update", 16), ()),
            (GATEWAY, KITCHEN, 0, Refusal.ADMITTED, asked, ()),
            (GATEWAY, KITCHEN, 0, Refusal.BAD_TOKEN, asked, ()),
            (GATEWAY, PORCH, 8, Refusal.ADMITTED, second, ()),
            (HALL, KITCHEN, 8, Refusal.ADMITTED, second, ()),
        ]
        return [
            (topics.receipts(FLEET, KITCHEN),
             receipt.issue(Receipt(number, status, _CURRENT, digest, NOW, wanted), FLEET, to, ARTIFACT,
                           self._world.signers[name]))
            for name, to, number, status, digest, wanted in made
        ]  # fmt: skip

    def _records(self) -> list[tuple[str, bytes]]:
        """Records 4 to 6: the next key comes, the device's suite goes, a key comes that nobody announced."""
        keys, both = self._world.signers, public_of(GATEWAY)
        small, large = {X25519: both[X25519]}, {HYBRID: both[HYBRID]}
        third = fleet_record.issue(self._record(3, GATEWAY, NEXT_GATEWAY, small), keys[ROOT])
        self._enrolment = Enrolment(
            FLEET, KITCHEN, "127.0.0.1", 1883, ARTIFACT, keys[GATEWAY].public, X25519, both[X25519],
            root=keys[ROOT].public, record=third,
        )  # fmt: skip
        later = [
            (self._record(4, GATEWAY, NEXT_GATEWAY, both), GATEWAY),
            (self._record(5, NEXT_GATEWAY, None, large), NEXT_GATEWAY),
            (self._record(6, HALL, None, small), GATEWAY),
        ]
        return [
            (topics.record(FLEET), fleet_record.announce(fleet_record.issue(record, keys[ROOT]), keys[name]))
            for record, name in later
        ]

    def _record(self, version: int, signing: str, following: str | None, sealing: dict[int, bytes]) -> Record:
        keys = self._world.signers
        after = keys[following].public if following else None
        return Record(FLEET, version, NOW, 0, (ARTIFACT,), keys[signing].public, sealing, next_signing=after)
