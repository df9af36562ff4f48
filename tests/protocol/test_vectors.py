"""The vectors of SPEC.md: this library makes them, opens them, and an independent implementation agrees."""

import hashlib
import hmac
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import hpke_oracle
import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from protocol_kit import ARTIFACT, DEVICE, FLEET, context, head, moment, sealing, signing, table

from tasuki.aggregator import admission
from tasuki.aggregator.admission import Desk, Entry, Stage
from tasuki.sdk import cbor, cose, downlink, envelope, offer, receipt, session, transfer, update
from tasuki.sdk.envelope import HYBRID, RESUMED, X25519
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.receipt import Receipt
from tasuki.sdk.tokenizer import Tokenizer

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS: dict[str, Any] = json.loads((FOLDER / "protocol-2.json").read_text())
SEALED_1: dict[str, Any] = json.loads((FOLDER / "sealed-1.json").read_text())
SEALED_2: dict[str, Any] = json.loads((FOLDER / "sealed-2.json").read_text())
REASONS = {reason.word: reason for reason in Refusal}
FIRST = "x25519, header of number 1, update of format 1"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_vectors", FOLDER / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_library_still_makes_these_bytes(script: ModuleType) -> None:
    assert script.text(script.build()) == (FOLDER / "protocol-2.json").read_text()


# --- what earlier versions sealed ---------------------------------------------------------------------------------


def test_the_sealed_ones_of_the_first_version_are_untouched() -> None:
    """Written by the first version, with randomness that is gone."""
    digest = hashlib.sha256((FOLDER / "sealed-1.json").read_bytes()).hexdigest()
    assert digest == "e0317510d8e74b713c670e0cf71314c784196dc103afc8a915ac7010adcd5c3e"


@pytest.mark.parametrize("name", SEALED_1["messages"])
def test_what_an_earlier_version_sealed_still_opens(name: str) -> None:
    recorded = SEALED_1["messages"][name]
    message, suite = bytes.fromhex(recorded["message"]), recorded["suite"]
    bound = context(suite)
    signed = cose.parse(message)
    assert signed.header == cose.Header(bound.version, bound.sequence, suite, ARTIFACT[:8], DEVICE)
    payload = envelope.authenticate(signed, bound, signing("device").public)
    plain = envelope.decrypt(payload, bound, sealing("gateway", suite))
    (former,) = (made for made in VECTORS["updates"] if made["format"] == 1)
    assert plain.hex() == SEALED_1["update"] == former["bytes"] == VECTORS["envelopes"][FIRST]["plain"]
    assert update.decode(plain, table()).samples == former["samples"]


@pytest.mark.parametrize("name", SEALED_1["messages"])
def test_what_an_earlier_version_sealed_is_still_admitted(name: str) -> None:
    message = bytes.fromhex(SEALED_1["messages"][name]["message"])
    outcome = admission.admit(message, DEVICE, 3, desk())
    assert (outcome.status, outcome.stage, outcome.sequence) == (Refusal.ADMITTED, Stage.CHECKED, 9)
    assert outcome.entry == Entry(DEVICE, 9, 3, hashlib.sha256(message).digest(), Refusal.ADMITTED,
                                  bytes.fromhex(SEALED_1["update"]))  # fmt: skip
    # It names its sender, and that is checked.
    elsewhere = admission.admit(message, "cellar", 3, desk())
    assert (elsewhere.status, elsewhere.stage) == (Refusal.BAD_SIGNATURE, Stage.PARSED)


@pytest.mark.parametrize("name", SEALED_2["messages"])
def test_what_this_version_sealed_opens_and_is_admitted(name: str) -> None:
    recorded = SEALED_2["messages"][name]
    message, suite, key = (bytes.fromhex(recorded["message"]), recorded["suite"], bytes.fromhex(recorded["key"]))
    bound = context(suite, recorded["sequence"])
    chain = session.found(SEALED_2["founded"], bytes.fromhex(SEALED_2["root"]))
    payload = envelope.authenticate(cose.parse(message), bound, key)
    if suite == RESUMED:
        plain = session.decrypt(payload, bound, chain)
    else:
        plain = envelope.decrypt(payload, bound, sealing("gateway", suite))
    assert plain.hex() == recorded["update"]
    outcome = admission.admit(message, DEVICE, 3, desk(key, chain.encode()))
    assert outcome.status is Refusal.ADMITTED
    assert outcome.entry is not None
    assert outcome.entry.plain == plain
    assert outcome.entry.session == (b"" if suite == RESUMED else chain.encode())


def test_there_is_a_sealed_message_of_every_suite_and_signature() -> None:
    made = {(message["suite"], len(message["key"]) // 2) for message in SEALED_2["messages"].values()}
    assert made == {(suite, key) for suite in (X25519, HYBRID, RESUMED) for key in (32, 33)}
    assert {message["suite"] for message in SEALED_1["messages"].values()} == {X25519, HYBRID}


def desk(key: bytes | None = None, chain: bytes | None = None) -> Desk:
    """A gateway that knows one device, and nothing of its updates; at the session, what an earlier one founded."""
    return Desk(
        fleet=FLEET, artifact=ARTIFACT, table=table(),
        sealing={suite: [sealing("gateway", suite)] for suite in (X25519, HYBRID)},
        key_of=lambda _: key or signing("device").public, revoked=lambda _: False, seen=lambda *_: None,
        highest=lambda _: 0, session=lambda _: chain, max_norm=1e6,
    )  # fmt: skip


# --- updates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["updates"], ids=lambda case: f"{case['kind']}, format {case['format']}")
def test_updates_decode_to_these_floats(case: dict[str, Any]) -> None:
    decoded = update.decode(bytes.fromhex(case["bytes"]), table(case["kind"]))
    assert decoded.delta.joined.astype("<f4").tobytes().hex() == case["decoded [W | b] (float32 LE)"]
    assert decoded.samples == case["samples"]
    assert (None if decoded.root is None else decoded.root.hex()) == case["root"]
    if case["format"] == 1:
        step = np.abs(head().weight).max(1, keepdims=True) / 127
        assert (np.abs(decoded.delta.weight - head().weight) <= step * 0.5001).all()


def test_the_vectors_say_what_the_fleet_is() -> None:
    assert VECTORS["moment"] == moment().tolist()
    of = table("low_rank")
    assert VECTORS["low_rank"] == {"rank": of.kind.columns, "seed": 5}
    assert {case["kind"] for case in VECTORS["updates"]} == {"head", "low_rank", "bias"}


@pytest.mark.parametrize("case", VECTORS["refused updates"], ids=lambda case: case["name"])
def test_refused_updates(case: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        update.decode(bytes.fromhex(case["bytes"]), table())
    assert caught.value.reason is REASONS[case["reason"]]


# --- messages, with nothing of ours ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", VECTORS["envelopes"])
def test_the_envelope_opens_with_nothing_of_ours(name: str) -> None:
    """COSE by hand (RFC 9052, section 4.4), HPKE by the oracle, HKDF by hand (RFC 5869)."""
    keys, case = VECTORS["keys"], VECTORS["envelopes"][name]
    bound = bytes.fromhex(case["context"]["bytes"])
    payload = checked(case["message"], keys["device verifying"], bound)
    assert payload.hex() == case["sealed"]
    if name != "resumed":
        recipient = X25519PrivateKey.from_private_bytes(bytes.fromhex(keys["gateway sealing (X25519)"]))
        assert hpke_oracle.open_x25519(payload, recipient, bound).hex() == case["plain"]
        return
    chain, secret = bytes.fromhex(case["root"]), b""
    for _ in range(case["context"]["sequence"] - case["founded"]):
        both = hkdf(chain, b"tasuki session 1", 64)
        chain, secret = both[:32], both[32:]
    assert chain.hex() == case["chain after it"]
    made = hkdf(secret, b"tasuki resumed 1" + bound, 44)
    assert payload[0] == case["context"]["sequence"] - case["founded"]
    assert ChaCha20Poly1305(made[:32]).decrypt(made[32:], payload[1:], bound).hex() == case["plain"]


def hkdf(secret: bytes, info: bytes, size: int) -> bytes:
    """HKDF-SHA256 without salt (RFC 5869, section 2)."""
    key = hmac.digest(bytes(32), secret, "sha256")
    made, block = b"", b""
    for counter in range(1, -(-size // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        made += block
    return made[:size]


def checked(message: str, verifying: str, bound: bytes) -> bytes:
    """The payload of a COSE_Sign1 whose Ed25519 signature is good, by hand."""
    protected, _, payload, signature = cbor.decode(bytes.fromhex(message)[1:])
    to_be_signed = b"\x84\x6aSignature1" + b"".join(_byte_string(part) for part in (protected, bound, payload))
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(verifying))
    key.verify(signature, to_be_signed)
    with pytest.raises(InvalidSignature):
        key.verify(signature, to_be_signed + b"\x00")
    assert isinstance(payload, bytes)
    return payload


def _byte_string(data: bytes) -> bytes:
    if len(data) < 24:
        return bytes([0x40 | len(data)]) + data
    if len(data) < 256:
        return b"\x58" + bytes([len(data)]) + data
    return b"\x59" + len(data).to_bytes(2, "big") + data


def test_the_offer_by_hand() -> None:
    case, of = VECTORS["offer"], bytes.fromhex(VECTORS["offer"]["of"])
    bound = bytes.fromhex(case["context"]["bytes"])
    fields = cbor.decode(checked(case["message"], VECTORS["keys"]["device verifying"], bound))
    parts = [of[at : at + case["part"]] for at in range(0, len(of), case["part"])]
    hashes = b"".join(hashlib.sha256(part).digest() for part in parts)
    assert fields == {1: 1, 10: len(of), 11: case["part"], 12: hashlib.sha256(of).digest(), 13: hashes}
    wanted = offer.read(cose.parse(bytes.fromhex(case["message"])).payload)
    for index, part in enumerate(parts):
        transfer.check(wanted, index, part)
    assert transfer.join(wanted, dict(enumerate(parts))) == of


def test_the_adapter_is_accepted() -> None:
    case = VECTORS["adapter"]
    content = bytes.fromhex(case["content"])
    said = downlink.accept(
        bytes.fromhex(case["message"]),
        fleet=FLEET,
        artifact=ARTIFACT,
        gateways=[bytes.fromhex(VECTORS["keys"]["gateway verifying"])],
        most=len(content),
        current=3,
        now=1_900_000_000.0,
    )
    assert (said.version, said.issued, said.expires) == (case["version"], case["issued"], case["expires"])
    assert said.offer == transfer.offer(content, case["part"])
    table_of = downlink.read_content(content, table())
    assert table_of.joined.astype("<f4").tobytes().hex() == case["decoded [W | b] (float32 LE)"]
    former = bytes.fromhex(case["message of number 1, as earlier versions kept it"])
    assert downlink.former_content(former) == content


def test_the_receipts_are_accepted() -> None:
    gateway = bytes.fromhex(VECTORS["keys"]["gateway verifying"])
    for word in VECTORS["receipts"]:
        accepted = receipt.accept(
            bytes.fromhex(word["message"]), fleet=FLEET, device=DEVICE, artifact=ARTIFACT, gateways=[gateway]
        )
        digest = hashlib.sha256(bytes.fromhex(word["answers"])).digest()[:16]
        assert accepted == Receipt(
            word["sequence"], Refusal(word["status"]), word["version"], digest, word["time"], tuple(word["wanted"])
        )


@pytest.mark.parametrize("case", VECTORS["tokenizer"]["texts"], ids=lambda case: ascii(case["text"][:20]))
def test_tokenizer(case: dict[str, Any]) -> None:
    tokenizer = Tokenizer(VECTORS["tokenizer"]["vocabulary"], VECTORS["tokenizer"]["tokens"])
    assert tokenizer.encode(case["text"]).tolist() == case["ids"]
