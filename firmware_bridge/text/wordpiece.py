"""The vocabulary of the small tokenizer as the two dictionaries of `tsk_tokenizer.h`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from tasuki.sdk.errors import ModelUnsupported
from tasuki.sdk.tokenizer import MAX_WORD_BYTES

MAX_PIECES: Final = 1 << 16
_MAX_GROUP: Final = (1 << 16) - 1
# Larger numbers of bytes have a byte of their own.
_NIBBLE: Final = 14
_WORD_BYTES: Final = frozenset([*range(48, 58), *range(97, 123), *range(128, 256)])


@dataclass(frozen=True)
class Dictionaries:
    """Pieces that begin a word and pieces that continue one, each in the form of `tsk_tokenizer.h`."""

    first: bytes
    later: bytes


def dictionaries(vocabulary: Sequence[str]) -> Dictionaries:
    """The dictionaries of `vocabulary`, which lists the pieces by id, ``[PAD]`` and ``[UNK]`` first.

    Pieces that no text can have are left out. Raises ModelUnsupported for more than 65,536 pieces.
    """
    if len(vocabulary) > MAX_PIECES:
        raise ModelUnsupported(f"a vocabulary of {len(vocabulary):,} pieces; the C tokenizer takes {MAX_PIECES:,}")
    first: dict[bytes, int] = {}
    later: dict[bytes, int] = {}
    for number, piece in enumerate(vocabulary[2:], start=2):
        if piece.startswith("##") and len(piece) > 2:
            later[piece[2:].encode()] = number
        else:
            first[piece.encode()] = number
    return Dictionaries(_dictionary(first), _dictionary(later))


def _dictionary(pieces: Mapping[bytes, int]) -> bytes:
    useful = sorted(p for p in pieces if 1 <= len(p) <= MAX_WORD_BYTES and _WORD_BYTES.issuperset(p))
    found = bytearray()
    for byte, group in groupby(useful, key=lambda piece: piece[0]):
        entries = b"".join(_entries(group, pieces))
        if len(entries) > _MAX_GROUP:
            raise ModelUnsupported(f"pieces that begin with the byte {byte} take {len(entries):,} bytes, above 65,535")
        found += bytes([byte]) + len(entries).to_bytes(2, "little") + entries
    return bytes(found)


def _entries(group: Iterable[bytes], ids: Mapping[bytes, int]) -> Iterable[bytes]:
    before = b""
    for piece in group:
        shared = _alike(before, piece) - 1 if before else 0
        rest = piece[1 + shared :]
        small = max(shared, len(rest)) <= _NIBBLE
        head = bytes([shared << 4 | len(rest)]) if small else bytes([0xFF, shared, len(rest)])
        yield head + rest + ids[piece].to_bytes(2, "little")
        before = piece


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )
