"""With a hostile broker between them, gateway and devices end as with an honest one, only later; and it learns nothing.

The gateway and the devices are the real ones. The broker reads, drops, repeats, reorders, truncates, alters and forges,
by a seed; it has recorded an earlier run of the same devices, and another fleet.
"""

import contextlib
import hashlib
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__)
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[1] / "aggregator")]

from fleet_kit import Member, found, join  # noqa: E402
from hostile_broker import ODDS, PATIENCE, HostileBroker, Publish, number, read_number, split  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from noted_state import NotedState  # noqa: E402

from tasuki.aggregator import gateway as gateway_module  # noqa: E402
from tasuki.aggregator.broker import EmbeddedBroker  # noqa: E402
from tasuki.aggregator.gateway import Gateway, Rules  # noqa: E402
from tasuki.aggregator.ledger import Ledger  # noqa: E402
from tasuki.sdk import artifact, cose, downlink, exchange, link, receipt, topics, transfer  # noqa: E402
from tasuki.sdk.envelope import Context  # noqa: E402
from tasuki.sdk.errors import LinkError, Refusal, Refused  # noqa: E402
from tasuki.sdk.signing import Software  # noqa: E402

NAMES = ("attic", "cellar", "den")
# Has made the versions that are there when the others begin.
MAKER = "maker"
# How many updates each device gets admitted, and how many messages the broker gets to play with.
WANTED, PLAYED = 4, 200
# Of what is secret, this many bytes in a row may not be seen.
WINDOW = 12


FLEET = "lamps"
THIEF = Software(Ed25519PrivateKey.from_private_bytes(b"thief".ljust(32, b".")))


class Hasty(random.Random):
    """No long pauses between attempts."""

    def uniform(self, a: float, b: float) -> float:
        return super().uniform(a, min(b, 0.1))


@dataclass
class Home:
    """One device: what it sealed, and what it was told, by the SHA-256 of the sealed update."""

    member: Member
    folder: Path
    seed: int
    sealed: set[bytes] = field(default_factory=set)
    admitted: Counter[bytes] = field(default_factory=Counter)
    refused: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.state = NotedState(self.folder, self.member.parts.hash, self._told)
        self._rng = Hasty(self.seed)

    def _told(self, word: str, _sequence: int, digest: bytes) -> None:
        if word == "admitted":
            self.admitted[digest] += 1
        else:
            self.refused.add(digest)

    def seal(self) -> None:
        version = self.state.number("version")

        def sealed(sequence: int) -> bytes:
            message = self.member.message(version, sequence, seed=self._rng.getrandbits(32))
            self.sealed.add(hashlib.sha256(message).digest())
            return message

        self.state.spool(version, sealed, supersede=False)

    def sync(self, timeout: float = 3.0, version: int | None = None) -> None:
        with contextlib.suppress(LinkError):
            enrolment, parts = self.member.enrolment, self.member.parts
            link.sync(
                self.state,
                enrolment,
                parts,
                timeout=timeout,
                wait_version=version,
                signer=self.member.key,
                rng=self._rng,
            )

    def live(self) -> None:
        while len(self.admitted) < WANTED or self.state.spooled():
            if not self.state.spooled() or self._rng.random() < 0.2:
                self.seal()
            self.sync()


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[list[dict[str, object]]]:
    """The real gateway in a thread; what it tells."""
    told: list[dict[str, object]] = []
    made: list[Gateway] = []

    def run() -> None:
        gateway = Gateway(Rules(folder), folder, "127.0.0.1", port, told.append, Hasty(1))
        made.append(gateway)
        # All but the maker.
        gateway.run(len(NAMES) / (len(NAMES) + 1), 3600.0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield told
    finally:
        made[0].stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def make_versions(gateway: Path, count: int) -> None:
    """Devices that begin now have to take the last of these first."""
    maker = join(gateway, MAKER)
    rules = Rules(gateway)
    for version in range(count):
        rules.take(maker.message(version, version + 1), MAKER)
        assert rules.close_round(1.0, 3600.0) is not None
    rules.ledger.close()


def play(folder: Path, body: Path, hostile: HostileBroker, seed: int, *, honest: bool) -> tuple[Path, list[Home]]:
    """Devices send until each has had its updates admitted, and take the last version."""
    gateway = found(folder, body, hostile.port)
    make_versions(gateway, 2)
    homes = [Home(join(gateway, name), folder / name, seed) for name in NAMES]
    with hostile, serving(gateway, hostile.port):
        if honest:
            hostile.heal()
        lives = [threading.Thread(target=home.live) for home in homes]
        for life in lives:
            life.start()
        end = time.monotonic() + PATIENCE
        while not honest and sum(hostile.did.values()) < PLAYED and time.monotonic() < end:
            time.sleep(0.05)
        hostile.heal()
        for life in lives:
            life.join(PATIENCE)
            assert not life.is_alive(), "a device did not come to an end"
        end = time.monotonic() + PATIENCE
        while any(home.state.number("version") < latest(gateway) for home in homes):
            assert time.monotonic() < end, "a device has not the last version"
            for home in homes:
                home.sync(version=latest(gateway))
    return gateway, homes


class Forger:
    """Knows the protocol, the fleet's names and every message, but none of its keys; signs with one of its own."""

    def __init__(self, artifact: bytes) -> None:
        self._artifact = artifact
        self._last: dict[str, bytes] = {}

    def __call__(self, way: str, publish: Publish, rng: random.Random) -> bytes | None:
        topic = publish.topic.decode()
        try:
            heard = topics.read(topic, FLEET)
            header = cose.parse(publish.payload).header
        except Refused:
            return None
        if heard.kind == "up":
            self._last[heard.device] = publish.payload
            # The update as it is, under another signature, as a later one.
            context = Context(
                FLEET, heard.device, "up", self._artifact, header.version, header.sequence + 1, header.code
            )
            payload = cose.parse(publish.payload).payload
            return cose.sign(context.header(), payload, context.encode(), THIEF)
        if heard.kind == "receipt" and heard.device in self._last:
            # "Admitted", for what was dropped.
            digest = receipt.digest_of(self._last[heard.device])
            word = receipt.Receipt(header.sequence, Refusal.ADMITTED, header.version, digest, int(time.time()))
            return receipt.issue(word, FLEET, heard.device, self._artifact, THIEF)
        if heard.kind == "adapter":
            made = transfer.offer(rng.randbytes(200), 100)
            word_ = downlink.Announcement(header.version + 1, 0, 0, made)
            return downlink.publish(word_, FLEET, self._artifact, THIEF)
        return None


def latest(gateway: Path) -> int:
    ledger = Ledger(gateway / "ledger.db")
    try:
        return ledger.versions()[-1].version
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture(scope="module")
def earlier(
    tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path, broker: EmbeddedBroker
) -> dict[str, Sequence[bytes]]:
    """All messages of an earlier run with the same devices and another gateway's keys, by kind of topic."""
    quick(pytest.MonkeyPatch())
    hostile = HostileBroker(broker.port, 0)
    _, homes = play(tmp_path_factory.mktemp("earlier"), tiny_artifact, hostile, 99, honest=True)
    for home in homes:
        home.state.close()
    assert not hostile.did
    recorded: dict[str, list[bytes]] = defaultdict(list)
    for _, one in hostile.heard:
        recorded[one.kind].append(one.payload)
    return dict(recorded)


def quick(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(link, "_RESEND_SECONDS", 0.4)
    patch.setattr(link, "_SILENCE_SECONDS", 0.4)


# Seed, and the largest message that goes whole: 120,000 bytes, or so few that updates and adapters go in parts.
RUNS = [(1, exchange.WHOLE_BYTES), (2, 80)]
MORE = [pytest.param(seed, (exchange.WHOLE_BYTES, 80)[seed % 2], marks=pytest.mark.slow) for seed in range(3, 23)]


@pytest.mark.parametrize(("seed", "whole"), [*RUNS, *MORE])
def test_whatever_the_broker_does_it_neither_learns_nor_changes_anything(
    broker: EmbeddedBroker,
    earlier: dict[str, Sequence[bytes]],
    tmp_path: Path,
    tiny_artifact: Path,
    seed: int,
    whole: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(exchange, "WHOLE_BYTES", whole)
    monkeypatch.setattr(gateway_module, "WHOLE_BYTES", whole)
    hostile = HostileBroker(broker.port, seed, earlier, Forger(artifact.load(tiny_artifact).hash))
    gateway, homes = play(tmp_path, tiny_artifact, hostile, seed, honest=False)
    ledger = Ledger(gateway / "ledger.db")
    every = "SELECT device, sequence, digest, status, plain FROM updates WHERE device<>?"
    rows = ledger._db.execute(every, (MAKER,)).fetchall()
    published = {made.version: made.message for made in ledger.versions()}
    ledger.close()

    admitted = Counter((device, digest) for device, _, digest, status, _ in rows if status == Refusal.ADMITTED)
    for home in homes:
        name = home.member.enrolment.device
        mine = {digest for device, digest in admitted if device == name}
        # What was not sealed here is not admitted; what is believed to be admitted is.
        assert mine <= home.sealed
        assert set(home.admitted) == mine
        assert home.refused.isdisjoint(mine)
        assert home.refused | mine == home.sealed
        assert set(home.admitted.values()) == {1}
        # Every adapter that it ever took is one that the gateway published, and the last one is the last.
        assert [content for _, content in home.state.installed] == [published[at] for at, _ in home.state.installed]
        assert home.state.adapter() == (max(published), published[max(published)])
        home.state.close()
    assert set(admitted.values()) == {1}

    wire = hostile.wire()
    assert visible(hostile.heard[0][1].topic, wire)
    for *_, plain in rows:
        assert not visible(plain, wire)
    from_devices = b"\n".join(one.payload for _, one in hostile.heard if one.kind == "up")
    assert not any(label.encode() in from_devices for label in homes[0].member.parts.labels)
    # It did all that it can, and what it had to work with was there.
    assert set(ODDS) - {"cut", "redirect"} <= set(hostile.did)
    in_parts = {one.topic.count(b"/") for _, one in hostile.heard if one.kind == "up"}
    assert in_parts == ({3} if whole == 120_000 else {3, 5})


def visible(secret: bytes, wire: bytes) -> bool:
    """Whether some `WINDOW` bytes of `secret` are in `wire`."""
    return any(secret[at : at + WINDOW] in wire for at in range(len(secret) - WINDOW + 1))


@given(st.integers(0, 268_435_455), st.binary(max_size=3))
def test_a_variable_byte_integer_is_read_as_written(value: int, after: bytes) -> None:
    written = number(value)
    assert read_number(written + after, 0) == (value, len(written))
    assert all(read_number(written[:cut], 0) is None for cut in range(len(written)))


@given(
    st.builds(
        Publish,
        topic=st.text(max_size=20).map(str.encode),
        payload=st.binary(max_size=300),
        qos=st.integers(0, 2),
        mid=st.integers(1, 65535),
        retain=st.booleans(),
        dup=st.booleans(),
        properties=st.binary(max_size=200),
    )
)
def test_a_publish_is_read_as_written(one: Publish) -> None:
    packet = one.encode()
    buffer = bytearray(packet + packet[:-1])
    assert list(split(buffer)) == [packet]
    assert bytes(buffer) == packet[:-1]
    read = Publish.read(packet)
    assert read == (one if one.qos else Publish(**{**vars(one), "mid": 0}))
