"""Enrolment format 3: the root key and its fleet record; as a file and as a QR code."""

import contextlib
import dataclasses
import json
import tracemalloc
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any

import base45
import pytest
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from protocol_kit import DEVICE, FLEET, seed
from trust_kit import GATEWAY, NEXT, NOW, ROOT, STRANGER, key, record

from tasuki.aggregator import certificates, qr
from tasuki.sdk import certificate_request, enrolment, fleet_record
from tasuki.sdk.enrolment import Enrolment, Tls
from tasuki.sdk.envelope import HYBRID, X25519
from tasuki.sdk.errors import InputError, KeyInvalid, Refused, StateUnwritable

ONE = record()
MESSAGE = fleet_record.issue(ONE, ROOT)
GOOD = Enrolment(
    FLEET, DEVICE, "127.0.0.1", 1883, ONE.artifacts[0], ONE.signing, HYBRID, ONE.sealing[HYBRID],
    root=ROOT.public, record=MESSAGE,
)  # fmt: skip
FULL = dataclasses.replace(
    GOOD, host="broker.example", tls=Tls("ca", "certificate"), token="open sesame", join=seed("one time")
)


def fields(made: Enrolment = GOOD) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(enrolment.encode(made))
    return found


@pytest.mark.parametrize("made", [GOOD, FULL, dataclasses.replace(FULL, suite=X25519, sealing=ONE.sealing[X25519])])
def test_it_comes_back_from_the_file_and_from_the_text(made: Enrolment) -> None:
    assert fields(made)["format"] == 3
    assert enrolment.decode(enrolment.encode(made)) == made
    assert enrolment.decode(enrolment.encode_text(made).encode()) == made
    assert enrolment.decode(enrolment.encode_text(made).encode() + b"\r\n") == made
    assert enrolment.record_of(made) == ONE
    shown = repr(made)
    assert "sesame" not in shown
    assert repr(seed("one time")) not in shown


def test_the_gateways_keys_are_those_of_the_record_alone() -> None:
    assert not {"gateway", "sealing", "artifact"} & set(fields())
    made = enrolment.decode(json.dumps({**fields(), "gateway": b64encode(STRANGER.public).decode()}).encode())
    assert made.gateway == GATEWAY.public


def test_a_newer_record_brings_newer_keys() -> None:
    newer = dataclasses.replace(ONE, version=3, signing=NEXT.public, sealing={HYBRID: ONE.sealing[HYBRID]})
    message = fleet_record.issue(newer, ROOT)
    made = enrolment.with_record(GOOD, message)
    assert (made.gateway, made.record, enrolment.record_of(made)) == (NEXT.public, message, newer)
    assert enrolment.decode(enrolment.encode(made)) == made
    with pytest.raises(KeyInvalid, match="suite 1"):
        enrolment.with_record(dataclasses.replace(GOOD, suite=X25519), message)
    with pytest.raises(Refused, match="bad signature"):
        enrolment.with_record(GOOD, fleet_record.issue(newer, STRANGER))
    with pytest.raises(KeyInvalid, match="enrol anew"):
        enrolment.with_record(dataclasses.replace(GOOD, root=None, record=None), message)


def test_the_root_has_to_be_the_makers_key() -> None:
    enrolment.check_root(GOOD, ROOT.public)
    with pytest.raises(KeyInvalid, match="not the maker's"):
        enrolment.check_root(GOOD, STRANGER.public)
    with pytest.raises(KeyInvalid, match="no root"):
        enrolment.check_root(dataclasses.replace(GOOD, root=None, record=None), ROOT.public)


def text(raw: bytes) -> str:
    return b64encode(raw).decode()


@pytest.mark.parametrize(
    "changed",
    [
        {"root": None}, {"root": ""}, {"root": text(bytes(5))}, {"root": text(STRANGER.public)}, {"root": "!"},
        {"record": None}, {"record": ""}, {"record": text(b"x")}, {"record": text(MESSAGE[:-1])},
        {"record": text(fleet_record.announce(MESSAGE, GATEWAY))}, {"fleet": "ash"}, {"suite": 3},
        {"join": ""}, {"join": text(bytes(31))}, {"join": 1}, {"tls": {"ca": "ca", "certificate": None, "key": "k"}},
        {"tls": {"ca": "ca", "certificate": None, "key": None}}, {"tls": {"ca": "ca"}},
        {"token": "x", "broker": {"host": "broker.example", "port": 1}}, {"format": 2}, {"format": 1},
    ],
    ids=lambda changed: str(changed)[:40],
)  # fmt: skip
def test_each_bad_field_is_named(changed: dict[str, Any]) -> None:
    with pytest.raises(KeyInvalid, match="tasuki gateway enrol"):
        enrolment.decode(json.dumps({**fields(), **changed}).encode())


@pytest.mark.parametrize("missing", ["root", "record", "fleet", "device", "broker", "suite", "tls"])
def test_no_field_may_be_missing(missing: str) -> None:
    made = fields()
    del made[missing]
    with pytest.raises(KeyInvalid):
        enrolment.decode(json.dumps(made).encode())


def test_a_one_time_token_needs_a_record() -> None:
    with pytest.raises(KeyInvalid, match="record"):
        enrolment.encode(dataclasses.replace(GOOD, root=None, record=None, join=bytes(32)))


def test_how_old_the_record_is_does_not_matter_on_disk() -> None:
    """A device that was enrolled in time goes on."""
    old = dataclasses.replace(ONE, expires=1)
    made = dataclasses.replace(GOOD, record=fleet_record.issue(old, ROOT))
    assert enrolment.decode(enrolment.encode(made)) == made
    with pytest.raises(Refused, match="expired"):
        fleet_record.accept(made.record or b"", ROOT.public, FLEET, NOW)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_qr_code_is_written_for_its_owner_only(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"kitchen.{kind}"
    assert qr.write(path, GOOD) == len(enrolment.encode_text(GOOD))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes()[:5] == {"png": b"\x89PNG\r", "svg": b"<?xml"}[kind]


def photographed(path: Path) -> bytes:
    """What an independent decoder, ZXing, reads in the picture."""
    with Image.open(path) as picture:
        (found,) = zxingcpp.read_barcodes(picture.convert("L"))
    assert found.format == zxingcpp.BarcodeFormat.QRCode
    return bytes(found.bytes)


@pytest.mark.parametrize("made", [GOOD, FULL, dataclasses.replace(FULL, device="d" * 32)], ids=["plain", "all", "long"])
def test_an_independent_decoder_reads_the_qr_code(made: Enrolment, tmp_path: Path) -> None:
    path = tmp_path / "kitchen.png"
    qr.write(path, made)
    content = photographed(path)
    assert content == enrolment.encode_text(made).encode()
    assert enrolment.decode(content) == made


def real_tls(folder: Path, own_key: bool) -> Tls:
    certificates.make_authority(folder, FLEET)
    authority = (folder / "ca.crt").read_text()
    if own_key:
        certificate, _ = certificates.certify(folder, certificate_request.make(DEVICE, key("device")), DEVICE)
        return Tls(authority, certificate)
    return Tls(authority, *certificates.issue(folder, DEVICE))


def test_what_fits_in_a_qr_code(tmp_path: Path) -> None:
    """An enrolment with real certificates; and what does not fit says so."""
    for own_key in (True, False):
        folder = tmp_path / str(own_key)
        folder.mkdir()
        made = dataclasses.replace(GOOD, host="broker.example", tls=real_tls(folder, own_key), join=seed("one time"))
        qr.write(folder / "kitchen.png", made)
        assert enrolment.decode(photographed(folder / "kitchen.png")) == made
    large = dataclasses.replace(GOOD, host="broker.example", tls=Tls(seed("noise", 3000).hex(), "certificate", "key"))
    with pytest.raises(InputError, match="--token-file"):
        qr.write(tmp_path / "large.png", large)
    assert not (tmp_path / "large.png").exists()
    with pytest.raises(InputError, match="neither"):
        qr.write(tmp_path / "kitchen.jpg", GOOD)
    with pytest.raises(StateUnwritable):
        qr.write(tmp_path / "nowhere" / "kitchen.png", GOOD)


def test_a_text_that_inflates_without_end_is_refused() -> None:
    bomb = b"TASUKI:" + bytes(base45.b45encode(zlib.compress(b" " * 10_000_000)))
    assert len(bomb) < enrolment.MAX_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(KeyInvalid, match="enrolment text"):
            enrolment.decode(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize(
    "words",
    [b"TASUKI:", b"TASUKI:A", b"TASUKI:::::", b"TASUKI:\xff", b"TASUKI:" + bytes(base45.b45encode(b"no deflate"))],
    ids=str,
)
def test_hostile_texts_are_named(words: bytes) -> None:
    with pytest.raises(KeyInvalid):
        enrolment.decode(words)


def test_a_text_that_goes_on_is_refused() -> None:
    deflated = zlib.compress(enrolment.encode(GOOD))
    for content in (deflated + b"more", deflated[:-1]):
        with pytest.raises(KeyInvalid, match="cut, or goes on"):
            enrolment.decode(b"TASUKI:" + bytes(base45.b45encode(content)))


@given(st.data())
@settings(max_examples=100)
def test_changed_enrolments_are_decoded_or_named(data: st.DataObject) -> None:
    """Whatever is decoded, its record is one that this root signed."""
    good = data.draw(st.sampled_from((enrolment.encode(FULL), enrolment.encode_text(FULL).encode())))
    place = data.draw(st.integers(0, len(good) - 1))
    changed = good[:place] + data.draw(st.binary(max_size=8)) + good[place + data.draw(st.integers(0, 8)) :]
    with contextlib.suppress(KeyInvalid):
        found = enrolment.decode(changed)
        assert (enrolment.record_of(found), found.gateway) == (ONE, GATEWAY.public)


def test_the_text_has_only_characters_of_the_alphanumeric_mode() -> None:
    """ISO/IEC 18004, table 5."""
    assert set(enrolment.encode_text(FULL)) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")
