"""An update from seal to open: what it costs in bytes, and that it opens in its own context only."""

import dataclasses
import hashlib

import pytest
from protocol_kit import (
    ARTIFACT,
    DEVICE,
    FLEET,
    context,
    head,
    plain_update,
    sealing,
    seed,
    signing,
    signing_p256,
    table,
)

from tasuki.sdk import cose, envelope, session, update
from tasuki.sdk.envelope import HYBRID, RESUMED, SUITES, X25519, Context
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.signing import Signer

PLAIN = plain_update(head())
# Tag, header, signature and the seal: for a device name of any length, since it is not in the message.
OVERHEAD = {X25519: 146, HYBRID: 1234, RESUMED: 115}
CHAIN = session.found(1, seed("root"))


def sealed(bound: Context, plain: bytes = PLAIN, signer: Signer | None = None) -> bytes:
    key = signer or signing("device")
    if bound.code == RESUMED:
        return session.seal(plain, bound, dataclasses.replace(CHAIN, founded=bound.sequence - 8,
                                                              position=bound.sequence - 8), key)[0]  # fmt: skip
    return envelope.seal(plain, bound, key, sealing("gateway", bound.code).public_key())


def decrypt(payload: bytes, bound: Context) -> bytes:
    if bound.code == RESUMED:
        return session.decrypt(payload, bound, CHAIN)
    return envelope.decrypt(payload, bound, sealing("gateway", bound.code))


def opened(message: bytes, bound: Context) -> bytes:
    return decrypt(envelope.authenticate(cose.parse(message), bound, signing("device").public), bound)


@pytest.mark.parametrize("suite", [*SUITES, RESUMED])
def test_an_update_opens_in_its_context(suite: int) -> None:
    message = sealed(context(suite))
    assert opened(message, context(suite)) == PLAIN
    assert update.decode(opened(message, context(suite)), table()).samples == 3
    header = cose.parse(message).header
    assert (header.version, header.sequence, header.code, header.signer) == (3, 9, suite, None)
    assert header.tags == ARTIFACT[:4] + hashlib.sha256(b"oak").digest()[:4]


@pytest.mark.parametrize("suite", [*SUITES, RESUMED])
def test_a_device_may_sign_with_p_256(suite: int) -> None:
    """Of the same size, though the header says so."""
    key = signing_p256("device")
    message = sealed(context(suite), signer=key)
    payload = envelope.authenticate(cose.parse(message), context(suite), key.public)
    assert decrypt(payload, context(suite)) == PLAIN
    assert len(message) == len(sealed(context(suite)))
    with pytest.raises(Refused) as caught:
        envelope.authenticate(cose.parse(message), context(suite), signing("device").public)
    assert caught.value.reason is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("suite", [*SUITES, RESUMED])
def test_overhead_header_and_signature_included(suite: int) -> None:
    """For names of any length, 255 versions, 65,535 updates of a device, updates of up to 64 KiB."""
    usual = dataclasses.replace(context(suite), fleet="f" * 32, device="d" * 32, version=255, sequence=(1 << 16) - 1)
    for size in (1, 200, 4400, (1 << 16) - 200 - 1120):
        assert len(sealed(usual, bytes(size))) - size <= OVERHEAD[suite]


@pytest.mark.parametrize("suite", [*SUITES, RESUMED])
def test_overhead_with_the_longest_numbers_that_the_format_allows(suite: int) -> None:
    longest = dataclasses.replace(
        context(suite), fleet="f" * 32, device="d" * 32, version=(1 << 53) - 1, sequence=(1 << 53) - 1
    )
    assert len(sealed(longest, bytes(256 << 10))) - (256 << 10) <= OVERHEAD[suite] + 16


OTHERS = [
    {"fleet": "ash"},
    {"device": "cellar"},
    {"direction": "adapter"},
    {"direction": "offer"},
    {"artifact": bytes(32)},
    {"artifact": ARTIFACT[:8] + bytes(24)},
    {"version": 4},
    {"sequence": 10},
]


@pytest.mark.parametrize("suite", [*SUITES, RESUMED])
@pytest.mark.parametrize("changed", OTHERS, ids=str)
def test_the_context_is_in_the_signature_and_in_the_seal(suite: int, changed: dict[str, object]) -> None:
    right = context(suite)
    other = dataclasses.replace(right, **changed)
    message = sealed(right)
    with pytest.raises(Refused) as caught:
        opened(message, other)
    assert caught.value.reason is Refusal.BAD_SIGNATURE
    payload = envelope.authenticate(cose.parse(message), right, signing("device").public)
    with pytest.raises(Refused) as caught:
        decrypt(payload, other)
    # The distance to where a chain was founded is in the clear: with another number it is another chain.
    wanted = Refusal.NO_SESSION if suite == RESUMED and "sequence" in changed else Refusal.BAD_SEAL
    assert caught.value.reason is wanted


@pytest.mark.parametrize("suite", [*SUITES, RESUMED])
def test_a_sealed_payload_can_not_be_signed_by_another_device(suite: int) -> None:
    """The seal names the sender: what a device stole from the wire, it can't pass off as its own."""
    bound = context(suite)
    stolen = cose.parse(sealed(bound)).payload
    mine = dataclasses.replace(bound, device="cellar")
    message = cose.sign(mine.header(), stolen, mine.encode(), signing("cellar"))
    payload = envelope.authenticate(cose.parse(message), mine, signing("cellar").public)
    with pytest.raises(Refused) as caught:
        decrypt(payload, mine)
    assert caught.value.reason is Refusal.BAD_SEAL


def test_the_suite_can_not_be_exchanged() -> None:
    message = sealed(context(X25519))
    payload = envelope.authenticate(cose.parse(message), context(X25519), signing("device").public)
    with pytest.raises(Refused) as caught:
        envelope.decrypt(payload, context(HYBRID), sealing("gateway", HYBRID))
    assert caught.value.reason is Refusal.BAD_SEAL


@pytest.mark.parametrize("suite", SUITES)
def test_two_seals_of_one_update_share_nothing_that_is_secret(suite: int) -> None:
    first, second = (cose.parse(sealed(context(suite))).payload for _ in range(2))
    assert first != second
    assert first[:32] != second[:32]


def test_tags_name_a_reason_before_any_signature_is_checked() -> None:
    header = context(X25519).header()
    envelope.check_tags(header, ARTIFACT, FLEET)
    for reason, artifact, fleet in (
        (Refusal.WRONG_FLEET, ARTIFACT, "ash"),
        (Refusal.WRONG_ARTIFACT, bytes(32), FLEET),
        (Refusal.WRONG_FLEET, bytes(32), "ash"),
    ):
        with pytest.raises(Refused) as caught:
            envelope.check_tags(header, artifact, fleet)
        assert caught.value.reason is reason


def test_a_header_of_number_1_names_the_artifact_alone() -> None:
    former = cose.Header(3, 9, 2, ARTIFACT[:8], DEVICE)
    envelope.check_tags(former, ARTIFACT, "any")
    with pytest.raises(Refused) as caught:
        envelope.check_tags(former, ARTIFACT[:4] + bytes(28), FLEET)
    assert caught.value.reason is Refusal.WRONG_ARTIFACT


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
