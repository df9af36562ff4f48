"""Joining by a one-time token: what the gateway believes of a device that it does not know."""

import contextlib
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hpke_oracle import open_x25519
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_kit import ARTIFACT, DEVICE, FLEET, sealing, seed
from trust_kit import STRANGER, key, p256, sealing_public

from tasuki.sdk import cbor, cose, join
from tasuki.sdk.envelope import HYBRID, SUITES, X25519, Context
from tasuki.sdk.errors import InputError, Refusal, Refused
from tasuki.sdk.join import Join
from tasuki.sdk.sealing import sealing_public as load
from tasuki.sdk.signing import Signer

TOKEN = seed("token")
DEVICE_KEY = key("device")
RING = {suite: sealing("gateway", suite) for suite in SUITES}
OTHER = {suite: sealing("former", suite) for suite in SUITES}
NEWER = hashlib.sha256(b"a newer artifact").digest()


def message(signer: Signer = DEVICE_KEY, suite: int = X25519, device: str = DEVICE, fleet: str = FLEET) -> bytes:
    recipient = load(suite, sealing_public("gateway", suite))
    return join.make(
        TOKEN, fleet=fleet, device=device, artifact=ARTIFACT, suite=suite, recipient=recipient, signer=signer
    )


def read(content: bytes, device: str = DEVICE, artifacts: tuple[bytes, ...] = (ARTIFACT,)) -> Join:
    return join.read(content, fleet=FLEET, device=device, artifacts=artifacts, sealing=(RING,))


def refusal(content: bytes, device: str = DEVICE) -> Refusal:
    with pytest.raises(Refused) as caught:
        read(content, device)
    return caught.value.reason


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("signer", [DEVICE_KEY, p256("device")], ids=["EdDSA", "ES256"])
def test_a_device_is_understood(suite: int, signer: Signer) -> None:
    found = read(message(signer, suite))
    assert found == Join(signer.public, TOKEN, ARTIFACT)
    assert TOKEN.hex() not in repr(found)
    assert repr(TOKEN) not in repr(found), "a log must not tell it"


def test_an_independent_implementation_opens_the_token() -> None:
    signed = cose.parse(message())
    public, sealed = cbor.decode(signed.payload)
    bound = Context(FLEET, DEVICE, "join", ARTIFACT, 0, 0, X25519).encode()
    secret = X25519PrivateKey.from_private_bytes(seed("gateway"))
    assert open_x25519(sealed, secret, cbor.encode([bound, public])) == TOKEN


def test_a_key_of_before_or_after_a_rotation_opens() -> None:
    content = message()
    for rings in ((OTHER, RING), (RING, OTHER)):
        found = join.read(content, fleet=FLEET, device=DEVICE, artifacts=(ARTIFACT,), sealing=rings)
        assert found.token == TOKEN
    with pytest.raises(Refused, match="bad seal"):
        join.read(content, fleet=FLEET, device=DEVICE, artifacts=(ARTIFACT,), sealing=(OTHER,))


def test_a_listener_can_not_put_the_token_beside_his_own_key() -> None:
    """He signs well, for his own key; but the token was sealed for another."""
    _, sealed = cbor.decode(cose.parse(message()).payload)
    context = Context(FLEET, DEVICE, "join", ARTIFACT, 0, 0, X25519)
    stolen = cose.sign(context.header(), cbor.encode([STRANGER.public, sealed]), context.encode(), STRANGER)
    assert refusal(stolen) is Refusal.BAD_SEAL


def test_nobody_joins_with_a_key_that_he_does_not_have() -> None:
    context = Context(FLEET, DEVICE, "join", ARTIFACT, 0, 0, X25519)
    recipient = load(X25519, sealing_public("gateway", X25519))
    sealed = SUITES[X25519].encrypt(TOKEN, recipient, info=cbor.encode([context.encode(), DEVICE_KEY.public]))
    forged = cose.sign(context.header(), cbor.encode([DEVICE_KEY.public, sealed]), context.encode(), STRANGER)
    assert refusal(forged) is Refusal.BAD_SIGNATURE


def test_a_message_is_good_in_its_context_only() -> None:
    assert refusal(message(), "attic") is Refusal.BAD_SIGNATURE
    assert refusal(message(fleet="ash")) is Refusal.WRONG_FLEET
    with pytest.raises(Refused, match="wrong artifact"):
        read(message(), artifacts=(NEWER,))
    assert read(message(), artifacts=(NEWER, ARTIFACT)).artifact == ARTIFACT
    with pytest.raises(Refused, match="wrong artifact"):
        read(message(), artifacts=())


def test_an_update_does_not_pass_for_a_join() -> None:
    context = Context(FLEET, DEVICE, "up", ARTIFACT, 0, 0, X25519)
    recipient = load(X25519, sealing_public("gateway", X25519))
    sealed = SUITES[X25519].encrypt(TOKEN, recipient, info=cbor.encode([context.encode(), DEVICE_KEY.public]))
    update = cose.sign(context.header(), cbor.encode([DEVICE_KEY.public, sealed]), context.encode(), DEVICE_KEY)
    assert refusal(update) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize(
    "payload",
    [b"", cbor.encode([]), cbor.encode([b"", b""]), cbor.encode([bytes(33), b""]), cbor.encode([1, b""]),
     cbor.encode([DEVICE_KEY.public]), cbor.encode([DEVICE_KEY.public, b"", b""]), cbor.encode({1: b""})],
    ids=bytes.hex,
)  # fmt: skip
def test_a_payload_of_another_form_is_malformed(payload: bytes) -> None:
    context = Context(FLEET, DEVICE, "join", ARTIFACT, 0, 0, X25519)
    assert refusal(cose.sign(context.header(), payload, context.encode(), DEVICE_KEY)) is Refusal.MALFORMED


@pytest.mark.parametrize(
    ("version", "sequence", "code", "expected"),
    [(1, 0, 1, Refusal.MALFORMED), (0, 1, 1, Refusal.MALFORMED), (0, 0, 9, Refusal.WRONG_SUITE)],
)
def test_another_header_is_named(version: int, sequence: int, code: int, expected: Refusal) -> None:
    context = Context(FLEET, DEVICE, "join", ARTIFACT, version, sequence, code)
    payload = cbor.encode([DEVICE_KEY.public, b"x"])
    assert refusal(cose.sign(context.header(), payload, context.encode(), DEVICE_KEY)) is expected


def test_sizes() -> None:
    assert refusal(bytes(join.MAX_JOIN_BYTES + 1)) is Refusal.OVERSIZE
    assert len(message(suite=HYBRID)) <= join.MAX_JOIN_BYTES
    recipient = load(X25519, sealing_public("gateway", X25519))
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(InputError, match="32"):
            join.make(wrong, fleet=FLEET, device=DEVICE, artifact=ARTIFACT, suite=X25519, recipient=recipient,
                      signer=DEVICE_KEY)  # fmt: skip
    context = Context(FLEET, DEVICE, "join", ARTIFACT, 0, 0, X25519)
    sealed = SUITES[X25519].encrypt(b"short", recipient, info=cbor.encode([context.encode(), DEVICE_KEY.public]))
    payload = cbor.encode([DEVICE_KEY.public, sealed])
    assert refusal(cose.sign(context.header(), payload, context.encode(), DEVICE_KEY)) is Refusal.MALFORMED


@given(st.data())
@settings(max_examples=150)
def test_an_altered_message_is_refused(data: st.DataObject) -> None:
    good = message()
    place = data.draw(st.integers(0, len(good) - 1))
    altered = good[:place] + data.draw(st.binary(max_size=4)) + good[place + data.draw(st.integers(0, 4)) :]
    with contextlib.suppress(Refused):
        read(altered)
        assert altered == good


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(Refused):
        read(content)
