"""COSE_Sign1 (RFC 9052, 4.2) with Ed25519 or ES256 (RFC 9053, 2.2 and 2.1): only the encoding; a `Signer` signs.

Headers are numbered. Number 2 is what is written: it names neither device nor fleet in full, because the topic and the
external additional data do. Number 1, which names the signer, is what the first version wrote, and is still read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasuki.sdk import cbor
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.signing import EDDSA, ES256, SIGNATURE_BYTES, Signer, algorithm_of, low_s
from tasuki.sdk.signing import verify as _verify

# Larger messages are refused before they are parsed.
MAX_MESSAGE_BYTES: Final = 1 << 20
TAG_BYTES: Final = 8
MAX_NUMBER: Final = (1 << 53) - 1
TAG_SIGN1: Final = b"\xd2"
_ALGORITHM, _KEY_ID, _FIELDS_1, _FIELDS_2 = 1, 4, -70001, -70002
_MAX_SIGNER: Final = 32


@dataclass(frozen=True)
class Header:
    """The protected header: the fields of the context that the receiver can't know by itself.

    `tags` are 8 bytes, by which a wrong artifact or fleet can be named as the reason (`envelope.tags`). `signer` is
    there in a header of number 1 only, where `tags` are the first 8 bytes of the artifact's hash.
    """

    version: int
    sequence: int
    code: int
    tags: bytes
    signer: str | None = None


@dataclass(frozen=True)
class Signed:
    """A parsed COSE_Sign1; nothing in it is to be believed before `verify`."""

    header: Header
    algorithm: int
    protected: bytes
    payload: bytes
    signature: bytes


def sign(header: Header, payload: bytes, external: bytes, signer: Signer) -> bytes:
    """A tagged COSE_Sign1 over `header`, `payload` and the external additional data."""
    protected = _protected(header, signer.algorithm)
    signature = low_s(signer.algorithm, signer.sign(_to_be_signed(protected, external, payload)))
    return TAG_SIGN1 + cbor.encode([protected, {}, payload, signature])


def parse(message: bytes) -> Signed:
    """Split a message without believing it. Raises Refused(OVERSIZE) or Refused(MALFORMED)."""
    if len(message) > MAX_MESSAGE_BYTES:
        raise Refused(Refusal.OVERSIZE, f"{len(message)} bytes, at most {MAX_MESSAGE_BYTES}")
    if message[:1] != TAG_SIGN1:
        raise Refused(Refusal.MALFORMED, "not a COSE_Sign1")
    match cbor.decode(message[1:]):
        case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
            if unprotected or len(signature) != SIGNATURE_BYTES:
                raise Refused(Refusal.MALFORMED, "unprotected header or signature")
            header, algorithm = _header(protected)
            return Signed(header, algorithm, protected, payload, signature)
    raise Refused(Refusal.MALFORMED, "not a COSE_Sign1")


def verify(signed: Signed, external: bytes, public: bytes) -> bytes:
    """The payload, if the raw key `public` signed it in this context. Raises Refused(BAD_SIGNATURE)."""
    signed_bytes = _to_be_signed(signed.protected, external, signed.payload)
    if signed.algorithm != algorithm_of(public) or not _verify(public, signed.signature, signed_bytes):
        raise Refused(Refusal.BAD_SIGNATURE)
    return signed.payload


def verify_any(signed: Signed, external: bytes, publics: Sequence[bytes]) -> bytes:
    """The payload, if one of the raw keys signed it in this context. Raises Refused(BAD_SIGNATURE)."""
    for public in publics:
        try:
            return verify(signed, external, public)
        except Refused:
            continue
    raise Refused(Refusal.BAD_SIGNATURE)


def _protected(header: Header, algorithm: int) -> bytes:
    fields = [header.version, header.sequence, header.code, header.tags]
    if header.signer is not None:
        return cbor.encode({_ALGORITHM: algorithm, _KEY_ID: header.signer.encode(), _FIELDS_1: fields})
    return cbor.encode({_ALGORITHM: algorithm, _FIELDS_2: fields})


def _header(protected: bytes) -> tuple[Header, int]:
    match cbor.decode(protected):
        case {1: int(algorithm), -70002: [int(version), int(sequence), int(code), bytes(tags)], **rest}:
            signer = None
        case {1: -8, 4: bytes(name), -70001: [int(version), int(sequence), int(code), bytes(tags)], **rest}:
            algorithm, signer = EDDSA, _ascii(name)
        case _:
            raise Refused(Refusal.MALFORMED, "protected header")
    if rest or algorithm not in (EDDSA, ES256) or len(tags) != TAG_BYTES:
        raise Refused(Refusal.MALFORMED, "protected header")
    if not all(0 <= number <= MAX_NUMBER for number in (version, sequence, code)):
        raise Refused(Refusal.MALFORMED, "protected header")
    return Header(version, sequence, code, tags, signer), algorithm


def _ascii(name: bytes) -> str:
    if len(name) > _MAX_SIGNER or not name.isascii():
        raise Refused(Refusal.MALFORMED, "protected header")
    return name.decode("ascii")


def _to_be_signed(protected: bytes, external: bytes, payload: bytes) -> bytes:
    return cbor.encode(["Signature1", protected, external, payload])
