"""What a gateway takes in: updates of honest, rogue, revoked and unknown devices, and what others make of them."""

import hashlib

import numpy as np
from fuzz_dice import Dice
from fuzz_mutate import NUMBERS, change_bytes, change_value
from fuzz_plain import ROOT, good, rogue
from fuzz_trial import Moment, Trial, moment_of
from fuzz_world import (
    ARTIFACT,
    ATTIC,
    DEVICES,
    FLEET,
    HALL,
    STRANGER,
    SUITE_OF,
    World,
    changed_context,
    changed_message,
    encode,
    table_of,
    twin,
)

from tasuki.aggregator import admission
from tasuki.aggregator.admission import Desk, Entry, Outcome, Stage
from tasuki.sdk import cbor, session, transfer, update
from tasuki.sdk.envelope import HYBRID, RESUMED, SUITES, X25519, Context
from tasuki.sdk.errors import Refusal
from tasuki.sdk.signing import EDDSA, SIGNATURE_BYTES

VERSION = 3
FOUNDED, HIGHEST, TAKEN, DECIDED = 1040, 1050, 1030, 1031
MAX_NORM = 20.0
_OVERSIZE = b"\xd2" * ((1 << 20) + 1)
KINDS = ("head", "head", "low_rank", "bias")


class Uplink:
    """One desk for each kind of adapter. Every device has a chain since `FOUNDED` and a decided update `DECIDED`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._plains = {kind: good(kind) for kind in KINDS}
        self._entries: dict[tuple[str, int], Entry] = {}
        self._pool = [world.keep(name, self._seal(name, kind, number)) for name in DEVICES for number, kind in
                      enumerate(KINDS)]  # fmt: skip
        for name in DEVICES:
            decided = world.keep(name, self._seal(name, "head", 0, DECIDED))
            self._pool.append(decided)
            self._entries[name, DECIDED] = Entry(name, DECIDED, VERSION, _sha(decided), Refusal.NORM)
            self._entries[name, TAKEN] = Entry(name, TAKEN, VERSION, bytes(32), Refusal.ADMITTED)
        self._desks = {kind: self._desk(kind) for kind in KINDS}

    def _desk(self, kind: str) -> Desk:
        keys = {name: self._world.signers[name].public for name in DEVICES if name != STRANGER}
        chain = session.found(FOUNDED, ROOT).encode()
        sealing = {suite: (key, self._world.former[suite]) for suite, key in self._world.sealing.items()}
        return Desk(
            FLEET, ARTIFACT, table_of(kind), sealing, keys.get, ATTIC.__eq__,
            lambda name, sequence: self._entries.get((name, sequence)),
            lambda _: HIGHEST, lambda name: None if name == HALL else chain, MAX_NORM,
        )  # fmt: skip

    def __call__(self, dice: Dice) -> Trial:
        return self.at(moment_of(dice, 0), dice)

    def at(self, moment: Moment, dice: Dice) -> Trial:
        """One message, changed at `moment`."""
        kind, sender = dice.pick(KINDS), _sender(dice)
        message, plain = self._message(moment, kind, sender, dice)
        outcome = admission.admit(message, sender, VERSION, self._desks[kind])
        self._sound(outcome, message, plain, sender, kind)
        return Trial("uplink", moment, outcome.status, outcome.stage.name.lower())

    def _sound(self, outcome: Outcome, message: bytes, plain: bytes | None, sender: str, kind: str) -> None:
        """What holds of every outcome, whatever came in."""
        believed = outcome.entry is not None or outcome.offer is not None or outcome.stage >= Stage.AUTHENTIC
        assert not believed or self._world.signed_by(sender, message), message.hex()
        assert outcome.told == (sender != STRANGER)
        assert outcome.status is not Refusal.ADMITTED or outcome.entry is not None
        if outcome.entry is None:
            return
        entry = outcome.entry
        assert sender not in (STRANGER, ATTIC)
        assert (entry.device, entry.digest, entry.status) == (sender, _sha(message), outcome.status)
        assert (sender, entry.sequence) not in self._entries
        assert entry.sequence > HIGHEST - admission.WINDOW
        if outcome.status is not Refusal.ADMITTED:
            assert not entry.plain
            assert not entry.session
            return
        assert plain is None or entry.plain == plain, message.hex()
        assert entry.base_version == VERSION
        table = table_of(kind)
        delta = update.decode(entry.plain, table).delta
        assert delta.weight.shape == table.shape
        assert np.isfinite(delta.joined).all()
        joined = delta.joined.astype(np.float64)
        assert np.trace(joined @ table.moment.astype(np.float64) @ joined.T) <= MAX_NORM**2 * (1 + 1e-4)

    def _seal(self, name: str, kind: str, number: int, sequence: int = FOUNDED + 3) -> bytes:
        context = Context(FLEET, name, "up", ARTIFACT, VERSION, sequence, SUITE_OF[name])
        return self._world.sign(name, context, self._sealed(context, self._plains[kind][number]))

    def _sealed(self, context: Context, plain: bytes) -> bytes:
        """Sealed to the gateway under the suite of `context`; of an unknown suite, as it is."""
        if context.code == RESUMED:
            chain = session.found(FOUNDED, ROOT)
            if session.reaches(chain, context.sequence):
                return cbor.decode(session.seal(plain, context, chain, _Unsigned())[0][1:])[2]
        if context.code in SUITES:
            return SUITES[context.code].encrypt(
                plain, self._world.sealing[context.code].public_key(), info=context.encode()
            )
        return plain

    def _message(self, moment: Moment, kind: str, sender: str, dice: Dice) -> tuple[bytes, bytes | None]:
        """The message, and the update in it where it is known."""
        pool = self._plains[kind]
        if moment is Moment.NOISE:
            if dice.one_in(50):
                return _OVERSIZE, None
            return change_bytes(dice.take(dice.below(300)), dice, self._pool), None
        if moment is Moment.AFTER_SIGNING:
            message = dice.pick(self._pool)
            match dice.below(8):
                case 0:
                    return twin(message), None
                case 1:
                    return message, None
                case _:
                    return changed_message(message, dice, self._pool), None
        context = self._context(sender, dice)
        if moment is Moment.BEFORE_SEALING:
            plain = rogue(pool, kind, dice)
            return self._world.sign(sender, context, self._sealed(context, plain)), plain
        return self._signed_wrongly(sender, context, dice.pick(pool), dice), None

    def _context(self, sender: str, dice: Dice) -> Context:
        code = HYBRID if dice.one_in(16) else X25519
        if dice.one_in(2) and (sender != HALL or dice.one_in(10)):
            code = RESUMED
        return Context(FLEET, sender, "up", ARTIFACT, VERSION, FOUNDED + 1 + dice.below(8), code)

    def _signed_wrongly(self, sender: str, context: Context, plain: bytes, dice: Dice) -> bytes:
        other = changed_context(context, dice)
        match dice.below(9):
            case 0:
                return self._world.sign(sender, other, self._sealed(context, plain))
            case 1:
                return self._world.sign(sender, other, self._sealed(other, plain))
            case 2:
                former = self._world.former[X25519].public_key()
                sealed = SUITES[X25519].encrypt(plain, former, info=context.encode())
                return self._world.sign(sender, context, dice.pick((sealed, self._sealed(other, plain))))
            case 3:
                return self._world.sign(sender, context, self._sealed(context, plain), dice)
            case 4:
                return self._world.sign(sender, context, change_bytes(self._sealed(context, plain), dice))
            case 5:
                return self._world.sign(dice.pick(DEVICES), context, self._sealed(context, plain))
            case 6:
                context = dice.pick((context, context, other))
                return self._world.sign_as_before(sender, context, self._sealed(context, plain), dice)
            case 7:
                numbers = (TAKEN, DECIDED, HIGHEST - admission.WINDOW, 0, FOUNDED, FOUNDED + 64, FOUNDED + 65)
                context = Context(FLEET, sender, "up", ARTIFACT, VERSION, dice.pick((*numbers, dice.below(1 << 20))),
                                  context.code)  # fmt: skip
                return self._world.sign(sender, context, self._sealed(context, plain))
            case _:
                return self._offer(sender, context, plain, dice)

    def _offer(self, sender: str, context: Context, plain: bytes, dice: Dice) -> bytes:
        offered = Context(
            FLEET, sender, "offer", ARTIFACT, VERSION, dice.pick((context.sequence, TAKEN, *NUMBERS[:20])), 0
        )
        fields = {1: 1, **transfer.offer(plain, 64).fields()}
        if dice.one_in(3):
            return self._world.sign(sender, offered, encode(fields, dice))
        return self._world.sign(sender, offered, encode(change_value(fields, dice), dice))


class _Unsigned:
    """A signer for a payload whose signature is dropped."""

    algorithm = EDDSA
    public = bytes(32)

    def sign(self, data: bytes) -> bytes:
        return bytes(SIGNATURE_BYTES)


def _sender(dice: Dice) -> str:
    """Mostly one that is enrolled."""
    return dice.pick(DEVICES) if dice.one_in(10) else dice.pick(DEVICES[:3])


def _sha(message: bytes) -> bytes:
    return hashlib.sha256(message).digest()
