"""What comes down: an announcement, only forward, of this fleet and artifact; a receipt, for one message."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_kit import ARTIFACT, DEVICE, FLEET, LABELS, WIDTH, head, signing, signing_p256, table

from tasuki.sdk import cbor, codec, cose, downlink, receipt, transfer
from tasuki.sdk.downlink import Announcement
from tasuki.sdk.envelope import Context
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.receipt import Receipt
from tasuki.sdk.signing import Signer

GATEWAY, NEXT = signing("gateway"), signing("next gateway")
CONTENT = downlink.content(head(), table())
SAID = Announcement(4, 500, 2_000, transfer.offer(CONTENT, 64))
MESSAGE = downlink.publish(SAID, FLEET, ARTIFACT, GATEWAY)
EXPECT: dict[str, Any] = {
    "fleet": FLEET, "artifact": ARTIFACT, "gateways": [GATEWAY.public], "most": len(CONTENT), "now": 1_000.0,
}  # fmt: skip
# What a change after signing can lead to: never to an announcement or a receipt.
UNSIGNED = (Refusal.MALFORMED, Refusal.BAD_SIGNATURE, Refusal.WRONG_ARTIFACT, Refusal.WRONG_FLEET)


def refusal_of(message: bytes, **changed: Any) -> Refusal:
    with pytest.raises(Refused) as caught:
        downlink.accept(message, **{**EXPECT, **changed})
    return caught.value.reason


def signed(payload: Any, version: int = 4) -> bytes:
    """A message of the gateway with any payload: what a faulty or newer gateway might publish."""
    context = Context(FLEET, downlink.EVERY_DEVICE, "adapter", ARTIFACT, version, version, 0)
    data = payload if isinstance(payload, bytes) else cbor.encode(payload)
    return cose.sign(context.header(), data, context.encode(), GATEWAY)


def fields() -> dict[int, Any]:
    made = cbor.decode(cose.parse(MESSAGE).payload)
    assert isinstance(made, dict)
    return made


def test_an_announcement_comes_back_as_it_was_published() -> None:
    assert downlink.accept(MESSAGE, **EXPECT) == SAID


def test_an_adapter_comes_back_as_both_sides_read_it() -> None:
    made = downlink.read_content(CONTENT, table())
    step = np.abs(head().weight).max(1, keepdims=True) / 127
    assert (np.abs(made.weight - head().weight) <= step * 0.5001).all()
    np.testing.assert_array_equal(made.bias, head().bias)
    # What was rounded once is not rounded again.
    assert downlink.content(made, table()) == CONTENT


def test_publishing_is_deterministic() -> None:
    assert downlink.content(head(), table()) == CONTENT
    assert downlink.publish(SAID, FLEET, ARTIFACT, GATEWAY) == MESSAGE


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        (Refusal.WRONG_FLEET, {"fleet": "ash"}),
        (Refusal.BAD_SIGNATURE, {"gateways": [signing("former gateway").public]}),
        (Refusal.BAD_SIGNATURE, {"gateways": []}),
        (Refusal.WRONG_ARTIFACT, {"artifact": bytes(32)}),
        (Refusal.BAD_SIGNATURE, {"artifact": ARTIFACT[:4] + bytes(28)}),
        (Refusal.ROLLBACK, {"current": 5}),
        (Refusal.EXPIRED, {"now": 2_001.0}),
        (Refusal.OVERSIZE, {"most": len(CONTENT) - 1}),
    ],
)
def test_each_wrong_announcement_has_its_refusal(reason: Refusal, changed: dict[str, Any]) -> None:
    assert refusal_of(MESSAGE, **changed) is reason


def test_the_next_key_is_believed_as_the_present_one() -> None:
    """During a rotation a device knows two keys."""
    both = {**EXPECT, "gateways": [NEXT.public, GATEWAY.public]}
    assert downlink.accept(MESSAGE, **both) == SAID
    assert downlink.accept(downlink.publish(SAID, FLEET, ARTIFACT, NEXT), **both) == SAID


@pytest.mark.parametrize(
    ("reason", "rows", "columns", "kind"),
    [
        (Refusal.WRONG_SHAPE, len(LABELS), WIDTH + 1, "head"),
        (Refusal.WRONG_SHAPE, len(LABELS) - 1, WIDTH, "head"),
        (Refusal.WRONG_KIND, len(LABELS), WIDTH, "low_rank"),
        (Refusal.WRONG_KIND, len(LABELS), WIDTH, "bias"),
    ],
)
def test_content_of_another_table_is_refused(reason: Refusal, rows: int, columns: int, kind: str) -> None:
    with pytest.raises(Refused) as caught:
        downlink.read_content(CONTENT, table(kind, rows, columns))
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    "changed", [{1: 2}, {1: 0}, {8: 0}, {7: 1}, {5: b""}, {5: None}, {2: "head"}, {4: bytes(19)}], ids=str
)
def test_malformed_content_is_refused(changed: dict[int, Any]) -> None:
    made = {**cbor.decode(CONTENT), **changed}
    with pytest.raises(Refused, match="malformed"):
        downlink.read_content(cbor.encode({key: value for key, value in made.items() if value is not None}), table())


def test_an_adapter_that_the_first_version_kept_is_still_read() -> None:
    """Number 1 had the table in the signed message itself (SPEC.md, "Earlier numbers")."""
    former = cose.Header(4, 4, 0, ARTIFACT[:8], "gateway")
    payload = cbor.encode({1: 1, 8: 2_000, **codec.pack(head(), 1)})
    kept = cose.sign(former, payload, b"as it was", GATEWAY)
    assert downlink.former_content(kept) == CONTENT
    assert downlink.former_content(CONTENT) == CONTENT
    with pytest.raises(Refused, match="malformed"):
        downlink.former_content(MESSAGE)


def test_the_same_version_again_is_no_rollback() -> None:
    assert downlink.accept(MESSAGE, **{**EXPECT, "current": 4}).version == 4


def test_a_clock_that_is_behind_counts_from_when_it_was_issued() -> None:
    """So what was expired when it was signed is never good."""
    early = {**EXPECT, "now": 0.0}
    assert downlink.accept(MESSAGE, **early).issued == 500
    backwards = dataclasses.replace(SAID, issued=2_001)
    assert refusal_of(downlink.publish(backwards, FLEET, ARTIFACT, GATEWAY), now=0.0) is Refusal.EXPIRED


def test_without_an_expiry_the_clock_does_not_matter() -> None:
    forever = downlink.publish(dataclasses.replace(SAID, expires=0), FLEET, ARTIFACT, GATEWAY)
    for now in (0.0, 1e12):
        assert downlink.accept(forever, **{**EXPECT, "now": now}).expires == 0


@pytest.mark.parametrize(
    "changed",
    [
        {1: 1}, {1: 3}, {8: -1}, {8: 1 << 40}, {8: "soon"}, {9: -1}, {9: 1 << 40}, {9: b""}, {2: 1}, {5: b""},
        {10: 0}, {10: -1}, {10: "all"}, {11: 63}, {11: 0}, {12: bytes(31)}, {13: b""}, {13: bytes(31)},
        {13: bytes(32 * 5)}, {13: bytes(32)},
    ],
    ids=str,
)  # fmt: skip
def test_a_signed_but_malformed_announcement_is_refused(changed: dict[int, Any]) -> None:
    assert refusal_of(signed({**fields(), **changed})) is Refusal.MALFORMED


@pytest.mark.parametrize("missing", [1, 8, 9, 10, 11, 12, 13])
def test_no_field_of_an_announcement_may_be_missing(missing: int) -> None:
    made = fields()
    del made[missing]
    assert refusal_of(signed(made)) is Refusal.MALFORMED


def test_the_template_of_the_malformed_ones_is_well_formed() -> None:
    assert downlink.accept(signed(fields()), **EXPECT) == SAID


def test_the_payload_must_be_deterministic_cbor() -> None:
    assert refusal_of(signed(b"")) is Refusal.MALFORMED
    assert refusal_of(signed(b"\xbf" + cbor.encode(fields())[1:] + b"\xff")) is Refusal.MALFORMED
    assert refusal_of(signed(cbor.encode(fields()) + b"\x00")) is Refusal.MALFORMED


@given(st.data())
def test_any_change_after_signing_is_refused(data: st.DataObject) -> None:
    changed = bytearray(MESSAGE)
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    if bytes(changed) == MESSAGE:
        return
    assert refusal_of(bytes(changed)) in UNSIGNED


# --- receipts -------------------------------------------------------------------------------------------------

DIGEST = receipt.digest_of(b"a message")
RECEIPT = Receipt(9, Refusal.ADMITTED, 4, DIGEST, 1_900_000_000)
WORD = receipt.issue(RECEIPT, FLEET, DEVICE, ARTIFACT, GATEWAY)
HERE: dict[str, Any] = {"fleet": FLEET, "device": DEVICE, "artifact": ARTIFACT, "gateways": [GATEWAY.public]}


@pytest.mark.parametrize("signer", [GATEWAY, signing_p256("gateway")], ids=["Ed25519", "P-256"])
@pytest.mark.parametrize("status", list(Refusal))
def test_every_status_travels(status: Refusal, signer: Signer) -> None:
    word = dataclasses.replace(RECEIPT, status=status)
    message = receipt.issue(word, FLEET, DEVICE, ARTIFACT, signer)
    assert receipt.accept(message, **{**HERE, "gateways": [signer.public]}) == word


@given(st.sets(st.integers(0, transfer.MAX_PARTS - 1), min_size=1))
def test_any_wanted_parts_travel(wanted: set[int]) -> None:
    word = dataclasses.replace(RECEIPT, status=Refusal.PARTS_WANTED, wanted=tuple(sorted(wanted)))
    assert receipt.accept(receipt.issue(word, FLEET, DEVICE, ARTIFACT, GATEWAY), **HERE) == word


def test_the_digest_is_how_the_sha_256_of_the_message_begins() -> None:
    """SHA-256 of "abc" (FIPS 180-4, example B.1)."""
    assert receipt.digest_of(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223"


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        (Refusal.WRONG_FLEET, {"fleet": "ash"}),
        (Refusal.BAD_SIGNATURE, {"device": "cellar"}),
        (Refusal.WRONG_ARTIFACT, {"artifact": bytes(32)}),
        (Refusal.BAD_SIGNATURE, {"artifact": ARTIFACT[:4] + bytes(28)}),
        (Refusal.BAD_SIGNATURE, {"gateways": [signing("device").public]}),
        (Refusal.BAD_SIGNATURE, {"gateways": []}),
    ],
    ids=["fleet", "device", "artifact", "end of the artifact", "key", "no key"],
)
def test_a_receipt_is_for_one_device_of_one_fleet(reason: Refusal, changed: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        receipt.accept(WORD, **{**HERE, **changed})
    assert caught.value.reason is reason


def test_a_fleet_whose_tag_is_the_same_is_a_bad_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tag only names a reason; the signature is over the whole name."""
    monkeypatch.setattr("tasuki.sdk.receipt.check_tags", lambda *_: None)
    with pytest.raises(Refused) as caught:
        receipt.accept(WORD, **{**HERE, "fleet": "ash"})
    assert caught.value.reason is Refusal.BAD_SIGNATURE


def test_a_receipt_can_not_be_rewritten() -> None:
    """Neither for another sequence or message, nor from a refusal to an admission."""
    norm = dataclasses.replace(RECEIPT, status=Refusal.NORM)
    forged = cose.parse(receipt.issue(norm, FLEET, DEVICE, ARTIFACT, GATEWAY))
    other = cbor.encode({1: receipt.digest_of(b"another message"), 2: RECEIPT.time})
    for header, payload in (
        (dataclasses.replace(forged.header, code=0), forged.payload),
        (dataclasses.replace(forged.header, sequence=10), forged.payload),
        (forged.header, other),
    ):
        context = Context(FLEET, DEVICE, "receipt", ARTIFACT, header.version, header.sequence, header.code)
        resigned = cose.sign(header, payload, context.encode(), signing("attacker"))
        stolen = cose.TAG_SIGN1 + cbor.encode([cose.parse(resigned).protected, {}, payload, forged.signature])
        for message in (resigned, stolen):
            with pytest.raises(Refused) as caught:
                receipt.accept(message, **HERE)
            assert caught.value.reason is Refusal.BAD_SIGNATURE


@given(st.data())
def test_any_change_of_a_receipt_is_refused(data: st.DataObject) -> None:
    changed = bytearray(WORD)
    changed[data.draw(st.integers(0, len(WORD) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused) as caught:
        receipt.accept(bytes(changed), **HERE)
    assert caught.value.reason in UNSIGNED


GOOD = {1: DIGEST, 2: 1_900_000_000}


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        (99, GOOD),
        (0, b""),
        (0, b"more"),
        (0, {1: DIGEST}),
        (0, {2: 0}),
        (0, {**GOOD, 1: DIGEST[:-1]}),
        (0, {**GOOD, 1: DIGEST.hex()}),
        (0, {**GOOD, 2: -1}),
        (0, {**GOOD, 2: 1 << 40}),
        (0, {**GOOD, 4: 0}),
        (18, {**GOOD, 3: b""}),
        (18, {**GOOD, 3: b"\x01\x00"}),
        (18, {**GOOD, 3: b"\x01" * 129}),
        (18, {**GOOD, 3: [0]}),
    ],
    ids=str,
)
def test_a_signed_but_malformed_receipt_is_refused(code: int, payload: Any) -> None:
    with pytest.raises(Refused) as caught:
        receipt.accept(word_of(code, payload), **HERE)
    assert caught.value.reason is Refusal.MALFORMED


def word_of(code: int, payload: Any) -> bytes:
    context = Context(FLEET, DEVICE, "receipt", ARTIFACT, 4, 9, code)
    data = payload if isinstance(payload, bytes) else cbor.encode(payload)
    return cose.sign(context.header(), data, context.encode(), GATEWAY)


def test_the_template_of_the_malformed_receipts_is_well_formed() -> None:
    assert receipt.accept(word_of(0, GOOD), **HERE) == RECEIPT


def test_no_kind_of_message_passes_for_another() -> None:
    """Not even where device, sequence, version and code agree."""
    with pytest.raises(Refused) as caught:
        downlink.accept(WORD, **EXPECT)
    assert caught.value.reason is Refusal.BAD_SIGNATURE
    with pytest.raises(Refused) as caught:
        receipt.accept(MESSAGE, **HERE)
    assert caught.value.reason is Refusal.BAD_SIGNATURE
    alike = receipt.issue(dataclasses.replace(RECEIPT, sequence=4), FLEET, "*", ARTIFACT, GATEWAY)
    assert cose.parse(alike).protected == cose.parse(MESSAGE).protected
    with pytest.raises(Refused) as caught:
        downlink.accept(alike, **EXPECT)
    assert caught.value.reason is Refusal.BAD_SIGNATURE


def test_codes_of_refusals_never_change() -> None:
    """They travel in receipts."""
    assert {reason.name: int(reason) for reason in Refusal} == {
        "ADMITTED": 0, "MALFORMED": 1, "OVERSIZE": 2, "UNKNOWN_DEVICE": 3, "BAD_SIGNATURE": 4,
        "BAD_SEAL": 5, "WRONG_SUITE": 6, "WRONG_ARTIFACT": 7, "STALE_BASE": 8, "REPLAY": 9,
        "WRONG_SHAPE": 10, "NOT_FINITE": 11, "NORM": 12, "WRONG_FLEET": 13, "ROLLBACK": 14, "EXPIRED": 15,
        "REVOKED": 16, "NO_SESSION": 17, "PARTS_WANTED": 18, "BAD_TOKEN": 19, "UNANNOUNCED_KEY": 20,
        "WRONG_KIND": 21, "TOO_OLD": 22, "MIXED_PARTS": 23,
    }  # fmt: skip
