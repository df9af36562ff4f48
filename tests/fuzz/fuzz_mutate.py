"""Changes to values and bytes that keep most of them, so that a reader gets far before it meets the change."""

import struct
from collections.abc import Sequence
from typing import Any

from fuzz_dice import Dice

NUMBERS = (0, 1, 2, 3, 23, 24, 127, 128, 255, 256, 4096, 4097, 65535, 65536, (1 << 31) - 1, (1 << 32) - 1,
           1 << 32, (1 << 40) - 1, 1 << 40, (1 << 53) - 1, 1 << 53,
           (1 << 63) - 1, (1 << 64) - 1, -1, -8, -7, -(1 << 64))  # fmt: skip
FLOATS = tuple(
    struct.pack("<f", value)
    for value in (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan"))
)
EDGES = (0, 1, 2, 3, 0x1F, 0x7F, 0x80, 0xFE, 0xFF)
TEXTS = ("", "a", "oak", "gateway", "*", "../up", "kitchen\0", "K" * 40, "ß☃")
Value = Any


def change_bytes(data: bytes, dice: Dice, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to four small changes; `others` are what it may be spliced with."""
    made = bytearray(data)
    for _ in range(1 + dice.below(4) * dice.below(2)):
        _change_once(made, dice, others)
    return bytes(made)


def _change_once(made: bytearray, dice: Dice, others: Sequence[bytes]) -> None:
    place = dice.below(len(made)) if made else 0
    # Half of the time near the front: that is where lengths, kinds and counts stand.
    if dice.one_in(2):
        place = min(place, dice.below(12))
    match dice.below(13):
        case 0 if made:
            made[place] ^= 1 << dice.below(8)
        case 1 if made:
            made[place] = dice.below(256)
        case 2 if made:
            made[place] = dice.pick(EDGES)
        case 3 if made:
            made[place] = (made[place] + dice.below(17) - 8) & 255
        case 4:
            del made[place : place + 1 + dice.below(8)]
        case 5:
            del made[place:]
        case 6:
            made[place:place] = dice.take(1 + dice.below(8))
        case 7:
            made += dice.take(1 + dice.below(8))
        case 8:
            made[place : place + 4] = dice.pick(FLOATS)
        case 9:
            size = 1 + dice.below(16)
            made[place : place + size] = dice.take(size)
        case 10:
            start = dice.below(len(made)) if made else 0
            made[place : place + 8] = made[start : start + 8]
        case 11 if others:
            other = dice.pick(others)
            cut = dice.below(len(other) + 1)
            made[place:] = other[cut:]
        case _:
            made[place:place] = bytes([dice.pick(EDGES)]) * (1 + dice.below(64))


def awkward(dice: Dice) -> Value:
    """A value that stands where another kind is wanted."""
    match dice.below(7):
        case 0:
            return dice.pick(NUMBERS)
        case 1:
            return dice.take(dice.below(70))
        case 2:
            return dice.pick(TEXTS)
        case 3:
            return [dice.pick(NUMBERS) for _ in range(dice.below(5))]
        case 4:
            return {dice.pick(NUMBERS): dice.pick(NUMBERS) for _ in range(dice.below(4))}
        case 5:
            return bytes(dice.pick((0, 1, 31, 32, 33, 64, 1000)))
        case _:
            nested: Value = dice.pick(NUMBERS)
            for _ in range(dice.below(8)):
                nested = [nested]
            return nested


def change_value(value: Value, dice: Dice, others: Sequence[bytes] = ()) -> Value:
    """`value` with one item changed, dropped, added, moved, or of another kind, at any depth."""
    if dice.one_in(12):
        return awkward(dice)
    if dice.one_in(12):
        return _disguise(value, dice)
    if isinstance(value, dict):
        return _change_map(value, dice, others)
    if isinstance(value, list | tuple):
        return _change_list(list(value), dice, others)
    if isinstance(value, bytes):
        return change_bytes(value, dice, others)
    if isinstance(value, str):
        return dice.pick((*TEXTS, value.upper(), value + "x", value[:-1]))
    if isinstance(value, int):
        changed = value + dice.pick((-1, 1, -value, 255, 256, -2 * value))
        return dice.pick(NUMBERS) if dice.one_in(2) or not -(1 << 64) <= changed < 1 << 64 else changed
    return awkward(dice)


def _disguise(value: Value, dice: Dice) -> Value:
    """The same content as another kind of item, for readers that take anything they can iterate over."""
    match value:
        case list() if all(isinstance(one, int) and 0 <= one < 256 for one in value) and dice.one_in(2):
            return bytes(value)
        case list() if all(isinstance(one, int | bytes | str) for one in value):
            return dict.fromkeys(value, 0)
        case dict():
            return list(value.values())
        case bytes() if dice.one_in(2):
            return value.hex()
        case bytes():
            return list(value[:16])
        case str():
            return value.encode()
        case int():
            return dice.pick(([value], str(value), value.to_bytes(16, "big", signed=True)))
        case _:
            return [value]


def _change_map(fields: dict[Value, Value], dice: Dice, others: Sequence[bytes]) -> Value:
    made = dict(fields)
    key = dice.pick(list(made)) if made else 0
    match dice.below(12):
        case 0:
            made.pop(key, None)
        case 1:
            made[dice.pick(NUMBERS)] = awkward(dice)
        case 2 if made:
            made[dice.below(16)] = made.pop(key)
        case 3 if made:
            made[dice.pick(TEXTS)] = made.pop(key)
        case 4:
            made[dice.below(16)] = awkward(dice)
        case _ if made:
            made[key] = change_value(made[key], dice, others)
        case _:
            made[key] = awkward(dice)
    return made


def _change_list(items: list[Value], dice: Dice, others: Sequence[bytes]) -> Value:
    place = dice.below(len(items)) if items else 0
    match dice.below(10):
        case 0:
            del items[place : place + 1]
        case 1:
            items.insert(place, awkward(dice))
        case 2 if items:
            items.insert(place, items[-1])
        case 3 if items:
            items[place], items[0] = items[0], items[place]
        case 4 if items:
            items *= 1 + dice.below(30)
        case _ if items:
            items[place] = change_value(items[place], dice, others)
        case _:
            items.append(awkward(dice))
    return items
