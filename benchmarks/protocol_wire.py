"""The real way of updates, without the network: what a device seals, a gateway's admission opens.

Devices are called as in the relay. Of the state and the ledger only what is kept is here, in memory: error memory and
chain of a device (`tasuki.sdk.state`), entries and chains of the gateway (`tasuki.aggregator.ledger`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tasuki.aggregator import admission
from tasuki.aggregator.admission import Desk, Entry
from tasuki.benchmarks.protocol_fleet import LIMITS, Wire
from tasuki.benchmarks.relay import FLEET
from tasuki.sdk import update
from tasuki.sdk.adapter import Head
from tasuki.sdk.enrolment import Enrolment
from tasuki.sdk.envelope import HYBRID, RESUMED, X25519, SealingPrivateKey
from tasuki.sdk.errors import Refusal, TasukiError
from tasuki.sdk.fleet_table import FleetTable
from tasuki.sdk.outgoing import Outgoing
from tasuki.sdk.sealing import sealing_public
from tasuki.sdk.signing import Software

_PENDING = "pending."


class NotAdmitted(TasukiError):
    """The gateway refused an update of the benchmark; the message says why."""


@dataclass(frozen=True)
class Keys:
    """A gateway's sealing keys by suite, private and raw public."""

    private: Mapping[int, SealingPrivateKey]
    public: Mapping[int, bytes]


@dataclass(frozen=True)
class Sent:
    """One message up as its desk met it: `plain` is the update inside, `code` the suite that it was sealed with."""

    device: str
    version: int
    code: int
    message: bytes
    plain: bytes


@dataclass
class Devices:
    """What the devices and the gateway of one run keep; `sent` is every message in its order."""

    artifact: bytes
    table: FleetTable
    keys: Keys
    suite: int
    budget: int | None = None
    sent: list[Sent] = field(default_factory=list)
    entries: dict[tuple[str, int], Entry] = field(default_factory=dict)
    states: dict[str, dict[str, bytes]] = field(default_factory=dict)
    chains: dict[str, bytes] = field(default_factory=dict)


def make_keys() -> Keys:
    """Fresh sealing keys of both suites."""
    plain, lattice, curve = X25519PrivateKey.generate(), MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    raw = lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    return Keys(
        {X25519: plain, HYBRID: hpke.MLKEM768X25519PrivateKey(lattice, curve)},
        {X25519: plain.public_key().public_bytes_raw(), HYBRID: raw},
    )


def name(place: int) -> str:
    """What the relay calls the home `place`."""
    return f"home-{place:02d}"


def signer(device: str) -> Software:
    """The device's signing key: the same in every run. Nothing here is secret."""
    return Software(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"bench {device}".encode()).digest()))


def desk(devices: Devices) -> Desk:
    """The gateway's desk over what `devices` has of it."""
    known = {name(place): signer(name(place)).public for place in range(len(devices.states) or 64)}
    return Desk(
        fleet=FLEET,
        artifact=devices.artifact,
        table=devices.table,
        sealing={suite: [key] for suite, key in devices.keys.private.items()},
        key_of=known.get,
        revoked=lambda device: False,
        seen=lambda device, sequence: devices.entries.get((device, sequence)),
        highest=lambda device: max((s for d, s in devices.entries if d == device), default=0),
        session=devices.chains.get,
        max_norm=LIMITS.max_norm,
    )


def sealed(devices: Devices) -> Wire:
    """The wire of real messages; `devices` fills. It raises NotAdmitted where the gateway refuses one."""
    at = desk(devices)
    artifact, table, suite = devices.artifact, devices.table, devices.suite
    public = devices.keys.public
    recipient = sealing_public(suite, public[suite])

    def wire(place: int, version: int, delta: Head, samples: int) -> tuple[bytes, Head]:
        device, sequence = name(place), version + 1
        state = devices.states.setdefault(device, {})
        member = Enrolment(FLEET, device, "127.0.0.1", 1883, artifact, bytes(32), suite, public[suite])
        outgoing = Outgoing(member, artifact, version, table, signer(device), state.get, devices.budget)
        message = outgoing.seal(delta, samples, sequence, recipient)
        outcome = admission.admit(message, device, version, at)
        entry = outcome.entry
        if entry is None or outcome.status is not Refusal.ADMITTED:
            raise NotAdmitted(f"{device}, update {sequence}: {outcome.status.word} {outcome.detail}")
        state |= {key.removeprefix(_PENDING): value for key, value in outgoing.keep.items()}
        devices.entries[device, sequence] = entry
        if entry.session:
            devices.chains[device] = entry.session
        code = suite if entry.session else RESUMED
        devices.sent.append(Sent(device, version, code, message, entry.plain))
        return message, update.decode(entry.plain, table).delta

    return wire
