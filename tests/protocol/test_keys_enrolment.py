"""Keys and enrolment on disk, and the names that topics are made of."""

import contextlib
import dataclasses
import json
import os
import stat
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from protocol_kit import ARTIFACT, seed, signing
from trust_kit import p256

from tasuki.aggregator import fleet
from tasuki.sdk import enrolment, keys, sealing, topics
from tasuki.sdk.enrolment import Enrolment, Tls
from tasuki.sdk.envelope import HYBRID, SUITES, X25519
from tasuki.sdk.errors import InputError, KeyInvalid, Refused

GATEWAY = signing("gateway").public
GOOD = Enrolment("oak", "kitchen", "127.0.0.1", 1883, ARTIFACT, GATEWAY, X25519, seed("any x25519 point"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_keys_are_readable_by_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.signing_key(tmp_path / "device.key")
        keys.make_sealing(tmp_path)
    finally:
        os.umask(before)
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == dict.fromkeys(
        ("device.key", "sealing-x25519.pem", "sealing-hybrid-mlkem768.pem", "sealing-hybrid-x25519.pem"),
        0o600,
    )


def test_the_signing_key_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    first = keys.signing_key(path).public
    assert keys.signing_key(path).public == first


@pytest.mark.parametrize("suite", SUITES)
def test_sealing_keys_survive_the_disk_and_the_wire(suite: int, tmp_path: Path) -> None:
    keys.make_sealing(tmp_path)
    raw = keys.sealing_public_bytes(tmp_path)
    assert {name: len(data) for name, data in raw.items()} == {X25519: 32, HYBRID: 1184 + 32}
    sealed = SUITES[suite].encrypt(b"secret", sealing.sealing_public(suite, raw[suite]), info=b"x")
    assert SUITES[suite].decrypt(sealed, keys.load_sealing(tmp_path)[suite], info=b"x") == b"secret"


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_key_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    path.write_bytes(content)
    with pytest.raises(KeyInvalid, match=r"device\.key"):
        keys.signing_key(path)


def test_a_key_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    for other in (X25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)):
        path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(KeyInvalid, match=r"device\.key"):
            keys.load_signing(path)
    other_curve = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(other_curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(KeyInvalid, match="secp384r1"):
        keys.load_signing(path)
    with pytest.raises(KeyInvalid, match="can't be read"):
        keys.load_signing(tmp_path / "absent.key")


def test_swapped_sealing_keys_are_named(tmp_path: Path) -> None:
    keys.make_sealing(tmp_path)
    (tmp_path / "sealing-hybrid-mlkem768.pem").write_bytes((tmp_path / "sealing-x25519.pem").read_bytes())
    with pytest.raises(KeyInvalid):
        keys.load_sealing(tmp_path)


@pytest.mark.parametrize(
    ("suite", "raw"),
    [(X25519, b""), (X25519, bytes(31)), (HYBRID, bytes(1215)), (HYBRID, b"\xff" * 1216), (3, bytes(32))],
)
def test_a_bad_public_key_is_named(suite: int, raw: bytes) -> None:
    with pytest.raises(KeyInvalid):
        sealing.sealing_public(suite, raw)


def test_nothing_half_written_is_left_under_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "device.key"
    path.write_bytes(b"old")

    def cut(_: int) -> None:
        raise OSError("power")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="power"):
        keys.write_private(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("tls", [None, Tls("ca", "certificate", "key")])
def test_an_enrolment_comes_back(tls: Tls | None) -> None:
    given_ = Enrolment(**{**GOOD.__dict__, "tls": tls})
    assert enrolment.decode(enrolment.encode(given_)) == given_


def fields() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(enrolment.encode(GOOD))
    return made


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 0}, {"format": 3}, {"format": 4}, {"format": True}, {"format": "1"},
        {"fleet": "Oak"}, {"fleet": "oak/+"}, {"fleet": ""}, {"fleet": "o" * 33},
        {"device": "#"}, {"device": 5}, {"fleet": ["oak"]},
        {"broker": {}}, {"broker": {"host": "", "port": 1883}}, {"broker": {"host": "h", "port": 0}},
        {"broker": {"host": "h", "port": 65536}}, {"broker": {"host": "h", "port": "1883"}},
        {"broker": {"host": "h", "port": True}}, {"broker": []},
        {"artifact": "00"}, {"artifact": "zz" * 32}, {"artifact": 1},
        {"gateway": b64encode(p256("gateway").public).decode()}, {"gateway": "AAAA"},
        {"gateway": "!"}, {"gateway": None},
        {"suite": 0}, {"suite": 3}, {"suite": True}, {"suite": [1]}, {"suite": HYBRID},
        {"sealing": ""}, {"sealing": "é"}, {"tls": {}}, {"tls": []},
        {"token": "secret"}, {"token": None},
    ],
    ids=str,
)  # fmt: skip
def test_each_bad_field_of_an_enrolment_is_named(changed: dict[str, Any]) -> None:
    with pytest.raises(KeyInvalid, match="tasuki gateway enrol"):
        enrolment.decode(json.dumps({**fields(), **changed}).encode())


TLS = Tls("ca", "certificate", "key")
TOKEN = dataclasses.replace(GOOD, token="open sesame")


@pytest.mark.parametrize(
    "made",
    [
        TOKEN,
        dataclasses.replace(TOKEN, host="localhost"),
        dataclasses.replace(TOKEN, host="127.8.9.1"),
        dataclasses.replace(TOKEN, host="::1"),
        dataclasses.replace(TOKEN, host="broker.example", tls=TLS),
        dataclasses.replace(TOKEN, host="broker.example", tls=Tls("ca")),
        dataclasses.replace(TOKEN, token="x"),
        dataclasses.replace(TOKEN, token="ü" * 1024),
    ],
    ids=str,
)
def test_a_token_comes_back_as_format_2(made: Enrolment) -> None:
    data = enrolment.encode(made)
    assert json.loads(data)["format"] == 2
    assert enrolment.decode(data) == made
    assert repr(made) == repr(dataclasses.replace(made, token="another")), "a log must not tell it"


def test_without_a_token_format_1_is_written_as_ever() -> None:
    """A device of an older version reads it: no key is new."""
    assert fields()["format"] == 1
    assert set(fields()) == {
        "format", "fleet", "device", "broker", "artifact", "gateway", "suite", "sealing", "tls",
    }  # fmt: skip


def test_format_2_may_leave_the_token_out() -> None:
    for more in ({}, {"token": None}):
        assert enrolment.decode(json.dumps({**fields(), "format": 2, **more}).encode()) == GOOD


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"token": ""}, "printable"), ({"token": "x" * 1025}, "printable"), ({"token": "a\nb"}, "printable"),
        ({"token": "a\0"}, "printable"), ({"token": 5}, "printable"), ({"token": ["x"]}, "printable"),
        ({"token": "\ud800"}, "printable"),
        ({"broker": {"host": "broker.example", "port": 1883}}, "clear"),
        ({"broker": {"host": "192.0.2.1", "port": 1883}}, "clear"),
        ({"broker": {"host": "127.0.0.1.example", "port": 1883}}, "clear"),
        ({"tls": {"ca": "ca", "certificate": "c", "key": None}}, "without"),
        ({"tls": {"ca": "ca"}}, "certificate"),
        ({"token": None, "tls": {"ca": "ca", "certificate": None, "key": None}}, "neither"),
    ],
    ids=str,
)  # fmt: skip
def test_each_token_that_can_not_be_used_is_named(changed: dict[str, Any], says: str) -> None:
    made = json.loads(enrolment.encode(TOKEN))
    with pytest.raises(KeyInvalid, match=says) as caught:
        enrolment.decode(json.dumps({**made, **changed}).encode())
    assert "sesame" not in str(caught.value)


def test_what_could_not_be_read_is_not_written() -> None:
    for wrong in (
        dataclasses.replace(TOKEN, host="broker.example"),
        dataclasses.replace(TOKEN, token=""),
        dataclasses.replace(GOOD, tls=Tls("ca")),
        dataclasses.replace(GOOD, tls=Tls("ca", "certificate")),
    ):
        with pytest.raises(KeyInvalid):
            enrolment.encode(wrong)


def test_the_gateway_enrols_with_a_token_instead_of_a_certificate(tmp_path: Path, tiny_artifact: Path) -> None:
    held_out = tmp_path / "texts.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    public = signing("device").public
    fleet.init(tmp_path / "oak", "oak", tiny_artifact, held_out, "broker.example", 8883, tls=True)
    made = fleet.enrol(tmp_path / "oak", "kitchen", public, token="open sesame")
    assert made.tls == Tls((tmp_path / "oak" / "tls" / "ca.crt").read_text())
    assert enrolment.decode(enrolment.encode(made)) == made
    assert fleet.enrol(tmp_path / "oak", "kitchen", public).token is None
    fleet.init(tmp_path / "ash", "ash", tiny_artifact, held_out, "broker.example", 1883)
    with pytest.raises(KeyInvalid, match="clear"):
        fleet.enrol(tmp_path / "ash", "kitchen", public, token="open sesame")
    other = signing("another device").public
    assert fleet.enrol(tmp_path / "ash", "kitchen", other), "the name was not spent on what can't be used"


@pytest.mark.parametrize(
    "missing", ["format", "fleet", "device", "broker", "artifact", "gateway", "suite", "sealing", "tls"]
)
def test_no_field_of_an_enrolment_may_be_missing(missing: str) -> None:
    made = fields()
    del made[missing]
    with pytest.raises(KeyInvalid):
        enrolment.decode(json.dumps(made).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"1",
        b"\xff",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b" " * (65 << 10),
        b"9" * 5000,
    ],
)
def test_hostile_enrolment_files_are_named(data: bytes) -> None:
    with pytest.raises(KeyInvalid):
        enrolment.decode(data)


@given(st.data())
def test_changed_enrolments_are_decoded_or_named(data: st.DataObject) -> None:
    changed = bytearray(enrolment.encode(data.draw(st.sampled_from((GOOD, TOKEN)))))
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    with contextlib.suppress(KeyInvalid):
        enrolment.decode(bytes(changed))


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "A", "ä", "a b", "a\n", "-a", "_a", "a" * 33, "a\x00"])
def test_no_name_reaches_another_topic(name: str) -> None:
    with pytest.raises(InputError):
        topics.checked_name(name, "device")


def test_topics() -> None:
    for name in ("a", "kitchen-2", "0_1", "z" * 32):
        assert topics.checked_name(name, "device") == name
    assert topics.up("oak", "kitchen") == "tasuki/oak/up/kitchen"
    assert topics.receipts("oak", "kitchen") == "tasuki/oak/receipt/kitchen"
    assert topics.adapter("oak") == "tasuki/oak/adapter"
    assert topics.record("oak") == "tasuki/oak/record"
    assert topics.join("oak", "kitchen") == "tasuki/oak/join/kitchen"
    assert topics.status("oak", "kitchen") == "tasuki/oak/status/kitchen"
    assert topics.part_up("oak", "kitchen", 7, 0) == "tasuki/oak/up/kitchen/7/0"
    assert topics.part_down("oak", 3, 12) == "tasuki/oak/adapter/3/12"
    assert topics.read("tasuki/oak/up/kitchen", "oak") == ("up", "kitchen", 0, None)
    assert topics.read("tasuki/oak/join/kitchen", "oak") == ("join", "kitchen", 0, None)
    assert topics.read("tasuki/oak/up/kitchen/7/0", "oak") == ("up", "kitchen", 7, 0)
    assert topics.read("tasuki/oak/adapter/3/12", "oak") == ("adapter", "", 3, 12)
    assert topics.read("tasuki/oak/record", "oak") == ("record", "", 0, None)


@pytest.mark.parametrize(
    "topic",
    [
        "", "tasuki", "tasuki/oak", "tasuki/ash/up/kitchen", "tasuki/oak/up", "tasuki/oak/up/", "tasuki/oak/up/+",
        "tasuki/oak/up/Kitchen", "tasuki/oak/up/kitchen/7", "tasuki/oak/up/kitchen/7/-1", "tasuki/oak/up/kitchen/07/1",
        "tasuki/oak/up/kitchen/7/1/2", "tasuki/oak/up/kitchen/\u0667/1", "/tasuki/oak/up/kitchen",
        "tasuki/oak/down/kitchen",
        "tasuki/oak/adapter/1", "tasuki/oak/record/1",
    ],
)  # fmt: skip
def test_another_topic_is_malformed(topic: str) -> None:
    with pytest.raises(Refused, match="malformed"):
        topics.read(topic, "oak")
