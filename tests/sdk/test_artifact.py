"""The artifact's reader: every truncation and every altered byte is refused by name, or changes nothing that counts."""

import json
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.sdk import artifact
from tasuki.sdk.errors import ArtifactCorrupt, ArtifactError, ArtifactForeign, ArtifactMissing


def test_reads_what_the_converter_wrote(tiny_artifact: Path) -> None:
    parts = artifact.load(tiny_artifact)
    assert parts.labels == ("light_off", "light_on", "music_play", "music_stop")
    assert (parts.tokens, parts.features, parts.moment.shape) == (8, 16, (17, 17))
    assert parts.model[4:8] == b"TFL3"
    with zipfile.ZipFile(tiny_artifact) as archive:
        assert archive.testzip() is None


def test_every_truncation_is_named(tiny_artifact: Path) -> None:
    data = tiny_artifact.read_bytes()
    cuts = {*range(64), *range(64, len(data), 997), *range(len(data) - 400, len(data))}
    for cut in cuts:
        with pytest.raises(ArtifactError):
            artifact.parse(data[:cut])


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_an_altered_byte_never_changes_the_parts(tiny_artifact: Path, data: st.DataObject) -> None:
    whole = bytearray(tiny_artifact.read_bytes())
    clean = artifact.parse(bytes(whole))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        read = artifact.parse(bytes(whole))
    except ArtifactError:
        return
    # Bytes that nobody reads (dates in the ZIP's directory): the parts are the same, the hash is not.
    assert (read.model, read.manifest, read.vocabulary) == (clean.model, clean.manifest, clean.vocabulary)
    assert read.hash != clean.hash


def test_foreign_files(tmp_path: Path, tiny_artifact: Path) -> None:
    with pytest.raises(ArtifactMissing):
        artifact.load(tmp_path / "nothing.tflite")
    with pytest.raises(ArtifactForeign):
        artifact.parse(b"PK\x03\x04 a zip, but no model")
    with pytest.raises(ArtifactForeign):
        artifact.parse(b"")
    with pytest.raises(ArtifactCorrupt, match="no manifest"):
        artifact.parse(artifact.load(tiny_artifact).model)


def rewritten(path: Path, **members: bytes) -> bytes:
    """The artifact with other members; the model stays."""
    parts = artifact.load(path)
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    stream = BytesIO(parts.model)
    stream.seek(0, 2)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, content in {**kept, **{n.replace("__", "."): c for n, c in members.items()}}.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_members_that_are_not_listed_or_altered_are_refused(tiny_artifact: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match="other members"):
        artifact.parse(rewritten(tiny_artifact, evil__py=b"print()"))
    with pytest.raises(ArtifactCorrupt, match=r"vocab\.txt"):
        artifact.parse(rewritten(tiny_artifact, vocab__txt=b"[PAD]\n[UNK]"))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"labels": ["one"]},
        {"labels": ["a", "a"]},
        {"labels": [1, 2]},
        {"tokens": 0},
        {"tokens": True},
        {"features": 10**9},
        {"temperature": 0},
        {"outputs": {"features": 0, "logits": 0}},
        {"parts": {}},
    ],
)
def test_manifests_that_make_no_sense_are_refused(tiny_artifact: Path, change: dict[str, object]) -> None:
    manifest = {**artifact.load(tiny_artifact).manifest, **change}
    with pytest.raises(ArtifactError):
        artifact.parse(rewritten(tiny_artifact, manifest__json=json.dumps(manifest).encode()))


def test_a_bomb_is_not_inflated(tiny_artifact: Path) -> None:
    stream = BytesIO(artifact.load(tiny_artifact).model)
    stream.seek(0, 2)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * (artifact.MAX_MANIFEST_BYTES + 1))
        archive.writestr("vocab.txt", b"")
        archive.writestr("moment.bin", b"")
    with pytest.raises(ArtifactCorrupt, match="larger than"):
        artifact.parse(stream.getvalue())
