"""Updates before they are sealed: good ones of every kind and setting, and what a rogue device makes of them."""

import numpy as np
from fuzz_codec import change_table, tables
from fuzz_dice import Dice
from fuzz_mutate import change_bytes
from fuzz_world import changed, encode, secret, table_of

from tasuki.sdk import adapter, cbor, codec, update
from tasuki.sdk.fleet_table import FleetTable

ROOT = secret("root of a chain")


def good(kind: str) -> list[bytes]:
    """Updates of both formats for the table of `kind`, some of which found a chain."""
    table = table_of(kind)
    made = [
        update.encode(table, one, 1 + number, ROOT if number % 5 == 0 else None)
        for number, one in enumerate(tables(kind))
    ]
    return [*made, *(_former(table, scale) for scale in (0.0, 0.05, 1e30))]


def _former(table: FleetTable, scale: float) -> bytes:
    """Format 1: int8 rows."""
    rows, columns = table.shape
    joined = scale * np.random.default_rng(8).standard_normal((rows, columns + 1))
    return cbor.encode({1: 1, 7: 3, **codec.pack(adapter.from_joined(table.labels, joined), table.number)})


def rogue(pool: list[bytes], kind: str, dice: Dice) -> bytes:
    """A changed update: its codec's bytes (key 4), any field, its encoding, or any byte of it."""
    plain = dice.pick(pool)
    match dice.below(16):
        case 0:
            return dice.take(dice.below(120))
        case 1:
            return change_bytes(plain, dice, pool)
        case 2 | 3 | 4 | 5 | 6:
            return changed(plain, dice, pool)
        case 7:
            return encode({1: 2, 2: 1, 3: list(table_of(kind).shape), 4: dice.take(dice.below(160)), 7: 1}, dice)
        case _:
            fields = cbor.decode(plain)
            if fields[1] == 2:
                fields[4] = change_table(fields[4], kind, dice)
            else:
                key = dice.pick((4, 5, 6))
                fields[key] = change_bytes(fields[key], dice)
            return cbor.encode(fields)
