"""What the protocol's tests share: one small fleet with fixed keys. Nothing here is secret."""

import hashlib
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tasuki.sdk import compression, fleet_table, update
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.envelope import HYBRID, X25519, Context, SealingPrivateKey
from tasuki.sdk.fleet_table import FleetTable
from tasuki.sdk.signing import Software

FLEET = "oak"
DEVICE = "kitchen"
ARTIFACT = hashlib.sha256(b"tasuki test artifact").digest()
LABELS = tuple(f"label_{row}" for row in range(5))
WIDTH = 7


def seed(name: str, size: int = 32) -> bytes:
    """The fixed secret of a test key."""
    return hashlib.shake_256(b"tasuki test key: " + name.encode()).digest(size)


def signing(name: str) -> Software:
    return Software(Ed25519PrivateKey.from_private_bytes(seed(name)))


def signing_p256(name: str) -> Software:
    """A P-256 key; the secret is below the group's order."""
    return Software(ec.derive_private_key(int.from_bytes(seed(name), "big") >> 1, ec.SECP256R1()))


def table(kind: str = "head", rows: int = len(LABELS), columns: int = WIDTH) -> FleetTable:
    """The fleet's table, with a moment that is not the identity."""
    labels = LABELS if rows == len(LABELS) else tuple(f"label_{row}" for row in range(rows))
    return fleet_table.make(kind, labels, columns, moment(columns), {"low_rank": {"rank": 3, "seed": 5}})


def moment(width: int = WIDTH) -> Floats:
    """Small whole numbers over a power of two: positive definite, the same on every machine."""
    places = np.arange(width + 1)
    return (np.minimum.outer(places, places) + 1 + 4 * np.eye(width + 1)).astype(np.float32) / np.float32(16)


def plain_update(head: Head, samples: int = 3, root: bytes | None = None, kind: str = "head") -> bytes:
    """The update of `head`, at eight bits."""
    of = table(kind, *head.weight.shape) if kind == "head" else table(kind, len(head.labels))
    packed, _ = compression.auto(head.joined, 1 << 20, of.metric, 1, 1e6)
    return update.encode(of, packed, samples, root)


@dataclass(frozen=True)
class Hybrid:
    """The two halves of a hybrid sealing key."""

    lattice: MLKEM768PrivateKey
    curve: X25519PrivateKey


def hybrid(name: str) -> Hybrid:
    return Hybrid(
        MLKEM768PrivateKey.from_seed_bytes(seed(f"{name} ml-kem-768", 64)),
        X25519PrivateKey.from_private_bytes(seed(f"{name} x25519")),
    )


def sealing(name: str, suite: int) -> SealingPrivateKey:
    if suite == X25519:
        return X25519PrivateKey.from_private_bytes(seed(name))
    halves = hybrid(name)
    return hpke.MLKEM768X25519PrivateKey(halves.lattice, halves.curve)


def context(suite: int = HYBRID, sequence: int = 9, version: int = 3) -> Context:
    return Context(FLEET, DEVICE, "up", ARTIFACT, version, sequence, suite)


def head(number: int = 0, rows: int = len(LABELS), columns: int = WIDTH) -> Head:
    """A head whose bytes are the same on any machine: small integers over a power of two, no generator."""
    cells = np.arange(rows * columns, dtype=np.int64).reshape(rows, columns)
    weight = ((cells * 37 + number * 11) % 255 - 127).astype(np.float32) / np.float32(64)
    bias = ((np.arange(rows) * 13 + number) % 17 - 8).astype(np.float32) / np.float32(16)
    labels = LABELS if rows == len(LABELS) else tuple(f"label_{row}" for row in range(rows))
    return Head(labels, weight, bias)
