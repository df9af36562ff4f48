"""Decoding is total and one-to-one: any bytes give the value that they alone encode, or one named refusal."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasuki.sdk import cbor
from tasuki.sdk.errors import Refusal, Refused

INTEGERS = st.integers(-(1 << 64), (1 << 64) - 1)
LEAVES = INTEGERS | st.binary(max_size=40) | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(INTEGERS, inner, max_size=3),
    max_leaves=12,
)


def outcome(data: bytes) -> object:
    """The value of `data`, or the reason why it has none."""
    try:
        return cbor.decode(data)
    except Refused as refusal:
        return refusal.reason


def small(value: object, depth: int = 3) -> bool:
    """Surely within the bounds on depth and on items."""
    if isinstance(value, dict):
        value = list(value.values())
    return not isinstance(value, list) or (depth > 0 and all(small(item, depth - 1) for item in value))


@given(VALUES)
def test_a_value_comes_back_or_is_nested_too_deep(value: object) -> None:
    data = cbor.encode(value)
    found = outcome(data)
    assert found == value or found is Refusal.MALFORMED
    assert found == value or not small(value)


@given(st.binary(max_size=64))
def test_any_bytes_give_their_value_or_malformed(data: bytes) -> None:
    found = outcome(data)
    assert found is Refusal.MALFORMED or cbor.encode(found) == data


@given(VALUES, st.data())
def test_changed_bytes_never_give_the_same_value(value: object, data: st.DataObject) -> None:
    encoded = bytearray(cbor.encode(value))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    found = outcome(bytes(encoded))
    assert found is Refusal.MALFORMED or found != value


@pytest.mark.parametrize(
    ("why", "data"),
    {
        "empty": b"",
        "trailing byte": b"\x01\x00",
        "ends in a length": b"\x5b\x00",
        "ends in a string": b"\x42a",
        "length of 2^64 - 1": b"\x5b" + b"\xff" * 8,
        "array of 2^64 - 1": b"\x9b" + b"\xff" * 8,
        "map of 2^63 pairs": b"\xbb\x80" + bytes(7),
        "1 in two bytes": b"\x18\x01",
        "length in two bytes": b"\x58\x01a",
        "keys out of order": b"\xa2\x02\x00\x01\x00",
        "a key twice": b"\xa2\x01\x00\x01\x00",
        "true for 1": b"\xf5",
        "1.0 for 1": b"\xf9\x3c\x00",
        "1.0 as a key": b"\xa1\xf9\x3c\x00\x00",
        "null": b"\xf6",
        "tag": b"\xc1\x00",
        "bignum": b"\xc2\x41\x01",
        "indefinite bytes": b"\x5f\x41a\xff",
        "indefinite array": b"\x9f\x01\xff",
        "lone break": b"\xff",
        "reserved length": b"\x1c",
        "bad UTF-8": b"\x61\xff",
        "a surrogate in UTF-8": b"\x63\xed\xa0\x80",
        "nested arrays": b"\x81" * 200_000 + b"\x00",
        "nested maps": b"\xa1\x00" * 200_000 + b"\x00",
        "a million items": b"\x9a\x00\x0f\x42\x40" + bytes(1_000_000),
        "array as a key": b"\xa1\x81\x9f\x00",
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_bytes_are_malformed(why: str, data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        cbor.decode(data)
    assert caught.value.reason is Refusal.MALFORMED, why


def test_nothing_is_built_before_the_guard_has_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the decoder saw bytes that the guard should have refused")

    monkeypatch.setattr(cbor2, "loads", never)
    for data in (
        b"\x81" * 200_000 + b"\x00",
        b"\x9a\x00\x0f\x42\x40" + bytes(1_000_000),
        b"\x5b" + b"\xff" * 8,
    ):
        with pytest.raises(Refused):
            cbor.decode(data)


def test_the_examples_of_rfc_8949_that_are_in_our_subset() -> None:
    """Appendix A: integers, strings, arrays and maps, written there by hand."""
    examples = {
        "00": 0,
        "17": 23,
        "1818": 24,
        "1903e8": 1000,
        "1a000f4240": 1_000_000,
        "1bffffffffffffffff": (1 << 64) - 1,
        "20": -1,
        "3903e7": -1000,
        "4401020304": b"\x01\x02\x03\x04",
        "6449455446": "IETF",
        "62c3bc": "ü",
        "83010203": [1, 2, 3],
        "8301820203820405": [1, [2, 3], [4, 5]],
        "a201020304": {1: 2, 3: 4},
    }
    for written, value in examples.items():
        assert cbor.encode(value) == bytes.fromhex(written)
        assert cbor.decode(bytes.fromhex(written)) == value
