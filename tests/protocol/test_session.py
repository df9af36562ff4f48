"""Resumed sealing: what the chain gives, how far it reaches, and what a thief of its present state can't open."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st
from protocol_kit import ARTIFACT, DEVICE, FLEET, context, seed, signing

from tasuki.sdk import cose, envelope, session
from tasuki.sdk.envelope import RESUMED, Context
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.session import MAX_UPDATES

KEY = signing("device")
ROOT = session.found(9, seed("root"))


def bound(sequence: int, version: int = 3) -> Context:
    return context(RESUMED, sequence, version)


def opened(message: bytes, sequence: int, root: session.Chain | None = ROOT, **other: int) -> bytes:
    about = bound(sequence, **other)
    return session.decrypt(envelope.authenticate(cose.parse(message), about, KEY.public), about, root)


def reason_of(message: bytes, sequence: int, root: session.Chain | None = ROOT) -> Refusal:
    with pytest.raises(Refused) as caught:
        opened(message, sequence, root)
    return caught.value.reason


@given(st.lists(st.integers(1, MAX_UPDATES), min_size=1, max_size=6, unique=True), st.binary(max_size=100))
def test_every_update_of_a_chain_opens_whatever_was_lost_in_between_and_in_any_order(
    steps: list[int], plain: bytes
) -> None:
    chain, messages = ROOT, {}
    for step in sorted(steps):
        message, chain = session.seal(plain, bound(9 + step), chain, KEY)
        messages[9 + step] = message
    for sequence in reversed(messages):
        assert opened(messages[sequence], sequence) == plain


def hkdf(secret: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869 with SHA-256 and no salt, from its text."""
    import hashlib
    import hmac

    key = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    made, block = b"", b""
    for number in range(1, -(-size // 32) + 1):
        block = hmac.new(key, block + info + bytes([number]), hashlib.sha256).digest()
        made += block
    return made[:size]


def test_a_second_implementation_from_the_specification_opens_it() -> None:
    message, _ = session.seal(b"learned", bound(12), ROOT, KEY)
    sealed = cose.parse(message).payload
    assert sealed[0] == 3
    chain = ROOT.secret
    for _ in range(3):
        both = hkdf(chain, b"tasuki session 1", 64)
        chain, secret = both[:32], both[32:]
    about = Context(FLEET, DEVICE, "up", ARTIFACT, 3, 12, RESUMED).encode()
    both = hkdf(secret, b"tasuki resumed 1" + about, 44)
    assert ChaCha20Poly1305(both[:32]).decrypt(both[32:], sealed[1:], about) == b"learned"


def test_it_costs_seventeen_bytes_instead_of_an_encapsulation() -> None:
    message, _ = session.seal(b"", bound(10), ROOT, KEY)
    assert len(cose.parse(message).payload) == 1 + 16


def test_another_root_none_or_a_chain_at_its_end_is_no_session() -> None:
    message, _ = session.seal(b"x", bound(10), ROOT, KEY)
    assert reason_of(message, 10, None) is Refusal.NO_SESSION
    assert reason_of(message, 10, session.found(8, seed("root"))) is Refusal.NO_SESSION
    assert reason_of(message, 10, session.found(9, seed("other"))) is Refusal.BAD_SEAL
    assert not session.reaches(ROOT, 9 + MAX_UPDATES + 1)
    assert not session.reaches(ROOT, 9)
    with pytest.raises(Refused) as caught:
        session.seal(b"x", bound(9 + MAX_UPDATES + 1), ROOT, KEY)
    assert caught.value.reason is Refusal.NO_SESSION


def test_the_context_is_bound() -> None:
    message, _ = session.seal(b"x", bound(10), ROOT, KEY)
    payload = cose.parse(message).payload
    with pytest.raises(Refused) as caught:
        session.decrypt(payload, bound(10, version=4), ROOT)
    assert caught.value.reason is Refusal.BAD_SEAL


def test_what_a_device_keeps_opens_nothing_that_went_before() -> None:
    first, after = session.seal(b"first", bound(10), ROOT, KEY)
    second, after = session.seal(b"second", bound(11), after, KEY)
    for message, sequence in ((first, 10), (second, 11)):
        payload = cose.parse(message).payload
        for distance in range(1, 4):
            stolen = session.Chain(sequence - distance, sequence - 1, after.secret)
            with pytest.raises(Refused) as caught:
                session.decrypt(bytes([distance]) + payload[1:], bound(sequence), stolen)
            assert caught.value.reason is Refusal.BAD_SEAL
        assert not session.reaches(after, sequence)


@given(st.binary(max_size=60))
def test_what_is_kept_reads_back_and_nothing_else_does(data: bytes) -> None:
    assert session.decode(ROOT.encode()) == ROOT
    found = session.decode(data)
    assert (found is None) == (len(data) != 48)
    assert "secret" not in repr(ROOT)
