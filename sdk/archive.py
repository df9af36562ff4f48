"""The ZIP at an artifact's end, in the one form that SPEC.md ("Artifact") allows.

Any ZIP tool reads it, but here every byte outside the deflated streams is prescribed: no gap, comment, extra field or
second directory in which an unlisted byte could hide. All refusals are ValueError; the caller names the file.
"""

import mmap
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

# What is read: the whole file in memory, or mapped.
Data: TypeAlias = bytes | mmap.mmap
MAX_MEMBERS: Final = 16
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION: Final = 20
_UNIX: Final = 3 << 8
_DEFLATED: Final = 8
# 1980-01-01, midnight.
_DATE: Final = 1 << 5 | 1
_MODE: Final = 0o644 << 16


class Member(NamedTuple):
    """One entry of the directory: bytes deflated and inflated, and where its header begins."""

    name: str
    crc: int
    packed: int
    size: int
    offset: int


def append(model: bytes, members: Mapping[str, bytes]) -> bytes:
    """`model` and directly after it the ZIP with `members`, in their order."""
    out, listed = bytearray(model), []
    for name, content in members.items():
        stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = stream.compress(content) + stream.flush()
        member = Member(name, zlib.crc32(content), len(packed), len(content), len(out))
        out += _local(member) + packed
        listed.append(member)
    return bytes(out + _directory(listed, len(out)))


def listing(data: Data) -> list[Member]:
    """The directory of the ZIP that ends `data`, at most MAX_MEMBERS entries; nothing else is looked at."""
    if len(data) < _END.size:
        raise ValueError("no ZIP")
    mark, _, _, _, count, size, start, _ = _END.unpack_from(data, len(data) - _END.size)
    if mark != _END_MARK or start + size + _END.size != len(data):
        raise ValueError("no ZIP")
    if count > MAX_MEMBERS:
        raise ValueError(f"{count} members")
    found, place = [], start
    for _ in range(count):
        if place + _CENTRAL.size > len(data):
            raise ValueError("the directory is cut")
        mark, *fields = _CENTRAL.unpack_from(data, place)
        crc, packed, inflated, length, extra, comment = fields[6:12]
        if mark != _CENTRAL_MARK:
            raise ValueError("the directory is damaged")
        place += _CENTRAL.size
        found.append(Member(data[place : place + length].decode("ascii"), crc, packed, inflated, fields[-1]))
        place += length + extra + comment
    return found


def check(data: Data, members: Sequence[Member]) -> None:
    """Every byte from the first member to the end is what `append` writes, but for the deflated streams."""
    place = members[0].offset
    for member in members:
        header = _local(member)
        if member.offset != place or data[place : place + len(header)] != header:
            raise ValueError(f"the header of {member.name} is not the prescribed one")
        place += len(header) + member.packed
    directory = _directory(members, place)
    if len(data) != place + len(directory) or data[place:] != directory:
        raise ValueError("the directory is not the prescribed one")


def content(data: Data, member: Member, bound: int) -> bytes:
    """What `member` inflates to; never more than `bound` bytes are inflated."""
    if member.size > bound:
        raise ValueError(f"{member.name} is larger than {bound} bytes")
    start = member.offset + _LOCAL.size + len(member.name)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = stream.decompress(data[start : start + member.packed], member.size + 1)
    except zlib.error as error:
        raise ValueError(f"{member.name} can't be inflated: {error}") from None
    if not stream.eof or stream.unused_data or len(found) != member.size or zlib.crc32(found) != member.crc:
        raise ValueError(f"{member.name} has another size or checksum than its header says")
    return found


def _local(m: Member) -> bytes:
    head = (_LOCAL_MARK, _VERSION, 0, _DEFLATED, 0, _DATE, m.crc, m.packed, m.size, len(m.name), 0)
    return _LOCAL.pack(*head) + m.name.encode("ascii")


def _central(m: Member) -> bytes:
    head = (_CENTRAL_MARK, _UNIX | _VERSION, _VERSION, 0, _DEFLATED, 0, _DATE, m.crc, m.packed, m.size)
    return _CENTRAL.pack(*head, len(m.name), 0, 0, 0, 0, _MODE, m.offset) + m.name.encode("ascii")


def _directory(members: Sequence[Member], start: int) -> bytes:
    entries = b"".join(map(_central, members))
    return entries + _END.pack(_END_MARK, 0, 0, len(members), len(members), len(entries), start, 0)
