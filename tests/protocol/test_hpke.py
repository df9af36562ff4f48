"""The library's HPKE against an independent one: what SPEC.md's suite numbers and draft names stand on."""

import hpke_oracle
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from protocol_kit import context, hybrid, sealing, seed

from tasuki.sdk import envelope
from tasuki.sdk.envelope import HYBRID, SUITES, X25519
from tasuki.sdk.errors import Refusal, Refused

PLAIN = b"an update" * 50

# RFC 9180, appendix A.2.1: base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, message 0.
RFC_INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
RFC_EPHEMERAL = bytes.fromhex("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600")
RFC_RECIPIENT = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
RFC_ENC = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
RFC_SHARED = bytes.fromhex("0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7")
RFC_KEY = bytes.fromhex("ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91")
RFC_NONCE = bytes.fromhex("5c4d98150661b848853b547f")
RFC_PLAIN = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
RFC_SEALED = bytes.fromhex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28")


def test_the_oracle_passes_the_vector_of_rfc_9180() -> None:
    recipient = X25519PrivateKey.from_private_bytes(RFC_RECIPIENT)
    assert hpke_oracle.decapsulate_x25519(RFC_ENC, recipient) == RFC_SHARED
    assert hpke_oracle.schedule(hpke_oracle.KEM_X25519, RFC_SHARED, RFC_INFO) == (RFC_KEY, RFC_NONCE)
    assert ChaCha20Poly1305(RFC_KEY).decrypt(RFC_NONCE, RFC_SEALED, b"Count-0") == RFC_PLAIN
    sealed = hpke_oracle.seal_x25519(
        RFC_PLAIN, recipient.public_key(), RFC_INFO, X25519PrivateKey.from_private_bytes(RFC_EPHEMERAL)
    )
    assert sealed[:32] == RFC_ENC


def test_library_opens_what_the_oracle_seals_and_the_reverse() -> None:
    key = X25519PrivateKey.from_private_bytes(seed("sealing"))
    ephemeral = X25519PrivateKey.from_private_bytes(seed("ephemeral"))
    theirs = hpke_oracle.seal_x25519(PLAIN, key.public_key(), b"bound", ephemeral)
    assert SUITES[X25519].decrypt(theirs, key, info=b"bound") == PLAIN
    ours = SUITES[X25519].encrypt(PLAIN, key.public_key(), info=b"bound")
    assert hpke_oracle.open_x25519(ours, key, b"bound") == PLAIN


def test_the_hybrid_is_x_wing_under_the_code_point_of_draft_ietf_hpke_pq() -> None:
    halves, key = hybrid("sealing"), sealing("sealing", HYBRID)
    sealed = SUITES[HYBRID].encrypt(PLAIN, key.public_key(), info=b"bound")
    assert len(sealed) == len(PLAIN) + 1088 + 32 + 16
    assert hpke_oracle.open_hybrid(sealed, halves.lattice, halves.curve, b"bound") == PLAIN


@pytest.mark.parametrize("suite", SUITES)
def test_any_other_context_key_or_byte_fails_to_open(suite: int) -> None:
    key, right = sealing("sealing", suite), context(suite)
    sealed = SUITES[suite].encrypt(PLAIN, key.public_key(), info=right.encode())
    assert envelope.decrypt(sealed, right, key) == PLAIN
    wrong = [
        (sealed, context(suite, sequence=10), key),
        (sealed, right, sealing("another", suite)),
        (sealed[:-1], right, key),
        (sealed[:16], right, key),
        (b"", right, key),
        (bytes([sealed[0] ^ 1]) + sealed[1:], right, key),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), right, key),
        (bytes(len(sealed)), right, key),  # an all-zero X25519 share has no shared secret
    ]
    for message, bound, recipient in wrong:
        with pytest.raises(Refused) as caught:
            envelope.decrypt(message, bound, recipient)
        assert caught.value.reason is Refusal.BAD_SEAL


def test_the_library_refuses_a_recipient_of_small_order() -> None:
    with pytest.raises(ValueError):
        SUITES[X25519].encrypt(PLAIN, X25519PublicKey.from_public_bytes(bytes(32)), info=b"")
