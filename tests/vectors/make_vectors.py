"""Write the test vectors of SPEC.md: `python tests/vectors/make_vectors.py`.

protocol-2.json is deterministic: any implementation of the formats must make these bytes. sealed-1.json and
sealed-2.json hold messages as released versions sealed them, with fresh randomness; each is written once and then only
read, because what an old version has sealed must open for ever. All keys are test keys and public.
"""

import json
import sys
from dataclasses import asdict, replace
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
    WIDTH,
    context,
    head,
    hybrid,
    moment,
    sealing,
    seed,
    signing,
    signing_p256,
    table,
)

from tasuki.sdk import cbor, codec, compression, cose, downlink, envelope, offer, receipt, session, transfer  # noqa: E402
from tasuki.sdk import update as updates  # noqa: E402
from tasuki.sdk.downlink import Announcement  # noqa: E402
from tasuki.sdk.envelope import RESUMED, SUITE_NAMES, SUITES, X25519, Context  # noqa: E402
from tasuki.sdk.errors import Refusal  # noqa: E402
from tasuki.sdk.receipt import Receipt  # noqa: E402
from tasuki.sdk.tokenizer import Tokenizer  # noqa: E402

DETERMINISTIC = HERE / "protocol-2.json"
SEALED = HERE / "sealed-2.json"
SAMPLES = 41
SEQUENCE = 9
ROOT = seed("session root")
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


def _table(joined: Any) -> str:
    return str(joined.astype("<f4").tobytes().hex())


def packed(kind: str = "head") -> bytes:
    """The compressed table of the update of a kind: two bits, in the plain basis, which every machine has alike."""
    setting = compression.Setting("plain", "top", 1.0, 2)
    columns = table(kind).shape[1]
    joined = head(0, len(LABELS), columns).joined if columns else head().joined[:, -1:]
    return compression.compress(joined, setting, None, 1)


def plain(kind: str = "head", root: bytes | None = ROOT) -> bytes:
    """The update of a kind."""
    return updates.encode(table(kind), packed(kind), SAMPLES, root)


def former() -> bytes:
    """The update of format 1."""
    return cbor.encode({1: 1, 7: SAMPLES, **codec.pack(head(), 1)})


def _updates() -> list[dict[str, Any]]:
    made = [("head", ROOT, plain()), ("head", None, plain(root=None)), ("head", None, former())]
    made += [(kind, None, plain(kind, None)) for kind in ("low_rank", "bias")]
    return [
        {
            "kind": kind,
            "format": cbor.decode(data)[1],
            "samples": SAMPLES,
            "root": None if root is None else root.hex(),
            "bytes": data.hex(),
            "decoded [W | b] (float32 LE)": _table(updates.decode(data, table(kind)).delta.joined),
        }
        for kind, root, data in made
    ]


def _refused_updates() -> list[dict[str, str]]:
    """Updates from a device that signs and seals whatever it is told to; the reason is the gateway's."""
    good, old = cbor.decode(plain()), cbor.decode(former())
    rows = len(LABELS)
    infinite = b"\x00\x00\x80\x7f" * rows
    cases: list[tuple[str, bytes, Refusal]] = [
        ("empty", b"", Refusal.MALFORMED),
        ("trailing byte", cbor.encode(good) + b"\x00", Refusal.MALFORMED),
        ("no samples", cbor.encode({key: value for key, value in good.items() if key != 7}), Refusal.MALFORMED),
        ("unknown field", cbor.encode({**good, 8: 0}), Refusal.MALFORMED),
        ("later format", cbor.encode({**good, 1: 3}), Refusal.MALFORMED),
        ("fields of format 1", cbor.encode({**good, 1: 1}), Refusal.MALFORMED),
        ("samples is 0", cbor.encode({**good, 7: 0}), Refusal.MALFORMED),
        ("samples is true", cbor.encode({**good, 7: True}), Refusal.MALFORMED),
        ("short root", cbor.encode({**good, 9: bytes(31)}), Refusal.MALFORMED),
        ("one row too many", cbor.encode({**good, 3: [rows + 1, WIDTH]}), Refusal.WRONG_SHAPE),
        ("another kind", cbor.encode({**good, 2: 2}), Refusal.WRONG_KIND),
        ("table cut", cbor.encode({**good, 4: good[4][:2]}), Refusal.MALFORMED),
        ("no table", cbor.encode({**good, 4: b""}), Refusal.MALFORMED),
        ("keys out of order", b"\xa2\x02\x01\x01\x02", Refusal.MALFORMED),
        ("same key twice", b"\xa2\x01\x02\x01\x02", Refusal.MALFORMED),
        ("nesting bomb", b"\x81" * 1000 + b"\x00", Refusal.MALFORMED),
        ("endless string", b"\x5b" + b"\xff" * 8, Refusal.MALFORMED),
        ("format 1, trailing byte", cbor.encode(old) + b"\x00", Refusal.MALFORMED),
        ("format 1, no samples", cbor.encode({k: v for k, v in old.items() if k != 7}), Refusal.MALFORMED),
        ("format 1, unknown field", cbor.encode({**old, 9: 0}), Refusal.MALFORMED),
        ("format 1, fields of format 2", cbor.encode({**old, 1: 2}), Refusal.MALFORMED),
        ("format 1, samples is 0", cbor.encode({**old, 7: 0}), Refusal.MALFORMED),
        ("format 1, samples is true", cbor.encode({**old, 7: True}), Refusal.MALFORMED),
        ("format 1, one row too many", cbor.encode({**old, 3: [rows + 1, WIDTH]}), Refusal.WRONG_SHAPE),
        ("format 1, rows cut", cbor.encode({**old, 5: bytes(3)}), Refusal.MALFORMED),
        ("format 1, infinite scale", cbor.encode({**old, 4: infinite}), Refusal.NOT_FINITE),
        ("format 1, infinite bias", cbor.encode({**old, 6: infinite}), Refusal.NOT_FINITE),
    ]
    return [{"name": name, "bytes": data.hex(), "reason": reason.word} for name, data, reason in cases]


def _envelopes() -> dict[str, Any]:
    """Suite 1 with a fixed ephemeral key, suite 3 on the chain that it founds, and what the first version sent."""
    device = signing("device")
    first, then = context(X25519, SEQUENCE), context(RESUMED, SEQUENCE + 3)
    sealed, former_sealed = _sealed(plain(), first), _sealed(former(), first)
    old = cose.Header(first.version, first.sequence, first.code, ARTIFACT[:8], DEVICE)
    resumed, after = session.seal(plain(root=None), then, session.found(SEQUENCE, ROOT), device)
    return {
        "x25519": {
            "context": _context(first),
            "plain": plain().hex(),
            "sealed": sealed.hex(),
            "message": cose.sign(first.header(), sealed, first.encode(), device).hex(),
        },
        "x25519, header of number 1, update of format 1": {
            "context": _context(first),
            "plain": former().hex(),
            "sealed": former_sealed.hex(),
            "message": cose.sign(old, former_sealed, first.encode(), device).hex(),
        },
        "resumed": {
            "context": _context(then),
            "root": ROOT.hex(),
            "founded": SEQUENCE,
            "plain": plain(root=None).hex(),
            "sealed": cose.parse(resumed).payload.hex(),
            "message": resumed.hex(),
            "chain after it": after.secret.hex(),
        },
    }


def _sealed(update: bytes, bound: Context) -> bytes:
    recipient = X25519PrivateKey.from_private_bytes(seed("gateway")).public_key()
    ephemeral = X25519PrivateKey.from_private_bytes(seed("ephemeral"))
    return hpke_oracle.seal_x25519(update, recipient, bound.encode(), ephemeral)


def _receipts(answered: bytes) -> list[dict[str, Any]]:
    digest = receipt.digest_of(answered)
    words = (
        Receipt(9, Refusal.ADMITTED, 4, digest, 1_900_000_000),
        Receipt(10, Refusal.STALE_BASE, 4, digest, 1_900_000_001),
        Receipt(0, Refusal.BAD_SIGNATURE, 4, digest, 1_900_000_002),
        Receipt(11, Refusal.PARTS_WANTED, 4, digest, 1_900_000_003, (0, 2, 9)),
    )
    return [
        {
            "sequence": word.sequence,
            "status": int(word.status),
            "version": word.version,
            "answers": answered.hex(),
            "time": word.time,
            "wanted": list(word.wanted),
            "message": receipt.issue(word, FLEET, DEVICE, ARTIFACT, signing("gateway")).hex(),
        }
        for word in words
    ]


def _adapter() -> dict[str, Any]:
    content = downlink.content(head(1), table())
    said = Announcement(4, 1_899_999_999, 2_000_000_000, transfer.offer(content, 64))
    return {
        "version": said.version,
        "issued": said.issued,
        "expires": said.expires,
        "part": said.offer.part,
        "content": content.hex(),
        "decoded [W | b] (float32 LE)": _table(downlink.read_content(content, table()).joined),
        "message": downlink.publish(said, FLEET, ARTIFACT, signing("gateway")).hex(),
        "message of number 1, as earlier versions kept it": _former_adapter().hex(),
    }


def _former_adapter() -> bytes:
    bound = Context(FLEET, "*", "adapter", ARTIFACT, 4, 4, 0)
    payload = cbor.encode({1: 1, 8: 2_000_000_000, **codec.pack(head(1), 1)})
    return cose.sign(cose.Header(4, 4, 0, ARTIFACT[:8], "gateway"), payload, bound.encode(), signing("gateway"))


def _keys() -> dict[str, str]:
    recipient = X25519PrivateKey.from_private_bytes(seed("gateway"))
    halves = hybrid("gateway")
    scalar = signing_p256("device").key.private_numbers().private_value  # type: ignore[union-attr]
    return {
        "device signing (Ed25519 seed)": seed("device").hex(),
        "device verifying": signing("device").public.hex(),
        "device signing (P-256 scalar)": scalar.to_bytes(32, "big").hex(),
        "device verifying (P-256)": signing_p256("device").public.hex(),
        "gateway signing (Ed25519 seed)": seed("gateway").hex(),
        "gateway verifying": signing("gateway").public.hex(),
        "gateway sealing (X25519)": recipient.private_bytes_raw().hex(),
        "gateway sealing, hybrid (ML-KEM-768 seed)": halves.lattice.private_bytes_raw().hex(),
        "gateway sealing, hybrid (X25519)": halves.curve.private_bytes_raw().hex(),
        "ephemeral (X25519)": seed("ephemeral").hex(),
    }


def build() -> dict[str, Any]:
    """The deterministic vectors."""
    tokenizer = Tokenizer(VOCABULARY, 8)
    first = bytes.fromhex(_envelopes()["x25519"]["message"])
    offered = offer.sign(first, 128, FLEET, DEVICE, ARTIFACT, 3, SEQUENCE, signing("device"))
    return {
        "format": 2,
        "keys": _keys(),
        "head": {"labels": list(LABELS), "weight": head().weight.tolist(), "bias": head().bias.tolist()},
        "moment": moment().tolist(),
        "low_rank": {"rank": 3, "seed": 5},
        "updates": _updates(),
        "envelopes": _envelopes(),
        "offer": {"context": _context(replace(context(0, SEQUENCE), direction="offer")), "part": 128,
                  "of": first.hex(), "message": offered.hex()},
        "adapter": _adapter(),
        "receipts": _receipts(first),
        "refused updates": _refused_updates(),
        "tokenizer": {
            "vocabulary": list(VOCABULARY),
            "tokens": 8,
            "texts": [{"text": text, "ids": tokenizer.encode(text).tolist()} for text in TEXTS],
        },
    }  # fmt: skip


def seal() -> dict[str, Any]:
    """A message of each suite and signature, sealed by the library as it is now."""
    made: dict[str, dict[str, Any]] = {}
    for name, key in (("Ed25519", signing("device")), ("P-256", signing_p256("device"))):
        for suite in SUITES:
            message = envelope.seal(plain(), context(suite, SEQUENCE), key, sealing("gateway", suite).public_key())
            made[f"{SUITE_NAMES[suite]}, {name}"] = {"suite": suite, "sequence": SEQUENCE, "key": key.public.hex(),
                                                     "update": plain().hex(), "message": message.hex()}  # fmt: skip
        bound = context(RESUMED, SEQUENCE + 1)
        message, _ = session.seal(plain(root=None), bound, session.found(SEQUENCE, ROOT), key)
        made[f"resumed, {name}"] = {"suite": RESUMED, "sequence": SEQUENCE + 1, "key": key.public.hex(),
                                    "update": plain(root=None).hex(), "message": message.hex()}  # fmt: skip
    return {"format": 2, "root": ROOT.hex(), "founded": SEQUENCE, "messages": made}


def text(vectors: dict[str, Any]) -> str:
    return json.dumps(vectors, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    DETERMINISTIC.write_text(text(build()))
    if not SEALED.exists():
        SEALED.write_text(text(seal()))
