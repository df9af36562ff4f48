"""COSE_Sign1 against pycose, an independent implementation; and what no change of a signed message may do."""

import warnings
from types import SimpleNamespace

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_kit import signing, signing_p256

from tasuki.sdk import cbor, cose
from tasuki.sdk.cose import Header
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.signing import EDDSA, ES256, Signer, Software

KEY, P256 = signing("device"), signing_p256("device")
TAGS = bytes(range(8))
HEADER = Header(3, 9, 2, TAGS)
FORMER = Header(3, 9, 2, TAGS, "kitchen")
MESSAGE = cose.sign(HEADER, b"payload", b"bound", KEY)
P256_MESSAGE = cose.sign(HEADER, b"payload", b"bound", P256)
# n of P-256 (SP 800-186, 3.2.1.3).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BOTH = pytest.mark.parametrize("key", [KEY, P256], ids=["Ed25519", "P-256"])


@pytest.fixture(scope="module")
def pycose() -> SimpleNamespace:
    with warnings.catch_warnings():
        # Its imports touch what newer libraries call deprecated; nothing of ours.
        warnings.simplefilter("ignore")
        from pycose.algorithms import EdDSA, Es256
        from pycose.headers import KID, Algorithm
        from pycose.keys import EC2Key, OKPKey, curves
        from pycose.messages import Sign1Message
    assert isinstance(P256.key, EllipticCurvePrivateKey)
    numbers = P256.key.private_numbers()
    x, y, d = (
        number.to_bytes(32, "big")
        for number in (numbers.public_numbers.x, numbers.public_numbers.y, numbers.private_value)
    )
    keys = {
        KEY.public: OKPKey(crv=curves.Ed25519, x=KEY.public, d=KEY.key.private_bytes_raw()),  # type: ignore[union-attr]
        P256.public: EC2Key(crv=curves.P256, x=x, y=y, d=d),
    }
    algorithms = {EDDSA: EdDSA, ES256: Es256}
    return SimpleNamespace(Sign1=Sign1Message, keys=keys, algorithms=algorithms, KID=KID, Algorithm=Algorithm)


@BOTH
def test_pycose_reads_and_verifies_ours(pycose: SimpleNamespace, key: Software) -> None:
    message = cose.sign(HEADER, b"payload", b"bound", key)
    assert message[0] == 0xD2, "tag 18"
    theirs = pycose.Sign1.from_cose_obj(list(cbor2.loads(message[1:])), True)
    theirs.external_aad, theirs.key = b"bound", pycose.keys[key.public]
    assert theirs.verify_signature()
    assert theirs.payload == b"payload"
    assert theirs.phdr == {pycose.Algorithm: pycose.algorithms[key.algorithm], -70002: [3, 9, 2, TAGS]}
    theirs.external_aad = b"unbound"
    assert not theirs.verify_signature()


@BOTH
def test_we_read_and_verify_theirs(pycose: SimpleNamespace, key: Software) -> None:
    """Of ECDSA's signatures half have the higher s, and those are not ours to take."""
    taken = 0
    for number in range(32):
        protected = {pycose.Algorithm: pycose.algorithms[key.algorithm], -70002: [3, 9, 2, TAGS]}
        theirs = pycose.Sign1(phdr=protected, payload=bytes([number]), external_aad=b"bound")
        theirs.key = pycose.keys[key.public]
        signed = cose.parse(theirs.encode())
        assert (signed.header, signed.algorithm) == (HEADER, key.algorithm)
        if key is P256 and 2 * int.from_bytes(signed.signature[32:], "big") > ORDER:
            with pytest.raises(Refused, match="bad signature"):
                cose.verify(signed, b"bound", key.public)
            continue
        assert cose.verify(signed, b"bound", key.public) == bytes([number])
        taken += 1
    assert taken == 32 if key is KEY else 0 < taken < 32


def test_the_bytes_are_those_of_pycose(pycose: SimpleNamespace) -> None:
    """Ed25519 is deterministic; the header of number 1 names its signer."""
    for header, fields in (
        (HEADER, {-70002: [3, 9, 2, TAGS]}),
        (FORMER, {pycose.KID: b"kitchen", -70001: [3, 9, 2, TAGS]}),
    ):
        protected = {pycose.Algorithm: pycose.algorithms[EDDSA], **fields}
        theirs = pycose.Sign1(phdr=protected, payload=b"payload", external_aad=b"bound")
        theirs.key = pycose.keys[KEY.public]
        assert theirs.encode() == cose.sign(header, b"payload", b"bound", KEY)
        assert cose.parse(theirs.encode()).header == header


# --- ES256 ----------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.binary(max_size=40))
def test_we_sign_with_the_lower_s(payload: bytes) -> None:
    signed = cose.parse(cose.sign(HEADER, payload, b"bound", P256))
    assert 0 < 2 * int.from_bytes(signed.signature[32:], "big") < ORDER
    assert cose.verify(signed, b"bound", P256.public) == payload


def test_the_other_form_of_a_signature_is_refused(pycose: SimpleNamespace) -> None:
    """(r, n - s) verifies as well (SEC 1, 4.1.4): it would be another message with the same content."""
    signed = cose.parse(P256_MESSAGE)
    r, s = signed.signature[:32], int.from_bytes(signed.signature[32:], "big")
    other = r + (ORDER - s).to_bytes(32, "big")
    twin = b"\xd2" + cbor.encode([signed.protected, {}, signed.payload, other])
    theirs = pycose.Sign1.from_cose_obj(list(cbor2.loads(twin[1:])), True)
    theirs.external_aad, theirs.key = b"bound", pycose.keys[P256.public]
    assert theirs.verify_signature(), "it is a signature"
    assert refusal_of(twin, P256) is Refusal.BAD_SIGNATURE


def test_a_signer_that_gives_the_higher_s_is_corrected() -> None:
    """A secure element knows nothing of the one form."""

    class Element:
        algorithm, public = ES256, P256.public

        def sign(self, data: bytes) -> bytes:
            whole = P256.sign(data)
            return whole[:32] + (ORDER - int.from_bytes(whole[32:], "big")).to_bytes(32, "big")

    signed = cose.parse(cose.sign(HEADER, b"payload", b"bound", Element()))
    assert cose.verify(signed, b"bound", P256.public) == b"payload"


@pytest.mark.parametrize(
    "signature",
    [
        bytes(64),
        b"\xff" * 64,
        cose.parse(P256_MESSAGE).signature[:32] + bytes(32),
        bytes(32) + cose.parse(P256_MESSAGE).signature[32:],
        ORDER.to_bytes(32, "big") + cose.parse(P256_MESSAGE).signature[32:],
        cose.parse(P256_MESSAGE).signature[:32] + ORDER.to_bytes(32, "big"),
        cose.parse(MESSAGE).signature,
    ],
    ids=["zeros", "ones", "s is 0", "r is 0", "r is n", "s is n", "of another algorithm"],
)
def test_numbers_that_are_no_signature_are_refused(signature: bytes) -> None:
    signed = cose.parse(P256_MESSAGE)
    message = b"\xd2" + cbor.encode([signed.protected, {}, signed.payload, signature])
    assert refusal_of(message, P256) is Refusal.BAD_SIGNATURE


def test_a_message_of_one_algorithm_is_not_verified_by_a_key_of_the_other() -> None:
    assert refusal_of(MESSAGE, P256) is Refusal.BAD_SIGNATURE
    assert refusal_of(P256_MESSAGE, KEY) is Refusal.BAD_SIGNATURE


def test_verify_any_takes_the_key_that_fits_and_no_other() -> None:
    signed = cose.parse(P256_MESSAGE)
    keys = [signing("another").public, KEY.public, P256.public]
    assert cose.verify_any(signed, b"bound", keys) == b"payload"
    for some in (keys[:2], []):
        with pytest.raises(Refused) as caught:
            cose.verify_any(signed, b"bound", some)
        assert caught.value.reason is Refusal.BAD_SIGNATURE


# --- no change of a signed message ------------------------------------------------------------------------------


def refusal_of(message: bytes, key: Signer = KEY) -> Refusal:
    with pytest.raises(Refused) as caught:
        cose.verify(cose.parse(message), b"bound", key.public)
    return caught.value.reason


@pytest.mark.parametrize("header", [HEADER, FORMER], ids=["number 2", "number 1"])
@BOTH
def test_another_key_or_another_context_is_a_bad_signature(key: Software, header: Header) -> None:
    if header is FORMER and key is P256:
        with pytest.raises(Refused, match="malformed"):
            cose.parse(cose.sign(header, b"payload", b"bound", key))
        return
    signed = cose.parse(cose.sign(header, b"payload", b"bound", key))
    assert cose.verify(signed, b"bound", key.public) == b"payload"
    other = (signing if key is KEY else signing_p256)("another")
    for external, public in ((b"other", key.public), (b"", key.public), (b"bound", other.public)):
        with pytest.raises(Refused) as caught:
            cose.verify(signed, external, public)
        assert caught.value.reason is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("message", "key"),
    [(MESSAGE, KEY), (P256_MESSAGE, P256), (cose.sign(FORMER, b"payload", b"bound", KEY), KEY)],
    ids=["Ed25519", "P-256", "number 1"],
)
def test_every_single_bit_and_every_cut_is_refused(message: bytes, key: Signer) -> None:
    for place in range(len(message)):
        assert refusal_of(message[:place], key) is Refusal.MALFORMED
        for bit in range(8):
            changed = bytearray(message)
            changed[place] ^= 1 << bit
            assert refusal_of(bytes(changed), key) in (Refusal.MALFORMED, Refusal.BAD_SIGNATURE)


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


GOOD = {1: -8, -70002: [3, 9, 2, bytes(8)]}
FIRST = {1: -8, 4: b"kitchen", -70001: [3, 9, 2, bytes(8)]}


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
        "other algorithm": envelope({**GOOD, 1: -35}),
        "algorithm as text": envelope({**GOOD, 1: "EdDSA"}),
        "no algorithm": envelope({-70002: [3, 9, 2, bytes(8)]}),
        "no fields": envelope({1: -8}),
        "a second algorithm, of the same value": envelope({**GOOD, 2: [1]}),
        "signer in number 2": envelope({**GOOD, 4: b"kitchen"}),
        "fields of both numbers": envelope({**GOOD, **FIRST}),
        "three fields": envelope({**GOOD, -70002: [3, 9, bytes(8)]}),
        "five fields": envelope({**GOOD, -70002: [3, 9, 2, bytes(8), 0]}),
        "negative version": envelope({**GOOD, -70002: [-3, 9, 2, bytes(8)]}),
        "negative sequence": envelope({**GOOD, -70002: [3, -9, 2, bytes(8)]}),
        "negative code": envelope({**GOOD, -70002: [3, 9, -2, bytes(8)]}),
        "version over 2^53": envelope({**GOOD, -70002: [1 << 53, 9, 2, bytes(8)]}),
        "sequence over 2^53": envelope({**GOOD, -70002: [3, 1 << 53, 2, bytes(8)]}),
        "code over 2^53": envelope({**GOOD, -70002: [3, 9, 1 << 53, bytes(8)]}),
        "short tags": envelope({**GOOD, -70002: [3, 9, 2, bytes(7)]}),
        "long tags": envelope({**GOOD, -70002: [3, 9, 2, bytes(9)]}),
        "protected not deterministic": envelope(b"\xa1\x18\x01\x27"),
        "number 1: ES256": envelope({**FIRST, 1: -7}),
        "number 1: no algorithm": envelope({4: b"kitchen", -70001: [3, 9, 2, bytes(8)]}),
        "number 1: no signer": envelope({1: -8, -70001: [3, 9, 2, bytes(8)]}),
        "number 1: a second algorithm, of the same value": envelope({**FIRST, 2: [1]}),
        "number 1: signer as text": envelope({**FIRST, 4: "kitchen"}),
        "number 1: signer too long": envelope({**FIRST, 4: b"a" * 33}),
        "number 1: signer not ASCII": envelope({**FIRST, 4: b"k\xfcche"}),
        "number 1: three fields": envelope({**FIRST, -70001: [3, 9, bytes(8)]}),
        "number 1: five fields": envelope({**FIRST, -70001: [3, 9, 2, bytes(8), 0]}),
        "number 1: negative sequence": envelope({**FIRST, -70001: [3, -9, 2, bytes(8)]}),
        "number 1: sequence over 2^53": envelope({**FIRST, -70001: [3, 1 << 53, 2, bytes(8)]}),
        "number 1: short artifact": envelope({**FIRST, -70001: [3, 9, 2, bytes(7)]}),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_each_malformed_message_is_refused(message: tuple[str, bytes]) -> None:
    with pytest.raises(Refused) as caught:
        cose.parse(message[1])
    assert caught.value.reason is Refusal.MALFORMED


def test_the_templates_of_the_malformed_ones_are_well_formed() -> None:
    assert cose.parse(envelope(GOOD)).header.signer is None
    assert cose.parse(envelope({**GOOD, 1: -7})).algorithm == ES256
    assert cose.parse(envelope(FIRST)).header.signer == "kitchen"


def test_oversize_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: bytes) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(cbor, "decode", never)
    with pytest.raises(Refused) as caught:
        cose.parse(b"\xd2" + bytes(cose.MAX_MESSAGE_BYTES))
    assert caught.value.reason is Refusal.OVERSIZE


def test_unprotected_content_can_not_stand_in_for_signed_content() -> None:
    """A payload moved into the header, or a header of another message, is not what was signed."""
    other = cose.parse(cose.sign(Header(4, 10, 2, bytes(8)), b"other", b"bound", KEY))
    mine = cose.parse(MESSAGE)
    mixed = b"\xd2" + cbor.encode([other.protected, {}, mine.payload, mine.signature])
    assert refusal_of(mixed) is Refusal.BAD_SIGNATURE
