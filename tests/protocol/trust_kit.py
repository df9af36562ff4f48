"""Keys and a fleet record for the tests of trust. Nothing here is secret."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from protocol_kit import ARTIFACT, FLEET, hybrid, seed

from tasuki.sdk.envelope import HYBRID, X25519
from tasuki.sdk.fleet_record import Record
from tasuki.sdk.signing import Software

NOW: Final = 1_800_000_000.0


def key(name: str) -> Software:
    """A fixed Ed25519 key."""
    return Software(Ed25519PrivateKey.from_private_bytes(seed(name)))


def p256(name: str) -> Software:
    """A fixed P-256 key."""
    return Software(derive_private_key(int.from_bytes(seed(name), "big") >> 1, SECP256R1()))


ROOT, GATEWAY, NEXT, STRANGER = key("root"), key("gateway"), key("next gateway"), key("stranger")
P256 = p256("root")


def x25519_public(name: str) -> bytes:
    return X25519PrivateKey.from_private_bytes(seed(name)).public_key().public_bytes_raw()


def hybrid_public(name: str) -> bytes:
    halves = hybrid(name)
    return halves.lattice.public_key().public_bytes_raw() + halves.curve.public_key().public_bytes_raw()


def sealing_public(name: str, suite: int) -> bytes:
    return x25519_public(name) if suite == X25519 else hybrid_public(name)


def record() -> Record:
    """Version 1 of the fleet's record."""
    sealing = {suite: sealing_public("gateway", suite) for suite in (X25519, HYBRID)}
    return Record(FLEET, 1, int(NOW) - 100, int(NOW) + 10**6, (ARTIFACT,), GATEWAY.public, sealing)
