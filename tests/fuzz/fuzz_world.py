"""One small fleet in memory, and who signed what in it. Nothing here is secret, and nothing is kept on disk."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import fuzz_cbor
import numpy as np
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from fuzz_dice import Dice
from fuzz_mutate import change_bytes, change_value

from tasuki.sdk import cbor, fleet_table
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.envelope import DIRECTIONS, HYBRID, X25519, Context, SealingPrivateKey
from tasuki.sdk.fleet_table import FleetTable
from tasuki.sdk.runtime import Outputs
from tasuki.sdk.signing import Signer, Software

FLEET, ARTIFACT = "oak", hashlib.sha256(b"tasuki fuzzed artifact").digest()
GATEWAY, NEXT_GATEWAY, ROOT = "gateway", "next gateway", "root"
# Enrolled, in the order of the suites that they use; the last is not enrolled, the one before it is revoked.
KITCHEN, PORCH, HALL, ATTIC, STRANGER = DEVICES = ("kitchen", "porch", "hall", "attic", "stranger")
SUITE_OF = {KITCHEN: X25519, PORCH: X25519, HALL: HYBRID, ATTIC: X25519, STRANGER: X25519}


def secret(name: str, size: int = 32) -> bytes:
    """The fixed secret of `name`."""
    return hashlib.shake_256(b"tasuki fuzz key: " + name.encode()).digest(size)


def signer_of(name: str) -> Signer:
    """Ed25519, but for the porch and the next gateway, who have P-256."""
    if name in (PORCH, NEXT_GATEWAY):
        return Software(derive_private_key(int.from_bytes(secret(name), "big") >> 8, SECP256R1()))
    return Software(Ed25519PrivateKey.from_private_bytes(secret(name)))


def sealing_of(name: str) -> dict[int, SealingPrivateKey]:
    """The sealing keys of `name` by suite."""
    return {
        X25519: X25519PrivateKey.from_private_bytes(secret(f"{name} sealing")),
        HYBRID: hpke.MLKEM768X25519PrivateKey(*_halves(name)),
    }


def public_of(name: str) -> dict[int, bytes]:
    """The raw public halves."""
    lattice, curve = _halves(name)
    both = lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    return {X25519: sealing_of(name)[X25519].public_key().public_bytes_raw(), HYBRID: both}


def _halves(name: str) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    lattice = MLKEM768PrivateKey.from_seed_bytes(secret(f"{name} lattice", 64))
    return lattice, X25519PrivateKey.from_private_bytes(secret(f"{name} curve"))


@dataclass
class World:
    """Keys by name, and the digests of what each name signed: of the pool for good, of one trial until `forget`."""

    signers: dict[str, Signer] = field(
        default_factory=lambda: {name: signer_of(name) for name in (*DEVICES, GATEWAY, NEXT_GATEWAY, ROOT)}
    )
    sealing: dict[int, SealingPrivateKey] = field(default_factory=lambda: sealing_of(GATEWAY))
    former: dict[int, SealingPrivateKey] = field(default_factory=lambda: sealing_of("former gateway"))
    _lasting: set[tuple[str, bytes]] = field(default_factory=set)
    _trial: set[tuple[str, bytes]] = field(default_factory=set)

    def keep(self, name: str, message: bytes) -> bytes:
        """`message`, which `name` signed and the pool holds."""
        self._lasting.add((name, hashlib.sha256(message).digest()))
        return message

    def forget(self) -> None:
        """Begin the next trial."""
        self._trial.clear()

    def signed_by(self, name: str, message: bytes) -> bool:
        """Whether exactly these bytes are a message that `name` made."""
        return self.signed_digest(name, hashlib.sha256(message).digest())

    def signed_digest(self, name: str, digest: bytes) -> bool:
        """Whether a message of this SHA-256 is one that `name` made."""
        return (name, digest) in self._trial or (name, digest) in self._lasting

    def sign(self, name: str, context: Context, payload: bytes, dice: Dice | None = None) -> bytes:
        """A COSE_Sign1 by `name`; with dice, its protected header is changed before it is signed."""
        signer, header = self.signers[name], context.header()
        fields = {1: signer.algorithm, -70002: [header.version, header.sequence, header.code, header.tags]}
        protected = cbor.encode(fields) if dice is None else encode(change_value(fields, dice), dice)
        return self._finish(name, protected, context, payload)

    def sign_as_before(self, name: str, context: Context, payload: bytes, dice: Dice) -> bytes:
        """The same with a header of number 1, which names the signer; sometimes it names another one."""
        signer = self.signers[name]
        named = dice.pick(DEVICES) if dice.one_in(4) else name
        numbers = [context.version, context.sequence, context.code, context.artifact[:8]]
        fields = {1: signer.algorithm, 4: named.encode(), -70001: numbers}
        protected = cbor.encode(fields) if dice.one_in(2) else encode(change_value(fields, dice), dice)
        return self._finish(name, protected, context, payload)

    def _finish(self, name: str, protected: bytes, context: Context, payload: bytes) -> bytes:
        signature = self.signers[name].sign(cbor.encode(["Signature1", protected, context.encode(), payload]))
        message = b"\xd2" + cbor.encode([protected, {}, payload, signature])
        self._trial.add((name, hashlib.sha256(message).digest()))
        return message


def encode(value: object, dice: Dice) -> bytes:
    """Three times in four the one encoding of `value`, so that it gets past the decoder; else a faulty one."""
    return fuzz_cbor.write(value, dice) if dice.one_in(4) else cbor.encode(value)


def changed(data: bytes, dice: Dice, others: Sequence[bytes] = ()) -> bytes:
    """Other bytes for `data`, which is CBOR: mostly changed in a value, sometimes in its encoding or any byte."""
    match dice.below(8):
        case 0:
            return change_bytes(data, dice, others)
        case 1:
            return fuzz_cbor.write(cbor.decode(data), dice, 1 + dice.below(3))
        case _:
            value = cbor.decode(data)
            for _ in range(1 + dice.below(2)):
                value = change_value(value, dice, others)
            return cbor.encode(value)


def changed_context(context: Context, dice: Dice) -> Context:
    """`context` with one field of another message."""
    numbers = (0, 1, 2, 3, 4, 7, 1 << 53, (1 << 53) - 1, context.version + 1, context.sequence + 1)
    match dice.below(7):
        case 0:
            return replace(context, fleet=dice.pick(("elm", "")))
        case 1:
            return replace(context, device=dice.pick((*DEVICES, "*", GATEWAY)))
        case 2:
            return replace(context, direction=dice.pick(DIRECTIONS))
        case 3:
            return replace(context, artifact=dice.pick((secret("another artifact"), bytes(32))))
        case 4:
            return replace(context, version=dice.pick(numbers))
        case 5:
            return replace(context, sequence=dice.pick(numbers))
        case _:
            return replace(context, code=dice.pick(numbers))


def changed_message(message: bytes, dice: Dice, others: Sequence[bytes]) -> bytes:
    """A finished message with bytes changed, a COSE item changed, or parts of another message."""
    match dice.below(4):
        case 0:
            return change_bytes(message, dice, others)
        case 1:
            return message[:1] + fuzz_cbor.write(cbor.decode(message[1:]), dice)
        case 2:
            return message[:1] + cbor.encode(change_value(cbor.decode(message[1:]), dice))
        case _:
            mine, other = cbor.decode(message[1:]), cbor.decode(dice.pick(others)[1:])
            place = dice.below(4)
            mine[place] = other[place]
            return message[:1] + cbor.encode(mine)


def twin(message: bytes) -> bytes:
    """The other ECDSA signature that is good for the same bytes: (r, n - s) beside (r, s)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    return message[:-32] + ((order - int.from_bytes(message[-32:], "big")) % (1 << 256)).to_bytes(32, "big")


@cache
def table_of(kind: str) -> FleetTable:
    """The table of a small artifact: 6 labels, 20 features, with an uneven second moment."""
    rng = np.random.default_rng(3)
    features = rng.standard_normal((200, 20)) * np.geomspace(0.1, 3, 20) + 0.2
    joined = np.concatenate([features, np.ones((200, 1))], 1)
    moment = (joined.T @ joined / 200).astype(np.float32)
    labels = tuple(f"label_{row}" for row in range(6))
    return fleet_table.make(kind, labels, 20, moment, {"low_rank": {"rank": 5, "seed": 1}})


def artifact_of(kind: str) -> Artifact:
    """An artifact that has this table; its model is never run."""
    table = table_of(kind)
    return Artifact(
        hash=ARTIFACT, size=0, model=b"", manifest={}, labels=table.labels, tokens=8, features=20, temperature=1.0,
        outputs=Outputs((0,), 1), vocabulary=("[PAD]", "[UNK]"), moment=table.moment,
    )  # fmt: skip


def sha256(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()
