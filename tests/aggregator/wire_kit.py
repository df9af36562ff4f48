"""A device and a gateway without a broker: what one publishes lies in a list until the test delivers it."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from fleet_kit import Member

from tasuki.aggregator.rules import Rules
from tasuki.sdk import sealing, topics
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.exchange import Exchange
from tasuki.sdk.outgoing import Outgoing
from tasuki.sdk.state import State


@dataclass
class Out:
    """The way out of an exchange: keeps what it publishes. `limit` is the largest payload that the broker takes."""

    limit: int = 1 << 20
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    heard: set[str] = field(default_factory=set)

    def publish(self, kind: str, topic: str, payload: bytes, expires: float | None) -> None:
        assert len(payload) <= self.limit
        assert expires is None or expires > 0
        self.sent.append((topic, payload))

    def listen(self, topic: str) -> None:
        self.heard.add(topic)

    def room(self, topic: str) -> int:
        return self.limit


class Wire:
    """One enrolled device beside a gateway's rules."""

    def __init__(self, folder: Path, rules: Rules, member: Member, limit: int = 1 << 20) -> None:
        self.rules, self.member = rules, member
        self.fleet, self.device = member.enrolment.fleet, member.enrolment.device
        self.state = State(folder, member.parts.hash)
        self.out = Out(limit)
        self.exchange = self.fresh()

    @property
    def parts(self) -> Artifact:
        return self.member.parts

    def fresh(self) -> Exchange:
        """The next sync."""
        self.exchange = Exchange(self.state, self.member.enrolment, self.parts, None, time.time, self.member.key)
        return self.exchange

    def learn(self, seed: int = 0, budget: int = 4000, samples: int = 10) -> bytes:
        """Seal an update of a small delta, as a device does, and keep it in the spool."""
        version = self.state.number("version")
        table = self.member.table
        outgoing = Outgoing(
            self.member.enrolment, self.parts.hash, version, table, self.member.key, self.state.get, budget
        )
        recipient = sealing.sealing_public(self.member.enrolment.suite, self.member.enrolment.sealing)
        delta = self.member.delta(seed)
        return self.state.spool(
            version, lambda sequence: outgoing.seal(delta, samples, sequence, recipient), keep=lambda: outgoing.keep
        ).message

    def to_gateway(self, topic: str, payload: bytes) -> list[tuple[str, bytes]]:
        """Deliver to the gateway; what it answers."""
        heard = topics.read(topic, self.fleet)
        if heard.part is not None:
            _, answer = self.rules.take_part(payload, heard.device, heard.number, heard.part)
        elif heard.kind == "join":
            _, answer = self.rules.take_join(payload, heard.device)
        else:
            _, answer = self.rules.take(payload, heard.device)
        return [] if answer is None else [(topics.receipts(self.fleet, heard.device), answer)]

    def announced(self, part: int = 1 << 16) -> list[tuple[str, bytes]]:
        """What is retained: record, announcement, then the parts (as a new subscription gets them)."""
        message, parts = self.rules.announcement(part)
        version = self.rules.current.version
        record = [] if self.rules.keys.wire is None else [(topics.record(self.fleet), self.rules.keys.wire)]
        rest = [(topics.part_down(self.fleet, version, index), data) for index, data in enumerate(parts)]
        return [*record, (topics.adapter(self.fleet), message), *rest]

    def talk(self) -> None:
        """A sync over a line that loses nothing."""
        self.exchange.send(self.out)
        while self.out.sent:
            for answer in self.to_gateway(*self.out.sent.pop(0)):
                self.exchange.receive(*answer, self.out)
        for message in self.announced():
            self.exchange.receive(*message, self.out)
