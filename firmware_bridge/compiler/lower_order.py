"""The order of calls: what nobody reads is left out, and copies are made when they are needed, not before.

A decoder joins each cache of keys and values with the new ones; made late, only one joined cache exists at once.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from tasuki.firmware_bridge.compiler.lower_calls import Call

_MOVES: Final = ("copy", "fill")


def alive(calls: Sequence[Call], outputs: Iterable[int]) -> list[Call]:
    """Calls that somebody reads: a negated DEQUANTIZE, for one, leaves the first behind."""
    needed = set(outputs)
    left = []
    for call in reversed(calls):
        if needed.intersection(access.storage for access in call.writes):
            left.append(call)
            needed.update(access.storage for access in call.reads)
    return left[::-1]


def late(calls: Sequence[Call]) -> list[Call]:
    """The calls with copies and fills just before the first that needs their result."""
    # By storage: the place of the first call that is known to need what copies put there.
    needed: dict[int, int] = {}
    places = list(range(len(calls)))
    for place, call in reversed(list(enumerate(calls))):
        if call.kernel in _MOVES:
            places[place] = needed.get(call.writes[0].storage, len(calls))
        # An update changes what its operand was copied to; all others write what is theirs alone.
        for access in call.accesses if call.kernel == "update_slice" else call.reads:
            needed[access.storage] = min(needed.get(access.storage, len(calls)), places[place])
    return [calls[place] for place in sorted(range(len(calls)), key=lambda place: (places[place], place))]
