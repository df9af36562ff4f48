"""The records of a device's database: every example, adapter and spooled message, with a checksum.

A record is BLAKE2b-8 of the body, then the body. SQLite does not check its pages, so this is what notices a flipped
bit. The body names its own key (digest, version, sequence), so a record under another one's key is noticed too.
"""

import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from tasuki.sdk.cache import Example

_CHECK: Final = 8
_NO_TEXT: Final = 0xFFFFFFFF
_EXAMPLE: Final = struct.Struct("<16sHIIIIdd")
_SPOOLED: Final = struct.Struct("<QQdd")
_SPENT: Final = struct.Struct("<qQ")
FOR_EVER: Final = 9e15
EXAMPLE_OVERHEAD: Final = _CHECK + _EXAMPLE.size


class Spooled(NamedTuple):
    """A sealed update that waits for its receipt. `created` and `expires` are seconds since 1970."""

    sequence: int
    base_version: int
    message: bytes
    created: float = 0.0
    expires: float = FOR_EVER


def _checked(body: bytes) -> bytes:
    return blake2b(body, digest_size=_CHECK).digest() + body


def _body(record: object) -> bytes | None:
    """The body of a record, None if it is damaged (also when SQLite gives it as another type)."""
    if not isinstance(record, bytes) or blake2b(record[_CHECK:], digest_size=_CHECK).digest() != record[:_CHECK]:
        return None
    return record[_CHECK:]


def row_of(digest: bytes) -> int:
    """The row of an example: 63 bits of its digest."""
    return int.from_bytes(digest[:8], "big") >> 1


def pack_example(example: Example) -> bytes:
    """The record of an example."""
    text = None if example.text is None else example.text.encode()
    label = example.label.encode()
    head = _EXAMPLE.pack(
        example.digest, len(label), _NO_TEXT if text is None else len(text), len(example.features),
        len(example.base), len(example.targets), example.scale, example.base_scale,
    )  # fmt: skip
    return _checked(b"".join((head, label, text or b"", example.features, example.base, example.targets)))


def unpack_example(row: int, record: object) -> Example | None:
    """The example in `record`; None if it is damaged or not that of `row`."""
    body = _body(record)
    if body is None:
        return None
    digest, label, text, features, base, targets, scale, base_scale = _EXAMPLE.unpack_from(body)
    if row_of(digest) != row:
        return None
    parts, at = [], _EXAMPLE.size
    for size in (label, 0 if text == _NO_TEXT else text, features, base, targets):
        parts.append(body[at : at + size])
        at += size
    words = None if text == _NO_TEXT else parts[1].decode()
    return Example(digest, words, parts[0].decode(), parts[2], parts[3], scale, base_scale, parts[4])


def pack_adapter(version: int, message: bytes) -> bytes:
    """The record of an adapter."""
    return _checked(version.to_bytes(8, "big") + message)


def unpack_adapter(record: object) -> tuple[int, bytes] | None:
    """Version and message; None if the record is damaged."""
    body = _body(record)
    return None if body is None else (int.from_bytes(body[:8], "big"), body[8:])


def pack_spooled(item: Spooled) -> bytes:
    """The record of a spooled message."""
    return _checked(_SPOOLED.pack(item.sequence, item.base_version, item.created, item.expires) + item.message)


def unpack_spooled(sequence: int, record: object) -> Spooled | None:
    """The message in `record`; None if it is damaged or not that of `sequence`."""
    body = _body(record)
    if body is None:
        return None
    found, base_version, created, expires = _SPOOLED.unpack_from(body)
    return Spooled(found, base_version, body[_SPOOLED.size :], created, expires) if found == sequence else None


def pack_counts(counts: Mapping[str, int]) -> bytes:
    """The record of counters by label."""
    words = [(label.encode(), count) for label, count in counts.items()]
    return _checked(b"".join(struct.pack("<HQ", len(label), count) + label for label, count in words))


def unpack_counts(record: object) -> dict[str, int] | None:
    """The counters; None if the record is damaged."""
    body, at = _body(record), 0
    counts: dict[str, int] = {}
    if body is None:
        return None
    while at < len(body):
        size, count = struct.unpack_from("<HQ", body, at)
        at += 10 + size
        counts[body[at - size : at].decode()] = count
    return counts


def pack_number(key: str, value: int) -> bytes:
    """The record of the counter `key`, 0 to 2^64 - 1."""
    return _checked(value.to_bytes(8, "big") + key.encode())


def unpack_number(key: str, record: object) -> int | None:
    """The counter; None if the record is damaged or not that of `key`."""
    body = _body(record)
    return int.from_bytes(body[:8], "big") if body is not None and body[8:] == key.encode() else None


def pack_spent(day: int, count: int) -> bytes:
    """The record of the bytes that were sent and received on a day."""
    return _checked(_SPENT.pack(day, count))


def unpack_spent(record: object) -> tuple[int, int] | None:
    """Day and bytes; None if the record is damaged."""
    body = _body(record)
    return None if body is None else _SPENT.unpack(body)
