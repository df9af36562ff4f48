"""The fleet's adapter as a device takes it: the announcement, its parts, and the content that they make."""

import numpy as np
from fuzz_dice import Dice
from fuzz_mutate import change_bytes
from fuzz_trial import Moment, Trial, moment_of
from fuzz_world import (
    ARTIFACT,
    FLEET,
    GATEWAY,
    KITCHEN,
    NEXT_GATEWAY,
    ROOT,
    World,
    changed,
    changed_context,
    changed_message,
    table_of,
    twin,
)

from tasuki.sdk import adapter, cose, downlink, transfer
from tasuki.sdk.downlink import Announcement
from tasuki.sdk.envelope import Context
from tasuki.sdk.errors import Refusal, Refused

NOW = 1_700_000_000
_CURRENT, _MOST = 3, 8192


class Announcements:
    """A device that has version 3, knows the gateway's two keys, and has room for 8 KiB."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._table = table_of("head")
        self._gateways = [world.signers[name].public for name in (GATEWAY, NEXT_GATEWAY)]
        rows, columns = self._table.shape
        joined = np.random.default_rng(5).standard_normal((rows, columns + 1))
        self._content = downlink.content(adapter.from_joined(self._table.labels, joined), self._table)
        self._pool = [
            world.keep(
                name, downlink.publish(self._announcement(version, expires), FLEET, ARTIFACT, world.signers[name])
            )
            for name in (GATEWAY, NEXT_GATEWAY)
            for version, expires in ((2, 0), (3, 0), (4, 0), (5, NOW + 9), (5, NOW - 9))
        ]

    def _announcement(self, version: int, expires: int, content: bytes = b"") -> Announcement:
        return Announcement(version, NOW - 99, expires, transfer.offer(content or self._content, 100))

    def __call__(self, dice: Dice) -> Trial:
        if dice.one_in(3):
            return self._whole_content(dice)
        moment = moment_of(dice, 8)
        message = self._message(moment, dice)
        moment = Moment.BEFORE_SIGNING if moment is Moment.BEFORE_SEALING else moment
        try:
            got = downlink.accept(
                message, fleet=FLEET, artifact=ARTIFACT, gateways=self._gateways, most=_MOST, current=_CURRENT, now=NOW
            )
        except Refused as refusal:
            return Trial("announcement", moment, refusal.reason)
        assert any(self._world.signed_by(name, message) for name in (GATEWAY, NEXT_GATEWAY)), message.hex()
        assert got.version >= _CURRENT
        assert 0 < got.offer.size <= _MOST
        return Trial("announcement", moment, Refusal.ADMITTED)

    def _message(self, moment: Moment, dice: Dice) -> bytes:
        good = dice.pick(self._pool)
        name = dice.pick((GATEWAY, NEXT_GATEWAY))
        version = dice.below(8)
        context = Context(FLEET, downlink.EVERY_DEVICE, "adapter", ARTIFACT, version, version, 0)
        match moment:
            case Moment.BEFORE_SEALING:
                return self._world.sign(name, context, changed(cose.parse(good).payload, dice))
            case Moment.BEFORE_SIGNING:
                payload = cose.parse(good).payload
                if dice.one_in(2):
                    return self._world.sign(name, context, payload, dice)
                return self._world.sign(dice.pick((name, KITCHEN, ROOT)), changed_context(context, dice), payload)
            case Moment.AFTER_SIGNING:
                return twin(good) if dice.one_in(8) else changed_message(good, dice, self._pool)
            case _:
                return change_bytes(dice.take(dice.below(200)), dice, self._pool)

    def _whole_content(self, dice: Dice) -> Trial:
        """The gateway signs whatever the content is; the parts come in any order and arrive whole."""
        data = changed(self._content, dice)
        if not data:
            return Trial("adapter", Moment.BEFORE_SIGNING, Refusal.MALFORMED)
        made = Announcement(4, NOW, 0, transfer.offer(data, 100))
        message = downlink.publish(made, FLEET, ARTIFACT, self._world.signers[GATEWAY])
        got = downlink.accept(message, fleet=FLEET, artifact=ARTIFACT, gateways=self._gateways, most=1 << 20)
        assert got == made
        kept: dict[int, bytes] = {}
        for index in reversed(transfer.missing(got.offer, kept)):
            transfer.check(got.offer, index, transfer.cut(data, 100, index))
            kept[index] = transfer.cut(data, 100, index)
        assert transfer.join(got.offer, kept) == data
        try:
            head = downlink.read_content(data, self._table)
        except Refused as refusal:
            return Trial("adapter", Moment.BEFORE_SIGNING, refusal.reason)
        assert head.weight.shape == self._table.shape
        assert np.isfinite(head.weight).all()
        assert np.isfinite(head.bias).all()
        return Trial("adapter", Moment.BEFORE_SIGNING, Refusal.ADMITTED)
