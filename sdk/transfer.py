"""Content in parts: an offer says how large it is and what each part hashes to, before any part is taken.

The offer travels signed, the parts do not need to: a part counts only if it is the one that the offer names. So nobody
can make a receiver keep more than the offer's size, nor mix the parts of two contents, and what was received before a
cut need not be sent again.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tasuki.sdk.errors import InputError, Refusal, Refused

MAX_PARTS: Final = 1024
MIN_PART_BYTES: Final = 64
HASH_BYTES: Final = 32
# Keys of the map (SPEC.md, "Parts").
_SIZE, _PART, _DIGEST, _HASHES = 10, 11, 12, 13
KEYS: Final = frozenset((_SIZE, _PART, _DIGEST, _HASHES))


@dataclass(frozen=True)
class Offer:
    """A content of `size` bytes and SHA-256 `digest`, in parts of `part` bytes (the last may be shorter)."""

    size: int
    part: int
    digest: bytes
    hashes: tuple[bytes, ...]

    def fields(self) -> dict[int, Any]:
        """The fields for a CBOR map."""
        return {_SIZE: self.size, _PART: self.part, _DIGEST: self.digest, _HASHES: b"".join(self.hashes)}


def offer(content: bytes, part: int) -> Offer:
    """The offer of `content`. Raises InputError where it would have more than `MAX_PARTS` parts."""
    if part < MIN_PART_BYTES or -(-len(content) // part) > MAX_PARTS or not content:
        raise InputError(
            f"{len(content)} bytes do not go in {MAX_PARTS} parts of {part} bytes; raise the broker's packet limit"
        )
    parts = [cut(content, part, index) for index in range(-(-len(content) // part))]
    return Offer(
        len(content), part, hashlib.sha256(content).digest(), tuple(hashlib.sha256(one).digest() for one in parts)
    )


def cut(content: bytes, part: int, index: int) -> bytes:
    """Part `index`."""
    return content[index * part : (index + 1) * part]


def read(fields: Mapping[Any, Any], most: int) -> Offer:
    """The offer in `fields`. Raises Refused: MALFORMED, or OVERSIZE above `most` bytes."""
    match fields:
        case {10: int(size), 11: int(part), 12: bytes(digest), 13: bytes(hashes)}:
            pass
        case _:
            raise Refused(Refusal.MALFORMED, "offer")
    if size > most:
        raise Refused(Refusal.OVERSIZE, f"{size} bytes are offered, at most {most}")
    if size < 1 or part < MIN_PART_BYTES or len(digest) != HASH_BYTES:
        raise Refused(Refusal.MALFORMED, "offer")
    count = -(-size // part)
    if count > MAX_PARTS or len(hashes) != HASH_BYTES * count:
        raise Refused(Refusal.MALFORMED, "offer")
    return Offer(size, part, digest, tuple(hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)))


def check(wanted: Offer, index: int, data: bytes) -> None:
    """Raises Refused unless `data` is part `index` of `wanted`: OVERSIZE, MALFORMED (no such part), MIXED_PARTS."""
    if len(data) > wanted.part:
        raise Refused(Refusal.OVERSIZE, f"a part of {len(data)} bytes, at most {wanted.part}")
    if not 0 <= index < len(wanted.hashes):
        raise Refused(Refusal.MALFORMED, f"part {index} of {len(wanted.hashes)}")
    if hashlib.sha256(data).digest() != wanted.hashes[index]:
        raise Refused(Refusal.MIXED_PARTS, f"part {index}")


def missing(wanted: Offer, have: Collection[int]) -> list[int]:
    """The parts that are still to come."""
    return [index for index in range(len(wanted.hashes)) if index not in have]


def join(wanted: Offer, parts: Mapping[int, bytes]) -> bytes:
    """The content, when every part has been checked. Raises Refused(MIXED_PARTS) if it is not the offered one."""
    content = b"".join(parts[index] for index in range(len(wanted.hashes)))
    if len(content) != wanted.size or hashlib.sha256(content).digest() != wanted.digest:
        raise Refused(Refusal.MIXED_PARTS)
    return content


def bitmap(indexes: Collection[int]) -> bytes:
    """Bit ``i mod 8`` of byte ``i div 8``, from the least significant, for each index; no zero byte at the end."""
    number = sum(1 << index for index in set(indexes))
    return number.to_bytes(-(-number.bit_length() // 8), "little")


def indexes(bits: bytes) -> list[int]:
    """What `bitmap` was given, ascending. Raises Refused(MALFORMED)."""
    if len(bits) > MAX_PARTS // 8 or bits[-1:] == b"\0":
        raise Refused(Refusal.MALFORMED, "bitmap of parts")
    number = int.from_bytes(bits, "little")
    return [index for index in range(number.bit_length()) if number >> index & 1]
