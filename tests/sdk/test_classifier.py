"""The quick path from text to answer: the same as the plain one, from many threads too, and no import too many."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import artifact_kit as kit
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasuki.converter import pack
from tasuki.sdk import artifact
from tasuki.sdk.classifier import MAX_TEXT_BYTES, Classifier, checked_text
from tasuki.sdk.errors import ArtifactCorrupt, ArtifactForeign, EmptyText, InputError, TextTooLong
from tasuki.sdk.runtime import Body, Options

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ("turn on the light", "switch off the lamp", "play music in the kitchen", "stop", "please make it cosy now")


@pytest.mark.parametrize("mapped", [False, True])
def test_a_text_gives_what_the_body_gives(tiny_artifact: Path, mapped: bool) -> None:
    parts = artifact.load(tiny_artifact, mapped=mapped)
    classifier, body = Classifier(parts, Options(2)), Body(parts.model, parts.outputs)
    for text in TEXTS:
        features, logits = body.run(parts.tokenizer().encode(text))
        for found, wanted in zip(classifier.embed(text), (features, logits), strict=True):
            np.testing.assert_array_equal(found, wanted)
        raw = classifier.run(text)
        assert (raw[0].dtype, raw[1][0].dtype) == (np.int8, np.int8)
        (kept,) = classifier.grid.unpack(*zip(classifier.grid.pack(raw[1]), strict=True))
        np.testing.assert_array_equal(kept, features)
        bare = classifier.run(text, features=False)
        np.testing.assert_array_equal(bare[0], raw[0])
        assert bare[1] == ()


def test_an_answer_is_a_copy(tiny_artifact: Path) -> None:
    classifier = Classifier(artifact.load(tiny_artifact))
    raw = classifier.run(TEXTS[0])
    before = raw[0].copy(), raw[1][0].copy()
    for text in TEXTS[1:]:
        classifier.run(text)
    np.testing.assert_array_equal(raw[0], before[0])
    np.testing.assert_array_equal(raw[1][0], before[1])


def test_threads_do_not_mix_their_texts(tiny_artifact: Path) -> None:
    classifier = Classifier(artifact.load(tiny_artifact))
    alone = {text: classifier.embed(text) for text in TEXTS}
    assert len({features.tobytes() for features, _ in alone.values()}) > 1
    with ThreadPoolExecutor(4) as pool:
        for text, found in zip(TEXTS * 200, pool.map(classifier.embed, TEXTS * 200), strict=True):
            np.testing.assert_array_equal(found[0], alone[text][0])
            np.testing.assert_array_equal(found[1], alone[text][1])


def test_artifacts_that_are_for_something_else() -> None:
    words = {artifact.VOCABULARY: kit.parts()[artifact.VOCABULARY]}
    with pytest.raises(ArtifactForeign, match="causal"):
        Classifier(artifact.parse(pack.pack(kit.MODEL, words, kit.causal())))
    with pytest.raises(ArtifactCorrupt):
        Classifier(artifact.parse(pack.pack(kit.MODEL, kit.parts(), kit.about())))


# --- texts ------------------------------------------------------------------------------------------------


@given(st.text() | st.text(" \t\n\x1c\x85\u2003\u00a0", max_size=5) | st.text(st.characters(categories=["Cs", "Lu"])))
def test_a_text_is_refused_where_the_plain_rule_refuses_it(text: str) -> None:
    cleaned = text.encode("utf-8", "replace").decode()
    if not cleaned.strip():
        with pytest.raises(EmptyText):
            checked_text(text)
        return
    assert checked_text(text) == cleaned


@pytest.mark.parametrize("letter", ["a", "é", "\N{OK HAND SIGN}", "\ud800"])
def test_the_bound_is_in_bytes(letter: str) -> None:
    size = len(letter.encode("utf-8", "surrogatepass"))
    fits = letter * (MAX_TEXT_BYTES // size)
    assert len(checked_text(fits)) == len(fits)
    with pytest.raises(TextTooLong):
        checked_text(fits + letter)
    with pytest.raises(TextTooLong):
        checked_text(" " * (MAX_TEXT_BYTES + 1))


@pytest.mark.parametrize("text", [None, 3, b"turn on", ["turn on"]])
def test_what_is_no_text(text: object) -> None:
    with pytest.raises(InputError, match="not str"):
        checked_text(text)  # type: ignore[arg-type]


# --- imports ----------------------------------------------------------------------------------------------

# The package's own `__init__` is passed over: what a module itself imports is what is asked here.
LOADED = """
import importlib, sys, types
package = types.ModuleType("tasuki.sdk")
package.__path__ = [sys.argv[1]]
sys.modules["tasuki.sdk"] = package
importlib.import_module(sys.argv[2])
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize("module", ["artifact", "classifier", "scorer", "features", "runtime"])
def test_answering_loads_no_cryptography_network_or_runtime(module: str) -> None:
    words = [sys.executable, "-c", LOADED, str(ROOT / "sdk"), f"tasuki.sdk.{module}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    assert not loaded & {
        "cryptography", "paho", "cbor2", "click", "rich", "ai_edge_litert", "tflite_runtime", "tokenizers", "sqlite3",
    }  # fmt: skip
