"""A gateway's folder with a few devices, and updates as those devices would make them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tasuki.aggregator import fleet
from tasuki.sdk import adapter, artifact, compression, envelope, fleet_table, sealing, update
from tasuki.sdk.adapter import Head
from tasuki.sdk.enrolment import Enrolment
from tasuki.sdk.envelope import X25519, Context
from tasuki.sdk.fleet_table import FleetTable
from tasuki.sdk.signing import Software

TEXTS = ("turn on the light", "turn off the lamp", "play music", "stop the song", "music off please", "light on now")


@dataclass(frozen=True)
class Member:
    """An enrolled device."""

    enrolment: Enrolment
    key: Software
    parts: artifact.Artifact

    @property
    def table(self) -> FleetTable:
        """The fleet's table."""
        parts = self.parts
        return fleet_table.make("head", parts.labels, parts.features, parts.moment, parts.manifest)

    def delta(self, seed: int, sequence: int = 0) -> Head:
        """A small random difference."""
        rng = np.random.default_rng([seed, sequence])
        joined = 0.05 * rng.standard_normal((len(self.parts.labels), self.parts.features + 1))
        return adapter.from_joined(self.parts.labels, joined)

    def plain(self, delta: Head, samples: int = 10, root: bytes | None = None) -> bytes:
        """The update of `delta`, so exact that tests can compare."""
        packed, _ = compression.auto(delta.joined, 1 << 20, self.table.metric, 1, 1e9)
        return update.encode(self.table, packed, samples, root)

    def message(self, version: int, sequence: int, seed: int = 0, samples: int = 10, **other: object) -> bytes:
        """A sealed update with a small random delta; `other` replaces parts of the context or the delta."""
        delta = other.get("delta")
        if not isinstance(delta, Head):
            delta = self.delta(seed, sequence)
        plain = other.get("plain", self.plain(delta, samples))
        bound = Context(
            str(other.get("fleet", self.enrolment.fleet)),
            self.enrolment.device,
            str(other.get("direction", "up")),
            bytes(other.get("artifact", self.parts.hash)),  # type: ignore[call-overload]
            version,
            sequence,
            self.enrolment.suite,
        )
        recipient = sealing.sealing_public(self.enrolment.suite, self.enrolment.sealing)
        assert isinstance(plain, bytes)
        return envelope.seal(plain, bound, self.key, recipient)


def found(folder: Path, artifact_file: Path, port: int = 1883, tls: bool = False) -> Path:
    """A gateway's folder; the held-out labels are what the base answers, so that any harm is seen."""
    held_out = folder / "held-out.jsonl"
    parts = artifact.load(artifact_file)
    from tasuki.aggregator import judge

    rows = judge.embed(parts, [(text, parts.labels[0]) for text in TEXTS])
    answers = [parts.labels[row] for row in rows.base.argmax(1)]
    held_out.write_text(
        "".join(json.dumps({"text": t, "label": a}) + "\n" for t, a in zip(TEXTS, answers, strict=True))
    )
    gateway = folder / "gateway"
    fleet.init(gateway, "lamps", artifact_file, held_out, "127.0.0.1", port, tls)
    return gateway


def join(gateway: Path, name: str, suite: int = X25519) -> Member:
    """Enrol a device with a key made from its name."""
    key = Software(Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b".")))
    made = fleet.enrol(gateway, name, key.public, suite)
    return Member(made, key, artifact.load(gateway / "artifact.tflite"))
