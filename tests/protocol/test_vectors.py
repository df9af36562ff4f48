"""The vectors of SPEC.md: this library makes them, opens them, and an independent implementation agrees."""

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
from protocol_kit import ARTIFACT, DEVICE, FLEET, LABELS, WIDTH, context, head, sealing, signing

from tasuki.sdk import cbor, cose, downlink, envelope, receipt, update
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.receipt import Receipt
from tasuki.sdk.tokenizer import Tokenizer

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS: dict[str, Any] = json.loads((FOLDER / "protocol-1.json").read_text())
SEALED: dict[str, Any] = json.loads((FOLDER / "sealed-1.json").read_text())
REASONS = {reason.word: reason for reason in Refusal}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_vectors", FOLDER / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_library_still_makes_these_bytes(script: ModuleType) -> None:
    assert script.text(script.build()) == (FOLDER / "protocol-1.json").read_text()


@pytest.mark.parametrize("name", SEALED["messages"])
def test_what_an_earlier_version_sealed_still_opens(name: str) -> None:
    recorded = SEALED["messages"][name]
    message, suite = bytes.fromhex(recorded["message"]), recorded["suite"]
    bound = context(suite)
    payload = envelope.authenticate(cose.parse(message), bound, signing("device").public_key())
    plain = envelope.decrypt(payload, bound, sealing("gateway", suite))
    assert plain.hex() == SEALED["update"] == VECTORS["update"]["bytes"]
    assert update.decode(plain, LABELS, WIDTH).samples == VECTORS["update"]["samples"]


def test_the_head_decodes_to_these_floats() -> None:
    decoded = update.decode(bytes.fromhex(VECTORS["update"]["bytes"]), LABELS, WIDTH).delta
    assert decoded.weight.astype("<f4").tobytes().hex() == VECTORS["head"]["decoded weight (float32 LE)"]
    assert decoded.bias.astype("<f4").tobytes().hex() == VECTORS["head"]["decoded bias (float32 LE)"]
    step = np.abs(head().weight).max(1, keepdims=True) / 127
    assert (np.abs(decoded.weight - head().weight) <= step * 0.5001).all()


def test_the_envelope_opens_with_nothing_of_ours() -> None:
    """COSE by hand (RFC 9052, section 4.4) and HPKE by the oracle."""
    keys, bound = VECTORS["keys"], bytes.fromhex(VECTORS["context"]["bytes"])
    message = bytes.fromhex(VECTORS["envelope"]["message"])
    protected, _, payload, signature = cbor.decode(message[1:])
    to_be_signed = b"\x84\x6aSignature1" + b"".join(_byte_string(part) for part in (protected, bound, payload))
    verifying = Ed25519PublicKey.from_public_bytes(bytes.fromhex(keys["device verifying"]))
    verifying.verify(signature, to_be_signed)
    with pytest.raises(InvalidSignature):
        verifying.verify(signature, to_be_signed + b"\x00")
    assert payload.hex() == VECTORS["envelope"]["sealed"]
    recipient = X25519PrivateKey.from_private_bytes(bytes.fromhex(keys["gateway sealing (X25519)"]))
    assert hpke_oracle.open_x25519(payload, recipient, bound).hex() == VECTORS["update"]["bytes"]


def _byte_string(data: bytes) -> bytes:
    if len(data) < 24:
        return bytes([0x40 | len(data)]) + data
    if len(data) < 256:
        return b"\x58" + bytes([len(data)]) + data
    return b"\x59" + len(data).to_bytes(2, "big") + data


def test_the_adapter_and_the_receipts_are_accepted() -> None:
    gateway = Ed25519PublicKey.from_public_bytes(bytes.fromhex(VECTORS["keys"]["gateway verifying"]))
    adapter = VECTORS["adapter"]
    made = downlink.accept(
        bytes.fromhex(adapter["message"]),
        fleet=FLEET,
        artifact=ARTIFACT,
        labels=LABELS,
        width=WIDTH,
        gateway=gateway,
        current=3,
        now=1_900_000_000.0,
    )
    assert (made.version, made.expires) == (adapter["version"], adapter["expires"])
    for word in VECTORS["receipts"]:
        accepted = receipt.accept(
            bytes.fromhex(word["message"]), fleet=FLEET, device=DEVICE, artifact=ARTIFACT, gateway=gateway
        )
        assert accepted == Receipt(word["sequence"], Refusal(word["status"]), word["version"])


@pytest.mark.parametrize("case", VECTORS["refused updates"], ids=lambda case: case["name"])
def test_refused_updates(case: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        update.decode(bytes.fromhex(case["bytes"]), LABELS, WIDTH)
    assert caught.value.reason is REASONS[case["reason"]]


@pytest.mark.parametrize("case", VECTORS["tokenizer"]["texts"], ids=lambda case: ascii(case["text"][:20]))
def test_tokenizer(case: dict[str, Any]) -> None:
    tokenizer = Tokenizer(VECTORS["tokenizer"]["vocabulary"], VECTORS["tokenizer"]["tokens"])
    assert tokenizer.encode(case["text"]).tolist() == case["ids"]
