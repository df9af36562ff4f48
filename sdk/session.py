"""Resumed sealing: the encapsulation of a KEM is paid once; later updates are sealed under keys that follow from it.

An update that HPKE sealed may carry 32 fresh random bytes, the root of a chain. Update ``founded + i`` is sealed with
ChaCha20-Poly1305 (RFC 8439) under a key of its own, from HKDF-SHA256 (RFC 5869):

    chain_0 = root,   chain_i, secret_i = HKDF(chain_(i-1), info = "tasuki session 1", 64 bytes)
    key, nonce = HKDF(secret_i, info = "tasuki resumed 1" + context, 32 + 12 bytes)

So it is as confidential as the update that founded the chain: with the hybrid, also against quantum computers. A device
keeps only the chain after the last update, from which no earlier key can be had (a symmetric ratchet, as in the Signal
protocol's chains); a chain ends after `MAX_UPDATES`, and a new one begins with fresh randomness.
"""

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tasuki.sdk import cose
from tasuki.sdk.envelope import Context
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.signing import Signer

ROOT_BYTES: Final = 32
# After how many sequence numbers a device founds a new chain; a gateway follows none further.
MAX_UPDATES: Final = 64
# Before the ciphertext: how many sequence numbers ago the chain was founded.
DISTANCE_BYTES: Final = 1
_SECRET: Final = 32
_NONCE: Final = 12
_CHAIN_INFO: Final = b"tasuki session 1"
_KEY_INFO: Final = b"tasuki resumed 1"
_STORED: Final = 16 + ROOT_BYTES


@dataclass(frozen=True)
class Chain:
    """`secret` is the chain after the update `position`; the update `founded` brought its root."""

    founded: int
    position: int
    secret: bytes = field(repr=False)

    def encode(self) -> bytes:
        """48 bytes to keep."""
        return self.founded.to_bytes(8, "big") + self.position.to_bytes(8, "big") + self.secret


def found(sequence: int, root: bytes) -> Chain:
    """The chain whose `root` (32 bytes) the update `sequence` carries."""
    return Chain(sequence, sequence, root)


def decode(stored: bytes) -> Chain | None:
    """What `Chain.encode` gave; None of anything else."""
    if len(stored) != _STORED:
        return None
    return Chain(int.from_bytes(stored[:8], "big"), int.from_bytes(stored[8:16], "big"), stored[16:])


def reaches(chain: Chain, sequence: int) -> bool:
    """Whether `sequence` can still be sealed or opened with the chain."""
    return chain.position < sequence <= chain.founded + MAX_UPDATES


def seal(update: bytes, context: Context, chain: Chain, signer: Signer) -> tuple[bytes, Chain]:
    """The signed message, and the chain to keep instead of this one. `reaches` must hold for `context.sequence`."""
    secret, after = _forward(chain, context.sequence)
    key, nonce = _key(secret, context)
    bound = context.encode()
    distance = (context.sequence - chain.founded).to_bytes(DISTANCE_BYTES, "big")
    sealed = distance + ChaCha20Poly1305(key).encrypt(nonce, update, bound)
    return cose.sign(context.header(), sealed, bound, signer), after


def decrypt(sealed: bytes, context: Context, root: Chain | None) -> bytes:
    """The update's bytes; `root` is the chain as it was founded. Only for authentic payloads.

    Raises Refused: NO_SESSION where the chain is another one or goes no further, BAD_SEAL.
    """
    distance = int.from_bytes(sealed[:DISTANCE_BYTES], "big")
    sequence = context.sequence
    if root is None or sequence - distance != root.founded or not reaches(root, sequence):
        raise Refused(Refusal.NO_SESSION)
    secret, _ = _forward(root, sequence)
    key, nonce = _key(secret, context)
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed[DISTANCE_BYTES:], context.encode())
    except (InvalidTag, ValueError):
        raise Refused(Refusal.BAD_SEAL) from None


def _forward(chain: Chain, sequence: int) -> tuple[bytes, Chain]:
    """The secret of the update `sequence`, and the chain after it."""
    if not reaches(chain, sequence):
        raise Refused(Refusal.NO_SESSION)
    secret, link = b"", chain.secret
    for _ in range(sequence - chain.position):
        both = HKDF(SHA256(), 2 * _SECRET, None, _CHAIN_INFO).derive(link)
        link, secret = both[:_SECRET], both[_SECRET:]
    return secret, Chain(chain.founded, sequence, link)


def _key(secret: bytes, context: Context) -> tuple[bytes, bytes]:
    both = HKDF(SHA256(), _SECRET + _NONCE, None, _KEY_INFO + context.encode()).derive(secret)
    return both[:_SECRET], both[_SECRET:]
