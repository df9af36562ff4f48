"""An update from seal to open: what it costs in bytes, and that it opens in its own context only."""

import dataclasses

import pytest
from protocol_kit import ARTIFACT, DEVICE, FLEET, LABELS, WIDTH, context, head, sealing, signing

from tasuki.sdk import cose, envelope, update
from tasuki.sdk.envelope import HYBRID, SUITES, X25519, Context
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.update import Update

PLAIN = update.encode(Update(head(), 3))
OVERHEAD = {X25519: 160, HYBRID: 1250}


def sealed(bound: Context, plain: bytes = PLAIN) -> bytes:
    return envelope.seal(plain, bound, signing("device"), sealing("gateway", bound.code).public_key())


def opened(message: bytes, bound: Context) -> bytes:
    payload = envelope.authenticate(cose.parse(message), bound, signing("device").public_key())
    return envelope.decrypt(payload, bound, sealing("gateway", bound.code))


@pytest.mark.parametrize("suite", SUITES)
def test_an_update_opens_in_its_context(suite: int) -> None:
    message = sealed(context(suite))
    assert opened(message, context(suite)) == PLAIN
    assert update.decode(opened(message, context(suite)), LABELS, WIDTH).samples == 3
    header = cose.parse(message).header
    assert (header.signer, header.version, header.sequence, header.code) == (DEVICE, 3, 9, suite)
    assert header.artifact == ARTIFACT[:8]


@pytest.mark.parametrize("suite", SUITES)
def test_overhead_header_and_signature_included(suite: int) -> None:
    """For names of up to 12 letters, 255 versions, 65,535 updates of a device, updates of up to 64 KiB."""
    usual = dataclasses.replace(context(suite), device="d" * 12, version=255, sequence=(1 << 16) - 1)
    for size in (1, 200, 4400, (1 << 16) - 200 - 1120):
        assert len(sealed(usual, bytes(size))) - size <= OVERHEAD[suite]


@pytest.mark.parametrize("suite", SUITES)
def test_overhead_with_the_longest_name_and_numbers_that_the_format_allows(suite: int) -> None:
    longest = dataclasses.replace(
        context(suite), fleet="f" * 32, device="d" * 32, version=(1 << 53) - 1, sequence=(1 << 53) - 1
    )
    assert len(sealed(longest, bytes(256 << 10))) - (256 << 10) <= OVERHEAD[suite] + 40


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(
    "changed",
    [
        {"fleet": "ash"},
        {"device": "cellar"},
        {"direction": "adapter"},
        {"artifact": bytes(32)},
        {"artifact": ARTIFACT[:8] + bytes(24)},
        {"version": 4},
        {"sequence": 10},
    ],
    ids=str,
)
def test_the_context_is_in_the_signature_and_in_the_seal(suite: int, changed: dict[str, object]) -> None:
    right = context(suite)
    other = dataclasses.replace(right, **changed)
    message = sealed(right)
    with pytest.raises(Refused) as caught:
        opened(message, other)
    assert caught.value.reason is Refusal.BAD_SIGNATURE
    payload = envelope.authenticate(cose.parse(message), right, signing("device").public_key())
    with pytest.raises(Refused) as caught:
        envelope.decrypt(payload, other, sealing("gateway", suite))
    assert caught.value.reason is Refusal.BAD_SEAL


def test_a_sealed_payload_can_not_be_signed_by_another_device() -> None:
    """The seal names the sender: what a device stole from the wire, it can't pass off as its own."""
    bound = context(X25519)
    stolen = cose.parse(sealed(bound)).payload
    mine = dataclasses.replace(bound, device="cellar")
    message = cose.sign(mine.header("cellar"), stolen, mine.encode(), signing("cellar"))
    payload = envelope.authenticate(cose.parse(message), mine, signing("cellar").public_key())
    with pytest.raises(Refused) as caught:
        envelope.decrypt(payload, mine, sealing("gateway", X25519))
    assert caught.value.reason is Refusal.BAD_SEAL


def test_the_suite_can_not_be_exchanged() -> None:
    message = sealed(context(X25519))
    payload = envelope.authenticate(cose.parse(message), context(X25519), signing("device").public_key())
    with pytest.raises(Refused) as caught:
        envelope.decrypt(payload, context(HYBRID), sealing("gateway", HYBRID))
    assert caught.value.reason is Refusal.BAD_SEAL


@pytest.mark.parametrize("suite", SUITES)
def test_two_seals_of_one_update_share_nothing_that_is_secret(suite: int) -> None:
    first, second = (cose.parse(sealed(context(suite))).payload for _ in range(2))
    assert first != second
    assert first[:32] != second[:32]


def test_the_context_is_the_array_that_spec_names() -> None:
    by_hand = (
        b"\x89"  # array of nine
         b"\x66tasuki\x01"
         b"\x63oak\x67kitchen\x62up"
         b"\x58\x20" + ARTIFACT
        + b"\x03\x09\x02"
    )  # fmt: skip
    assert context(HYBRID).encode() == by_hand
    assert (FLEET, DEVICE) == ("oak", "kitchen")
