"""A gateway in conversation: offers, parts in any order, whole updates and requests to join, over a real ledger."""

from dataclasses import dataclass
from pathlib import Path

from fuzz_dice import Dice
from fuzz_mutate import change_bytes
from fuzz_plain import good
from fuzz_trial import Moment, Trial
from fuzz_world import (
    ARTIFACT,
    ATTIC,
    FLEET,
    GATEWAY,
    HALL,
    KITCHEN,
    PORCH,
    World,
    artifact_of,
    changed_message,
    secret,
    sha256,
    table_of,
)

from tasuki.aggregator.admission import Outcome
from tasuki.aggregator.fleet import Settings
from tasuki.aggregator.gateway_keys import GatewayKeys
from tasuki.aggregator.ledger import Ledger, Version
from tasuki.aggregator.rules import Rules
from tasuki.sdk import cbor, join, offer, receipt, transfer
from tasuki.sdk.envelope import SUITES, X25519, Context
from tasuki.sdk.errors import Refusal, Refused

NOW = 1_700_000_000.0
_VERSION, _PART, _STEPS = 3, 256, 8
_TOKEN = secret("one-time token")


@dataclass(frozen=True)
class Content:
    """Bytes that `device` offers, and its signed offer of them."""

    device: str
    sequence: int
    data: bytes
    offered: bytes


class _Rules(Rules):
    """The gateway's rules with a ledger in memory and no folder."""

    def __init__(self, world: World) -> None:
        self.settings = Settings(FLEET, "127.0.0.1", 1883)
        self.artifact = artifact_of("head")
        self.ledger = Ledger(Path(":memory:"))
        self._clock = lambda: NOW
        self.keys = GatewayKeys(world.signers[GATEWAY], world.sealing, {}, (world.former,))
        self.table = table_of("head")
        self._desk = self._new_desk()
        self.current = Version(_VERSION, b"", 0.0, 0.0, 0, NOW)
        for name in (KITCHEN, PORCH, ATTIC):
            self.ledger.enrol(name, world.signers[name].public)
        self.ledger.revoke(ATTIC, NOW)
        self.ledger.add_token(HALL, sha256(_TOKEN), NOW + 60)


class Gateway:
    """Up to 8 messages to a new gateway, most of them about one content."""

    def __init__(self, world: World) -> None:
        self._world = world
        updates = [plain for plain in good("head") if len(plain) > 100]
        self._contents = [self._content(name, sequence, self._sealed(name, sequence, updates[sequence]))
                          for name in (KITCHEN, PORCH, ATTIC) for sequence in (1, 2, 3)]  # fmt: skip
        first = self._contents[0]
        self._contents += [
            self._content(KITCHEN, 4, first.offered),
            self._content(KITCHEN, 5, secret("no message", 700)),
            self._content(KITCHEN, 6, first.data),
            self._content(PORCH, 4, first.data, digest=bytes(32)),
            self._content(PORCH, 5, first.data, size=1 << 20),
        ]
        self._joins = [
            world.keep(
                name,
                join.make(
                    token, fleet=FLEET, device=device, artifact=ARTIFACT, suite=X25519, signer=world.signers[name],
                    recipient=world.sealing[X25519].public_key(),
                ),
            )
            for name, device, token in (
                (HALL, HALL, _TOKEN), (HALL, HALL, bytes(32)), (KITCHEN, HALL, _TOKEN), (ATTIC, ATTIC, _TOKEN),
            )
        ]  # fmt: skip

    def _sealed(self, name: str, sequence: int, plain: bytes) -> bytes:
        context = Context(FLEET, name, "up", ARTIFACT, _VERSION, sequence, X25519)
        sealed = SUITES[X25519].encrypt(plain, self._world.sealing[X25519].public_key(), info=context.encode())
        return self._world.keep(name, self._world.sign(name, context, sealed))

    def _content(self, name: str, sequence: int, data: bytes, **lies: object) -> Content:
        """An offer of `data`, with lies in it."""
        keys = {"size": 10, "digest": 12}
        fields = {1: offer.FORMAT, **transfer.offer(data, _PART).fields()} | {keys[lie]: lies[lie] for lie in lies}
        context = Context(FLEET, name, "offer", ARTIFACT, _VERSION, sequence, offer.CODE)
        offered = self._world.sign(name, context, cbor.encode(fields))
        return Content(name, sequence, data, self._world.keep(name, offered))

    def __call__(self, dice: Dice) -> Trial:
        rules, content, joining = _Rules(self._world), dice.pick(self._contents), dice.one_in(5)
        try:
            status = Refusal.MALFORMED
            for step in range(1 + dice.below(_STEPS)):
                if joining:
                    outcome, answer = self._ask(rules, dice)
                elif step == 0 and not dice.one_in(8):
                    outcome, answer = rules.take(content.offered, content.device)
                else:
                    outcome, answer = self._step(rules, content, step - 1, dice)
                self._sound(rules, outcome, answer)
                status = outcome.status
        finally:
            rules.ledger.close()
        return Trial("gateway", Moment.AFTER_SIGNING, status, outcome.stage.name.lower())

    def _step(self, rules: Rules, content: Content, step: int, dice: Dice) -> tuple[Outcome, bytes | None]:
        """The next part of `content`, most of the time."""
        other = dice.pick(self._contents)
        part = transfer.cut(content.data, _PART, step)
        match dice.below(20):
            case 0:
                return rules.take(other.offered, other.device)
            case 1:
                return rules.take(changed_message(content.offered, dice, [other.offered]), content.device)
            case 2:
                return rules.take(content.data, content.device)
            case 3:
                return rules.take(content.offered, content.device)
            case 4:
                return rules.take_part(change_bytes(part, dice), content.device, content.sequence, step)
            case 5:
                return rules.take_part(part, content.device, content.sequence, dice.below(8))
            case 6:
                return rules.take_part(part, other.device, other.sequence, step)
            case 7:
                return rules.take_part(part + bytes(_PART), content.device, content.sequence, step)
            case 8:
                return self._ask(rules, dice)
            case _:
                return rules.take_part(part, content.device, content.sequence, step)

    def _ask(self, rules: Rules, dice: Dice) -> tuple[Outcome, bytes | None]:
        """Somebody asks to join."""
        asked, name = dice.pick(self._joins), dice.pick((HALL, HALL, HALL, ATTIC, KITCHEN, "cellar"))
        return rules.take_join(change_bytes(asked, dice) if dice.one_in(4) else asked, name)

    def _sound(self, rules: Rules, outcome: Outcome, answer: bytes | None) -> None:
        """Every entry is signed, every answer is the gateway's, and no more is kept than what was offered."""
        if outcome.entry is not None:
            entry = outcome.entry
            assert self._world.signed_digest(entry.device, entry.digest), entry
            assert entry.device != ATTIC
            kept = rules.ledger.seen(entry.device, entry.sequence)
            assert kept is not None
            assert (kept.digest, kept.status) == (entry.digest, entry.status)
        if answer is not None:
            devices = (KITCHEN, PORCH, ATTIC, HALL)
            assert any(self._is_receipt(answer, name, outcome) for name in devices), answer.hex()
        for name in (KITCHEN, PORCH, ATTIC):
            offered, parts = rules.ledger.offered(name), rules.ledger.content(name)
            assert offered is not None or not parts
            if offered is not None:
                wanted = offer.read(cbor.decode(offered[1][1:])[2])
                assert self._world.signed_by(name, offered[1])
                assert all(sha256(data) in wanted.hashes[index : index + 1] for index, data in parts.items())
                assert transfer.missing(wanted, parts), "complete, and neither judged nor dropped"

    def _is_receipt(self, answer: bytes, name: str, outcome: Outcome) -> bool:
        gateways = [self._world.signers[GATEWAY].public]
        try:
            word = receipt.accept(answer, fleet=FLEET, device=name, artifact=ARTIFACT, gateways=gateways)
        except Refused:
            return False
        return word.status == outcome.status and word.digest == outcome.digest[: receipt.DIGEST_BYTES]
