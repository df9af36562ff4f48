"""Content in parts: cut and joined again, in any order, and nothing but the offered bytes."""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasuki.sdk import cbor, transfer
from tasuki.sdk.errors import InputError, Refusal, Refused
from tasuki.sdk.transfer import HASH_BYTES, MAX_PARTS, MIN_PART_BYTES

MOST = 1 << 20
contents = st.binary(min_size=1, max_size=3000)
sizes = st.integers(MIN_PART_BYTES, 1500)


def outcome(call: Callable[..., object], *arguments: object) -> object:
    """What the call gives, or the reason why it refuses."""
    try:
        return call(*arguments)
    except Refused as refusal:
        return refusal.reason


def reason_of(*arguments: object) -> Refusal:
    with pytest.raises(Refused) as caught:
        transfer.check(*arguments)  # type: ignore[arg-type]
    return caught.value.reason


@given(contents, sizes, st.randoms(use_true_random=False))
def test_any_order_gives_the_content(content: bytes, part: int, rng: object) -> None:
    offered = transfer.read(cbor.decode(cbor.encode(transfer.offer(content, part).fields())), MOST)
    order = list(range(len(offered.hashes)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    have: dict[int, bytes] = {}
    for index in order:
        assert index in transfer.missing(offered, have)
        data = transfer.cut(content, part, index)
        transfer.check(offered, index, data)
        have[index] = data
    assert transfer.missing(offered, have) == []
    assert transfer.join(offered, have) == content


@given(contents, sizes, st.binary(max_size=1600), st.integers(-3, 60))
def test_only_the_offered_part_is_taken(content: bytes, part: int, data: bytes, index: int) -> None:
    offered = transfer.offer(content, part)
    if data == transfer.cut(content, part, index) and 0 <= index < len(offered.hashes):
        transfer.check(offered, index, data)
    else:
        assert reason_of(offered, index, data) in (Refusal.OVERSIZE, Refusal.MALFORMED, Refusal.MIXED_PARTS)


def test_a_part_of_another_content_is_named() -> None:
    offered = transfer.offer(bytes(200), 100)
    assert reason_of(offered, 0, b"\x01" * 100) is Refusal.MIXED_PARTS
    assert reason_of(offered, 2, bytes(100)) is Refusal.MALFORMED
    assert reason_of(offered, 0, bytes(101)) is Refusal.OVERSIZE


def test_a_content_that_its_parts_contradict_is_never_given_out() -> None:
    honest = transfer.offer(bytes(200), 100)
    lying = transfer.Offer(200, 100, hashlib.sha256(b"other").digest(), honest.hashes)
    with pytest.raises(Refused) as caught:
        transfer.join(lying, {0: bytes(100), 1: bytes(100)})
    assert caught.value.reason is Refusal.MIXED_PARTS


@given(st.dictionaries(st.sampled_from([10, 11, 12, 13, 14]),
                       st.one_of(st.integers(-5, 1 << 40), st.binary(max_size=200))))  # fmt: skip
def test_any_fields_give_an_offer_within_bounds_or_a_refusal(fields: dict[int, object]) -> None:
    offered = outcome(transfer.read, fields, MOST)
    if isinstance(offered, transfer.Offer):
        assert 0 < offered.size <= MOST
        assert len(offered.hashes) == -(-offered.size // offered.part) <= MAX_PARTS
    else:
        assert offered in (Refusal.MALFORMED, Refusal.OVERSIZE)


def test_size_is_bounded_before_a_byte_is_taken() -> None:
    fields = transfer.offer(bytes(5000), 1000).fields()
    with pytest.raises(Refused) as caught:
        transfer.read(fields, 4999)
    assert caught.value.reason is Refusal.OVERSIZE
    for key, value in ((11, 0), (11, MIN_PART_BYTES - 1), (12, bytes(31)), (13, bytes(4 * HASH_BYTES)), (10, 0)):
        with pytest.raises(Refused) as caught:
            transfer.read({**fields, key: value}, MOST)
        assert caught.value.reason is Refusal.MALFORMED


def test_too_many_parts_are_an_input_error() -> None:
    with pytest.raises(InputError, match="packet limit"):
        transfer.offer(bytes(MIN_PART_BYTES * MAX_PARTS + 1), MIN_PART_BYTES)
    with pytest.raises(InputError):
        transfer.offer(b"", 100)


@given(st.sets(st.integers(0, MAX_PARTS - 1)))
def test_bitmaps(indexes: set[int]) -> None:
    assert transfer.indexes(transfer.bitmap(indexes)) == sorted(indexes)


@given(st.binary(max_size=200))
def test_any_bitmap_has_one_meaning(bits: bytes) -> None:
    found = outcome(transfer.indexes, bits)
    if isinstance(found, list):
        assert transfer.bitmap(found) == bits
    else:
        assert found is Refusal.MALFORMED
        assert len(bits) > MAX_PARTS // 8 or bits.endswith(b"\0")
