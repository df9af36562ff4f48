"""Int8 rows: bounded error, exact shape, only finite numbers, and nothing that breaks the decoder.

They are how the fleet's adapter travels, and how updates of format 1 did, which are still read.
"""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from protocol_kit import LABELS, WIDTH, head, table

from tasuki.sdk import adapter, cbor, codec, downlink, update
from tasuki.sdk.adapter import Head
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.update import Update

ROWS = len(LABELS)
FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
HEADS = st.builds(
    Head,
    st.just(LABELS),
    hnp.arrays(np.float32, (ROWS, WIDTH), elements=FINITE),
    hnp.arrays(np.float32, ROWS, elements=FINITE),
)


def former(head: Head, samples: int) -> bytes:
    """An update of format 1, as the first version wrote it."""
    return cbor.encode({1: 1, 7: samples, **codec.pack(head, 1)})


def fields(**changed: Any) -> dict[int, Any]:
    names = {"format": 1, "kind": 2, "shape": 3, "scales": 4, "rows": 5, "bias": 6, "samples": 7}
    made: dict[int, Any] = {1: 1, 7: 3, **codec.pack(head(), 1)}
    made.update({names[name]: value for name, value in changed.items()})
    return made


def decode(made: dict[int, Any]) -> Update:
    return update.decode(cbor.encode(made), table())


@given(HEADS)
def test_rounding_is_at_most_half_a_step_of_the_row(before: Head) -> None:
    after = codec.unpack(codec.pack(before, 1), table())
    step = np.abs(before.weight).max(1, keepdims=True) / 127
    tolerance = step * 0.5001 + np.float32(1e-38)
    assert (np.abs(after.weight - before.weight) <= tolerance).all()
    np.testing.assert_array_equal(after.bias, before.bias)


@given(HEADS, st.integers(1, (1 << 32) - 1))
def test_the_same_update_has_the_same_bytes_and_comes_back(before: Head, samples: int) -> None:
    data = former(before, samples)
    assert data == former(before, samples)
    after = update.decode(data, table())
    assert after.samples == samples
    assert after.root is None
    assert after.delta.labels == LABELS
    assert after.delta.weight.dtype == after.delta.bias.dtype == np.float32
    again = codec.unpack(codec.pack(before, 1), table())
    np.testing.assert_array_equal(after.delta.joined, again.joined)


def test_a_zero_head_is_exactly_zero() -> None:
    after = codec.unpack(codec.pack(adapter.zero(LABELS, WIDTH), 1), table())
    assert not after.weight.any()
    assert not after.bias.any()


def test_bytes_of_the_relays_head() -> None:
    """32 labels and 128 features: one byte a weight, eight bytes a row, and at most 40 around them."""
    rows, columns = 32, 128
    data = downlink.content(head(0, rows, columns), table("head", rows, columns))
    assert rows * columns + 8 * rows < len(data) <= rows * columns + 8 * rows + 40


@pytest.mark.parametrize(("kind", "number", "columns"), [("head", 1, WIDTH), ("low_rank", 2, 3), ("bias", 3, 0)])
def test_every_kind_that_travels_comes_back(kind: str, number: int, columns: int) -> None:
    of = table(kind)
    before = head(2, ROWS, columns) if columns else Head(LABELS, np.zeros((ROWS, 0), np.float32), head(2).bias)
    data = downlink.content(before, of)
    assert cbor.decode(data)[2] == of.number == number
    after = downlink.read_content(data, of)
    assert after.weight.shape == (ROWS, columns)
    np.testing.assert_array_equal(after.bias, before.bias)
    if columns:
        step = np.abs(before.weight).max(1, keepdims=True) / 127
        assert (np.abs(after.weight - before.weight) <= step * 0.5001).all()


BAD = [
    (Refusal.MALFORMED, {"shape": [ROWS]}),
    (Refusal.MALFORMED, {"shape": [ROWS, WIDTH, 1]}),
    (Refusal.MALFORMED, {"shape": b"57"}),
    (Refusal.MALFORMED, {"kind": "head"}),
    (Refusal.MALFORMED, {"rows": "text"}),
    (Refusal.MALFORMED, {"rows": bytes(ROWS * WIDTH - 1)}),
    (Refusal.MALFORMED, {"rows": bytes(ROWS * WIDTH + 1)}),
    (Refusal.MALFORMED, {"scales": bytes(4 * ROWS - 1)}),
    (Refusal.MALFORMED, {"bias": b""}),
    (Refusal.WRONG_KIND, {"kind": 2}),
    (Refusal.WRONG_KIND, {"kind": 0}),
    (Refusal.WRONG_KIND, {"kind": -1}),
    (Refusal.WRONG_SHAPE, {"shape": [ROWS + 1, WIDTH]}),
    (Refusal.WRONG_SHAPE, {"shape": [ROWS, WIDTH + 1]}),
    (Refusal.WRONG_SHAPE, {"shape": [0, 0]}),
    (Refusal.WRONG_SHAPE, {"shape": [-ROWS, -WIDTH]}),
    (Refusal.WRONG_SHAPE, {"shape": [1 << 63, 1 << 63]}),
    (Refusal.NOT_FINITE, {"scales": struct.pack("<5f", 1, 1, float("nan"), 1, 1)}),
    (Refusal.NOT_FINITE, {"scales": struct.pack("<5f", 1, 1, float("inf"), 1, 1)}),
    (Refusal.NOT_FINITE, {"bias": struct.pack("<5f", 1, float("-inf"), 1, 1, 1)}),
    (Refusal.NOT_FINITE, {"scales": struct.pack("<5f", *[3e38] * 5), "rows": b"\x7f" * (ROWS * WIDTH)}),
]


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        (Refusal.MALFORMED, {"format": 2}),
        (Refusal.MALFORMED, {"format": 3}),
        (Refusal.MALFORMED, {"samples": 0}),
        (Refusal.MALFORMED, {"samples": -1}),
        (Refusal.MALFORMED, {"samples": 1 << 32}),
        (Refusal.MALFORMED, {"samples": "3"}),
        (Refusal.MALFORMED, {"samples": True}),
        *BAD,
    ],
)
def test_each_bad_field_has_its_refusal(reason: Refusal, changed: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        decode(fields(**changed))
    assert caught.value.reason is reason


@pytest.mark.parametrize(("reason", "changed"), BAD)
def test_each_bad_field_of_an_adapter_has_the_same_refusal(reason: Refusal, changed: dict[str, Any]) -> None:
    made = fields(**changed)
    del made[7]
    with pytest.raises(Refused) as caught:
        downlink.read_content(cbor.encode(made), table())
    assert caught.value.reason is reason


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 5, 6, 7])
def test_no_field_may_be_missing(missing: int) -> None:
    made = fields()
    del made[missing]
    with pytest.raises(Refused, match="malformed"):
        decode(made)


@pytest.mark.parametrize("extra", [0, 8, 9, 99, -1, "note"])
def test_no_field_may_be_added(extra: int | str) -> None:
    with pytest.raises(Refused, match="malformed"):
        decode({**fields(), extra: 0})


@given(st.data())
def test_changed_updates_give_an_update_or_one_refusal(data: st.DataObject) -> None:
    """What a rogue but enrolled device can send after the seal: every branch behind the signature."""
    changed = bytearray(former(head(), 3))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                changed[place] ^= data.draw(st.integers(1, 255))
            case "cut" if len(changed) > 1:
                del changed[place:]
            case _:
                changed[place:place] = data.draw(st.binary(max_size=9))
        if not changed:
            break
    reason, after = None, None
    try:
        after = update.decode(bytes(changed), table())
    except Refused as refusal:
        reason = refusal.reason
    if after is None:
        assert reason in (Refusal.MALFORMED, Refusal.WRONG_KIND, Refusal.WRONG_SHAPE, Refusal.NOT_FINITE)
    else:
        assert np.isfinite(after.delta.weight).all()
        assert np.isfinite(after.delta.bias).all()
        assert 0 < after.samples < 1 << 32
