"""The artifact's reader: every truncation and every altered byte is refused by name, or changes nothing that counts."""

import contextlib
import gc
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import artifact_kit as kit
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.converter import pack
from tasuki.sdk import archive, artifact, manifest
from tasuki.sdk.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactForeign,
    ArtifactForged,
    ArtifactMissing,
    ArtifactUnsigned,
    KeyInvalid,
)
from tasuki.sdk.runtime import Body, Outputs

SIGNED = pack.pack(kit.MODEL, kit.parts(), kit.about(), kit.KEY)
PLAIN = pack.pack(kit.MODEL, kit.parts(), kit.about())
TRUSTED = kit.KEY.public_key()


def test_reads_what_the_converter_wrote(tiny_artifact: Path) -> None:
    found = artifact.load(tiny_artifact)
    assert found.labels == ("light_off", "light_on", "music_play", "music_stop")
    assert (found.tokens, found.features, found.moment.shape) == (8, 16, (17, 17))
    assert found.model[4:8] == b"TFL3"
    with zipfile.ZipFile(tiny_artifact) as archived:
        assert archived.testzip() is None


def test_every_field_arrives() -> None:
    found = artifact.parse(SIGNED, trusted=TRUSTED)
    assert (found.model, found.size, found.task, found.pad) == (kit.MODEL, len(SIGNED), "classify", 0)
    assert (found.features, found.depths, found.widths, found.logits) == (5, (2, 4), (2, 3), 2)
    assert found.outputs == Outputs((1, 0), 2)
    assert (found.temperature, found.conformal) == (1.5, ((0.05, 0.9), (0.1, 0.5)))
    assert (found.labels, found.vocabulary, found.tokenizer_json) == (("off", "on"), kit.PIECES, None)
    np.testing.assert_array_equal(found.moment, np.eye(6))
    assert found.signature is not None
    assert found.manifest["origin"][0]["licence"] == "MIT"
    assert list(found.tokenizer().encode("turn off")) == [2, 4, 0, 0, 0, 0, 0, 0]


def test_a_causal_model_has_no_labels_and_no_moment() -> None:
    words = {artifact.VOCABULARY: kit.parts()[artifact.VOCABULARY]}
    found = artifact.parse(pack.pack(kit.MODEL, words, kit.causal()))
    assert (found.task, found.labels, found.logits, found.moment.shape) == ("causal", (), 50_257, (0, 0))


def test_the_kinds_of_adapters_and_what_they_need() -> None:
    found = artifact.parse(PLAIN)
    assert (found.kinds, found.low_rank) == (("bias", "head", "low_rank", "statistics"), (8, 0))
    assert (found.vocabulary_layer, found.vocabulary_bias) == (None, None)
    words = {artifact.VOCABULARY: kit.parts()[artifact.VOCABULARY]}
    found = artifact.parse(pack.pack(kit.MODEL, words, kit.causal(low_rank={"rank": 64, "seed": (1 << 53) - 1})))
    assert (found.kinds, found.low_rank) == (("bias", "low_rank"), (64, (1 << 53) - 1))
    assert (found.vocabulary_layer, found.vocabulary_bias) == (7, 8)
    few = kit.about(adapter_kinds=["bias", "statistics"], low_rank=None)
    found = artifact.parse(pack.pack(kit.MODEL, kit.parts(), few))
    assert (found.kinds, found.low_rank) == (("bias", "statistics"), None)
    found = artifact.parse(pack.pack(kit.MODEL, words, kit.causal(vocabulary={"weight": 7})))
    assert (found.vocabulary_layer, found.vocabulary_bias) == (7, None)


def test_format_2_is_still_read() -> None:
    found = artifact.parse(kit.with_manifest(manifest.write(kit.second_format())))
    assert (found.manifest["format"], found.kinds, found.low_rank) == (2, ("head",), None)
    fields = kit.second_format("causal")
    del fields["parts"][artifact.MOMENT]
    words = {artifact.VOCABULARY: kit.parts()[artifact.VOCABULARY]}
    data = archive.append(kit.MODEL, {artifact.MANIFEST: manifest.write(fields), **words})
    assert artifact.parse(data).kinds == ()


@pytest.mark.parametrize(
    "change",
    [{"adapter_kinds": ["bias", "head"]}, {"adapter_kinds": []}, {"low_rank": {"rank": 8, "seed": 0}},
     {"adapter_kinds": ["head", "low_rank"], "low_rank": {"rank": 8, "seed": 0}}],
)  # fmt: skip
def test_format_2_has_nothing_of_format_3(change: dict[str, Any]) -> None:
    with pytest.raises(ArtifactCorrupt, match="manifest"):
        artifact.parse(kit.with_manifest(manifest.write(kit.second_format(**change))))


def test_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing):
        artifact.load(tmp_path / "nothing.tflite")
    with pytest.raises(ArtifactMissing):
        artifact.load(tmp_path)
    for data in (b"PK\x03\x04 a zip, but no model", b""):
        with pytest.raises(ArtifactForeign):
            artifact.parse(data)
    with pytest.raises(ArtifactCorrupt, match="no manifest"):
        artifact.parse(kit.MODEL)
    with pytest.raises(ArtifactForeign, match="metadata"):
        artifact.parse(kit.zipped([("labels.txt", b"a\nb")]))


@pytest.mark.parametrize(
    ("number", "words"), [(1, "convert the student again"), *((n, "update") for n in (4, "2", 2.0, True, None))]
)
def test_other_formats_say_what_to_do(number: object, words: str) -> None:
    data = kit.with_manifest(json.dumps({"format": number, "unknown": 1}).encode(), other__bin=b"x")
    with pytest.raises(ArtifactForeign, match=words):
        artifact.parse(data)


# --- the file ---------------------------------------------------------------------------------------------


def test_every_truncation_is_named(tiny_artifact: Path) -> None:
    for data in (SIGNED, tiny_artifact.read_bytes()):
        cuts = {*range(64), *range(64, len(data), 997), *range(len(data) - 400, len(data))}
        for cut in cuts:
            with pytest.raises(ArtifactError):
                artifact.parse(data[:cut])


def test_every_altered_byte_of_a_signed_file_is_refused_or_changes_no_part() -> None:
    """Only inside the deflated streams is there more than one way to write the same."""
    clean = artifact.parse(SIGNED)
    streams = set()
    for member in archive.listing(SIGNED):
        start = member.offset + 30 + len(member.name)
        streams |= set(range(start, start + member.packed))
    for place in range(len(SIGNED)):
        for flip in (0x01, 0x80, 0xFF):
            altered = bytearray(SIGNED)
            altered[place] ^= flip
            try:
                read = artifact.parse(bytes(altered), trusted=TRUSTED)
            except ArtifactError:
                continue
            assert place in streams
            same(read, clean)


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
    same(read, clean)
    assert read.hash != clean.hash


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=300, deadline=None)
def test_any_tail_gives_a_refusal(noise: bytes, start: int, end: int) -> None:
    tail = SIGNED[len(kit.MODEL) :]
    altered = kit.MODEL + tail[:start] + noise + tail[len(tail) - end :]
    with contextlib.suppress(ArtifactError):
        same(artifact.parse(altered), artifact.parse(SIGNED))


def same(one: artifact.Artifact, other: artifact.Artifact, model: bool = True) -> None:
    assert (one.manifest, one.vocabulary) == (other.manifest, other.vocabulary)
    assert not model or one.model == other.model
    np.testing.assert_array_equal(one.moment, other.moment)


def members(data: bytes) -> dict[str, bytes]:
    return {m.name: archive.content(data, m, 1 << 20) for m in archive.listing(data)}


def test_any_zip_tool_reads_it_and_no_byte_is_loose() -> None:
    assert kit.zipped(list(members(PLAIN).items()))[: len(kit.MODEL)] == kit.MODEL
    with zipfile.ZipFile(BytesIO(SIGNED)) as archived:
        assert archived.testzip() is None
        assert archived.namelist() == ["manifest.json", "manifest.sig", "vocab.txt", "moment.bin"]
    for altered in (PLAIN + b"\0", kit.MODEL + b"\0" + PLAIN[len(kit.MODEL) :]):
        with pytest.raises(ArtifactCorrupt):
            artifact.parse(altered)


def test_members_that_are_not_listed_or_altered_are_refused() -> None:
    kept = members(PLAIN)
    encoded = kept.pop("manifest.json")
    with pytest.raises(ArtifactCorrupt, match="other members"):
        artifact.parse(kit.with_manifest(encoded, evil__py=b"print()"))
    with pytest.raises(ArtifactCorrupt, match=r"vocab\.txt is not what"):
        artifact.parse(kit.with_manifest(encoded, vocab__txt=b"[PAD]\n[UNK]"))
    with pytest.raises(ArtifactCorrupt, match="other members"):
        artifact.parse(archive.append(kit.MODEL, {"manifest.json": encoded, "vocab.txt": kept["vocab.txt"]}))
    both = kit.with_manifest(encoded, tokenizer__json=b"{}")
    with pytest.raises(ArtifactCorrupt, match="other members"):
        artifact.parse(both)
    with pytest.raises(ArtifactCorrupt, match="order"):
        artifact.parse(archive.append(kit.MODEL, {**dict(reversed(kept.items())), "manifest.json": encoded}))
    altered = PLAIN.replace(b"TFL3\0\1\2", b"TFL3\0\1\3", 1)
    with pytest.raises(ArtifactCorrupt, match="model is not what"):
        artifact.parse(altered)


def test_a_member_that_is_there_twice_is_refused() -> None:
    for doubled in ("manifest.json", "manifest.sig", "vocab.txt"):
        found = members(SIGNED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            data = kit.zipped([*found.items(), (doubled, found[doubled])])
        with pytest.raises(ArtifactCorrupt, match="twice"):
            artifact.parse(data)


def test_zips_in_another_form_are_refused() -> None:
    found = list(members(PLAIN).items())
    for data in (kit.zipped(found, zipfile.ZIP_STORED), kit.zipped(found)):
        with pytest.raises(ArtifactCorrupt, match="prescribed"):
            artifact.parse(data)
    too_many = kit.zipped([(f"{n}", b"") for n in range(17)])
    with pytest.raises(ArtifactCorrupt):
        artifact.parse(too_many)


def test_a_bomb_is_not_inflated() -> None:
    with pytest.raises(ArtifactCorrupt, match="larger than"):
        artifact.parse(kit.with_manifest(b" " * (artifact.MAX_MANIFEST_BYTES + 1)))
    with pytest.raises(ArtifactCorrupt, match="larger than"):
        artifact.parse(kit.with_manifest(members(PLAIN)["manifest.json"], manifest__sig=bytes(65)))


def test_a_size_that_lies_is_found_without_inflating_more() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = bomb.compress(bytes(10 << 20)) + bomb.flush()
    member = archive.Member("vocab.txt", 0, len(packed), 5, 0)
    with pytest.raises(ValueError, match="another size"):
        archive.content(struct.pack("<30x9s", b"vocab.txt") + packed, member, 1 << 20)


# --- mapped -----------------------------------------------------------------------------------------------


def test_a_mapped_file_gives_what_a_read_one_gives(tmp_path: Path) -> None:
    path = tmp_path / "signed.tflite"
    path.write_bytes(SIGNED)
    found, clean = artifact.load(path, TRUSTED, mapped=True), artifact.parse(SIGNED)
    assert (found.hash, found.size, found.manifest, found.vocabulary) == (
        clean.hash, clean.size, clean.manifest, clean.vocabulary
    )  # fmt: skip
    assert isinstance(found.model, os.PathLike)
    assert Path(found.model).read_bytes() == SIGNED


def test_every_refusal_is_the_same_for_a_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "it.tflite"
    with pytest.raises(ArtifactMissing):
        artifact.load(path, mapped=True)
    with pytest.raises(ArtifactMissing):
        artifact.load(tmp_path, mapped=True)
    with pytest.raises(ArtifactForeign):
        artifact.load("/dev/null", mapped=True)
    cuts = [SIGNED[:cut] for cut in range(0, len(SIGNED), 41)]
    flips = [SIGNED[:at] + bytes([SIGNED[at] ^ 0xFF]) + SIGNED[at + 1 :] for at in range(0, len(SIGNED), 7)]
    for data in [*cuts, *flips, PLAIN, pack.sign(SIGNED, kit.OTHER_KEY)]:
        path.write_bytes(data)
        kinds = []
        for mapped in (False, True):
            try:
                same(artifact.load(path, TRUSTED, mapped), artifact.parse(SIGNED), model=False)
                kinds.append("fine")
            except ArtifactError as error:
                kinds.append(f"{type(error).__name__} {error}")
        if data:
            assert kinds[0] == kinds[1]
        else:
            assert all(kind.startswith("ArtifactForeign") for kind in kinds)


def test_a_mapped_file_is_closed_with_the_artifact_and_after_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "it.tflite"

    def held() -> int:
        found = 0
        for link in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                found += str(link.readlink()) == str(path)
        return found

    path.write_bytes(SIGNED)
    parts = artifact.load(path, mapped=True)
    assert held() == 1
    del parts
    gc.collect()
    assert held() == 0
    path.write_bytes(SIGNED[:-1])
    with pytest.raises(ArtifactCorrupt):
        artifact.load(path, mapped=True)
    gc.collect()
    assert held() == 0


def test_what_is_put_in_the_place_of_a_mapped_file_is_not_read(tmp_path: Path, tiny_artifact: Path) -> None:
    path, other = tmp_path / "it.tflite", tmp_path / "other.tflite"
    path.write_bytes(tiny_artifact.read_bytes())
    mapped, read = artifact.load(path, mapped=True), artifact.load(tiny_artifact)
    other.write_bytes(SIGNED)
    other.replace(path)
    ids = read.tokenizer().encode("turn on the light")
    first = Body(mapped.model, mapped.outputs)
    for one, two in zip(first.run(ids), Body(read.model, read.outputs).run(ids), strict=True):
        np.testing.assert_array_equal(one, two)
    path.unlink()
    for one, two in zip(first.run(ids), Body(mapped.model, mapped.outputs).run(ids), strict=True):
        np.testing.assert_array_equal(one, two)


RESIDENT = """
import sys
from pathlib import Path
from tasuki.sdk import artifact
from tasuki.sdk.runtime import Body
def resident(what):
    return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(what))
small, path, mapped = sys.argv[1], sys.argv[2], sys.argv[3] == "mapped"
warm = artifact.load(small, mapped=mapped)
Body(warm.model, warm.outputs).run(warm.tokenizer().encode("turn on"))
before, peak = resident("VmRSS:"), resident("VmHWM:")
parts = artifact.load(path, mapped=mapped)
body = Body(parts.model, parts.outputs)
features, logits = body.run(parts.tokenizer().encode("turn on the light"))
print(resident("VmRSS:") - before, resident("VmHWM:") - peak, logits.tolist())
"""


def test_a_mapped_model_is_not_resident(tmp_path: Path, tiny_artifact: Path) -> None:
    """With 64 MiB that no text touches, as most rows of an embedding are not: here behind the flatbuffer's end."""
    data = tiny_artifact.read_bytes()
    found = members(data)
    fields = json.loads(found.pop("manifest.json"))
    del fields["format"], fields["parts"]
    model = data[: archive.listing(data)[0].offset] + bytes(64 << 20)
    path = tmp_path / "large.tflite"
    path.write_bytes(pack.pack(model, found, fields))
    grown, peaks, answers = {}, {}, {}
    for how in ("mapped", "read"):
        words = [sys.executable, "-c", RESIDENT, tiny_artifact, path, how]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        kib, peak, answers[how] = done.stdout.split(" ", 2)
        grown[how], peaks[how] = int(kib), int(peak)
    assert answers["mapped"] == answers["read"]
    assert grown["read"] > 64 << 10
    assert max(grown["mapped"], peaks["mapped"]) < 8 << 10


# --- the manifest -----------------------------------------------------------------------------------------

DEPTH = {"depth": 1, "width": 5, "output": 0}
SOURCE = kit.about()["origin"][0]
NONSENSE: list[dict[str, Any]] = [
    {"name": ""}, {"name": "\x1b[31m"}, {"name": "x" * 1025}, {"name": 3}, {"task": "translate"}, {"task": []},
    {"tier": "phone"}, {"tokens": 0}, {"tokens": True}, {"tokens": 8.0}, {"tokens": 10**9}, {"pad": -1}, {"pad": 1},
    {"labels": ["one"]}, {"labels": ["a", "a"]}, {"labels": [1, 2]}, {"labels": ["a", "b", "c"]}, {"labels": "ab"},
    {"labels": ["a", "b" * 65]}, {"labels": ["a", "\ud800"]}, {"labels": []},
    {"features": 5}, {"features": []}, {"features": [DEPTH, DEPTH]}, {"features": [{**DEPTH, "output": 2}]},
    {"features": [{**DEPTH, "width": 6}]}, {"features": [{**DEPTH, "width": 0}]}, {"features": [{**DEPTH, "more": 0}]},
    {"features": [{**DEPTH, "output": -1}]}, {"features": [{**DEPTH, "output": 1024}]},
    {"features": [{**DEPTH, "depth": -1}]}, {"features": [{**DEPTH, "width": 10**9}]},
    {"features": [{**DEPTH, "depth": 3}, {**DEPTH, "depth": 2, "output": 1}]},
    {"logits": 2}, {"logits": {"output": 2}}, {"logits": {"output": 2, "width": 3}},
    {"logits": {"output": 0, "width": 2}},
    {"adapter_kinds": []}, {"adapter_kinds": ["lora"]}, {"adapter_kinds": "head"}, {"adapter_kinds": [["head"]]},
    {"adapter_kinds": ["head", "bias", "low_rank"]}, {"adapter_kinds": ["low_rank", "low_rank"]},
    {"adapter_kinds": ["head"]}, {"low_rank": None}, {"low_rank": {}}, {"low_rank": {"rank": 8}},
    {"low_rank": {"rank": 0, "seed": 0}}, {"low_rank": {"rank": 65, "seed": 0}}, {"low_rank": {"rank": 8.0, "seed": 0}},
    {"low_rank": {"rank": True, "seed": 0}}, {"low_rank": {"rank": 8, "seed": -1}}, {"low_rank": [8, 0]},
    {"low_rank": {"rank": 8, "seed": 1 << 53}}, {"low_rank": {"rank": 8, "seed": 0, "more": 0}},
    {"adapter_kinds": ["bias"], "low_rank": None}, {"vocabulary": {"weight": 1}}, {"format": 2},
    {"rounding": "tflite"}, {"activations": "int4"},
    {"temperature": 0}, {"temperature": 101}, {"temperature": True}, {"temperature": "1"},
    {"conformal": []}, {"conformal": [[0, 0.5]]}, {"conformal": [[1, 0.5]]}, {"conformal": [[0.1, 1.5]]},
    {"conformal": [[0.1]]}, {"conformal": [[0.2, 0.5], [0.1, 0.5]]}, {"conformal": [[0.1, 0.4], [0.2, 0.5]]},
    {"conformal": {"0.1": 1}}, {"operators": []}, {"operators": ["B", "A"]}, {"operators": ["A", "A"]},
    {"operators": [1]},
    {"shapes": {}}, {"shapes": []}, {"shapes": {"ids": [0]}}, {"shapes": {"ids": 1}}, {"shapes": {"ids": [1] * 9}},
    {"calibration": []}, {"accuracy": 1}, {"notes": "x"}, {"origin": []}, {"origin": {}},
    {"origin": [{**SOURCE, "sha256": "AB" * 32}]}, {"origin": [{**SOURCE, "licence": ""}]},
    {"origin": [{**SOURCE, "file": "both"}]}, {"origin": ["p"]}, {"cache": {"layers": 1}},
    {"cache": {"layers": 1, "heads": 1, "width": 1, "context": 1}}, {"parts": {}}, {"parts": []}, {"unknown": 1},
    {"start": 0}, {"stop": [0]},
    {"accuracy": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}},
]  # fmt: skip


@pytest.mark.parametrize("change", NONSENSE, ids=lambda change: json.dumps(change)[:40])
def test_manifests_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    data = kit.with_manifest(json.dumps(kit.listed({**kit.about(), **change})).encode())
    with pytest.raises(ArtifactCorrupt, match="manifest|other members|vocab"):
        artifact.parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_any_value_anywhere_in_the_manifest_gives_an_artifact_or_a_refusal(data: st.DataObject) -> None:
    fields: Any = kit.listed(kit.about(notes={}))
    place = fields
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(place[key], (dict, list)) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    with contextlib.suppress(ArtifactError):
        artifact.parse(kit.with_manifest(json.dumps(fields).encode()))


@pytest.mark.parametrize("field", sorted(manifest.REQUIRED - {"format"}))
def test_manifests_that_lack_a_field_are_refused(field: str) -> None:
    fields = kit.listed(kit.about())
    del fields[field]
    with pytest.raises(ArtifactCorrupt, match=field):
        artifact.parse(kit.with_manifest(json.dumps(fields).encode()))


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["a", "b"]},
        {"adapter_kinds": ["head"]},
        {"adapter_kinds": ["bias", "low_rank", "statistics"]},
        {"adapter_kinds": ["bias"]},
        {"vocabulary": 7},
        {"vocabulary": {"bias": 7}},
        {"vocabulary": {"weight": -1}},
        {"vocabulary": {"weight": 1 << 16}},
        {"vocabulary": {"weight": 7, "bias": 7}},
        {"vocabulary": {"weight": 7, "scale": 8}},
        {"vocabulary": {"weight": "logits.weight"}},
        {"format": 2},
        {"cache": {"layers": 0, "heads": 2, "width": 8, "context": 64}},
        {"cache": {"layers": 1 << 10, "heads": 1 << 10, "width": 1 << 10, "context": 1 << 10}},
        {"logits": {"output": 2, "width": 1 << 21}},
        {"start": 50_257},
        {"start": True},
        {"stop": [1, 1]},
        {"stop": [2, 1]},
        {"stop": [-1]},
        {"stop": list(range(65))},
        {"stop": 0},
    ],
)
def test_causal_manifests_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="manifest"):
        manifest.check({"format": 3, "parts": {}, **kit.causal(**change)})


@pytest.mark.parametrize(
    "encoded",
    [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b'{"format":2,"format":2}', b'{"format":2,"a":NaN}', b'{"a":1e999}',
     b"[" * 500_000, b'{"a":' * 100_000, b"1" * 100_000],
    ids=lambda encoded: repr(encoded[:12]),
)  # fmt: skip
def test_manifests_that_are_no_manifests_are_refused(encoded: bytes) -> None:
    with pytest.raises(ArtifactError):
        artifact.parse(kit.with_manifest(encoded))


@pytest.mark.parametrize(
    ("part", "content"),
    [("vocab.txt", b"\xff"), ("vocab.txt", b"turn\non"), ("vocab.txt", b""), ("moment.bin", b"x"), ("moment.bin", b""),
     ("moment.bin", bytes(37 * 4)), ("moment.bin", np.full(36, np.nan, "<f4").tobytes()),
     ("moment.bin", np.arange(36, dtype="<f4").tobytes())],
)  # fmt: skip
def test_parts_that_make_no_sense_are_refused_though_their_hash_is_right(part: str, content: bytes) -> None:
    fields = kit.listed(kit.about())
    fields["parts"][part] = artifact.describe(content)
    with pytest.raises(ArtifactCorrupt):
        artifact.parse(kit.with_manifest(manifest.write(fields), **{part.replace(".", "__"): content}))


# --- the signature ----------------------------------------------------------------------------------------


def test_a_trusted_key_wants_its_own_signature() -> None:
    assert artifact.parse(SIGNED, trusted=TRUSTED).manifest == artifact.parse(PLAIN).manifest
    with pytest.raises(ArtifactUnsigned, match="tasuki sign"):
        artifact.parse(PLAIN, trusted=TRUSTED)
    with pytest.raises(ArtifactForged):
        artifact.parse(SIGNED, trusted=kit.OTHER_KEY.public_key())
    # Without a key nobody asks who signed.
    assert artifact.parse(pack.sign(SIGNED, kit.OTHER_KEY)).signature is not None


def test_the_signature_is_over_the_manifest_and_through_it_over_every_part() -> None:
    found = members(SIGNED)
    signature = found["manifest.sig"]
    TRUSTED.verify(signature, b"tasuki artifact v2\0" + found["manifest.json"])
    renamed = manifest.write(kit.listed(kit.about(name="another")))
    with pytest.raises(ArtifactForged):
        artifact.parse(kit.with_manifest(renamed, manifest__sig=signature), trusted=TRUSTED)
    ordered = {"manifest.json": found["manifest.json"], "manifest.sig": signature, **kit.parts()}
    for part in ("vocab.txt", "moment.bin"):
        with pytest.raises(ArtifactCorrupt, match="is not what"):
            artifact.parse(archive.append(kit.MODEL, {**ordered, part: b"other"}), trusted=TRUSTED)
    with pytest.raises(ArtifactCorrupt, match="model is not what"):
        artifact.parse(archive.append(kit.MODEL + b"!", ordered), trusted=TRUSTED)
    with pytest.raises(ArtifactCorrupt, match="other members"):
        artifact.parse(archive.append(kit.MODEL, {**ordered, "more.txt": b"!"}), trusted=TRUSTED)


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64)])
def test_signatures_that_are_none_are_forged(signature: bytes) -> None:
    encoded = members(PLAIN)["manifest.json"]
    with pytest.raises(ArtifactForged):
        artifact.parse(kit.with_manifest(encoded, manifest__sig=signature), trusted=TRUSTED)


def test_the_signature_is_judged_before_the_manifest_is_read() -> None:
    for encoded in (b"no JSON", b'{"format":9}'):
        with pytest.raises(ArtifactForged):
            artifact.parse(kit.with_manifest(encoded, manifest__sig=bytes(64)), trusted=TRUSTED)


def test_public_keys_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "signing.pub"
    with pytest.raises(KeyInvalid, match="can't be read"):
        artifact.trusted_key(path)
    for content in (b"", b"\0" * 5000, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        path.write_bytes(content)
        with pytest.raises(KeyInvalid, match="Ed25519"):
            artifact.trusted_key(path)
