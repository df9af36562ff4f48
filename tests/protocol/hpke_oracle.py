"""HPKE written a second time, straight from the documents, to check the library by. For tests only.

RFC 9180 sections 4, 5.1 and 5.2 (base mode, one message), and for the hybrid KEM
draft-irtf-cfrg-concrete-hybrid-kems section 4.2 (MLKEM768-X25519, which is X-Wing of
draft-connolly-cfrg-xwing-kem) under the code point of draft-ietf-hpke-pq.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KEM_X25519 = 0x0020
KEM_HYBRID = 0x647A
KDF_HKDF_SHA256 = 0x0001
AEAD_CHACHA20_POLY1305 = 0x0003
MLKEM768_CIPHERTEXT_BYTES = 1088
XWING_LABEL = bytes.fromhex("5c2e2f2f5e5c")  # \.//^\ in ASCII


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")


def _expand(suite: bytes, secret: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    # One block is enough: nothing longer than 32 bytes is asked for.
    return hmac.digest(secret, labelled + b"\x01", "sha256")[:length]


def shared_x25519(dh: bytes, enc: bytes, recipient: bytes) -> bytes:
    """ExtractAndExpand of DHKEM(X25519, HKDF-SHA256)."""
    suite = b"KEM" + KEM_X25519.to_bytes(2, "big")
    return _expand(suite, _extract(suite, b"", b"eae_prk", dh), b"shared_secret", enc + recipient, 32)


def decapsulate_x25519(enc: bytes, key: X25519PrivateKey) -> bytes:
    dh = key.exchange(X25519PublicKey.from_public_bytes(enc))
    return shared_x25519(dh, enc, key.public_key().public_bytes_raw())


def decapsulate_hybrid(enc: bytes, lattice: MLKEM768PrivateKey, curve: X25519PrivateKey) -> bytes:
    first, second = enc[:MLKEM768_CIPHERTEXT_BYTES], enc[MLKEM768_CIPHERTEXT_BYTES:]
    post_quantum = lattice.decapsulate(first)
    classical = curve.exchange(X25519PublicKey.from_public_bytes(second))
    return hashlib.sha3_256(
        post_quantum + classical + second + curve.public_key().public_bytes_raw() + XWING_LABEL
    ).digest()


def schedule(kem: int, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and base nonce of HKDF-SHA256 with ChaCha20-Poly1305."""
    ids = (kem, KDF_HKDF_SHA256, AEAD_CHACHA20_POLY1305)
    suite = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in ids)
    bound = b"\x00" + _extract(suite, b"", b"psk_id_hash", b"") + _extract(suite, b"", b"info_hash", info)
    secret = _extract(suite, shared, b"secret", b"")
    return _expand(suite, secret, b"key", bound, 32), _expand(suite, secret, b"base_nonce", bound, 12)


def open_x25519(sealed: bytes, key: X25519PrivateKey, info: bytes) -> bytes:
    secret, nonce = schedule(KEM_X25519, decapsulate_x25519(sealed[:32], key), info)
    return ChaCha20Poly1305(secret).decrypt(nonce, sealed[32:], b"")


def open_hybrid(sealed: bytes, lattice: MLKEM768PrivateKey, curve: X25519PrivateKey, info: bytes) -> bytes:
    size = MLKEM768_CIPHERTEXT_BYTES + 32
    secret, nonce = schedule(KEM_HYBRID, decapsulate_hybrid(sealed[:size], lattice, curve), info)
    return ChaCha20Poly1305(secret).decrypt(nonce, sealed[size:], b"")


def seal_x25519(plain: bytes, recipient: X25519PublicKey, info: bytes, ephemeral: X25519PrivateKey) -> bytes:
    """Deterministic, because the ephemeral key is given: for test vectors only."""
    enc = ephemeral.public_key().public_bytes_raw()
    shared = shared_x25519(ephemeral.exchange(recipient), enc, recipient.public_bytes_raw())
    secret, nonce = schedule(KEM_X25519, shared, info)
    return enc + ChaCha20Poly1305(secret).encrypt(nonce, plain, b"")
