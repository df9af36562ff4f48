"""Content in parts: offers as a hostile sender makes them, and parts lost, repeated, altered and out of order."""

import hashlib

from fuzz_dice import Dice
from fuzz_mutate import NUMBERS, change_bytes, change_value
from fuzz_trial import Moment, Trial
from fuzz_world import encode

from tasuki.sdk import cbor, transfer
from tasuki.sdk.errors import Refusal, Refused

_MOST = 4096


class Parts:
    """The receiver's side: the offer, then parts as they come, until none is missing or the sender gives up."""

    def __init__(self) -> None:
        sizes = ((1, 64), (64, 64), (65, 64), (640, 64), (1000, 100), (4096, 4096), (4096, 64))
        self._contents = [(hashlib.shake_256(b"%d" % size).digest(size), part) for size, part in sizes]
        self._bitmaps = [transfer.bitmap(parts) for parts in ((), (0,), (1, 9), range(1024), (1023,))]

    def __call__(self, dice: Dice) -> Trial:
        if dice.one_in(4):
            return self._bitmap(dice)
        content, part = dice.pick(self._contents)
        made = dict(transfer.offer(content, part).fields())
        changed = dice.one_in(2)
        data = encode(change_value(made, dice), dice) if changed else cbor.encode(made)
        moment = Moment.BEFORE_SIGNING if changed else Moment.AFTER_SIGNING
        try:
            fields = cbor.decode(data)
            wanted = transfer.read(fields if isinstance(fields, dict) else {}, _MOST)
        except Refused as refusal:
            return Trial("parts", moment, refusal.reason)
        assert 0 < wanted.size <= _MOST
        assert len(wanted.hashes) == -(-wanted.size // wanted.part) <= transfer.MAX_PARTS
        return Trial("parts", moment, _receive(wanted, content, part, dice))

    def _bitmap(self, dice: Dice) -> Trial:
        bits = change_bytes(dice.pick(self._bitmaps), dice, self._bitmaps)
        try:
            indexes = transfer.indexes(bits)
        except Refused as refusal:
            return Trial("parts", Moment.BEFORE_SIGNING, refusal.reason)
        assert transfer.bitmap(indexes) == bits, bits.hex()
        assert all(0 <= index < transfer.MAX_PARTS for index in indexes)
        return Trial("parts", Moment.BEFORE_SIGNING, Refusal.ADMITTED)


def _receive(wanted: transfer.Offer, content: bytes, part: int, dice: Dice) -> Refusal:
    """Keep what checks, as `missing` asks for it; what is kept never exceeds the offered size."""
    kept: dict[int, bytes] = {}
    first: Refusal | None = None
    for _ in range(3):
        for index in transfer.missing(wanted, kept)[:12]:
            data, number = transfer.cut(content, part, index), index
            match dice.below(24):
                case 0:
                    data = change_bytes(data, dice)
                case 1:
                    number = dice.pick((*NUMBERS, index + 1))
                case 2:
                    data += bytes(part)
                case 3:
                    continue
            try:
                transfer.check(wanted, number, data)
            except Refused as refusal:
                first = first or refusal.reason
                continue
            kept[number] = data
            assert sum(map(len, kept.values())) <= wanted.part * len(wanted.hashes)
    if transfer.missing(wanted, kept):
        return first or Refusal.PARTS_WANTED
    try:
        joined = transfer.join(wanted, kept)
    except Refused as refusal:
        return refusal.reason
    assert hashlib.sha256(joined).digest() == wanted.digest
    assert len(joined) == wanted.size
    return Refusal.ADMITTED
