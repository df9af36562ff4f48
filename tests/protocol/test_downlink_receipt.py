"""What comes down: an adapter, only forward, of this fleet and artifact; a receipt, for this device only."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_kit import ARTIFACT, DEVICE, FLEET, LABELS, WIDTH, head, signing

from tasuki.sdk import cbor, cose, downlink, receipt
from tasuki.sdk.downlink import Adapter
from tasuki.sdk.envelope import Context
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.receipt import Receipt

GATEWAY = signing("gateway")
MESSAGE = downlink.publish(Adapter(4, head(), expires=2_000), FLEET, ARTIFACT, GATEWAY)
EXPECT: dict[str, Any] = {
    "fleet": FLEET, "artifact": ARTIFACT, "labels": LABELS, "width": WIDTH,
    "gateway": GATEWAY.public_key(), "now": 1_000.0,
}  # fmt: skip


def refusal_of(message: bytes, **changed: Any) -> Refusal:
    with pytest.raises(Refused) as caught:
        downlink.accept(message, **{**EXPECT, **changed})
    return caught.value.reason


def signed(payload: Any, version: int = 4) -> bytes:
    """A message of the gateway with any payload: what a faulty or newer gateway might publish."""
    context = Context(FLEET, downlink.EVERY_DEVICE, "adapter", ARTIFACT, version, version, 0)
    data = payload if isinstance(payload, bytes) else cbor.encode(payload)
    return cose.sign(context.header(downlink.GATEWAY), data, context.encode(), GATEWAY)


def content() -> dict[int, Any]:
    made = cbor.decode(cose.parse(MESSAGE).payload)
    assert isinstance(made, dict)
    return made


def test_an_adapter_comes_back_as_both_sides_read_it() -> None:
    made = downlink.accept(MESSAGE, **EXPECT)
    assert (made.version, made.expires) == (4, 2_000)
    step = np.abs(head().weight).max(1, keepdims=True) / 127
    assert (np.abs(made.head.weight - head().weight) <= step * 0.5001).all()
    np.testing.assert_array_equal(made.head.bias, head().bias)


def test_publishing_is_deterministic() -> None:
    assert downlink.publish(Adapter(4, head(), expires=2_000), FLEET, ARTIFACT, GATEWAY) == MESSAGE


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        (Refusal.BAD_SIGNATURE, {"fleet": "ash"}),
        (Refusal.BAD_SIGNATURE, {"gateway": signing("former gateway").public_key()}),
        (Refusal.WRONG_ARTIFACT, {"artifact": bytes(32)}),
        (Refusal.BAD_SIGNATURE, {"artifact": ARTIFACT[:8] + bytes(24)}),
        (Refusal.ROLLBACK, {"current": 5}),
        (Refusal.EXPIRED, {"now": 2_001.0}),
        (Refusal.WRONG_SHAPE, {"width": WIDTH + 1}),
        (Refusal.WRONG_SHAPE, {"labels": LABELS[:-1]}),
    ],
)
def test_each_wrong_adapter_has_its_refusal(reason: Refusal, changed: dict[str, Any]) -> None:
    assert refusal_of(MESSAGE, **changed) is reason


def test_the_same_version_again_is_no_rollback() -> None:
    assert downlink.accept(MESSAGE, **{**EXPECT, "current": 4}).version == 4


def test_without_an_expiry_the_clock_does_not_matter() -> None:
    forever = downlink.publish(Adapter(4, head()), FLEET, ARTIFACT, GATEWAY)
    for now in (0.0, 1e12):
        assert downlink.accept(forever, **{**EXPECT, "now": now}).expires == 0


@pytest.mark.parametrize(
    "changed",
    [
        {1: 2}, {8: -1}, {8: 1 << 40}, {8: "soon"}, {9: 0}, {2: 2}, {5: b""},
    ],
    ids=str,
)  # fmt: skip
def test_a_signed_but_malformed_adapter_is_refused(changed: dict[int, Any]) -> None:
    assert refusal_of(signed({**content(), **changed})) is Refusal.MALFORMED


def test_the_payload_must_be_deterministic_cbor() -> None:
    assert refusal_of(signed(b"")) is Refusal.MALFORMED
    assert refusal_of(signed(b"\xbf" + cbor.encode(content())[1:] + b"\xff")) is Refusal.MALFORMED
    assert refusal_of(signed(cbor.encode(content()) + b"\x00")) is Refusal.MALFORMED


@given(st.data())
def test_any_change_after_signing_is_refused(data: st.DataObject) -> None:
    changed = bytearray(MESSAGE)
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    if bytes(changed) == MESSAGE:
        return
    assert refusal_of(bytes(changed)) in (Refusal.MALFORMED, Refusal.BAD_SIGNATURE, Refusal.WRONG_ARTIFACT)


RECEIPT = Receipt(9, Refusal.ADMITTED, 4)
WORD = receipt.issue(RECEIPT, FLEET, DEVICE, ARTIFACT, GATEWAY)
HERE: dict[str, Any] = {
    "fleet": FLEET,
    "device": DEVICE,
    "artifact": ARTIFACT,
    "gateway": GATEWAY.public_key(),
}


@pytest.mark.parametrize("status", list(Refusal))
def test_every_status_travels(status: Refusal) -> None:
    word = Receipt(9, status, 4)
    assert receipt.accept(receipt.issue(word, FLEET, DEVICE, ARTIFACT, GATEWAY), **HERE) == word


@pytest.mark.parametrize(
    "changed",
    [
        {"fleet": "ash"},
        {"device": "cellar"},
        {"artifact": bytes(32)},
        {"gateway": signing("device").public_key()},
    ],
    ids=["fleet", "device", "artifact", "key"],
)
def test_a_receipt_is_for_one_device_of_one_fleet(changed: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        receipt.accept(WORD, **{**HERE, **changed})
    assert caught.value.reason is Refusal.BAD_SIGNATURE


def test_a_receipt_can_not_be_rewritten() -> None:
    """Neither for another sequence, nor from a refusal to an admission."""
    forged = cose.parse(receipt.issue(Receipt(9, Refusal.NORM, 4), FLEET, DEVICE, ARTIFACT, GATEWAY))
    for header in (
        dataclasses.replace(forged.header, code=0),
        dataclasses.replace(forged.header, sequence=10),
    ):
        resigned = cose.sign(header, b"", b"", signing("attacker"))
        with pytest.raises(Refused) as caught:
            receipt.accept(resigned, **HERE)
        assert caught.value.reason is Refusal.BAD_SIGNATURE


def test_an_unknown_status_or_a_payload_is_malformed() -> None:
    for code, payload in ((99, b""), (0, b"more")):
        context = Context(FLEET, DEVICE, "receipt", ARTIFACT, 4, 9, code)
        message = cose.sign(context.header(downlink.GATEWAY), payload, context.encode(), GATEWAY)
        with pytest.raises(Refused) as caught:
            receipt.accept(message, **HERE)
        assert caught.value.reason is Refusal.MALFORMED


def test_no_kind_of_message_passes_for_another() -> None:
    with pytest.raises(Refused):
        downlink.accept(WORD, **EXPECT)
    with pytest.raises(Refused):
        receipt.accept(MESSAGE, **HERE)


def test_codes_of_refusals_never_change() -> None:
    """They travel in receipts."""
    assert {reason.name: int(reason) for reason in Refusal} == {
        "ADMITTED": 0, "MALFORMED": 1, "OVERSIZE": 2, "UNKNOWN_DEVICE": 3, "BAD_SIGNATURE": 4,
        "BAD_SEAL": 5, "WRONG_SUITE": 6, "WRONG_ARTIFACT": 7, "STALE_BASE": 8, "REPLAY": 9,
        "WRONG_SHAPE": 10, "NOT_FINITE": 11, "NORM": 12, "WRONG_FLEET": 13, "ROLLBACK": 14, "EXPIRED": 15,
    }  # fmt: skip
