"""The fleet record: what a device trusts its gateway by, signed by the maker's root key.

It names the fleet's artifacts, the gateway's keys and the bounds. On its way it is signed twice: inside by the root,
outside by the gateway with a key that the device knows already. So neither of the two alone can bring in a new
gateway's key, and a new one has to be announced in a record before it is used (as the root keys of The Update
Framework, specification 1.0, section 5.3). Versions only go forward.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tasuki.sdk import cbor, cose
from tasuki.sdk.envelope import Context, check_tags
from tasuki.sdk.errors import InputError, KeyInvalid, Refusal, Refused
from tasuki.sdk.sealing import sealing_public
from tasuki.sdk.signing import Signer, check_public
from tasuki.sdk.topics import checked_name

FORMAT: Final = 1
MAX_RECORD_BYTES: Final = 4096
MAX_LINKS: Final = 8
MAX_WIRE_BYTES: Final = MAX_LINKS * (MAX_RECORD_BYTES + 256)
MAX_ARTIFACTS: Final = 8
# The numbers of the kinds of updates.
KINDS: Final = {"head": 1, "low_rank": 2, "bias": 3}
_KIND_NAMES: Final = {number: name for name, number in KINDS.items()}
_HASH_BYTES: Final = 32
# A record is of a fleet, not of one artifact.
_NO_ARTIFACT: Final = bytes(_HASH_BYTES)
_BY_ROOT, _BY_GATEWAY = "*", "gateway"
_MAX_TIME: Final = 1 << 40
_MAX_THOUSANDTHS: Final = 10**9
_ROUNDING: Final = 1e-6
_MAX_FORMATS: Final = 8


@dataclass(frozen=True)
class Record:
    """One version. Times are in seconds since the epoch, `expires` 0 means never.

    `artifacts` are SHA-256 hashes, the current one first. `signing` and `sealing` (by suite) are the gateway's raw
    public keys, `next_signing` and `next_sealing` those that will follow them. `adapter` is the kind of update that is
    wanted, `max_norm` its bound in logits, in whole thousandths, `formats` the update formats that the gateway reads.
    """

    fleet: str
    version: int
    issued: int
    expires: int
    artifacts: tuple[bytes, ...]
    signing: bytes
    sealing: Mapping[int, bytes]
    adapter: str = "head"
    max_norm: float = 20.0
    formats: tuple[int, ...] = (1, 2)
    next_signing: bytes | None = None
    next_sealing: Mapping[int, bytes] = field(default_factory=dict)


def encode(record: Record) -> bytes:
    """Deterministic CBOR (SPEC.md, "Fleet record"), unsigned. Raises InputError, KeyInvalid where a field can't be."""
    _check(record)
    fields: dict[int, Any] = {
        1: FORMAT,
        2: record.fleet,
        3: record.version,
        4: record.issued,
        5: record.expires,
        6: list(record.artifacts),
        7: record.signing,
        8: record.next_signing,
        9: dict(record.sealing),
        10: dict(record.next_sealing) or None,
        11: KINDS[record.adapter],
        12: round(record.max_norm * 1000),
        13: list(record.formats),
    }
    return cbor.encode({key: value for key, value in fields.items() if value is not None})


def decode(payload: bytes) -> Record:
    """What `encode` wrote; nobody signed it yet. Raises Refused(MALFORMED)."""
    fields = cbor.decode(payload)
    if not isinstance(fields, dict):
        raise Refused(Refusal.MALFORMED, "fleet record")
    try:
        if fields.pop(1) != FORMAT:
            raise ValueError("format")
        record = Record(
            fleet=fields.pop(2),
            version=fields.pop(3),
            issued=fields.pop(4),
            expires=fields.pop(5),
            artifacts=tuple(fields.pop(6)),
            signing=fields.pop(7),
            next_signing=fields.pop(8, None),
            sealing=fields.pop(9),
            next_sealing=fields.pop(10, {}),
            adapter=_KIND_NAMES[fields.pop(11)],
            max_norm=fields.pop(12) / 1000,
            formats=tuple(fields.pop(13)),
        )
        if fields or encode(record) != payload:
            raise ValueError("unknown keys, or a second way to write a field")
    except (KeyError, ValueError, TypeError, AttributeError, InputError, KeyInvalid):
        raise Refused(Refusal.MALFORMED, "fleet record") from None
    return record


def issue(record: Record, root: Signer) -> bytes:
    """The record, signed by the root key. Raises InputError, KeyInvalid where a field can't be."""
    context = _context(record.fleet, _BY_ROOT, record.version)
    message = cose.sign(context.header(), encode(record), context.encode(), root)
    if len(message) > MAX_RECORD_BYTES:
        raise InputError(f"the fleet record has {len(message)} bytes, at most {MAX_RECORD_BYTES}")
    return message


def verify(message: bytes, root: bytes, fleet: str) -> Record:
    """The record, if the raw key `root` signed it for `fleet`, however old it is.

    Raises Refused: OVERSIZE, MALFORMED, WRONG_FLEET, BAD_SIGNATURE.
    """
    signed = _parsed(message, fleet)
    payload = cose.verify(signed, _context(fleet, _BY_ROOT, signed.header.version).encode(), root)
    record = decode(payload)
    if (record.fleet, record.version) != (fleet, signed.header.version):
        raise Refused(Refusal.MALFORMED, "fleet record")
    return record


def accept(message: bytes, root: bytes, fleet: str, now: float, current: Record | None = None) -> Record:
    """The record, if a device that knows `current` may take it by hand: the operator vouches for its keys.

    Raises Refused as `verify` does, ROLLBACK and EXPIRED.
    """
    record = verify(message, root, fleet)
    if current is not None:
        _forward(record, current)
    _fresh(record, now)
    return record


def announce(record: bytes, gateway: Signer, before: bytes | None = None) -> bytes:
    """What is published: `record` (as `issue` made it) under the gateway's signature, after the links of `before`.

    Of the earlier links only those stay that announced a key, at most `MAX_LINKS` in all: they lead a device that
    was away from the keys that it knows to the present ones. Raises Refused if a part is none of ours.
    """
    made = decode(_parsed(record).payload)
    context = _context(made.fleet, _BY_GATEWAY, made.version)
    links = [link for link in _links(before) if _leads_on(link, made)] if before is not None else []
    links.append(cose.sign(context.header(), record, context.encode(), gateway))
    return cbor.encode(links[-MAX_LINKS:])


def advance(wire: bytes, root: bytes, current: Record, now: float) -> tuple[Record, bytes]:
    """The record that `wire` leads to from `current`, and the bytes that the root signed.

    Each link that is new has to be signed by a key that the record before it names, present or next, and its own
    present key has to be one of these. An equal version has to be the same record. Raises Refused: OVERSIZE,
    MALFORMED, WRONG_FLEET, ROLLBACK, BAD_SIGNATURE, UNANNOUNCED_KEY, EXPIRED (of the last link; those before it
    only lead on).
    """
    links = [_parsed(link, current.fleet) for link in _links(wire)]
    new = [link for link in links[:-1] if link.header.version > current.version]
    record = current
    for link in (*new, links[-1]):
        record = _step(link, root, record)
    if record is not current:
        _fresh(record, now)
    return record, links[-1].payload


def inner(wire: bytes) -> bytes:
    """The root-signed record of the last link, not verified. Raises Refused(OVERSIZE or MALFORMED)."""
    return _parsed(_links(wire)[-1]).payload


def _step(link: cose.Signed, root: bytes, known: Record) -> Record:
    version = link.header.version
    if version < known.version:
        raise Refused(Refusal.ROLLBACK, f"fleet record {version}, not above {known.version}")
    bound = _context(known.fleet, _BY_GATEWAY, version).encode()
    trusted = [key for key in (known.signing, known.next_signing) if key is not None]
    if not any(_signed_by(link, bound, key) for key in trusted):
        raise Refused(Refusal.BAD_SIGNATURE, "fleet record, by no gateway's key that the one before names")
    record = verify(link.payload, root, known.fleet)
    if record.version != version:
        raise Refused(Refusal.MALFORMED, "fleet record")
    if record.signing not in trusted:
        raise Refused(Refusal.UNANNOUNCED_KEY, "enrol again if the gateway lost its key")
    return known if not _forward(record, known) else record


def _signed_by(link: cose.Signed, bound: bytes, key: bytes) -> bool:
    try:
        cose.verify(link, bound, key)
    except Refused:
        return False
    return True


def _forward(record: Record, current: Record) -> bool:
    if record.version < current.version or (record.version == current.version and record != current):
        raise Refused(Refusal.ROLLBACK, f"fleet record {record.version}, not above {current.version}")
    return record.version > current.version


def _fresh(record: Record, now: float) -> None:
    if record.expires and now >= record.expires:
        raise Refused(Refusal.EXPIRED, f"fleet record {record.version}")


def _leads_on(link: bytes, made: Record) -> bool:
    announced = decode(_parsed(_parsed(link).payload).payload).next_signing
    return announced is not None and announced != made.next_signing


def _context(fleet: str, signer: str, version: int) -> Context:
    return Context(fleet, signer, "record", _NO_ARTIFACT, version, 0, 0)


def _links(wire: bytes) -> list[bytes]:
    if len(wire) > MAX_WIRE_BYTES:
        raise Refused(Refusal.OVERSIZE, f"{len(wire)} bytes, at most {MAX_WIRE_BYTES}")
    match cbor.decode(wire):
        case list(links) if 0 < len(links) <= MAX_LINKS and all(isinstance(link, bytes) for link in links):
            return links
    raise Refused(Refusal.MALFORMED, "fleet record: links")


def _parsed(message: bytes, fleet: str | None = None) -> cose.Signed:
    if len(message) > MAX_RECORD_BYTES + 256:
        raise Refused(Refusal.OVERSIZE, f"{len(message)} bytes, at most {MAX_RECORD_BYTES + 256}")
    signed = cose.parse(message)
    header = signed.header
    if header.signer is not None or header.sequence or header.code:
        raise Refused(Refusal.MALFORMED, "fleet record: header")
    if fleet is not None:
        check_tags(header, _NO_ARTIFACT, fleet)
    return signed


def _check(record: Record) -> None:
    checked_name(record.fleet, "fleet")
    times = 0 <= record.issued <= _MAX_TIME and 0 <= record.expires <= _MAX_TIME
    thousandths = record.max_norm * 1000
    hashes = all(isinstance(one, bytes) and len(one) == _HASH_BYTES for one in record.artifacts)
    formats = 0 < len(record.formats) <= _MAX_FORMATS and all(0 < number < 1 << 8 for number in record.formats)
    for wrong, what in (
        (not 0 < record.version <= cose.MAX_NUMBER, "version"),
        (not times, "times"),
        (not (0 < len(record.artifacts) <= MAX_ARTIFACTS and hashes), "artifacts"),
        (not record.sealing, "sealing keys"),
        (record.next_signing == record.signing, "next signing key"),
        (record.adapter not in KINDS, "kind of adapter"),
        (not 1 <= thousandths <= _MAX_THOUSANDTHS or abs(thousandths - round(thousandths)) > _ROUNDING, "norm"),
        (not formats, "formats"),
    ):
        if wrong:
            raise InputError(f"fleet record: {what}")
    for key in (record.signing, record.next_signing):
        if key is not None:
            check_public(key)
    for sealing in (record.sealing, record.next_sealing):
        for suite, raw in sealing.items():
            sealing_public(suite, raw)
