"""What makes the artifact's bytes: the same again, whole or not at all, and nothing that the reader would refuse."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import artifact_kit as kit
import numpy as np
import pytest

from tasuki.converter import pack
from tasuki.sdk import artifact
from tasuki.sdk.errors import ArtifactCorrupt, ConversionError


def test_the_same_parts_give_the_same_bytes() -> None:
    backwards = dict(reversed(kit.about().items()))
    for key in (None, kit.KEY):
        first = pack.pack(kit.MODEL, kit.parts(), kit.about(), key)
        assert pack.pack(kit.MODEL, dict(reversed(kit.parts().items())), backwards, key) == first


def test_signing_later_gives_the_bytes_of_signing_at_once() -> None:
    plain = pack.pack(kit.MODEL, kit.parts(), kit.about())
    signed = pack.pack(kit.MODEL, kit.parts(), kit.about(), kit.KEY)
    assert pack.sign(plain, kit.KEY) == signed != plain
    assert pack.sign(pack.sign(plain, kit.OTHER_KEY), kit.KEY) == signed
    assert artifact.parse(signed).hash != artifact.parse(plain).hash
    with pytest.raises(ArtifactCorrupt, match="lamp"):
        pack.sign(signed[:-1], kit.KEY, "lamp")


def test_the_manifest_lists_the_model_and_every_other_member() -> None:
    data = pack.pack(kit.MODEL, kit.parts(), kit.about(), kit.KEY)
    with ZipFile(BytesIO(data)) as archived:
        names = archived.namelist()
        encoded = archived.read("manifest.json")
        assert {entry.date_time for entry in archived.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert len(archived.read("manifest.sig")) == 64
    assert set(json.loads(encoded)["parts"]) == {"model", *names} - {"manifest.json", "manifest.sig"}
    assert encoded == json.dumps(json.loads(encoded), sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("model", "parts", "about"),
    [
        (b"no model", kit.parts(), kit.about()),
        (kit.MODEL, {**kit.parts(), "evil.py": b""}, kit.about()),
        (kit.MODEL, {**kit.parts(), artifact.MANIFEST: b""}, kit.about()),
        (kit.MODEL, {**kit.parts(), artifact.SIGNATURE: bytes(64)}, kit.about()),
        (kit.MODEL, {}, kit.about()),
        (kit.MODEL, kit.parts(), kit.causal()),
        (kit.MODEL, kit.parts(), kit.about(temperature=float("nan"))),
        (kit.MODEL, kit.parts(), kit.about(temperature=np.float32(1))),
        (kit.MODEL, kit.parts(), kit.about(labels=["a"])),
        (kit.MODEL, {**kit.parts(), artifact.VOCABULARY: b"turn\non"}, kit.about()),
    ],
)
def test_what_the_reader_would_refuse_is_not_made(model: bytes, parts: dict[str, bytes], about: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match="no artifact"):
        pack.pack(model, parts, about)


def test_writing_replaces_whole_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "lamp.tflite"
    pack.write(path, b"first")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        pack.write(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]
