"""The fleet record: what a device follows, and what it refuses by name."""

import contextlib
import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_kit import ARTIFACT, FLEET, seed
from trust_kit import (
    GATEWAY,
    NEXT,
    NOW,
    P256,
    ROOT,
    STRANGER,
    hybrid_public,
    key,
    record,
    sealing_public,
    x25519_public,
)  # fmt: skip

from tasuki.sdk import cbor, cose, fleet_record
from tasuki.sdk.envelope import HYBRID, X25519, Context, tags
from tasuki.sdk.errors import InputError, KeyInvalid, Refusal, Refused
from tasuki.sdk.fleet_record import Record
from tasuki.sdk.signing import Signer

ONE = record()
TWO = dataclasses.replace(
    ONE,
    version=2,
    next_signing=NEXT.public,
    next_sealing={X25519: x25519_public("next"), HYBRID: hybrid_public("next")},
)
THREE = dataclasses.replace(
    TWO, version=3, signing=NEXT.public, sealing=TWO.next_sealing, next_signing=None, next_sealing={}
)


def refusal(wire: bytes, current: Record, root: Signer = ROOT, now: float = NOW) -> Refusal:
    with pytest.raises(Refused) as caught:
        fleet_record.advance(wire, root.public, current, now)
    return caught.value.reason


def wire(made: Record, gateway: Signer = GATEWAY, root: Signer = ROOT, before: bytes | None = None) -> bytes:
    return fleet_record.announce(fleet_record.issue(made, root), gateway, before)


@pytest.mark.parametrize("made", [ONE, TWO, THREE, dataclasses.replace(ONE, adapter="bias", max_norm=0.125)])
@pytest.mark.parametrize("root", [ROOT, P256], ids=["EdDSA", "ES256"])
def test_a_record_comes_back(made: Record, root: Signer) -> None:
    message = fleet_record.issue(made, root)
    assert fleet_record.accept(message, root.public, FLEET, NOW) == made
    assert fleet_record.decode(fleet_record.encode(made)) == made


def test_the_bytes_are_what_the_specification_says() -> None:
    """Written by hand from SPEC.md with cbor2, without the code under test."""
    fields = {
        1: 1, 2: FLEET, 3: 2, 4: ONE.issued, 5: ONE.expires, 6: [ARTIFACT], 7: GATEWAY.public, 8: NEXT.public,
        9: {1: x25519_public("gateway"), 2: hybrid_public("gateway")},
        10: {1: x25519_public("next"), 2: hybrid_public("next")}, 11: 1, 12: 20_000, 13: [1, 2],
    }  # fmt: skip
    payload = cbor.encode(fields)
    assert fleet_record.encode(TWO) == payload
    inside = Context(FLEET, "*", "record", bytes(32), 2, 0, 0)
    message = cose.sign(inside.header(), payload, inside.encode(), ROOT)
    assert fleet_record.issue(TWO, ROOT) == message
    outside = Context(FLEET, "gateway", "record", bytes(32), 2, 0, 0)
    assert wire(TWO) == cbor.encode([cose.sign(outside.header(), message, outside.encode(), GATEWAY)])
    assert fleet_record.inner(wire(TWO)) == message


def test_an_announced_key_takes_over() -> None:
    announced = wire(TWO)
    known, message = fleet_record.advance(announced, ROOT.public, ONE, NOW)
    assert (known, message) == (TWO, fleet_record.issue(TWO, ROOT))
    finished = wire(THREE, NEXT, before=announced)
    assert fleet_record.advance(finished, ROOT.public, known, NOW) == (THREE, fleet_record.issue(THREE, ROOT))
    assert fleet_record.advance(finished, ROOT.public, THREE, NOW)[0] is THREE, "the same again changes nothing"


def test_a_device_that_was_away_for_several_rotations_follows() -> None:
    held, current = wire(ONE), ONE
    signers: list[Signer] = [GATEWAY, *(key(f"rotation {number}") for number in range(3))]
    for old, new in itertools.pairwise(signers):
        current = dataclasses.replace(current, version=current.version + 1, next_signing=new.public)
        held = wire(current, old, before=held)
        current = dataclasses.replace(current, version=current.version + 1, signing=new.public, next_signing=None)
        held = wire(current, new, before=held)
        renewed = dataclasses.replace(current, version=current.version + 1, max_norm=current.max_norm + 1)
        held, current = wire(renewed, new, before=held), renewed
    assert fleet_record.advance(held, ROOT.public, ONE, NOW)[0] == current
    assert len(cbor.decode(held)) == 4, "three announcements and the present record; no other link stays"


def test_links_are_bounded() -> None:
    held, current = wire(ONE), ONE
    signers: list[Signer] = [GATEWAY, *(key(f"rotation {number}") for number in range(12))]
    for old, new in itertools.pairwise(signers):
        current = dataclasses.replace(current, version=current.version + 1, next_signing=new.public)
        held = wire(current, old, before=held)
        current = dataclasses.replace(current, version=current.version + 1, signing=new.public, next_signing=None)
        held = wire(current, new, before=held)
    assert len(cbor.decode(held)) == fleet_record.MAX_LINKS
    assert len(held) <= fleet_record.MAX_WIRE_BYTES
    assert refusal(held, ONE) is Refusal.BAD_SIGNATURE, "too far behind: enrol again"


def test_a_key_that_was_not_announced_is_refused() -> None:
    jump = dataclasses.replace(THREE, version=2)
    assert refusal(wire(jump, GATEWAY), ONE) is Refusal.UNANNOUNCED_KEY, "the root and the old key are not enough"
    assert refusal(wire(jump, NEXT), ONE) is Refusal.BAD_SIGNATURE, "the root alone is not enough"
    assert refusal(wire(THREE, NEXT), ONE) is Refusal.BAD_SIGNATURE, "its announcement is missing"


@pytest.mark.parametrize("thief", [GATEWAY, STRANGER], ids=["the gateway's key", "any key"])
def test_no_other_key_passes_for_the_root(thief: Signer) -> None:
    assert refusal(wire(TWO, root=thief), ONE) is Refusal.BAD_SIGNATURE
    with pytest.raises(Refused, match="bad signature"):
        fleet_record.accept(fleet_record.issue(TWO, thief), ROOT.public, FLEET, NOW)


def test_versions_only_go_forward() -> None:
    assert refusal(wire(ONE), TWO) is Refusal.ROLLBACK
    assert refusal(wire(ONE), THREE) is Refusal.ROLLBACK, "also where its key is not known any more"
    other = dataclasses.replace(TWO, max_norm=99.0)
    assert refusal(wire(other), TWO) is Refusal.ROLLBACK, "an equal version with other content"
    for older in (ONE, other):
        with pytest.raises(Refused) as caught:
            fleet_record.accept(fleet_record.issue(older, ROOT), ROOT.public, FLEET, NOW, TWO)
        assert caught.value.reason is Refusal.ROLLBACK
    message = fleet_record.issue(TWO, P256)
    assert fleet_record.accept(message, P256.public, FLEET, NOW, TWO) == TWO, "the same one, signed again"


def test_expiry() -> None:
    ends = dataclasses.replace(TWO, expires=int(NOW) + 10)
    assert fleet_record.advance(wire(ends), ROOT.public, ONE, NOW + 9.9)[0] == ends
    assert refusal(wire(ends), ONE, now=NOW + 10) is Refusal.EXPIRED
    assert fleet_record.advance(wire(ends), ROOT.public, ends, NOW + 10)[0] == ends, "what a device has stays in use"
    leads_on = wire(dataclasses.replace(THREE, expires=0), NEXT, before=wire(ends))
    assert fleet_record.advance(leads_on, ROOT.public, ONE, NOW + 10)[0].version == 3, "it announced a key in time"


def test_another_fleets_record_is_named() -> None:
    ash = dataclasses.replace(TWO, fleet="ash")
    assert refusal(wire(ash), ONE) is Refusal.WRONG_FLEET
    with pytest.raises(Refused, match="wrong fleet"):
        fleet_record.verify(fleet_record.issue(ash, ROOT), ROOT.public, FLEET)


def test_a_payload_for_another_fleet_or_version_under_a_right_header_is_malformed() -> None:
    for payload in (dataclasses.replace(TWO, fleet="ash"), THREE):
        inside = Context(FLEET, "*", "record", bytes(32), 2, 0, 0)
        message = cose.sign(inside.header(), fleet_record.encode(payload), inside.encode(), ROOT)
        with pytest.raises(Refused, match="malformed"):
            fleet_record.verify(message, ROOT.public, FLEET)
    outside = Context(FLEET, "gateway", "record", bytes(32), 5, 0, 0)
    lifted = cose.sign(outside.header(), fleet_record.issue(TWO, ROOT), outside.encode(), GATEWAY)
    assert refusal(cbor.encode([lifted]), ONE) is Refusal.MALFORMED


@pytest.mark.parametrize(
    "header",
    [
        cose.Header(2, 1, 0, tags(bytes(32), FLEET)), cose.Header(2, 0, 1, tags(bytes(32), FLEET)),
        cose.Header(2, 0, 0, bytes(8), "gateway"),
    ],
    ids=["sequence", "code", "former header"],
)  # fmt: skip
def test_another_header_is_malformed(header: cose.Header) -> None:
    for signer, device in ((GATEWAY, "gateway"), (ROOT, "*")):
        bound = Context(FLEET, device, "record", bytes(32), header.version, header.sequence, header.code).encode()
        payload = fleet_record.issue(TWO, ROOT) if device == "gateway" else fleet_record.encode(TWO)
        message = cose.sign(header, payload, bound, signer)
        if device == "gateway":
            assert refusal(cbor.encode([message]), ONE) is Refusal.MALFORMED
        else:
            with pytest.raises(Refused, match="malformed"):
                fleet_record.verify(message, ROOT.public, FLEET)


def test_the_two_signatures_do_not_stand_in_for_each_other() -> None:
    """Even where maker and gateway are one key."""
    inner = fleet_record.issue(TWO, GATEWAY)
    assert refusal(cbor.encode([inner]), ONE, root=GATEWAY) is Refusal.BAD_SIGNATURE
    (link,) = cbor.decode(wire(TWO, GATEWAY, GATEWAY))
    with pytest.raises(Refused, match="bad signature"):
        fleet_record.verify(link, GATEWAY.public, FLEET)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x80", b"\xf6", b"\x81\x01", cbor.encode([b""]), cbor.encode([b"x"] * 9), cbor.encode({1: b"x"}),
        cbor.encode([b"\xd2" + cbor.encode([b"", {}, b"", bytes(64)])]),
    ],
    ids=bytes.hex,
)  # fmt: skip
def test_what_is_no_record_is_malformed(content: bytes) -> None:
    assert refusal(content, ONE) is Refusal.MALFORMED


def test_oversize_is_refused_before_it_is_parsed() -> None:
    assert refusal(bytes(fleet_record.MAX_WIRE_BYTES + 1), ONE) is Refusal.OVERSIZE
    with pytest.raises(Refused, match="oversize"):
        fleet_record.verify(bytes(fleet_record.MAX_RECORD_BYTES + 257), ROOT.public, FLEET)


@pytest.mark.parametrize(
    "changed",
    [
        {1: 2}, {1: b""}, {2: "Oak"}, {2: "ash/+"}, {2: b"oak"}, {3: 0}, {3: "1"}, {3: -1}, {3: 1 << 54},
        {4: 1 << 41}, {4: -1}, {5: b""}, {6: []}, {6: [bytes(31)]}, {6: ["x" * 32]}, {6: [1]}, {6: 1},
        {6: [bytes(32)] * 9}, {7: b""}, {7: bytes(33)}, {7: "x" * 32}, {8: b"x"}, {8: GATEWAY.public}, {8: 1},
        {9: {}}, {9: {3: bytes(32)}}, {9: {1: bytes(31)}}, {9: {2: bytes(32)}}, {9: []}, {9: {1: "x" * 32}},
        {10: {1: b""}}, {10: 1}, {10: {}},
        {9: [[1, x25519_public("gateway")]]}, {11: 0}, {11: 4}, {11: [1]}, {12: 0}, {12: 10**9 + 1}, {12: b""},
        {13: []}, {13: [0]}, {13: [256]}, {13: ["1"]}, {13: [1] * 9}, {14: 1}, {0: 1}, {"a": 1},
    ],
    ids=str,
)  # fmt: skip
def test_each_bad_field_is_malformed(changed: dict[Any, Any]) -> None:
    fields = {**cbor.decode(fleet_record.encode(ONE)), **changed}
    with pytest.raises(Refused, match="malformed"):
        fleet_record.decode(cbor.encode(fields))


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13])
def test_no_field_may_be_missing(missing: int) -> None:
    fields = cbor.decode(fleet_record.encode(ONE))
    del fields[missing]
    with pytest.raises(Refused, match="malformed"):
        fleet_record.decode(cbor.encode(fields))


@pytest.mark.parametrize(
    "changed",
    [
        {"fleet": "Oak"}, {"version": 0}, {"artifacts": ()}, {"artifacts": (b"",)}, {"signing": b""}, {"sealing": {}},
        {"adapter": "tree"}, {"max_norm": 0.0}, {"max_norm": float("nan")}, {"max_norm": 0.0005}, {"max_norm": 1e9},
        {"formats": ()}, {"formats": (0,)}, {"next_signing": GATEWAY.public}, {"expires": -1}, {"issued": 1 << 41},
    ],
    ids=str,
)  # fmt: skip
def test_what_could_not_be_read_is_not_issued(changed: dict[str, Any]) -> None:
    with pytest.raises((InputError, KeyInvalid)):
        fleet_record.issue(dataclasses.replace(ONE, **changed), ROOT)


@given(
    version=st.integers(1, cose.MAX_NUMBER), issued=st.integers(0, 1 << 40), expires=st.integers(0, 1 << 40),
    artifacts=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=8), thousandths=st.integers(1, 10**9),
    formats=st.lists(st.integers(1, 255), min_size=1, max_size=8), adapter=st.sampled_from(sorted(fleet_record.KINDS)),
    suites=st.sets(st.sampled_from((X25519, HYBRID)), min_size=1), following=st.booleans(),
)  # fmt: skip
@settings(max_examples=50)
def test_any_record_comes_back(
    version: int, issued: int, expires: int, artifacts: list[bytes], thousandths: int, formats: list[int], adapter: str,
    suites: set[int], following: bool,
) -> None:  # fmt: skip
    made = Record(
        FLEET, version, issued, expires, tuple(artifacts), GATEWAY.public,
        {suite: sealing_public("gateway", suite) for suite in suites}, adapter, thousandths / 1000, tuple(formats),
        NEXT.public if following else None, {X25519: x25519_public("next")} if following else {},
    )  # fmt: skip
    assert fleet_record.verify(fleet_record.issue(made, ROOT), ROOT.public, FLEET) == made


@given(st.data())
@settings(max_examples=200)
def test_altered_bytes_never_change_what_a_device_trusts(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from((wire(TWO), wire(THREE, NEXT, before=wire(TWO)))))
    place = data.draw(st.integers(0, len(good) - 1))
    cut = data.draw(st.integers(0, 4))
    altered = good[:place] + data.draw(st.binary(max_size=4)) + good[place + cut :]
    with contextlib.suppress(Refused):
        found, message = fleet_record.advance(altered, ROOT.public, ONE, NOW)
        assert (found, message) in ((TWO, fleet_record.issue(TWO, ROOT)), (THREE, fleet_record.issue(THREE, ROOT)))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(Refused):
        fleet_record.advance(content, ROOT.public, ONE, NOW)
    with pytest.raises(Refused):
        fleet_record.verify(content, ROOT.public, FLEET)


def test_a_record_with_everything_fits() -> None:
    full = dataclasses.replace(TWO, artifacts=tuple(seed(f"artifact {n}") for n in range(8)), formats=(1,) * 8)
    assert len(fleet_record.issue(full, ROOT)) <= fleet_record.MAX_RECORD_BYTES
    assert len(wire(ONE)) < 1700, "what every device gets"
