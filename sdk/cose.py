"""COSE_Sign1 with Ed25519 (RFC 9052, 4.2; RFC 9053, 2.2): only the encoding; `cryptography` signs."""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tasuki.sdk import cbor
from tasuki.sdk.errors import Refusal, Refused

# Larger messages are refused before they are parsed.
MAX_MESSAGE_BYTES: Final = 1 << 20
_TAG_SIGN1: Final = b"\xd2"
_ALGORITHM, _KEY_ID, _FIELDS = 1, 4, -70001
_EDDSA: Final = -8
_SIGNATURE_BYTES: Final = 64
_MAX_NUMBER: Final = 1 << 53


@dataclass(frozen=True)
class Header:
    """The protected header: who signed, and the fields of the context that the receiver can't know by itself."""

    signer: str
    version: int
    sequence: int
    code: int
    artifact: bytes  # the first 8 bytes of its hash


@dataclass(frozen=True)
class Signed:
    """A parsed COSE_Sign1; nothing in it is to be believed before `verify`."""

    header: Header
    protected: bytes
    payload: bytes
    signature: bytes


def sign(header: Header, payload: bytes, external: bytes, key: Ed25519PrivateKey) -> bytes:
    """A tagged COSE_Sign1 over `header`, `payload` and the external additional data."""
    protected = _protected(header)
    signature = key.sign(_to_be_signed(protected, external, payload))
    return _TAG_SIGN1 + cbor.encode([protected, {}, payload, signature])


def parse(message: bytes) -> Signed:
    """Split a message without believing it. Raises Refused(OVERSIZE) or Refused(MALFORMED)."""
    if len(message) > MAX_MESSAGE_BYTES:
        raise Refused(Refusal.OVERSIZE, f"{len(message)} bytes, at most {MAX_MESSAGE_BYTES}")
    if message[:1] != _TAG_SIGN1:
        raise Refused(Refusal.MALFORMED, "not a COSE_Sign1")
    match cbor.decode(message[1:]):
        case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
            if unprotected or len(signature) != _SIGNATURE_BYTES:
                raise Refused(Refusal.MALFORMED, "unprotected header or signature")
            return Signed(_header(protected), protected, payload, signature)
    raise Refused(Refusal.MALFORMED, "not a COSE_Sign1")


def verify(signed: Signed, external: bytes, key: Ed25519PublicKey) -> bytes:
    """The payload, if `key` signed it in this context. Raises Refused(BAD_SIGNATURE)."""
    try:
        key.verify(signed.signature, _to_be_signed(signed.protected, external, signed.payload))
    except InvalidSignature:
        raise Refused(Refusal.BAD_SIGNATURE) from None
    return signed.payload


def _protected(header: Header) -> bytes:
    fields = [header.version, header.sequence, header.code, header.artifact]
    return cbor.encode({_ALGORITHM: _EDDSA, _KEY_ID: header.signer.encode(), _FIELDS: fields})


def _header(protected: bytes) -> Header:
    match cbor.decode(protected):
        case {
            1: -8,
            4: bytes(signer),
            -70001: [int(version), int(sequence), int(code), bytes(artifact)],
            **rest,
        }:
            numbers = (version, sequence, code)
            if not rest and len(artifact) == 8 and len(signer) <= 32 and all(0 <= n < _MAX_NUMBER for n in numbers):
                try:
                    return Header(signer.decode("ascii"), version, sequence, code, artifact)
                except UnicodeDecodeError:
                    pass
    raise Refused(Refusal.MALFORMED, "protected header")


def _to_be_signed(protected: bytes, external: bytes, payload: bytes) -> bytes:
    return cbor.encode(["Signature1", protected, external, payload])
