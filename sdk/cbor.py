"""Deterministic CBOR (RFC 8949, section 4.2.1) with a guard in front of the decoder.

The library decodes; the guard only refuses, before anything is built, what no message of ours contains: tags,
floats and simple values, indefinite lengths, deep nesting, many items, lengths beyond the input. Re-encoding
then catches every other second way to write a value.
"""

from typing import Any, Final

import cbor2

from tasuki.sdk.errors import Refusal, Refused

_MAX_DEPTH: Final = 4
# Bounds the work on a message that nobody has signed; the largest of ours has 17.
_MAX_ITEMS: Final = 64
_ARRAY, _MAP, _TAG, _SIMPLE = 4, 5, 6, 7


def encode(value: object) -> bytes:
    """The one encoding of `value`."""
    return bytes(cbor2.dumps(value, canonical=True))


def decode(data: bytes) -> Any:
    """The value whose one encoding is `data`. Raises Refused(MALFORMED) on any other bytes."""
    _guard(data)
    try:
        value = cbor2.loads(data)
        same = encode(value) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        raise Refused(Refusal.MALFORMED, type(error).__name__) from None
    if not same:
        raise Refused(Refusal.MALFORMED, "not deterministic CBOR")
    return value


def _guard(data: bytes) -> None:
    position = 0
    left = [1]  # items still to come at each depth
    items_seen = 0
    while left:
        if left[-1] == 0:
            left.pop()
            continue
        left[-1] -= 1
        items_seen += 1
        if items_seen > _MAX_ITEMS:
            raise Refused(Refusal.MALFORMED, "CBOR with too many items")
        if position >= len(data):
            raise Refused(Refusal.MALFORMED, "CBOR ends early")
        major, size = data[position] >> 5, data[position] & 31
        position += 1
        # In Python 1 == 1.0 == True: a float or a boolean would be a second way to write an integer.
        if size > 27 or major in (_TAG, _SIMPLE):
            raise Refused(Refusal.MALFORMED, "CBOR with a tag, float, simple value or open end")
        if size < 24:
            argument = size
        else:
            width = 1 << (size - 24)
            argument = int.from_bytes(data[position : position + width], "big")
            position += width
        if major in (2, 3):
            position += argument
        elif major in (_ARRAY, _MAP):
            items = argument * (2 if major == _MAP else 1)
            if items > len(data) - position:
                raise Refused(Refusal.MALFORMED, "CBOR ends early")
            left.append(items)
            if len(left) > _MAX_DEPTH + 1:
                raise Refused(Refusal.MALFORMED, "CBOR is nested too deep")
    if position != len(data):
        raise Refused(Refusal.MALFORMED, "CBOR ends early or goes on")
