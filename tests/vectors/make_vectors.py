"""Write the test vectors of SPEC.md: `python tests/vectors/make_vectors.py`.

protocol-1.json is deterministic: any implementation of the formats must make these bytes. sealed-1.json holds messages
as a released version sealed them, with fresh randomness; it is written once and then only read, because what an old
version has sealed must open for ever. All keys are test keys and public.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "protocol"))

import hpke_oracle  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: E402
from protocol_kit import (  # noqa: E402
    ARTIFACT,
    DEVICE,
    FLEET,
    LABELS,
    context,
    head,
    hybrid,
    sealing,
    seed,
    signing,
)

from tasuki.sdk import cbor, codec, cose, downlink, envelope, receipt, update  # noqa: E402
from tasuki.sdk.downlink import Adapter  # noqa: E402
from tasuki.sdk.envelope import SUITE_NAMES, SUITES, X25519, Context  # noqa: E402
from tasuki.sdk.errors import Refusal  # noqa: E402
from tasuki.sdk.receipt import Receipt  # noqa: E402
from tasuki.sdk.tokenizer import Tokenizer  # noqa: E402
from tasuki.sdk.update import Update  # noqa: E402

DETERMINISTIC = HERE / "protocol-1.json"
SEALED = HERE / "sealed-1.json"
SAMPLES = 41
VOCABULARY = (
    "[PAD]", "[UNK]", "turn", "on", "the", "kitchen", "light", "##s", "##on", "t", "##u", "gr",
    "##\u00f6", "##\u00dfe", "2", "##1",
)  # fmt: skip
TEXTS = (
    "", "turn on the light", "Turn ON the kitchen's lights!", "turnon", "turnoff", "tu  2 21\t212",
    "gr\u00f6\u00dfe GR\u00f6\u00dfE",
    "don't", "light" + "s" * 59, "light" + "s" * 60, "the the the the the the the the the the", "\u3042",
)  # fmt: skip


def _context(bound: Context) -> dict[str, Any]:
    return {**asdict(bound), "artifact": bound.artifact.hex(), "bytes": bound.encode().hex()}


def _refused() -> list[dict[str, str]]:
    """Updates from a device that signs and seals whatever it is told to; the reason is the gateway's."""
    good = {1: 1, 7: SAMPLES, **codec.pack(head())}
    rows = len(LABELS)
    infinite = b"\x00\x00\x80\x7f" * rows
    cases: list[tuple[str, bytes, Refusal]] = [
        ("empty", b"", Refusal.MALFORMED),
        ("trailing byte", cbor.encode(good) + b"\x00", Refusal.MALFORMED),
        ("no samples", cbor.encode({key: value for key, value in good.items() if key != 7}), Refusal.MALFORMED),
        ("unknown field", cbor.encode({**good, 9: 0}), Refusal.MALFORMED),
        ("later format", cbor.encode({**good, 1: 2}), Refusal.MALFORMED),
        ("samples is 0", cbor.encode({**good, 7: 0}), Refusal.MALFORMED),
        ("samples is true", cbor.encode({**good, 7: True}), Refusal.MALFORMED),
        ("one row too many", cbor.encode({**good, 3: [rows + 1, 7]}), Refusal.WRONG_SHAPE),
        ("rows cut", cbor.encode({**good, 5: bytes(3)}), Refusal.MALFORMED),
        ("infinite scale", cbor.encode({**good, 4: infinite}), Refusal.NOT_FINITE),
        ("infinite bias", cbor.encode({**good, 6: infinite}), Refusal.NOT_FINITE),
        ("keys out of order", b"\xa2\x02\x01\x01\x01", Refusal.MALFORMED),
        ("same key twice", b"\xa2\x01\x01\x01\x01", Refusal.MALFORMED),
        ("nesting bomb", b"\x81" * 1000 + b"\x00", Refusal.MALFORMED),
        ("endless string", b"\x5b" + b"\xff" * 8, Refusal.MALFORMED),
    ]
    return [{"name": name, "bytes": data.hex(), "reason": reason.word} for name, data, reason in cases]


def build() -> dict[str, Any]:
    """The deterministic vectors."""
    device, gateway = signing("device"), signing("gateway")
    plain = update.encode(Update(head(), SAMPLES))
    decoded = update.decode(plain, LABELS, head().weight.shape[1]).delta
    bound = context(X25519)
    recipient = X25519PrivateKey.from_private_bytes(seed("gateway"))
    ephemeral = X25519PrivateKey.from_private_bytes(seed("ephemeral"))
    sealed = hpke_oracle.seal_x25519(plain, recipient.public_key(), bound.encode(), ephemeral)
    message = cose.sign(bound.header(DEVICE), sealed, bound.encode(), device)
    words = Receipt(9, Refusal.ADMITTED, 4), Receipt(10, Refusal.STALE_BASE, 4)
    tokenizer = Tokenizer(VOCABULARY, 8)
    halves = hybrid("gateway")
    return {
        "format": 1,
        "keys": {
            "device signing (Ed25519 seed)": seed("device").hex(),
            "device verifying": device.public_key().public_bytes_raw().hex(),
            "gateway signing (Ed25519 seed)": seed("gateway").hex(),
            "gateway verifying": gateway.public_key().public_bytes_raw().hex(),
            "gateway sealing (X25519)": recipient.private_bytes_raw().hex(),
            "gateway sealing, hybrid (ML-KEM-768 seed)": halves.lattice.private_bytes_raw().hex(),
            "gateway sealing, hybrid (X25519)": halves.curve.private_bytes_raw().hex(),
            "ephemeral (X25519)": ephemeral.private_bytes_raw().hex(),
        },
        "head": {
            "labels": list(LABELS),
            "weight": head().weight.tolist(),
            "bias": head().bias.tolist(),
            "decoded weight (float32 LE)": decoded.weight.astype("<f4").tobytes().hex(),
            "decoded bias (float32 LE)": decoded.bias.astype("<f4").tobytes().hex(),
        },
        "update": {"samples": SAMPLES, "bytes": plain.hex()},
        "context": _context(bound),
        "envelope": {"suite": X25519, "sealed": sealed.hex(), "message": message.hex()},
        "adapter": {
            "version": 4,
            "expires": 2_000_000_000,
            "message": downlink.publish(Adapter(4, head(1), 2_000_000_000), FLEET, ARTIFACT, gateway).hex(),
        },
        "receipts": [
            {
                "sequence": word.sequence,
                "status": int(word.status),
                "version": word.version,
                "message": receipt.issue(word, FLEET, DEVICE, ARTIFACT, gateway).hex(),
            }
            for word in words
        ],
        "refused updates": _refused(),
        "tokenizer": {
            "vocabulary": list(VOCABULARY),
            "tokens": 8,
            "texts": [{"text": text, "ids": tokenizer.encode(text).tolist()} for text in TEXTS],
        },
    }


def seal() -> dict[str, Any]:
    """One message of each suite, sealed by the library as it is now."""
    plain = update.encode(Update(head(), SAMPLES))
    made = {}
    for suite in SUITES:
        bound = context(suite)
        message = envelope.seal(plain, bound, signing("device"), sealing("gateway", suite).public_key())
        made[SUITE_NAMES[suite]] = {"suite": suite, "message": message.hex()}
    return {"format": 1, "update": plain.hex(), "messages": made}


def text(vectors: dict[str, Any]) -> str:
    return json.dumps(vectors, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    DETERMINISTIC.write_text(text(build()))
    if not SEALED.exists():
        SEALED.write_text(text(seal()))
