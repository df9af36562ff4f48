"""Deterministic CBOR (RFC 8949, section 4.2.1) with a guard in front of the decoder.

The library decodes; the guard only refuses, before anything is built, what no message of ours contains: tags,
floats and simple values, indefinite lengths, deep nesting, many items, lengths beyond the input, and every second
way to write a value: numbers longer than they need be, keys out of order or twice.
"""

from typing import Any, Final

import cbor2

from tasuki.sdk.errors import Refusal, Refused

_MAX_DEPTH: Final = 4
# Bounds the work on a message that nobody has signed; the largest of ours has 31.
_MAX_ITEMS: Final = 64
_BYTES, _ARRAY, _MAP, _TAG = 2, 4, 5, 6
_CONTAINERS: Final = frozenset((dict, list, tuple))
# By additional information: how many bytes the argument has, and the least that needs so many.
_WIDTHS: Final = {24: (1, 24), 25: (2, 1 << 8), 26: (4, 1 << 16), 27: (8, 1 << 32)}


def encode(value: object) -> bytes:
    """The one encoding of `value`."""
    return bytes(cbor2.dumps(_ordered(value)))


def _ordered(value: Any) -> Any:
    """`value` with the keys of every map in the order of their encodings; the library's own order is another one."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=cbor2.dumps)}
    if isinstance(value, (list, tuple)):
        # Most are flat: then there is nothing to order.
        return [_ordered(item) for item in value] if _CONTAINERS.intersection(map(type, value)) else value
    return value


def decode(data: bytes) -> Any:
    """The value whose one encoding is `data`. Raises Refused(MALFORMED) on any other bytes."""
    _guard(data)
    try:
        return cbor2.loads(data)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        raise Refused(Refusal.MALFORMED, type(error).__name__) from None


def _guard(data: bytes) -> None:
    """Walk over `data` once. Raises Refused(MALFORMED)."""
    size, position, items = len(data), 0, 0
    left, keys = 1, False  # items still to come where we are; whether it is a map, and the next item is a key
    before = b""  # the last key of that map
    above: list[tuple[int, bool, bytes]] = []
    while True:
        if not left:
            if not above:
                break
            left, keys, before = above.pop()
            continue
        left -= 1
        items += 1
        if items > _MAX_ITEMS:
            raise Refused(Refusal.MALFORMED, "CBOR with too many items")
        if position >= size:
            raise Refused(Refusal.MALFORMED, "CBOR ends early")
        start = position
        major, argument = data[position] >> 5, data[position] & 31
        position += 1
        if argument > 23:
            width, least = _WIDTHS.get(argument, (0, 0))
            # In Python 1 == 1.0 == True: a float or a boolean would be a second way to write an integer.
            if not width or major >= _TAG:
                raise Refused(Refusal.MALFORMED, "CBOR with a tag, float, simple value or open end")
            argument = int.from_bytes(data[position : position + width], "big")
            position += width
            if argument < least:
                raise Refused(Refusal.MALFORMED, "CBOR with a number longer than it need be")
        if major < _BYTES:
            pass
        elif major < _ARRAY:
            position += argument
        elif major < _TAG:
            count = argument * 2 if major == _MAP else argument
            if count > size - position:
                raise Refused(Refusal.MALFORMED, "CBOR ends early")
            if keys and left & 1:
                raise Refused(Refusal.MALFORMED, "CBOR with a container as a key")
            above.append((left, keys, before))
            if len(above) > _MAX_DEPTH:
                raise Refused(Refusal.MALFORMED, "CBOR is nested too deep")
            left, keys, before = count, major == _MAP, b""
            continue
        else:
            raise Refused(Refusal.MALFORMED, "CBOR with a tag, float, simple value or open end")
        # Of a map's 2 n items, with an odd number to come this was a key.
        if keys and left & 1:
            key = data[start:position]
            if key <= before:
                raise Refused(Refusal.MALFORMED, "CBOR keys out of order, or a key twice")
            before = key
    if position != size:
        raise Refused(Refusal.MALFORMED, "CBOR ends early or goes on")
