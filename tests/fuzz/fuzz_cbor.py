"""CBOR as a careless or hostile writer makes it: the value is right, its encoding is not (RFC 8949, 3 and 4.2.1)."""

from itertools import count
from typing import Any

from fuzz_dice import Dice
from fuzz_mutate import awkward

Value = Any
_WIDTHS = (1, 2, 4, 8)
# Floats, simple values, tags, reserved and open-ended heads, a lone break.
_STRANGE = (
    "f90000", "f93c00", "f97e00", "fa7fc00000", "fb3ff0000000000000", "f4", "f5", "f6", "f7", "f8ff", "f818", "c000",
    "c24101", "d818426162", "d9d9f700", "1c", "1f", "3f", "5f", "7f", "9f", "bf", "ff", "5f4101ff", "9f01ff",
    "bf0101ff", "7b7fffffffffffffff", "5bffffffffffffffff", "9bffffffffffffffff", "bbffffffffffffffff", "9a00ffffff",
    "61ff", "62c328", "8181818181818100", "a1a10000", "a1810000", "a200010002", "a2010000",
)  # fmt: skip


def write(value: Value, dice: Dice, faults: int = 1) -> bytes:
    """`value` with `faults` faults in its encoding at places of the dice's choice."""
    places = {dice.below(_size(value)) for _ in range(faults)}
    numbers = count()

    def item(one: Value) -> bytes:
        return _broken(one) if next(numbers) in places else _plain(one)

    def _plain(one: Value, width: int = 0, lie: int = 0) -> bytes:
        if isinstance(one, dict):
            pairs = sorted((item(key), item(content)) for key, content in one.items())
            return head(5, len(pairs) + lie, width) + b"".join(key + content for key, content in pairs)
        if isinstance(one, list | tuple):
            return head(4, len(one) + lie, width) + b"".join(item(content) for content in one)
        if isinstance(one, str):
            data = one.encode()
            return head(3, len(data) + lie, width) + data
        if isinstance(one, bytes):
            return head(2, len(one) + lie, width) + one
        return head(0, one, width) if one >= 0 else head(1, -1 - one, width)

    def _broken(one: Value) -> bytes:
        match dice.below(9):
            case 0:
                return _plain(one, width=dice.pick(_WIDTHS))
            case 1:
                return _plain(one, lie=dice.pick((-1, 1, 2, 100, 1 << 31)))
            case 2:
                return bytes.fromhex(dice.pick(_STRANGE))
            case 3:
                return _open_ended(one)
            case 4 if isinstance(one, dict) and one:
                pairs = [item(key) + item(content) for key, content in one.items()]
                pairs.insert(dice.below(len(pairs)), dice.pick(pairs))
                return head(5, len(pairs)) + b"".join(pairs)
            case 5 if isinstance(one, dict):
                return head(5, len(one)) + b"".join(item(key) + item(one[key]) for key in reversed(one))
            case 6:
                return b"\x81" * (1 + dice.below(200)) + _plain(one)
            case 7:
                return _plain(one) + dice.take(1 + dice.below(4))
            case _:
                return _plain(awkward(dice))

    def _open_ended(one: Value) -> bytes:
        if isinstance(one, dict):
            return b"\xbf" + b"".join(item(key) + item(content) for key, content in one.items()) + b"\xff"
        if isinstance(one, list | tuple):
            return b"\x9f" + b"".join(item(content) for content in one) + b"\xff"
        if isinstance(one, bytes):
            return b"\x5f" + head(2, len(one)) + one + b"\xff"
        return b"\x1f"

    return item(value)


def head(major: int, argument: int, width: int = 0) -> bytes:
    """A head of `width` argument bytes (1, 2, 4, 8), or the shortest."""
    number = argument % (1 << 64)
    if not width:
        if number < 24:
            return bytes([major << 5 | number])
        width = next(one for one in _WIDTHS if number < 1 << 8 * one)
    number %= 1 << 8 * width
    return bytes([major << 5 | 24 + _WIDTHS.index(width)]) + number.to_bytes(width, "big")


def _size(value: Value) -> int:
    if isinstance(value, dict):
        return 1 + sum(_size(key) + _size(content) for key, content in value.items())
    if isinstance(value, list | tuple):
        return 1 + sum(_size(content) for content in value)
    return 1
