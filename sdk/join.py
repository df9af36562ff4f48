"""Joining by a one-time token: a device shows the gateway its public key, that it has the private half, and the token.

The token is sealed to the gateway together with the public key: whoever listens can't put it beside a key of his own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag

from tasuki.sdk import cbor, cose
from tasuki.sdk.envelope import SUITES, Context, SealingPrivateKey, SealingPublicKey, check_tags
from tasuki.sdk.errors import InputError, KeyInvalid, Refusal, Refused
from tasuki.sdk.signing import Signer, check_public

TOKEN_BYTES: Final = 32
MAX_JOIN_BYTES: Final = 4096


@dataclass(frozen=True)
class Join:
    """What a device says: its raw public key, the token, and the SHA-256 of the artifact that it runs."""

    public: bytes
    token: bytes = field(repr=False)
    artifact: bytes


def make(
    token: bytes, *, fleet: str, device: str, artifact: bytes, suite: int, recipient: SealingPublicKey, signer: Signer
) -> bytes:
    """The message that asks to join. Raises InputError if the token has not 32 bytes."""
    if len(token) != TOKEN_BYTES:
        raise InputError(f"a one-time token has {TOKEN_BYTES} bytes, not {len(token)}")
    context = _context(fleet, device, artifact, suite)
    sealed = SUITES[suite].encrypt(token, recipient, info=_bound(context, signer.public))
    return cose.sign(context.header(), cbor.encode([signer.public, sealed]), context.encode(), signer)


def read(
    message: bytes,
    *,
    fleet: str,
    device: str,
    artifacts: Sequence[bytes],
    sealing: Sequence[Mapping[int, SealingPrivateKey]],
) -> Join:
    """What `device` says, if it has the private half of the key that it shows.

    `sealing` are the gateway's keys by suite, the present ones first. Whether the token is good is for the ledger to
    say. Raises Refused: OVERSIZE, MALFORMED, WRONG_FLEET, WRONG_ARTIFACT, WRONG_SUITE, BAD_SIGNATURE, BAD_SEAL.
    """
    if len(message) > MAX_JOIN_BYTES:
        raise Refused(Refusal.OVERSIZE, f"{len(message)} bytes, at most {MAX_JOIN_BYTES}")
    signed = cose.parse(message)
    header = signed.header
    if header.signer is not None or header.version or header.sequence:
        raise Refused(Refusal.MALFORMED, "join: header")
    artifact = _artifact(header, artifacts, fleet)
    public, sealed = _payload(signed.payload)
    rings = [ring[header.code] for ring in sealing if header.code in ring]
    if not rings:
        raise Refused(Refusal.WRONG_SUITE, f"suite {header.code}")
    context = _context(fleet, device, artifact, header.code)
    cose.verify(signed, context.encode(), public)
    for key in rings:
        try:
            token = SUITES[header.code].decrypt(sealed, key, info=_bound(context, public))
        except (InvalidTag, ValueError):
            continue
        if len(token) != TOKEN_BYTES:
            raise Refused(Refusal.MALFORMED, "join: token")
        return Join(public, token, artifact)
    raise Refused(Refusal.BAD_SEAL, "join")


def _artifact(header: cose.Header, artifacts: Sequence[bytes], fleet: str) -> bytes:
    refusal = Refused(Refusal.WRONG_ARTIFACT)
    for artifact in artifacts:
        try:
            check_tags(header, artifact, fleet)
        except Refused as error:
            refusal = error
        else:
            return artifact
    raise refusal


def _payload(payload: bytes) -> tuple[bytes, bytes]:
    match cbor.decode(payload):
        case [bytes(public), bytes(sealed)]:
            try:
                return check_public(public), sealed
            except KeyInvalid:
                pass
    raise Refused(Refusal.MALFORMED, "join")


def _context(fleet: str, device: str, artifact: bytes, suite: int) -> Context:
    return Context(fleet, device, "join", artifact, 0, 0, suite)


def _bound(context: Context, public: bytes) -> bytes:
    return cbor.encode([context.encode(), public])
