"""`tasuki key`, `tasuki sign` and `tasuki inspect --verify`, in one process."""

import json
from pathlib import Path

import artifact_kit as kit
import click
import pytest

from tasuki.converter import pack
from tasuki.converter.sign_cli import key, sign
from tasuki.sdk import artifact
from tasuki.sdk.errors import (
    ArtifactCorrupt,
    ArtifactForged,
    ArtifactMissing,
    ArtifactUnsigned,
    InputError,
    KeyInvalid,
)
from tasuki.sdk.inspect_cli import inspect


def run(command: click.Command, *words: object) -> None:
    command.main([str(word) for word in words], standalone_mode=False)


@pytest.fixture
def lamp(tmp_path: Path) -> Path:
    path = tmp_path / "lamp.tflite"
    about = kit.about(accuracy={"\x1b[2Junseen": 0.5}, notes={"seed": 7, "who": "\ud800\u202e\x07"})
    pack.write(path, pack.pack(kit.MODEL, kit.parts(), about))
    return path


@pytest.fixture
def signing(tmp_path: Path) -> Path:
    run(key, tmp_path / "signing.pem")
    return tmp_path / "signing.pem"


def test_a_key_is_made_once_and_for_its_owner(signing: Path) -> None:
    public = signing.with_suffix(".pub")
    assert signing.stat().st_mode & 0o777 == 0o600
    assert public.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert len(artifact.trusted_key(public).public_bytes_raw()) == 32
    before = signing.read_bytes(), public.read_bytes()
    with pytest.raises(InputError, match="never overwritten"):
        run(key, signing)
    signing.unlink()
    with pytest.raises(InputError, match="never overwritten"):
        run(key, signing)
    assert (before[1], signing.exists()) == (public.read_bytes(), False)
    with pytest.raises(InputError):
        run(key, signing.parent / "other.pub")
    with pytest.raises(InputError, match="can't be written"):
        run(key, signing.parent / "nowhere" / "signing.pem")


def test_sign_and_verify(lamp: Path, signing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = signing.with_suffix(".pub")
    with pytest.raises(ArtifactUnsigned):
        run(inspect, lamp, "--verify", public)
    capsys.readouterr()
    run(sign, lamp, "--key", signing, "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["sha256"] == artifact.load(lamp).hash.hex()
    run(inspect, lamp, "--verify", public, "--json")
    figures = json.loads(capsys.readouterr().out)
    assert (figures["signature"], figures["signed_by"]) == ("verified", told["signed_by"])
    assert figures["conformal"] == [[0.05, 0.9], [0.1, 0.5]]
    once = lamp.read_bytes()
    run(sign, lamp, "--key", signing)
    assert lamp.read_bytes() == once
    lamp.write_bytes(pack.sign(once, kit.OTHER_KEY))
    with pytest.raises(ArtifactForged):
        run(inspect, lamp, "--verify", public)


def test_what_can_not_be_signed(lamp: Path, signing: Path) -> None:
    with pytest.raises(ArtifactMissing):
        run(sign, lamp.with_name("no.tflite"), "--key", signing)
    with pytest.raises(KeyInvalid):
        run(sign, lamp, "--key", signing.with_suffix(".pub"))
    with pytest.raises(KeyInvalid):
        run(inspect, lamp, "--verify", signing)
    cut = lamp.read_bytes()[:-1]
    lamp.write_bytes(cut)
    with pytest.raises(ArtifactCorrupt):
        run(sign, lamp, "--key", signing)
    assert lamp.read_bytes() == cut


def test_inspect_shows_every_field_and_no_control_character(lamp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(inspect, lamp)
    shown = capsys.readouterr().out
    for name, value in artifact.load(lamp).manifest.items():
        assert name.replace("_", " ") in shown
        if isinstance(value, str):
            assert value in shown
    for words in ("p==1", "ab" * 32, "MIT", "somebody/something", "estimators", "depth 2, output 1, width 2",
                  "none", "off, on", "0.05, 0.9; 0.1, 0.5", "vocab.txt"):  # fmt: skip
        assert words in shown, words
    assert all(character.isprintable() or character == "\n" for character in shown)
