"""Admission: one state machine from a message to what is known of it. No I/O.

A message passes the stages of `ORDER` one by one: authenticate, decrypt, parse, check. The first stage that it fails
decides, and what comes after is never looked at. Storing and acknowledging are the caller's, in this order; `Outcome`
has what to store and what to say. What is not known to be of the device is only counted, never stored.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from tasuki.sdk import cose, envelope, offer, session, update
from tasuki.sdk.envelope import RESUMED, Context, SealingPrivateKey
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.fleet_table import FleetTable
from tasuki.sdk.transfer import Offer

# How far behind the highest sequence number of its device a message may come.
WINDOW: Final = 1024


class Stage(IntEnum):
    """How far a message has come."""

    RECEIVED = 0
    PARSED = 1  # a COSE_Sign1 within bounds
    KNOWN = 2  # its topic names an enrolled device, and it says that it is for this fleet and artifact
    AUTHENTIC = 3  # that device signed it, in this context
    WELCOME = 4  # the device is not revoked, and the suite is one that the gateway has keys for
    FRESH = 5  # never decided on before
    BASED = 6  # made against the current version
    OPENED = 7  # decrypted
    DECODED = 8  # a table of this fleet's kind and shape, all finite
    CHECKED = 9  # within the norm


@dataclass(frozen=True)
class Entry:
    """What the ledger keeps of one authentic message. `plain` is the update's bytes, empty if it was refused.

    `session` is the chain of later updates that it founds (`session.Chain.encode`), empty if none.
    """

    device: str
    sequence: int
    base_version: int
    digest: bytes
    status: Refusal
    plain: bytes = b""
    session: bytes = b""


@dataclass(frozen=True)
class Desk:
    """What admission needs to know. `seen` looks an earlier entry of (device, sequence) up, `highest` and `session`
    what is kept of a device. `sealing` has by suite the private keys that may open, the newest first.
    """

    fleet: str
    artifact: bytes
    table: FleetTable
    sealing: Mapping[int, Sequence[SealingPrivateKey]]
    key_of: Callable[[str], bytes | None]
    revoked: Callable[[str], bool]
    seen: Callable[[str, int], Entry | None]
    highest: Callable[[str], int]
    session: Callable[[str], bytes | None]
    max_norm: float


@dataclass(frozen=True)
class Outcome:
    """What became of a message: the stage that it reached, and why it went no further (ADMITTED if it went through).

    `digest` is the SHA-256 that a receipt names. `entry` is what to store; None if nothing is, because it is not
    authentic, or was decided on before (`repeated`: the answer is the same again). `offer` is what a device wants to
    send in parts. Only what is on the topic of an enrolled device is `told`.
    """

    stage: Stage
    status: Refusal
    sequence: int
    digest: bytes
    told: bool
    entry: Entry | None = None
    offer: Offer | None = None
    repeated: bool = False
    detail: str = ""


class _Case:
    """A message on its way through the stages; what a stage found out, the later ones use."""

    signed: cose.Signed
    context: Context
    key: bytes
    sealed: bytes
    plain: bytes
    decoded: update.Update
    earlier: Entry | None = None
    session: bytes = b""

    def __init__(self, message: bytes, sender: str, version: int, desk: Desk) -> None:
        self.message, self.sender, self.version, self.desk = message, sender, version, desk
        self.digest = hashlib.sha256(message).digest()


class _Repeated(Exception):
    """Decided on before."""


def _parse(case: _Case) -> None:
    case.signed = cose.parse(case.message)


def _know(case: _Case) -> None:
    key = case.desk.key_of(case.sender)
    if key is None:
        raise Refused(Refusal.UNKNOWN_DEVICE, case.sender)
    case.key = key
    header = case.signed.header
    if header.signer not in (None, case.sender):
        raise Refused(Refusal.BAD_SIGNATURE, f"{header.signer!r} on the topic of {case.sender!r}")
    envelope.check_tags(header, case.desk.artifact, case.desk.fleet)


def _authenticate(case: _Case) -> None:
    header, desk = case.signed.header, case.desk
    direction = "offer" if header.code == offer.CODE else "up"
    case.context = Context(
        desk.fleet, case.sender, direction, desk.artifact, header.version, header.sequence, header.code
    )
    case.sealed = envelope.authenticate(case.signed, case.context, case.key)


def _welcome(case: _Case) -> None:
    if case.desk.revoked(case.sender):
        raise Refused(Refusal.REVOKED, case.sender)
    code = case.context.code
    if code not in (offer.CODE, RESUMED) and code not in case.desk.sealing:
        raise Refused(Refusal.WRONG_SUITE, f"{code} of {case.sender}")


def _refresh(case: _Case) -> None:
    sequence, digest = case.context.sequence, case.digest
    if case.context.code == offer.CODE:
        digest = offer.read(case.sealed).digest
    case.earlier = case.desk.seen(case.sender, sequence)
    if case.earlier is not None:
        if case.earlier.digest == digest:
            raise _Repeated
        raise Refused(Refusal.REPLAY, f"sequence {sequence}")
    if sequence < 1 or sequence <= case.desk.highest(case.sender) - WINDOW:
        raise Refused(Refusal.TOO_OLD, f"sequence {sequence}")


def _base(case: _Case) -> None:
    if case.context.version != case.version:
        raise Refused(Refusal.STALE_BASE, f"base {case.context.version}, current {case.version}")


def _open(case: _Case) -> None:
    context, desk = case.context, case.desk
    if context.code == RESUMED:
        kept = desk.session(case.sender)
        case.plain = session.decrypt(case.sealed, context, None if kept is None else session.decode(kept))
        return
    for key in desk.sealing[context.code]:
        try:
            case.plain = envelope.decrypt(case.sealed, context, key)
        except Refused:
            continue
        return
    raise Refused(Refusal.BAD_SEAL)


def _decode(case: _Case) -> None:
    case.decoded = update.decode(case.plain, case.desk.table)
    if case.decoded.root is not None:
        if case.context.code == RESUMED:
            raise Refused(Refusal.MALFORMED, "a resumed update founds no chain")
        case.session = session.found(case.context.sequence, case.decoded.root).encode()


def _check(case: _Case) -> None:
    if not case.decoded.norm <= case.desk.max_norm:
        raise Refused(Refusal.NORM)


# From which stage, by what, to which stage.
ORDER: Final = (
    (_parse, Stage.PARSED),
    (_know, Stage.KNOWN),
    (_authenticate, Stage.AUTHENTIC),
    (_welcome, Stage.WELCOME),
    (_refresh, Stage.FRESH),
    (_base, Stage.BASED),
    (_open, Stage.OPENED),
    (_decode, Stage.DECODED),
    (_check, Stage.CHECKED),
)


def admit(message: bytes, sender: str, version: int, desk: Desk) -> Outcome:
    """Judge `message`, which came on the topic of `sender`, while `version` is current. Total: raises nothing."""
    case, stage = _Case(message, sender, version, desk), Stage.RECEIVED
    status, detail = Refusal.ADMITTED, ""
    try:
        for step, reached in ORDER:
            step(case)
            stage = reached
            if stage is Stage.BASED and case.context.code == offer.CODE:
                return _offered(case)
    except _Repeated:
        assert case.earlier is not None  # noqa: S101  `_refresh` has just found it
        return Outcome(stage, case.earlier.status, case.earlier.sequence, case.earlier.digest, True, repeated=True)
    except Refused as refusal:
        status, detail = refusal.reason, str(refusal)
    return _outcome(case, stage, status, detail)


def _outcome(case: _Case, stage: Stage, status: Refusal, detail: str) -> Outcome:
    told = stage >= Stage.KNOWN or case.desk.key_of(case.sender) is not None
    if stage < Stage.AUTHENTIC:
        return Outcome(stage, status, 0, case.digest, told, detail=detail)
    sequence, entry = case.context.sequence, None
    # A revoked device, a repeated number and an offer leave no entry: the number stays what it was.
    if stage >= Stage.FRESH and case.context.code != offer.CODE:
        plain, chain = (case.plain, case.session) if status is Refusal.ADMITTED else (b"", b"")
        entry = Entry(case.sender, sequence, case.context.version, case.digest, status, plain, chain)
    return Outcome(stage, status, sequence, case.digest, told, entry, detail=detail)


def _offered(case: _Case) -> Outcome:
    wanted = offer.read(case.sealed)
    return Outcome(Stage.BASED, Refusal.PARTS_WANTED, case.context.sequence, wanted.digest, True, offer=wanted)
