"""Joining: a device's proof of its key and its sealed token, wrong in every part."""

from fuzz_dice import Dice
from fuzz_mutate import awkward, change_bytes, change_value
from fuzz_trial import Moment, Trial, moment_of
from fuzz_world import (
    ARTIFACT,
    FLEET,
    HALL,
    KITCHEN,
    PORCH,
    World,
    changed_context,
    changed_message,
    encode,
    secret,
    twin,
)

from tasuki.sdk import cbor, join
from tasuki.sdk.envelope import HYBRID, SUITES, X25519, Context
from tasuki.sdk.errors import Refusal, Refused

_TOKEN = secret("token")


class Joins:
    """What comes on the join topic of the kitchen; anyone may hold any key, but only the key's holder may show it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._names = {world.signers[name].public: name for name in (KITCHEN, PORCH, HALL)}
        self._pool = [
            world.keep(
                name,
                join.make(
                    _TOKEN, fleet=FLEET, device=device, artifact=ARTIFACT, suite=suite, signer=world.signers[name],
                    recipient=world.sealing[suite].public_key(),
                ),
            )
            for name, device, suite in (
                (KITCHEN, KITCHEN, X25519), (PORCH, KITCHEN, HYBRID), (HALL, KITCHEN, X25519), (HALL, HALL, HYBRID),
            )
        ]  # fmt: skip

    def __call__(self, dice: Dice) -> Trial:
        moment = moment_of(dice, 8)
        token = dice.pick((_TOKEN, _TOKEN, b"", _TOKEN[:31], _TOKEN + b"\0", dice.take(32)))
        message = self._message(moment, token, dice)
        try:
            got = join.read(
                message, fleet=FLEET, device=KITCHEN, artifacts=(secret("another artifact"), ARTIFACT),
                sealing=(self._world.former, self._world.sealing),
            )  # fmt: skip
        except Refused as refusal:
            return Trial("join", moment, refusal.reason)
        assert self._world.signed_by(self._names[got.public], message), message.hex()
        assert got.artifact in (ARTIFACT, secret("another artifact"))
        assert got.token in (_TOKEN, token)
        return Trial("join", moment, Refusal.ADMITTED)

    def _message(self, moment: Moment, token: bytes, dice: Dice) -> bytes:
        if moment is Moment.NOISE:
            return dice.take(dice.below(200))
        if moment is Moment.AFTER_SIGNING:
            good = dice.pick(self._pool)
            return twin(good) if dice.one_in(8) else changed_message(good, dice, self._pool)
        name = dice.pick((KITCHEN, PORCH, HALL))
        suite = HYBRID if dice.one_in(8) else X25519
        context = Context(FLEET, KITCHEN, "join", ARTIFACT, 0, 0, suite)
        public = self._world.signers[name].public
        bound = cbor.encode([context.encode(), public])
        if dice.one_in(6):
            bound = cbor.encode([changed_context(context, dice).encode(), public])
        sealed = SUITES[suite].encrypt(token, self._world.sealing[suite].public_key(), info=bound)
        if moment is Moment.BEFORE_SEALING:
            return self._world.sign(name, context, cbor.encode([public, sealed]))
        match dice.below(5):
            case 0:
                return self._world.sign(name, changed_context(context, dice), cbor.encode([public, sealed]))
            case 1:
                return self._world.sign(name, context, cbor.encode([public, sealed]), dice)
            case 2:
                return self._world.sign(name, context, cbor.encode([public, change_bytes(sealed, dice)]))
            case 3:
                shown = dice.pick((*self._names, awkward(dice)))
                return self._world.sign(name, context, encode([shown, sealed], dice))
            case _:
                return self._world.sign(name, context, encode(change_value([public, sealed], dice), dice))
