"""SPEC.md says what the code does, where both have a number."""

import re
from pathlib import Path

import pytest
from hpke_oracle import AEAD_CHACHA20_POLY1305, KDF_HKDF_SHA256, KEM_HYBRID, KEM_X25519

from tasuki.aggregator import admission, rules
from tasuki.sdk import (
    artifact,
    classifier,
    codec,
    cose,
    downlink,
    enrolment,
    fleet_record,
    link,
    manifest,
    offer,
    session,
    tokenizer,
    update,
)
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
    rows = re.findall(r"^\| ([a-z' ,]+?) \| ([^|]+) \| ([^|]+) \|", SPEC.partition("## Conventions")[0], re.MULTILINE)
    numbers = {name.split(",")[0]: (written, read) for name, written, read in rows}
    assert numbers["artifact"] == (str(manifest.FORMAT), ", ".join(map(str, manifest.FORMATS)))
    assert numbers["update"][0] == str(update.FORMAT)
    assert numbers["announcement"][0] == str(downlink.FORMAT)
    assert numbers["enrolment file"][0].startswith(str(enrolment.FORMAT))
    assert {downlink.CONTENT_FORMAT, offer.FORMAT, fleet_record.FORMAT} == {1}
    assert numbers["adapter's content"] == ("1", "1")


def test_kinds() -> None:
    rows = re.findall(r"^\| (\d) \| `(\w+)` \|", section("Kinds"), re.MULTILINE)
    assert {name: int(number) for number, name in rows} == fleet_record.KINDS


def test_resumed_updates() -> None:
    text = section("Resumed updates")
    assert f"1 <= i <= {session.MAX_UPDATES}" in text
    assert f"{session.ROOT_BYTES} fresh random bytes" in text


def test_order_is_the_machines() -> None:
    """The steps that SPEC.md lists are those of the table in the code, in its order."""
    words = ["parse", "know", "authenticate", "welcome", "refresh", "base", "open", "decode", "check"]
    assert [step.__name__.strip("_") for step, _ in admission.ORDER] == words
    assert [stage for _, stage in admission.ORDER] == list(admission.Stage)[1:]
    text = section("Order")
    places = [text.index(f"**{word}**") for word in
              ["parse", "know", "authenticate", "welcome", "replay", "base", "decrypt", "decode", "check"]]  # fmt: skip
    assert places == sorted(places)
    assert f"{admission.WINDOW:,} or more below the highest" in text


def test_lifetimes() -> None:
    text = section("Adapter (downlink)")
    assert f"announces for {rules.ANNOUNCED_SECONDS // 86400} days" in " ".join(text.split())


def test_the_kem_of_the_hybrid_names_its_drafts() -> None:
    text = section("Suites")
    for draft in ("draft-ietf-hpke-pq", "draft-irtf-cfrg-concrete-hybrid-kems", "draft-connolly-cfrg-xwing-kem"):
        assert draft in text
