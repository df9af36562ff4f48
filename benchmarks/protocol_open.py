"""How fast a gateway opens updates, beside the cryptography alone: all sides in one run, in turns.

The reference is what cannot be done without: the library's check of the signature and its HPKE, on bytes that are
ready. `opened` is the protocol's own way up to the update's bytes (bounds, header, signature, replay check, HPKE), and
`decoded` the whole of it, up to the table in float32 and its norm.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tasuki.aggregator import admission
from tasuki.aggregator.admission import Desk
from tasuki.benchmarks.protocol_wire import NotAdmitted, Sent
from tasuki.sdk import cbor, cose, envelope
from tasuki.sdk.envelope import SUITES, Context
from tasuki.sdk.errors import Refusal

# Calls of each side; they take turns in blocks (`tasuki.benchmarks.sdk_speed`).
CALLS: Final = 4000
_BLOCK: Final = 16
_WARM_UP: Final = 2


class _Ready(NamedTuple):
    """What the reference takes: bytes out of which nothing has to be made."""

    key: Ed25519PublicKey
    signature: bytes
    signed: bytes
    sealed: bytes
    bound: bytes


def rates(sent: Sequence[Sent], desk: Desk, calls: int = CALLS) -> dict[str, Any]:
    """Median microseconds of each side on messages of one suite, none of which `desk` has seen, and two quotients.

    `ratio` is reference by `decoded`, `ratio_undecoded` reference by `opened`: the share of the reference's rate.
    """
    suite, private = SUITES[sent[0].code], desk.sealing[sent[0].code][0]
    ready = [_ready(one, desk) for one in sent]

    def bare(place: int) -> None:
        one = ready[place]
        one.key.verify(one.signature, one.signed)
        suite.decrypt(one.sealed, private, info=one.bound)

    def opened(place: int) -> None:
        one = sent[place]
        signed = cose.parse(one.message)
        key = desk.key_of(one.device)
        envelope.check_tags(signed.header, desk.artifact, desk.fleet)
        header = signed.header
        context = Context(desk.fleet, one.device, "up", desk.artifact, header.version, header.sequence, header.code)
        sealed = envelope.authenticate(signed, context, key or b"")
        if desk.seen(one.device, header.sequence) is not None:
            raise NotAdmitted(f"{one.device}: the desk has seen update {header.sequence}")
        envelope.decrypt(sealed, context, private)

    def decoded(place: int) -> None:
        one = sent[place]
        outcome = admission.admit(one.message, one.device, one.version, desk)
        if outcome.status is not Refusal.ADMITTED:
            raise NotAdmitted(f"{one.device}: {outcome.status.word} {outcome.detail}")

    medians = _take_turns({"bare": bare, "opened": opened, "decoded": decoded}, len(sent), calls)
    return {
        "microseconds": medians,
        "ratio": medians["bare"] / medians["decoded"],
        "ratio_undecoded": medians["bare"] / medians["opened"],
    }


def _take_turns(sides: dict[str, Callable[[int], None]], count: int, calls: int) -> dict[str, float]:
    names = list(sides)
    spent: dict[str, list[int]] = {side: [] for side in names}
    for block in range(-(-calls // _BLOCK)):
        first = block % len(names)
        for side in (*names[first:], *names[:first]):
            action = sides[side]
            for turn in range(_WARM_UP + _BLOCK):
                place = (block * _BLOCK + turn) % count
                began = time.perf_counter_ns()
                action(place)
                taken = time.perf_counter_ns() - began
                if turn >= _WARM_UP:
                    spent[side].append(taken)
    return {side: float(np.median(taken)) / 1e3 for side, taken in spent.items()}


def _ready(one: Sent, desk: Desk) -> _Ready:
    signed = cose.parse(one.message)
    header = signed.header
    bound = Context(desk.fleet, one.device, "up", desk.artifact, header.version, header.sequence, header.code).encode()
    return _Ready(
        Ed25519PublicKey.from_public_bytes(desk.key_of(one.device) or b""),
        signed.signature,
        cbor.encode(["Signature1", signed.protected, bound, signed.payload]),
        signed.payload,
        bound,
    )
