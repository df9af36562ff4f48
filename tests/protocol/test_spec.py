"""SPEC.md says what the code does, where both have a number."""

import re
from pathlib import Path

import pytest
from hpke_oracle import AEAD_CHACHA20_POLY1305, KDF_HKDF_SHA256, KEM_HYBRID, KEM_X25519

from tasuki.sdk import artifact, classifier, codec, cose, downlink, enrolment, link, manifest, tokenizer, update
from tasuki.sdk.envelope import HYBRID, X25519
from tasuki.sdk.errors import Refusal

SPEC = (Path(__file__).parents[2] / "SPEC.md").read_text()


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    (_, _, rest) = SPEC.partition(f"# {title}\n")
    assert rest, title
    return rest.partition("\n#")[0]


def test_codes_of_refusals() -> None:
    written = {int(code): name for code, name in re.findall(r"\| (\d+) \| ([a-z ]+?) (?=\|)", section("Receipt"))}
    assert written == {int(reason): reason.word for reason in Refusal}


@pytest.mark.parametrize(("suite", "kem"), [(X25519, KEM_X25519), (HYBRID, KEM_HYBRID)])
def test_suites(suite: int, kem: int) -> None:
    (row,) = re.findall(rf"^\| {suite}\b.*$", section("Suites"), re.MULTILINE)
    assert re.findall(r"0x[0-9a-f]{4}", row) == [
        f"0x{number:04x}" for number in (kem, KDF_HKDF_SHA256, AEAD_CHACHA20_POLY1305)
    ]


def test_bounds() -> None:
    text = section("Bounds").replace(",", "")
    for bound in (cose.MAX_MESSAGE_BYTES, enrolment.MAX_BYTES, classifier.MAX_TEXT_BYTES):
        assert f"| {bound} bytes" in text
    assert f"a label {manifest.MAX_LABEL_BYTES} bytes" in text
    mebibytes = [
        size >> 20 for size in (artifact.MAX_MODEL_BYTES, artifact.MAX_PART_BYTES, artifact.MAX_MANIFEST_BYTES)
    ]
    assert "model {} MiB parts {} MiB each manifest {} MiB".format(*mebibytes) in text
    (count,) = {manifest.MAX_LABELS, manifest.MAX_FEATURES, manifest.MAX_TOKENS, codec.MAX_ROWS, codec.MAX_COLUMNS}
    assert f"| labels features tokens | {count} each |" in text
    assert f"more than {tokenizer.MAX_WORD_BYTES} bytes" in section("Tokenizer")
    assert f"outlives it by {link.SESSION_SECONDS // 86400} days" in section("Topics and sessions")


def test_formats() -> None:
    assert (manifest.FORMAT, update.FORMAT, downlink.FORMAT, enrolment.FORMAT) == (3, 1, 1, 1)
    words = "The artifact's format is number **3**, the enrolment file's **1** or **2**, all others are number **1**"
    assert words in " ".join(SPEC.split())


def test_the_kem_of_the_hybrid_names_its_drafts() -> None:
    text = section("Suites")
    for draft in ("draft-ietf-hpke-pq", "draft-irtf-cfrg-concrete-hybrid-kems", "draft-connolly-cfrg-xwing-kem"):
        assert draft in text
