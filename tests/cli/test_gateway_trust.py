"""`tasuki gateway init`, `enrol`, `revoke`, `rotate` and `record`, and `tasuki device request`, in one process."""

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasuki.aggregator import fleet
from tasuki.aggregator.cli import gateway
from tasuki.aggregator.ledger import Ledger
from tasuki.converter.sign_cli import key, sign
from tasuki.sdk import enrolment, fleet_record, keys
from tasuki.sdk.device_enrol_cli import read, request
from tasuki.sdk.errors import InputError, KeyInvalid, Refused, StateUnwritable

Tell = Callable[..., dict[str, Any]]
DEVICE = keys.make_signing()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Run a command with --json; what it printed."""

    def run(*words: object, command: Any = gateway) -> dict[str, Any]:
        capsys.readouterr()
        command.main([*map(str, words), "--json"], standalone_mode=False)
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root.txt").write_text("root word\n")
    key.main([str(tmp_path / "root.pem"), "--key-password-file", str(tmp_path / "root.txt")], standalone_mode=False)
    return tmp_path / "root.pem"


@pytest.fixture
def folder(tmp_path: Path, root: Path, tiny_artifact: Path, tell: Tell) -> Path:
    """A fleet with TLS, whose keys and whose root have passwords of their own."""
    (tmp_path / "held-out.jsonl").write_text('{"text": "turn on the light", "label": "light_on"}\n')
    (tmp_path / "word.txt").write_text("gateway word\n")
    told = tell(
        "init", tmp_path / "oak", "--fleet", "oak", "--artifact", tiny_artifact, "--held-out",
        tmp_path / "held-out.jsonl", "--host", "broker.example", "--port", 8883, "--tls", *words(tmp_path, root),
    )  # fmt: skip
    assert told["root_key"] == keys.public_key(root.with_suffix(".pub").read_text()).hex()
    return tmp_path / "oak"


def words(tmp_path: Path, root: Path | None = None) -> list[object]:
    own: list[object] = ["--key-password-file", tmp_path / "word.txt"]
    if root is None:
        return own
    return [*own, "--root-key", root, "--root-password-file", tmp_path / "root.txt"]


def test_the_root_key_signs_artifacts_too(root: Path, tiny_artifact: Path, tmp_path: Path, tell: Tell) -> None:
    assert b"ENCRYPTED" in root.read_bytes()
    copy = tmp_path / "lamp.tflite"
    copy.write_bytes(tiny_artifact.read_bytes())
    told = tell(copy, "--key", root, "--key-password-file", tmp_path / "root.txt", command=sign)
    assert told["signed_by"] == keys.public_key(root.with_suffix(".pub").read_text()).hex()
    with pytest.raises(KeyInvalid, match="encrypted"):
        tell(copy, "--key", root, command=sign)


def test_without_a_root_key_init_warns(tmp_path: Path, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    said = ["init", tmp_path / "oak", "--fleet", "oak", "--artifact", tiny_artifact, "--held-out", held_out]
    gateway.main([*map(str, said), "--json"], standalone_mode=False)
    shown = capsys.readouterr()
    assert "move it off this machine" in shown.err
    assert json.loads(shown.out)["root_key"] == keys.load_signing(tmp_path / "oak" / "root" / "root.pem").public.hex()


def test_enrol_by_key_with_a_picture(folder: Path, tmp_path: Path, tell: Tell) -> None:
    file, picture = tmp_path / "kitchen.json", tmp_path / "kitchen.png"
    told = tell("enrol", folder, "kitchen", "--key", DEVICE.public.hex(), "-o", file, "--qr", picture, *words(tmp_path))
    assert (told["device"], told["file"], told["qr"]) == ("kitchen", str(file), str(picture))
    assert picture.stat().st_mode & 0o777 == 0o600
    made = enrolment.decode(read(file))
    assert (made.device, made.host) == ("kitchen", "broker.example")
    text = tmp_path / "scanned.txt"
    text.write_text(enrolment.encode_text(made) + "\n")
    assert enrolment.decode(read(text)) == made


def test_enrol_by_request(folder: Path, tmp_path: Path, tell: Tell) -> None:
    state, file = tmp_path / "state", tmp_path / "kitchen.csr"
    told = tell("kitchen", "--state", state, "-o", file, "--algorithm", "es256", command=request)
    again = tell("kitchen", "--state", state, "-o", file, command=request)
    assert told["public_key"] == again["public_key"] == keys.load_signing(state / "device.key").public.hex()
    out = tmp_path / "kitchen.json"
    tell("enrol", folder, "kitchen", "--csr", file, "-o", out, *words(tmp_path))
    tls = enrolment.decode(out.read_bytes()).tls
    assert tls is not None
    assert tls.certificate is not None
    assert tls.key is None
    assert "PRIVATE KEY" not in out.read_text()
    with pytest.raises(KeyInvalid, match="attic"):
        tell("enrol", folder, "attic", "--csr", file, "-o", out, *words(tmp_path))
    with pytest.raises(KeyInvalid, match="can't be read"):
        tell("enrol", folder, "attic", "--csr", tmp_path / "none", "-o", out, *words(tmp_path))
    with pytest.raises(InputError, match="another algorithm"):
        tell("kitchen", "--state", state, "--algorithm", "eddsa", command=request)
    keys.save(tmp_path / "own.pem", DEVICE.key)
    told = tell("kitchen", "--key", tmp_path / "own.pem", "-o", file, command=request)
    assert told["public_key"] == DEVICE.public.hex()
    with pytest.raises(StateUnwritable):
        tell("kitchen", "--state", state, "-o", tmp_path / "nowhere" / "x.csr", command=request)


def test_enrol_for_one_time(folder: Path, tmp_path: Path, tell: Tell) -> None:
    out = tmp_path / "kitchen.json"
    told = tell("enrol", folder, "kitchen", "--one-time", "--valid", "90m", "-o", out, *words(tmp_path))
    assert told["join_within"] == "90m"
    assert len(b64decode(json.loads(out.read_text())["join"])) == 32
    for wrong in ("", "1", "0h", "1w", "-1h", "1.5h", "1234567s"):
        with pytest.raises(InputError, match="24h"):
            tell("enrol", folder, "attic", "--one-time", "--valid", wrong, "-o", out, *words(tmp_path))


@pytest.mark.parametrize(
    "ways",
    [[], ["--one-time", "--key", DEVICE.public.hex()], ["--csr", "x", "--one-time"], ["--csr", "x", "--key", "y"]],
)
def test_exactly_one_way_to_enrol(folder: Path, tmp_path: Path, tell: Tell, ways: list[str]) -> None:
    with pytest.raises(InputError, match="one of"):
        tell("enrol", folder, "kitchen", *ways, *words(tmp_path))


def test_revoke(folder: Path, tmp_path: Path, tell: Tell) -> None:
    tell("enrol", folder, "kitchen", "--key", DEVICE.public.hex(), "-o", tmp_path / "k.json", *words(tmp_path))
    told = tell("revoke", folder, "kitchen", *words(tmp_path))
    assert told == {
        "revoked": "kitchen", "certificates_in_list": 1, "list": str(folder / "tls" / "revoked.crl"),
    }  # fmt: skip
    assert tell("status", folder)["revoked"] == ["kitchen"]
    with pytest.raises(InputError, match="no device"):
        tell("revoke", folder, "attic", *words(tmp_path))
    ledger = Ledger(folder / "ledger.db")
    assert ledger.revoked("kitchen")
    ledger.close()


def test_rotate_with_the_root_at_hand(folder: Path, root: Path, tmp_path: Path, tell: Tell) -> None:
    before = tell("status", folder)["record"]
    announced = tell("rotate", folder, "--valid-days", 30, *words(tmp_path, root))
    assert (announced["record"], announced["signing_key"]) == (2, before["signing_key"])
    finished = tell("rotate", folder, "--finish", *words(tmp_path, root))
    assert (finished["record"], finished["signing_key"]) == (3, announced["next_signing_key"])
    assert finished["next_signing_key"] is None
    renewed = tell("rotate", folder, "--renew", *words(tmp_path, root))
    assert tell("status", folder)["record"] == renewed
    assert (renewed["record"], renewed["expires"]) == (4, "never")
    held = fleet.load_keys(folder, lambda: b"gateway word")
    assert held.signer.public.hex() == renewed["signing_key"]


def test_rotate_with_the_root_elsewhere(folder: Path, root: Path, tmp_path: Path, tell: Tell) -> None:
    asked = tell("rotate", folder, *words(tmp_path))
    assert tell("status", folder)["record"]["record"] == 1, "nothing changes before it is signed"
    signed = tmp_path / "record.signed"
    by_root = ["--root-key", root, "--root-password-file", tmp_path / "root.txt"]
    shown = tell("record", "--sign", asked["to_sign"], "-o", signed, *by_root)
    assert {name: value for name, value in asked.items() if name != "to_sign"} == {
        name: value for name, value in shown.items() if name != "signed"
    }
    placed = tell("rotate", folder, "--record", signed, *words(tmp_path))
    assert tell("status", folder)["record"] == placed
    assert placed["next_signing_key"] == asked["next_signing_key"]
    keys.save(tmp_path / "stranger.pem", keys.make_signing().key)
    asked = tell("rotate", folder, "--finish", *words(tmp_path))
    tell("record", "--sign", asked["to_sign"], "-o", signed, "--root-key", tmp_path / "stranger.pem")
    with pytest.raises(Refused, match="bad signature"):
        tell("rotate", folder, "--record", signed, *words(tmp_path))
    assert tell("status", folder)["record"] == placed


def test_what_can_not_be_rotated_or_signed(folder: Path, root: Path, tmp_path: Path, tell: Tell) -> None:
    with pytest.raises(InputError, match="not both"):
        tell("rotate", folder, "--finish", "--renew", *words(tmp_path, root))
    with pytest.raises(InputError, match="announced"):
        tell("rotate", folder, "--finish", *words(tmp_path, root))
    with pytest.raises(KeyInvalid, match="password"):
        tell("rotate", folder, "--root-key", root, *words(tmp_path))
    with pytest.raises(Refused, match="malformed"):
        tell("record", "--sign", root, "--root-key", root)
    large = tmp_path / "large"
    large.write_bytes(bytes((64 << 10) + 1))
    with pytest.raises(KeyInvalid, match="more than"):
        tell("record", "--sign", large, "--root-key", root)
    asked = tell("rotate", folder, *words(tmp_path))
    with pytest.raises(InputError, match="--root-key"):
        tell("record", "--sign", asked["to_sign"])
    with pytest.raises(StateUnwritable):
        tell("record", "--sign", asked["to_sign"], "--root-key", root, "--root-password-file", tmp_path / "root.txt",
             "-o", tmp_path / "nowhere" / "record")  # fmt: skip
    assert fleet_record.decode(Path(asked["to_sign"]).read_bytes()).version == 2
