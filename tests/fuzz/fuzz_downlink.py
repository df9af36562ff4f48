"""Receipts and fleet records, as a device takes them. The gateway or the root may have signed nonsense."""

from fuzz_dice import Dice
from fuzz_mutate import change_bytes, change_value
from fuzz_trial import Moment, Trial, moment_of
from fuzz_world import (
    ARTIFACT,
    FLEET,
    GATEWAY,
    KITCHEN,
    NEXT_GATEWAY,
    PORCH,
    ROOT,
    World,
    changed,
    changed_context,
    changed_message,
    encode,
    secret,
    twin,
)

from tasuki.sdk import cbor, cose, fleet_record, receipt, transfer
from tasuki.sdk.envelope import Context
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.fleet_record import Record
from tasuki.sdk.receipt import Receipt

NOW = 1_700_000_000
_NO_ARTIFACT = bytes(32)
_LARGE, _OVERSIZE = bytes(fleet_record.MAX_RECORD_BYTES + 257), bytes(fleet_record.MAX_WIRE_BYTES)


class Receipts:
    """Receipts to the kitchen; the gateway's present and next key are trusted."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._gateways = [world.signers[name].public for name in (GATEWAY, NEXT_GATEWAY)]
        digest = receipt.digest_of(b"an update")
        self._pool = [
            world.keep(name, receipt.issue(Receipt(9, status, 3, digest, NOW, wanted), FLEET, to, ARTIFACT, signer))
            for name, signer in ((GATEWAY, world.signers[GATEWAY]), (NEXT_GATEWAY, world.signers[NEXT_GATEWAY]))
            for to in (KITCHEN, PORCH)
            for status, wanted in ((Refusal.ADMITTED, ()), (Refusal.NORM, ()), (Refusal.PARTS_WANTED, (0, 2, 17)))
        ]

    def __call__(self, dice: Dice) -> Trial:
        moment = moment_of(dice, 8)
        message = self._message(moment, dice)
        try:
            got = receipt.accept(message, fleet=FLEET, device=KITCHEN, artifact=ARTIFACT, gateways=self._gateways)
        except Refused as refusal:
            return Trial("receipt", _signing(moment), refusal.reason)
        assert any(self._world.signed_by(name, message) for name in (GATEWAY, NEXT_GATEWAY)), message.hex()
        assert len(got.digest) == receipt.DIGEST_BYTES
        assert len(got.wanted) <= transfer.MAX_PARTS
        assert (3 in cbor.decode(cose.parse(message).payload)) == bool(got.wanted), message.hex()
        return Trial("receipt", _signing(moment), Refusal.ADMITTED)

    def _message(self, moment: Moment, dice: Dice) -> bytes:
        good = dice.pick(self._pool)
        name = dice.pick((GATEWAY, NEXT_GATEWAY))
        code = dice.below(28)
        context = Context(FLEET, KITCHEN, "receipt", ARTIFACT, dice.below(5), dice.below(12), code)
        match moment:
            case Moment.BEFORE_SEALING:
                return self._world.sign(name, context, changed(cose.parse(good).payload, dice))
            case Moment.BEFORE_SIGNING:
                payload = cose.parse(good).payload
                if dice.one_in(2):
                    return self._world.sign(name, context, payload, dice)
                signer = dice.pick((name, KITCHEN, ROOT))
                return self._world.sign(signer, changed_context(context, dice), payload)
            case Moment.AFTER_SIGNING:
                return _altered(good, dice, self._pool)
            case _:
                return change_bytes(dice.take(dice.below(200)), dice, self._pool)


class Records:
    """Fleet records: by hand (`accept`) and over the wire (`advance`), from a device that knows version 3."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._root = world.signers[ROOT].public
        self._records = [self._issue(version) for version in (2, 3, 4, 5)]
        self._current = fleet_record.verify(self._records[1], self._root, FLEET)
        self._pool = [world.keep(GATEWAY, self._link(record, GATEWAY)) for record in self._records]
        self._pool.append(world.keep(NEXT_GATEWAY, self._link(self._records[-1], NEXT_GATEWAY)))

    def __call__(self, dice: Dice) -> Trial:
        moment = moment_of(dice, 8)
        if dice.one_in(4):
            return self._by_hand(moment, dice)
        wire = self._wire(moment, dice)
        try:
            record, inner = fleet_record.advance(wire, self._root, self._current, NOW)
        except Refused as refusal:
            return Trial("record", _signing(moment), refusal.reason)
        assert self._world.signed_by(ROOT, inner), inner.hex()
        assert any(self._world.signed_by(name, cbor.decode(wire)[-1]) for name in (GATEWAY, NEXT_GATEWAY)), wire.hex()
        self._believable(record)
        assert fleet_record.encode(record) == cose.parse(inner).payload, inner.hex()
        return Trial("record", _signing(moment), Refusal.ADMITTED)

    def _by_hand(self, moment: Moment, dice: Dice) -> Trial:
        message = self._inner(moment, dice)
        try:
            record = fleet_record.accept(message, self._root, FLEET, NOW, dice.pick((None, self._current)))
        except Refused as refusal:
            return Trial("record by hand", _signing(moment), refusal.reason)
        assert self._world.signed_by(ROOT, message), message.hex()
        assert record.fleet == FLEET
        assert fleet_record.encode(record) == cose.parse(message).payload, message.hex()
        return Trial("record by hand", _signing(moment), Refusal.ADMITTED)

    def _believable(self, record: Record) -> None:
        assert record.version >= self._current.version
        assert record.version > self._current.version or record == self._current
        assert record.signing in (self._current.signing, self._current.next_signing)

    def _issue(self, version: int) -> bytes:
        keys = self._world.signers
        signing, following = (GATEWAY, NEXT_GATEWAY) if version < 5 else (NEXT_GATEWAY, None)
        record = Record(
            FLEET, version, NOW - 100, 0 if version % 2 else NOW + 100, (ARTIFACT, secret("another artifact")),
            keys[signing].public, {1: self._world.sealing[1].public_key().public_bytes_raw()},
            next_signing=keys[following].public if following else None,
        )  # fmt: skip
        return self._world.keep(ROOT, fleet_record.issue(record, keys[ROOT]))

    def _link(self, record: bytes, name: str, dice: Dice | None = None) -> bytes:
        try:
            version = cose.parse(record).header.version
        except Refused:
            version = 4
        if dice is not None and dice.one_in(2):
            return self._world.sign(name, self._context("gateway", dice.pick((version, 3, 4, 5))), record)
        return self._world.sign(name, self._context("gateway", version), record, dice)

    def _context(self, by: str, version: int) -> Context:
        return Context(FLEET, by, "record", _NO_ARTIFACT, version, 0, 0)

    def _inner(self, moment: Moment, dice: Dice) -> bytes:
        good = dice.pick(self._records)
        signed = cose.parse(good)
        context = self._context("*", signed.header.version)
        match moment:
            case Moment.BEFORE_SEALING:
                return self._world.sign(ROOT, context, changed(signed.payload, dice))
            case Moment.BEFORE_SIGNING:
                if dice.one_in(2):
                    return self._world.sign(ROOT, context, signed.payload, dice)
                return self._world.sign(dice.pick((ROOT, GATEWAY)), changed_context(context, dice), signed.payload)
            case Moment.AFTER_SIGNING:
                return _altered(good, dice, self._records)
            case _:
                return dice.take(dice.below(300))

    def _wire(self, moment: Moment, dice: Dice) -> bytes:
        links = [dice.pick(self._pool) for _ in range(dice.below(3))]
        name = dice.pick((GATEWAY, GATEWAY, NEXT_GATEWAY, KITCHEN))
        match moment:
            case Moment.BEFORE_SEALING:
                links.append(self._link(self._inner(moment, dice), name))
            case Moment.BEFORE_SIGNING:
                inner = dice.pick((self._inner(moment, dice), dice.pick(self._records)))
                links.append(self._link(inner, name, dice if dice.one_in(3) else None))
            case Moment.AFTER_SIGNING:
                links.append(_altered(dice.pick(self._pool), dice, self._pool))
            case _:
                links.append(dice.pick((dice.take(dice.below(300)), _LARGE, _OVERSIZE)))
        value = links if dice.one_in(2) else change_value(links, dice, self._pool)
        return encode(value, dice) if dice.one_in(3) else cbor.encode(value)


def _altered(good: bytes, dice: Dice, others: list[bytes]) -> bytes:
    return twin(good) if dice.one_in(8) else changed_message(good, dice, others)


def _signing(moment: Moment) -> Moment:
    """These are not sealed."""
    return Moment.BEFORE_SIGNING if moment is Moment.BEFORE_SEALING else moment
