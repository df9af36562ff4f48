"""CBOR by itself: whatever is read has exactly one encoding, as a second writer makes it (RFC 8949, 4.2.1)."""

import fuzz_cbor
from fuzz_dice import Dice
from fuzz_mutate import awkward, change_bytes, change_value
from fuzz_trial import Moment, Trial

from tasuki.sdk import cbor
from tasuki.sdk.errors import Refusal, Refused

_POOL = (
    {1: 2, 2: 1, 3: [5, 7], 4: bytes(30), 7: 12, 9: bytes(32)},
    [b"\xa1\x01\x26", {}, b"payload", bytes(64)],
    {-70002: [3, 9, 1, bytes(8)], 1: -8, "a": {24: 1, 255: 2, 256: [], -25: "ß"}, b"k": 1 << 40},
)


class Items:
    """Values changed in their content, their encoding, or any byte of it."""

    def __call__(self, dice: Dice) -> Trial:
        value = dice.pick(_POOL)
        for _ in range(dice.below(3)):
            value = change_value(value, dice)
        match dice.below(4):
            case 0:
                data = change_bytes(cbor.encode(value), dice)
            case 1:
                data = fuzz_cbor.write([value, awkward(dice)], dice, dice.below(3))
            case _:
                data = fuzz_cbor.write(value, dice, dice.below(3))
        try:
            read = cbor.decode(data)
        except Refused as refusal:
            return Trial("cbor", Moment.NOISE, refusal.reason)
        assert fuzz_cbor.write(read, dice, 0) == data, data.hex()
        assert cbor.encode(read) == data, data.hex()
        return Trial("cbor", Moment.NOISE, Refusal.ADMITTED)
