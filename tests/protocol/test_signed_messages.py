"""COSE_Sign1 against pycose, an independent implementation; and what no change of a signed message may do."""

import warnings
from types import SimpleNamespace

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_kit import signing

from tasuki.sdk import cbor, cose
from tasuki.sdk.cose import Header
from tasuki.sdk.errors import Refusal, Refused

KEY = signing("device")
HEADER = Header("kitchen", 3, 9, 2, bytes(range(8)))
MESSAGE = cose.sign(HEADER, b"payload", b"bound", KEY)


@pytest.fixture(scope="module")
def pycose() -> SimpleNamespace:
    with warnings.catch_warnings():
        # Its imports touch what newer libraries call deprecated; nothing of ours.
        warnings.simplefilter("ignore")
        from pycose.algorithms import EdDSA
        from pycose.headers import KID, Algorithm
        from pycose.keys import OKPKey
        from pycose.keys.curves import Ed25519
        from pycose.messages import Sign1Message
    key = OKPKey(crv=Ed25519, x=KEY.public_key().public_bytes_raw(), d=KEY.private_bytes_raw())
    return SimpleNamespace(Sign1=Sign1Message, key=key, EdDSA=EdDSA, KID=KID, Algorithm=Algorithm)


def test_pycose_reads_and_verifies_ours(pycose: SimpleNamespace) -> None:
    assert MESSAGE[0] == 0xD2, "tag 18"
    theirs = pycose.Sign1.from_cose_obj(list(cbor2.loads(MESSAGE[1:])), True)
    theirs.external_aad, theirs.key = b"bound", pycose.key
    assert theirs.verify_signature()
    assert theirs.payload == b"payload"
    assert theirs.phdr[pycose.KID] == b"kitchen"
    assert theirs.phdr[-70001] == [3, 9, 2, bytes(range(8))]
    theirs.external_aad = b"unbound"
    assert not theirs.verify_signature()


def test_we_read_and_verify_theirs_and_the_bytes_are_equal(pycose: SimpleNamespace) -> None:
    protected = {pycose.Algorithm: pycose.EdDSA, pycose.KID: b"kitchen", -70001: [3, 9, 2, bytes(range(8))]}
    theirs = pycose.Sign1(phdr=protected, payload=b"payload", external_aad=b"bound")
    theirs.key = pycose.key
    signed = cose.parse(theirs.encode())
    assert signed.header == HEADER
    assert cose.verify(signed, b"bound", KEY.public_key()) == b"payload"
    assert theirs.encode() == MESSAGE


def test_another_key_or_another_context_is_a_bad_signature() -> None:
    signed = cose.parse(MESSAGE)
    assert cose.verify(signed, b"bound", KEY.public_key()) == b"payload"
    for external, key in ((b"other", KEY), (b"", KEY), (b"bound", signing("another"))):
        with pytest.raises(Refused) as caught:
            cose.verify(signed, external, key.public_key())
        assert caught.value.reason is Refusal.BAD_SIGNATURE


def refusal_of(message: bytes) -> Refusal:
    with pytest.raises(Refused) as caught:
        cose.verify(cose.parse(message), b"bound", KEY.public_key())
    return caught.value.reason


def test_every_single_bit_and_every_cut_is_refused() -> None:
    for place in range(len(MESSAGE)):
        assert refusal_of(MESSAGE[:place]) is Refusal.MALFORMED
        for bit in range(8):
            changed = bytearray(MESSAGE)
            changed[place] ^= 1 << bit
            assert refusal_of(bytes(changed)) in (Refusal.MALFORMED, Refusal.BAD_SIGNATURE)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes_are_malformed(data: bytes) -> None:
    assert refusal_of(data) is Refusal.MALFORMED
    assert refusal_of(b"\xd2" + data) is Refusal.MALFORMED


def envelope(
    protected: object, *, unprotected: object = None, payload: object = b"p", signature: object = bytes(64)
) -> bytes:
    encoded = protected if isinstance(protected, bytes) else cbor.encode(protected)
    return b"\xd2" + cbor.encode([encoded, {} if unprotected is None else unprotected, payload, signature])


GOOD = {1: -8, 4: b"kitchen", -70001: [3, 9, 2, bytes(8)]}


@pytest.mark.parametrize(
    "message",
    {
        "no tag": envelope(GOOD)[1:],
        "tag of COSE_Sign": b"\xd8\x62" + envelope(GOOD)[1:],
        "trailing byte": envelope(GOOD) + b"\x00",
        "unprotected header": envelope(GOOD, unprotected={4: b"other"}),
        "unprotected list": envelope(GOOD, unprotected=[]),
        "detached payload": envelope(GOOD, payload=[]),
        "short signature": envelope(GOOD, signature=bytes(63)),
        "long signature": envelope(GOOD, signature=bytes(65)),
        "empty protected": envelope(b""),
        "protected not a map": envelope([1]),
        "other algorithm": envelope({**GOOD, 1: -7}),
        "no algorithm": envelope({4: b"kitchen", -70001: [3, 9, 2, bytes(8)]}),
        "a second algorithm, of the same value": envelope({**GOOD, 2: [1]}),
        "signer as text": envelope({**GOOD, 4: "kitchen"}),
        "signer too long": envelope({**GOOD, 4: b"a" * 33}),
        "signer not ASCII": envelope({**GOOD, 4: b"k\xfcche"}),
        "three fields": envelope({**GOOD, -70001: [3, 9, bytes(8)]}),
        "five fields": envelope({**GOOD, -70001: [3, 9, 2, bytes(8), 0]}),
        "negative sequence": envelope({**GOOD, -70001: [3, -9, 2, bytes(8)]}),
        "sequence over 2^53": envelope({**GOOD, -70001: [3, 1 << 53, 2, bytes(8)]}),
        "short artifact": envelope({**GOOD, -70001: [3, 9, 2, bytes(7)]}),
        "protected not deterministic": envelope(b"\xa1\x18\x01\x27"),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_each_malformed_message_is_refused(message: tuple[str, bytes]) -> None:
    with pytest.raises(Refused) as caught:
        cose.parse(message[1])
    assert caught.value.reason is Refusal.MALFORMED


def test_the_template_of_the_malformed_ones_is_well_formed() -> None:
    assert cose.parse(envelope(GOOD)).header.signer == "kitchen"


def test_oversize_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: bytes) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(cbor, "decode", never)
    with pytest.raises(Refused) as caught:
        cose.parse(b"\xd2" + bytes(cose.MAX_MESSAGE_BYTES))
    assert caught.value.reason is Refusal.OVERSIZE


def test_unprotected_content_can_not_stand_in_for_signed_content() -> None:
    """A payload moved into the header, or a header of another message, is not what was signed."""
    other = cose.parse(cose.sign(Header("kitchen", 4, 10, 2, bytes(8)), b"other", b"bound", KEY))
    mine = cose.parse(MESSAGE)
    mixed = b"\xd2" + cbor.encode([other.protected, {}, mine.payload, mine.signature])
    assert refusal_of(mixed) is Refusal.BAD_SIGNATURE
