"""The update's bytes (format 2): of one kind and shape, closed, and total to decode, whatever the codec's bytes are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from protocol_kit import LABELS, WIDTH, head, seed, table

from tasuki.sdk import adapter, cbor, compression, update
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.fleet_record import KINDS

ROWS = len(LABELS)
ROOT = seed("root")
PACKED, _ = compression.auto(head().joined, 1 << 20, table().metric, 1, 1e6)


def fields(**changed: Any) -> dict[int, Any]:
    names = {"format": 1, "kind": 2, "shape": 3, "table": 4, "samples": 7, "root": 9}
    made: dict[int, Any] = {1: 2, 2: 1, 3: [ROWS, WIDTH], 4: PACKED, 7: 3}
    made.update({names[name]: value for name, value in changed.items()})
    return made


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_an_update_of_every_kind_comes_back(kind: str, data: st.DataObject) -> None:
    of = table(kind)
    values = data.draw(hnp.arrays(np.float32, of.joined_shape, elements=st.floats(-100, 100, width=32)))
    samples, root = data.draw(st.integers(1, (1 << 32) - 1)), data.draw(st.none() | st.binary(min_size=32, max_size=32))
    packed, _ = compression.auto(values, 1 << 16, of.metric, 1, 1e9)
    made = update.encode(of, packed, samples, root)
    assert made == update.encode(of, packed, samples, root)
    after = update.decode(made, of)
    assert (after.samples, after.root, after.delta.labels) == (samples, root, LABELS)
    told = compression.decompress(packed, *of.joined_shape, of.metric)
    np.testing.assert_array_equal(after.delta.joined, told)
    assert after.delta.weight.shape == of.shape


def test_the_bytes_are_the_map_that_spec_names() -> None:
    made = update.encode(table("low_rank"), b"\x00", 3, ROOT)
    by_hand = b"\xa6\x01\x02\x02\x02\x03\x82\x05\x03\x04\x41\x00\x07\x03\x09\x58\x20" + ROOT
    assert made == by_hand
    assert not update.decode(made, table("low_rank")).delta.joined.any()


def test_around_the_table_an_update_has_few_bytes() -> None:
    """Map, format, kind, shape, samples; with a root its 32 bytes and 3 more."""
    plain = update.encode(table(), PACKED, (1 << 32) - 1)
    assert len(plain) - len(PACKED) <= 20
    assert len(update.encode(table(), PACKED, (1 << 32) - 1, ROOT)) == len(plain) + 35


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        (Refusal.MALFORMED, {"format": 1}),
        (Refusal.MALFORMED, {"format": 3}),
        (Refusal.MALFORMED, {"format": "2"}),
        (Refusal.MALFORMED, {"kind": "head"}),
        (Refusal.MALFORMED, {"samples": 0}),
        (Refusal.MALFORMED, {"samples": -1}),
        (Refusal.MALFORMED, {"samples": 1 << 32}),
        (Refusal.MALFORMED, {"samples": "3"}),
        (Refusal.MALFORMED, {"samples": True}),
        (Refusal.MALFORMED, {"shape": [ROWS]}),
        (Refusal.MALFORMED, {"shape": [ROWS, WIDTH, 1]}),
        (Refusal.MALFORMED, {"shape": b"57"}),
        (Refusal.MALFORMED, {"table": "text"}),
        (Refusal.MALFORMED, {"table": b""}),
        (Refusal.MALFORMED, {"table": b"\xff" * 9}),
        (Refusal.MALFORMED, {"table": PACKED[:2]}),
        (Refusal.MALFORMED, {"root": b""}),
        (Refusal.MALFORMED, {"root": ROOT[:-1]}),
        (Refusal.MALFORMED, {"root": ROOT + b"\x00"}),
        (Refusal.MALFORMED, {"root": "r" * 32}),
        (Refusal.WRONG_KIND, {"kind": 2}),
        (Refusal.WRONG_KIND, {"kind": 0}),
        (Refusal.WRONG_KIND, {"kind": -1}),
        (Refusal.WRONG_KIND, {"kind": 1 << 63}),
        (Refusal.WRONG_SHAPE, {"shape": [ROWS + 1, WIDTH]}),
        (Refusal.WRONG_SHAPE, {"shape": [ROWS, WIDTH + 1]}),
        (Refusal.WRONG_SHAPE, {"shape": [WIDTH, ROWS]}),
        (Refusal.WRONG_SHAPE, {"shape": [0, 0]}),
        (Refusal.WRONG_SHAPE, {"shape": [-ROWS, -WIDTH]}),
        (Refusal.WRONG_SHAPE, {"shape": [1 << 63, 1 << 63]}),
    ],
)
def test_each_bad_field_has_its_refusal(reason: Refusal, changed: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        update.decode(cbor.encode(fields(**changed)), table())
    assert caught.value.reason is reason


def test_the_template_of_the_bad_ones_is_good() -> None:
    assert update.decode(cbor.encode(fields(root=ROOT)), table()).samples == 3


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 7])
def test_no_field_may_be_missing(missing: int) -> None:
    made = fields()
    del made[missing]
    with pytest.raises(Refused, match="malformed"):
        update.decode(cbor.encode(made), table())


@pytest.mark.parametrize("extra", [0, 5, 6, 8, 10, 99, -1, "note"])
def test_no_field_may_be_added(extra: int | str) -> None:
    with pytest.raises(Refused, match="malformed"):
        update.decode(cbor.encode({**fields(), extra: 0}), table())


@given(st.data())
def test_changed_updates_give_an_update_or_one_refusal(data: st.DataObject) -> None:
    """What a rogue but enrolled device can send after the seal."""
    changed = bytearray(cbor.encode(fields(root=ROOT)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                changed[place] ^= data.draw(st.integers(1, 255))
            case "cut" if place:
                del changed[place:]
            case _:
                changed[place:place] = data.draw(st.binary(max_size=9))
    total(bytes(changed))


@given(st.binary(max_size=120))
def test_any_bytes_in_the_table_give_an_update_or_one_refusal(packed: bytes) -> None:
    total(cbor.encode(fields(table=packed)))


def total(data: bytes) -> None:
    reason, after = None, None
    try:
        after = update.decode(data, table())
    except Refused as refusal:
        reason = refusal.reason
    if after is None:
        assert reason in (Refusal.MALFORMED, Refusal.WRONG_KIND, Refusal.WRONG_SHAPE, Refusal.NOT_FINITE)
        return
    assert after.delta.joined.shape == (ROWS, WIDTH + 1)
    assert np.isfinite(after.delta.joined).all()
    assert 0 < after.samples < 1 << 32
    assert after.root is None or len(after.root) == 32


def test_a_zero_table_is_exactly_zero() -> None:
    packed, _ = compression.auto(adapter.zero(LABELS, WIDTH).joined, 64, table().metric, 1, 1.0)
    assert not update.decode(update.encode(table(), packed, 1), table()).delta.joined.any()
