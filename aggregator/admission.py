"""Admission: authenticate, then decrypt, then parse, then check. No I/O; what is stored comes after."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tasuki.sdk import cose, envelope, keys, update
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.envelope import Context, SealingPrivateKey
from tasuki.sdk.errors import Refusal, Refused


@dataclass(frozen=True)
class Entry:
    """What the ledger keeps of one authentic message. `plain` is the update's bytes, empty if it was refused."""

    device: str
    sequence: int
    base_version: int
    digest: bytes
    status: Refusal
    plain: bytes = b""
    repeated: bool = False


@dataclass(frozen=True)
class Desk:
    """What admission needs to know. `seen` looks an earlier entry of (device, sequence) up."""

    fleet: str
    artifact: Artifact
    sealing: Mapping[int, SealingPrivateKey]
    key_of: Callable[[str], bytes | None]
    seen: Callable[[str, int], Entry | None]
    max_norm: float


def admit(message: bytes, sender: str, version: int, desk: Desk) -> Entry:
    """Judge `message`, which came on the topic of `sender`, while `version` is current.

    Raises Refused while it is not certain that the device sent it: such a message gets no receipt. Afterwards every
    outcome is an Entry, and the device is told.
    """
    signed = cose.parse(message)
    header = signed.header
    if header.signer != sender:
        raise Refused(Refusal.BAD_SIGNATURE, f"{header.signer!r} on the topic of {sender!r}")
    raw_key = desk.key_of(sender)
    if raw_key is None:
        raise Refused(Refusal.UNKNOWN_DEVICE, sender)
    if header.artifact != desk.artifact.hash[:8]:
        raise Refused(Refusal.WRONG_ARTIFACT, sender)
    if header.code not in desk.sealing:
        raise Refused(Refusal.WRONG_SUITE, sender)
    context = Context(desk.fleet, sender, "up", desk.artifact.hash, header.version, header.sequence, header.code)
    sealed = envelope.authenticate(signed, context, keys.verifying(raw_key))

    digest = hashlib.sha256(message).digest()
    known = desk.seen(sender, header.sequence)
    if known is not None and known.digest == digest:
        return Entry(sender, header.sequence, known.base_version, digest, known.status, repeated=True)
    if known is not None:
        return Entry(sender, header.sequence, header.version, digest, Refusal.REPLAY, repeated=True)
    status, plain = Refusal.ADMITTED, b""
    try:
        plain = _check(sealed, context, version, desk)
    except Refused as refusal:
        status = refusal.reason
    return Entry(sender, header.sequence, header.version, digest, status, plain)


def _check(sealed: bytes, context: Context, version: int, desk: Desk) -> bytes:
    if context.version != version:
        raise Refused(Refusal.STALE_BASE, f"base {context.version}, current {version}")
    plain = envelope.decrypt(sealed, context, desk.sealing[context.code])
    decoded = update.decode(plain, desk.artifact.labels, desk.artifact.features)
    if norm(decoded.delta, desk.artifact.moment) > desk.max_norm:
        raise Refused(Refusal.NORM)
    return plain


def norm(delta: Head, moment: Floats) -> float:
    """Root mean square change that `delta` makes to the logits of a public text, summed over the labels."""
    joined = delta.joined.astype(np.float64)
    return float(np.sqrt(max(0.0, np.einsum("ci,ij,cj->", joined, moment.astype(np.float64), joined))))
